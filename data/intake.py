"""Intake judges one batch of completed trips: values in, verdict out.

Rows in = rows accepted + rows refused; nothing is dropped. A row is held against the table schema of the contract,
then against rules across its fields; what is left is held against the batch rules. A long duration is no reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from pydantic import ValidationError

from contracts import tables
from contracts.requirements import Requirement
from contracts.snapshots import BatchJudged
from contracts.tables import ROW, Fault
from contracts.trips import CompletedTrip, columns
from data.batch_rules import ZoneReference
from data.quarantine import Refused

Row = dict[str, Any]
Known = Callable[[Sequence[str]], Collection[str]]
SLACK = timedelta(hours=1)  # a warm start resumes a little before the last event: the future begins later than that
ROUNDING_MIN = 1 / 60
MAY_MISS = [
    name
    for name, column in columns(CompletedTrip).items()
    if column.owner == "city" and column.model_input and not CompletedTrip.model_fields[name].is_required()
]


def nothing_known(_trip_ids: Sequence[str]) -> Collection[str]:
    """What is known before anything was accepted."""
    return ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a batch. `ratio` is its median route over the reference, None where no trip leaves its zone."""

    accepted: pl.DataFrame
    refused: list[Refused]
    judged: BatchJudged
    ratio: float | None = None

    @property
    def event_type(self) -> str:
        """Type of the event that tells of it."""
        return "batch.accepted" if self.judged.rows_accepted else "batch.quarantined"


@dataclass(frozen=True, slots=True)
class Intake:
    """The rules as they stand now: the zones' reference, the batch rule's limit, the present (city time)."""

    reference: ZoneReference
    route_ratio: Requirement
    now: datetime

    def judge(self, batch_id: str, rows: Sequence[Row], known: Known = nothing_known) -> Verdict:
        """Judge rows as they came over the wire. `known` answers which of some trip ids were accepted before."""
        frame, unreadable = tables.read(rows)
        refused = [_refused(rows[number], fault) for number, fault in unreadable.items()]
        return self.judge_frame(batch_id, frame, rows.__getitem__, known, refused)

    def judge_frame(
        self,
        batch_id: str,
        frame: pl.DataFrame,
        row: Callable[[int], Row],
        known: Known = nothing_known,
        refused: Sequence[Refused] = (),
    ) -> Verdict:
        """Judge rows already in a frame with the contract's columns and `ROW`; `row` answers a row as it came."""
        refused = list(refused)
        broken = tables.faults(frame)
        refused += [_refused(row(number), fault) for number, fault in broken.items()]
        sound = frame.filter(~pl.col(ROW).is_in(list(broken)))
        sound = keep(sound, self._row_rules(), row, refused)
        # Duplicates come last: the broken copy of a trip must not cost its sound one.
        before = list(known(sound["trip_id"].to_list()))
        seen = pl.col("trip_id").is_in(before) | ~pl.col("trip_id").is_first_distinct()
        sound = keep(sound, {"duplicate_trip": (seen, ["trip_id"])}, row, refused)
        fault = self.reference.fault(sound, self.route_ratio)
        accepted = sound.drop(ROW) if fault is None else sound.drop(ROW).clear()
        if fault is not None:
            refused += [Refused(self.route_ratio.id, fault[0], row(number)) for number in sound[ROW]]
        judged = BatchJudged(
            batch_id=batch_id,
            rows_accepted=accepted.height,
            rows_quarantined=len(refused),
            reasons=dict(Counter(item.rule for item in refused)),
            detail="" if fault is None else fault[1],
            first_requested_at=sound["requested_at"].min(),
            last_requested_at=sound["requested_at"].max(),
            missing_share={name: frame[name].is_null().mean() for name in MAY_MISS} if frame.height else {},
        )
        ratio = self.reference.ratios(sound).median() if fault is None else fault[0]
        return Verdict(accepted, refused, judged, ratio if isinstance(ratio, float) else None)

    def _row_rules(self) -> dict[str, tuple[pl.Expr, list[str]]]:
        """Rules across the fields of one row: what breaks it, and which fields to show."""
        zones = [zone.zone for zone in self.reference.zones]
        minutes = (pl.col("ended_at") - pl.col("booked_at")).dt.total_microseconds() / 60e6
        crossed = (pl.col("p10_min") > pl.col("p50_min")) | (pl.col("p50_min") > pl.col("p90_min"))
        delivered = pl.col("outcome") == "delivered"
        return {
            "unknown_zone": (
                ~(pl.col("pickup_zone").is_in(zones) & pl.col("dropoff_zone").is_in(zones)),
                ["pickup_zone", "dropoff_zone"],
            ),
            "booked_before_asked": (pl.col("booked_at") < pl.col("requested_at"), ["requested_at", "booked_at"]),
            "ended_before_booked": (minutes < 0, ["booked_at", "ended_at"]),
            "ended_in_the_future": (pl.col("ended_at") > self.now.astimezone(UTC) + SLACK, ["ended_at"]),
            "picked_up_outside_trip": (
                ~pl.col("picked_up_at").is_between("booked_at", "ended_at"),
                ["booked_at", "picked_up_at", "ended_at"],
            ),
            "duration_without_delivery": (
                delivered != pl.col("duration_min").is_not_null(),
                ["outcome", "duration_min"],
            ),
            "duration_is_not_its_times": (
                (pl.col("duration_min") - minutes).abs() > ROUNDING_MIN,
                ["booked_at", "ended_at", "duration_min"],
            ),
            "estimate_crosses": (crossed, ["p10_min", "p50_min", "p90_min"]),
        }


def keep(
    frame: pl.DataFrame,
    rules: dict[str, tuple[pl.Expr, list[str]]],
    row: Callable[[int], Row],
    refused: list[Refused],
) -> pl.DataFrame:
    """The rows that break no rule; the others are appended to `refused` under the first rule each broke."""
    first = pl.coalesce(pl.when(broken).then(pl.lit(name)) for name, (broken, _) in rules.items())
    judged = frame.with_columns(rule=first)
    for item in judged.filter(pl.col("rule").is_not_null()).iter_rows(named=True):
        value = {name: item[name] for name in rules[item["rule"]][1]}
        refused.append(Refused(item["rule"], value, row(item[ROW])))
    return judged.filter(pl.col("rule").is_null()).drop("rule")


def _refused(row: Row, fault: Fault) -> Refused:
    """The row with its fault as the wire model, the schema's twin, names it."""
    rule, value = _named(row) or (fault.rule, fault.value)
    return Refused(rule, value, row)


def _named(row: Row) -> tuple[str, Any] | None:
    """The first fault of a row as the wire model sees it: rule and value."""
    try:
        CompletedTrip.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":  # whose name is the producer's: not part of a rule's name
            return "unknown_field", {field: first["input"]}
        return f"{field}.{first['type']}", None if first["type"] == "missing" else first["input"]
    return None

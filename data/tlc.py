"""Source tlc: New York's published taxi trip records through the same intake into snapshots.

    python -m data.tlc --trips DOWNLOADS --zones taxi_zone_centroids.csv --until 2019-10-01 --out var-ny

reads yellow and green Parquet month by month and cuts two snapshots: train (pickups before `--until`) and test (later).
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.progress import track

from contracts.problems import plain_words
from contracts.requirements import load
from contracts.snapshots import SnapshotMade
from contracts.tables import ROW, dtypes
from data.batch_rules import ZoneReference
from data.intake import Intake, keep
from data.lake import Lake
from data.quarantine import Quarantine, Refused, table_of
from data.snapshots import Cutter
from data.tlc_past import Past
from data.tlc_records import NEW_YORK, Month, NotTripRecords, months_in, read_zones

ROWS_AT_ONCE = 200_000


@dataclass
class TlcIntake:
    """Takes months in and cuts the two snapshots, all below `out`."""

    past: Past
    out: Path
    accepted: dict[str, int] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.intake = Intake(self.past.reference, load()["route-ratio"], datetime.now(UTC))
        self.lake, self.quarantine = Lake(self.out / "lake"), Quarantine(self.out / "quarantine")

    def take(self, month: Month) -> None:
        """Judge one month's rows; every one ends in the lake or in quarantine."""
        for start in range(0, sys.maxsize, ROWS_AT_ONCE):
            records = month.trips.slice(start, ROWS_AT_ONCE).collect()
            if records.is_empty():
                return
            batch_id = f"{month.name}-{start // ROWS_AT_ONCE:04d}"
            self._judge(batch_id, completed(self.past.fill(records), month, start), month)

    def _judge(self, batch_id: str, trips: pl.DataFrame, month: Month) -> None:
        rows = trips.select(list(dtypes()))
        refused: list[Refused] = []

        def row(number: int) -> dict[str, Any]:
            return rows.row(number, named=True)

        timed = keep(trips, clock_rules(month), row, refused).select(ROW, *dtypes())
        verdict = self.intake.judge_frame(batch_id, timed, row, refused=refused)
        self.lake.write(batch_id, verdict.accepted)
        self.quarantine.write(batch_id, verdict.refused)
        self.accepted[batch_id] = verdict.accepted.height
        self.reasons.update(verdict.judged.reasons)
        if self.intake.reference.detour is None and verdict.accepted.height:
            learned = self.intake.reference.learn(verdict.accepted)
            self.intake = Intake(learned, self.intake.route_ratio, self.intake.now)

    def cut(self, until: datetime) -> dict[str, SnapshotMade]:
        """The snapshots before and after the cut-off."""
        cutter = Cutter(self.out / "snapshots", "tlc", NEW_YORK.key, self.past.reference.zones)
        trips, early = self.lake.read(self.accepted), pl.col("booked_at") < until
        refused = self.reasons.total()
        return {
            name: cutter.cut(trips.filter(rows), rows_quarantined=refused)
            for name, rows in (("train", early), ("test", ~early))
        }


def completed(records: pl.DataFrame, month: Month, first_row: int) -> pl.DataFrame:
    """Filled records with the contract's columns beside their own. A taxi is asked for as it is taken."""
    records = records.with_row_index(ROW)
    made = records.with_columns(
        trip_id=pl.lit(f"{month.name}-") + (pl.col(ROW) + first_row).cast(pl.String).str.zfill(8),
        requested_at="start", booked_at="start", picked_up_at="start", ended_at="end", duration_min="minutes",
        vehicle=pl.lit("car"), outcome=pl.lit("delivered"), source=pl.lit("fallback"), audit=pl.lit(value=False),
        promised_by=pl.col("start") + pl.duration(microseconds=(pl.col("p90_min") * 60e6).cast(pl.Int64)),
    )  # fmt: skip
    return made.with_columns(
        pl.lit(None, kind).alias(name) for name, kind in dtypes().items() if name not in made.columns
    )


def clock_rules(month: Month) -> dict[str, tuple[pl.Expr, list[str]]]:
    """Rules that only this source needs: its local times carry no offset, and some meters have a wrong clock."""
    changed = [
        pl.col(local).is_not_null() & pl.col(utc).is_null()
        for local, utc in (("pickup_local", "start"), ("dropoff_local", "end"))
    ]
    return {
        "local_time_of_a_clock_change": (pl.any_horizontal(changed), ["pickup_local", "dropoff_local"]),
        "outside_its_month": (~month.within, ["pickup_local"]),
    }


def take_in(places: Sequence[Path], zones: Path, until: datetime, out: Path, console: Console) -> TlcIntake:
    """Judge all months, keep what is accepted, print the counts by rule. Raises `TandemError`."""
    if (out / "lake").exists():
        raise NotTripRecords(f"{out} holds a lake already: name a new --out, or remove it")
    months, reference = months_in(places), ZoneReference(tuple(read_zones(zones)))
    intake = TlcIntake(Past.before(until, months, reference), out)
    for month in track(months, "judging months", console=console):
        intake.take(month)
    refused = intake.reasons.total()
    rows = refused + sum(intake.accepted.values())
    console.print(table_of(intake.reasons, f"{refused:,} of {rows:,} rows quarantined"))
    return intake


@plain_words()
def main() -> None:
    """Take the months in and cut the snapshots."""
    parser = argparse.ArgumentParser(prog="python -m data.tlc", description="New York's trip records to two snapshots.")
    parser.add_argument("--trips", type=Path, nargs="+", required=True, help="Parquet files, or folders of them")
    parser.add_argument("--zones", type=Path, required=True, help="CSV: location_id, borough, zone, lat, lon")
    parser.add_argument(
        "--until", type=datetime.fromisoformat, required=True, help="first New York day of the test rows"
    )
    parser.add_argument("--out", type=Path, required=True)
    args, console = parser.parse_args(), Console()
    until = args.until.replace(tzinfo=NEW_YORK).astimezone(UTC)
    made = take_in(args.trips, args.zones, until, args.out, console).cut(until)
    for name, snapshot in made.items():
        place = args.out / "snapshots" / snapshot.digest
        console.print(f"{name}: {snapshot.rows:,} accepted rows at {place}", soft_wrap=True)


if __name__ == "__main__":
    main()

"""A snapshot as the model may see it: delivered trips, their request columns and the label; nothing else is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from pydantic import TypeAdapter

from contracts import requirements
from contracts.problems import TandemError
from contracts.snapshots import SnapshotMade, SnapshotZone
from contracts.tables import model_inputs
from contracts.trips import MODEL_INPUTS, NOT_FOR_THE_MODEL, CompletedTrip, columns

SEEN = [name for name in columns(CompletedTrip) if name not in NOT_FOR_THE_MODEL]  # request columns and the label
Inputs = dict[str, np.ndarray]  # by input name, each of shape (n,)
HELD_OUT = 0.125


class TooFewTrips(TandemError):
    """The snapshot has too few delivered trips to train, calibrate and test on."""


@dataclass(frozen=True)
class Trips:
    """Delivered trips in order of request. `inputs` and `duration_min` hold one number per row of `table`."""

    table: pl.DataFrame
    inputs: Inputs
    duration_min: np.ndarray
    group: np.ndarray

    def __len__(self) -> int:
        return self.table.height

    def take(self, chosen: np.ndarray | slice) -> Trips:
        """The rows at `chosen` (a mask, indices or a slice), in the same order."""
        rows = np.arange(len(self))[chosen]
        inputs = {name: values[rows] for name, values in self.inputs.items()}
        return Trips(self.table[rows], inputs, self.duration_min[rows], self.group[rows])

    @property
    def requested_at(self) -> pl.Series:
        """When each was asked for, UTC."""
        return self.table["requested_at"]


@dataclass(frozen=True)
class Snapshot:
    """One snapshot's delivered trips and its zones."""

    made: SnapshotMade
    zones: list[SnapshotZone]
    trips: Trips

    def asked_by(self, decision_id: str | None, change_at: datetime | None) -> Snapshot:
        """The same rows, asked for by this decision and for this change."""
        return replace(self, made=self.made.model_copy(update={"decision_id": decision_id, "change_at": change_at}))

    def since_change(self) -> np.ndarray:
        """Mask of the rows asked for since the change, shape (n,); all False where no change is known."""
        if self.made.change_at is None:
            return np.zeros(len(self.trips), dtype=bool)
        return (self.trips.requested_at >= self.made.change_at.astimezone(UTC)).to_numpy()

    def weekly_rows(self) -> dict[str, float]:
        """Delivered trips a week by zone group, those without any among them; the mean over the snapshot's weeks."""
        weeks = (self.made.last_requested_at - self.made.first_requested_at) / timedelta(weeks=1)
        return {
            group: float((self.trips.group == group).sum()) / max(weeks, 1e-9)
            for group in sorted({zone.group for zone in self.zones})
        }


def read(folder: Path) -> Snapshot:
    """Read a snapshot's folder; columns that are not for the model never leave the file."""
    made = SnapshotMade.model_validate_json((folder / "snapshot.json").read_bytes())
    zones = TypeAdapter(list[SnapshotZone]).validate_json((folder / "zones.json").read_bytes())
    table = pl.read_parquet(folder / "trips.parquet", columns=SEEN).filter(pl.col("duration_min").is_not_null())
    table = table.sort(SEEN)  # a total order: the file's own order rests on columns we may not see
    return Snapshot(made, zones, prepare(table, zones, ZoneInfo(made.time_zone)))


def prepare(table: pl.DataFrame, zones: Sequence[SnapshotZone], time_zone: ZoneInfo) -> Trips:
    """Request columns and label as the arrays a network takes."""
    made = model_inputs(table, time_zone)
    inputs = {item.name: made[item.name].to_numpy().astype(item.dtype) for item in MODEL_INPUTS}
    groups = {zone.zone: zone.group for zone in zones}
    group = table["pickup_zone"].replace_strict(groups, default="unknown", return_dtype=pl.String).to_numpy()
    return Trips(table, inputs, table["duration_min"].to_numpy(), group)


@dataclass(frozen=True)
class Windows:
    """Train | calibration | test, one after the other in time."""

    train: Trips
    calibration: Trips
    test: Trips


def split(trips: Trips, held_out: float = HELD_OUT) -> Windows:
    """Cut by time: the newest `held_out` of the rows test, as many before them calibrate, the rest trains.

    An eighth of eight weeks is a week: calibration and test each see every hour of it.
    """
    least = requirements.load()["rows-per-week"].floor  # one week's worth, however long it took to collect
    if len(trips) < least:
        raise TooFewTrips(f"{len(trips)} delivered trips in the snapshot: collect at least {least:,g} before training")
    first_test, first_calibration = (
        _cut(trips.requested_at, trips.requested_at[int(len(trips) * (1 - parts * held_out))]) for parts in (1, 2)
    )
    return Windows(
        trips.take(slice(0, first_calibration)),
        trips.take(slice(first_calibration, first_test)),
        trips.take(slice(first_test, None)),
    )


def _cut(requested_at: pl.Series, at: datetime) -> int:
    """First row asked for at or after an instant: rows of one instant stay together."""
    return int((requested_at < at).sum())

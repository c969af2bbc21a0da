"""A snapshot as the model may see it: delivered trips, their request columns and the label; nothing else is read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from pydantic import TypeAdapter, ValidationError

from contracts import requirements
from contracts.problems import TandemError
from contracts.snapshots import SnapshotMade, SnapshotZone
from contracts.tables import content_digest, model_inputs
from contracts.trips import HIGHEST_ZONE, MODEL_INPUTS, NOT_FOR_THE_MODEL, CompletedTrip, columns

SEEN = [name for name in columns(CompletedTrip) if name not in NOT_FOR_THE_MODEL]  # request columns and the label
CHUNK = 500_000  # rows in memory as a table at a time,
CHUNK_AS_TEXT = 100_000  # and as text
IN_MEMORY = 2_000_000  # more rows lie in files that the system pages in and out
HELD_OUT = 0.125
MOST_TWINS = 0.005  # share of trips; a taxi stand has some
A_WRONG_CLOCK = timedelta(hours=1)
DAYS_TO_TEST = timedelta(days=14)  # so that intervals rest on fourteen different days
Inputs = dict[str, np.ndarray]  # by input name, each of shape (n,)


class UnreadableSnapshot(TandemError):
    """The snapshot's folder lacks a file, or holds one that is cut or of another contract."""

    def __init__(self, folder: Path, error: Exception) -> None:
        super().__init__(f"snapshot {folder}: {str(error).splitlines()[0][:300]}: have data cut it again")


class ChangedSnapshot(TandemError):
    """The snapshot's folder holds other trips or zones than those its name was made of."""

    def __init__(self, name: str, found: str) -> None:
        super().__init__(f"snapshot {name[:12]} now holds what is named {found[:12]}: restore it from the archive")


class TooFewTrips(TandemError):
    """The snapshot has too few delivered trips to train, calibrate and test on."""


class DuplicatedTrips(TandemError):
    """The snapshot holds trips twice: figures would look surer than they are."""

    def __init__(self, twice: int, trips: int) -> None:
        super().__init__(
            f"{twice:,} of {trips:,} delivered trips are the same as another in all that the model sees: "
            "a batch was taken in twice; have data cut the snapshot again"
        )


class FutureTrips(TandemError):
    """The snapshot holds trips that nobody can have asked for yet."""

    def __init__(self, last: datetime, now: datetime) -> None:
        super().__init__(
            f"the newest trip was asked for at {last.isoformat()}, and it is {now.isoformat()} in the city: "
            "a clock is wrong; look at var/clock.json and at the source of the trips"
        )


@dataclass(frozen=True)
class Trips:
    """Delivered trips in order of request, as arrays of shape (n,). `requested_at` is UTC, datetime64[us]; `groups`
    names the zone group of each zone."""

    requested_at: np.ndarray
    inputs: Inputs
    duration_min: np.ndarray
    groups: dict[int, str]

    def __len__(self) -> int:
        return len(self.duration_min)

    def take(self, chosen: np.ndarray | slice) -> Trips:
        """The rows at `chosen` (a mask, indices or a slice), in the same order; a slice copies nothing."""
        inputs = {name: values[chosen] for name, values in self.inputs.items()}
        return Trips(self.requested_at[chosen], inputs, self.duration_min[chosen], self.groups)

    def count_twins(self) -> int:
        """Trips that are the same as the one before them, in all that the model sees."""
        same = self.requested_at[1:] == self.requested_at[:-1]
        for values in (self.duration_min, *self.inputs.values()):
            same &= (values[1:] == values[:-1]) | ((values[1:] != values[1:]) & (values[:-1] != values[:-1]))
        return int(same.sum())

    @property
    def group(self) -> np.ndarray:
        """Zone group of each pickup."""
        zones, place = np.unique(self.inputs["pickup_zone"], return_inverse=True)
        names: np.ndarray = np.array([self.groups.get(zone, "unknown") for zone in zones.tolist()])[place]
        return names


@dataclass(frozen=True)
class Snapshot:
    """One snapshot's delivered trips and its zones."""

    made: SnapshotMade
    zones: list[SnapshotZone]
    trips: Trips

    def asked_by(
        self, decision_id: str | None, change_at: datetime | None, rows_quarantined: int | None = None
    ) -> Snapshot:
        """The same rows, asked for by this decision and for this change; `rows_quarantined` counts what intake had
        refused by then, where that is known: the folder tells it of the first time these rows were asked for."""
        told: dict[str, object] = {"decision_id": decision_id, "change_at": change_at}
        told |= {} if rows_quarantined is None else {"rows_quarantined": rows_quarantined}
        return replace(self, made=self.made.model_copy(update=told))

    def check(self, now: datetime | None) -> None:
        """Raises `DuplicatedTrips`, or `FutureTrips` where the city's time `now` is known and trips come after it."""
        twins = self.trips.count_twins()
        if twins > MOST_TWINS * len(self.trips):
            raise DuplicatedTrips(twins, len(self.trips))
        if now is not None and self.made.last_requested_at > now + A_WRONG_CLOCK:
            raise FutureTrips(self.made.last_requested_at, now)

    def since_change(self) -> np.ndarray:
        """Mask of the rows asked for since the change, shape (n,); all False where no change is known."""
        if self.made.change_at is None:
            return np.zeros(len(self.trips), dtype=bool)
        since: np.ndarray = self.trips.requested_at >= in_utc(self.made.change_at)
        return since

    def weekly_rows(self) -> dict[str, float]:
        """Delivered trips a week by zone group, those without any among them; the mean over the snapshot's weeks."""
        weeks = (self.made.last_requested_at - self.made.first_requested_at) / timedelta(weeks=1)
        rows = np.bincount(self.trips.inputs["pickup_zone"], minlength=HIGHEST_ZONE + 1)
        found = dict.fromkeys(sorted({zone.group for zone in self.zones}), 0.0)
        for zone in self.zones:
            found[zone.group] += float(rows[zone.zone]) / max(weeks, 1e-9)
        return found


def in_utc(at: datetime) -> np.datetime64:
    """An instant as arrays of trips hold it."""
    return np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "us")


def read(folder: Path) -> Snapshot:
    """Read a snapshot's folder; columns that are not for the model never leave the file.

    Rows are read `CHUNK` at a time, so that a snapshot larger than memory can be trained on: beyond `IN_MEMORY` rows
    the arrays lie in unnamed temporary files (in `TMPDIR`). Raises `UnreadableSnapshot`.
    """
    try:
        made = SnapshotMade.model_validate_json((folder / "snapshot.json").read_bytes())
        zones = TypeAdapter(list[SnapshotZone]).validate_json((folder / "zones.json").read_bytes())
        table = pl.scan_parquet(folder / "trips.parquet").select(SEEN)
        rows = table.select(pl.len()).collect().item()
        delivered = pl.col("duration_min").is_not_null()
        chunks = (table.slice(first, CHUNK).filter(delivered).collect() for first in range(0, rows, CHUNK))
        return Snapshot(made, zones, _gather(chunks, rows, zones, ZoneInfo(made.time_zone)))
    except (OSError, ValidationError, pl.exceptions.PolarsError) as error:
        raise UnreadableSnapshot(folder, error) from error


def check_content(folder: Path, name: str) -> None:
    """Raises `ChangedSnapshot` unless the content of a snapshot's folder still has its name."""
    made = SnapshotMade.model_validate_json((folder / "snapshot.json").read_bytes())
    table = pl.scan_parquet(folder / "trips.parquet")
    rows = table.select(pl.len()).collect().item()
    chunks = (table.slice(first, CHUNK_AS_TEXT).collect() for first in range(0, rows, CHUNK_AS_TEXT))
    found = content_digest(made.source, made.time_zone, (folder / "zones.json").read_text(), chunks)
    if found != name:
        raise ChangedSnapshot(name, found)


def prepare(table: pl.DataFrame, zones: Sequence[SnapshotZone], time_zone: ZoneInfo) -> Trips:
    """Request columns and label as the arrays a network takes; in memory, ordered by all that the model may see."""
    return _gather([table], table.height, zones, time_zone)


def _gather(chunks: Iterable[pl.DataFrame], most: int, zones: Sequence[SnapshotZone], time_zone: ZoneInfo) -> Trips:
    at, took = _room(most, "datetime64[us]"), _room(most, "float64")
    inputs = {item.name: _room(most, item.dtype) for item in MODEL_INPUTS}
    end = 0
    for chunk in chunks:
        table = chunk.sort(SEEN)  # a total order: the file's own rests on columns we may not see
        made, rows = model_inputs(table, time_zone), slice(end, end + table.height)
        at[rows] = table["requested_at"].dt.replace_time_zone(None).to_numpy()
        took[rows] = table["duration_min"].to_numpy()
        for item in MODEL_INPUTS:
            inputs[item.name][rows] = made[item.name].to_numpy()
        end += table.height
    groups = {zone.zone: zone.group for zone in zones}
    trips = Trips(at, inputs, took, groups).take(slice(0, end))
    if (trips.requested_at[1:] >= trips.requested_at[:-1]).all():
        return trips
    order = np.argsort(trips.requested_at, kind="stable")  # chunks overlap a little: files are ordered by booking
    return Trips(
        _ordered(trips.requested_at, order),
        {name: _ordered(values, order) for name, values in trips.inputs.items()},
        _ordered(trips.duration_min, order),
        groups,
    )


def _room(rows: int, dtype: str) -> np.ndarray:
    """Room for an array of so many rows: memory, or an unnamed file where they might outgrow it."""
    if rows <= IN_MEMORY:
        return np.empty(rows, dtype)
    return np.memmap(tempfile.TemporaryFile(), dtype, "w+", shape=(rows,))


def _ordered(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    room = _room(len(values), str(values.dtype))
    for first in range(0, len(values), CHUNK):
        room[first : first + CHUNK] = values[order[first : first + CHUNK]]
    return room


@dataclass(frozen=True)
class Windows:
    """Train | calibration | test, one after the other in time."""

    train: Trips
    calibration: Trips
    test: Trips


def split(trips: Trips, held_out: float = HELD_OUT, days_to_test: timedelta = DAYS_TO_TEST) -> Windows:
    """Cut by time: the newest `held_out` of the rows test, as many before them calibrate, the rest trains.

    The test window reaches back `days_to_test` where that takes at most twice its share of the rows. Raises
    `TooFewTrips`.
    """
    least = requirements.load()["rows-per-week"].floor  # one week's worth, however long it took to collect
    if len(trips) < least:
        raise TooFewTrips(f"{len(trips)} delivered trips in the snapshot: collect at least {least:,g} before training")
    share = int(len(trips) * held_out)
    at = trips.requested_at
    by_rows, by_days, most = at[-share], at[-1] - np.timedelta64(days_to_test), at[-2 * share]
    first_test = _cut(at, max(min(by_rows, by_days), most))
    first_calibration = _cut(at, at[first_test - share])
    if first_calibration in (0, first_test):
        span = (at[-1] - at[0]) / np.timedelta64(1, "h")
        raise TooFewTrips(
            f"{len(trips)} delivered trips lie within {span:.1f} hours, too many at one instant to cut by time: "
            "collect trips over days"
        )
    return Windows(
        trips.take(slice(0, first_calibration)),
        trips.take(slice(first_calibration, first_test)),
        trips.take(slice(first_test, None)),
    )


def _cut(requested_at: np.ndarray, at: np.datetime64) -> int:
    """First row asked for at or after an instant: rows of one instant stay together."""
    return int(np.searchsorted(requested_at, at))

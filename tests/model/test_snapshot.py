"""First age: what training may see, and in what order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from contracts.trips import NOT_FOR_THE_MODEL
from model import snapshot
from model.snapshot import TooFewTrips, Trips, read, split
from tests.model import small_city


def same(one: Trips, other: Trips) -> bool:
    """Whether two sets of trips hold the same numbers."""
    pairs = [(one.requested_at, other.requested_at), (one.duration_min, other.duration_min), (one.group, other.group)]
    pairs += [(values, other.inputs[name]) for name, values in one.inputs.items()]
    return all(np.array_equal(here, there, equal_nan=here.dtype.kind == "f") for here, there in pairs)


def test_a_snapshot_larger_than_memory_reads_the_same_from_files(tmp_path, monkeypatch):
    table = small_city.trips(1500, 7, seed=3).sort("booked_at", descending=True)  # chunks in the wrong order
    made = small_city.write_snapshot(tmp_path, table)
    whole = read(tmp_path / made.digest).trips
    monkeypatch.setattr(snapshot, "CHUNK", 400)
    monkeypatch.setattr(snapshot, "IN_MEMORY", 1000)
    paged = read(tmp_path / made.digest).trips

    assert same(paged, whole)
    assert isinstance(paged.duration_min, np.memmap)
    assert not isinstance(whole.duration_min, np.memmap)


def test_a_snapshot_reads_the_same_without_the_columns_the_model_may_not_see(tmp_path):
    table = small_city.trips(1500, 7, seed=3)
    made = small_city.write_snapshot(tmp_path, table)
    whole = read(tmp_path / made.digest)
    table.drop(NOT_FOR_THE_MODEL).write_parquet(tmp_path / made.digest / "trips.parquet")

    again = read(tmp_path / made.digest)
    assert same(again.trips, whole.trips)
    assert len(whole.trips) > 1000


def test_only_delivered_trips_are_learnt_from(tmp_path):
    table = small_city.trips(1500, 7, seed=3)
    made = small_city.write_snapshot(tmp_path, table)

    assert len(read(tmp_path / made.digest).trips) == table.filter(pl.col("outcome") == "delivered").height


def test_windows_follow_each_other_in_time_and_leave_nothing_out(trained):
    windows = trained.windows

    assert windows.train.requested_at.max() < windows.calibration.requested_at.min()
    assert windows.calibration.requested_at.max() < windows.test.requested_at.min()
    assert len(windows.train) + len(windows.calibration) + len(windows.test) == len(trained.snapshot.trips)


def test_too_few_trips_are_refused_with_their_number(trained):
    with pytest.raises(TooFewTrips, match="999 delivered trips"):
        split(trained.snapshot.trips.take(slice(0, 999)))


def test_the_test_window_holds_fourteen_days_where_they_are_at_most_a_quarter_of_the_rows(trained):
    day = np.timedelta64(1, "D")
    eight_weeks = replace(
        trained.snapshot.trips,
        requested_at=trained.snapshot.trips.requested_at[0]
        + 2 * (trained.snapshot.trips.requested_at - trained.snapshot.trips.requested_at[0]),
    )

    for trips, days, share in ((trained.snapshot.trips, 7, 0.25), (eight_weeks, 14, 0.25)):
        test = split(trips).test
        assert (test.requested_at[-1] - test.requested_at[0]) / day == pytest.approx(days, abs=0.5)
        assert len(test) / len(trips) == pytest.approx(share, abs=0.01)


def test_trips_of_one_instant_cannot_be_cut_by_time(trained):
    trips = trained.snapshot.trips
    with pytest.raises(TooFewTrips, match="too many at one instant"):
        split(replace(trips, requested_at=np.full_like(trips.requested_at, trips.requested_at[0])))

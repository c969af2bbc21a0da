"""First age: what training may see, and in what order."""

from __future__ import annotations

import polars as pl
import pytest

from contracts.trips import NOT_FOR_THE_MODEL
from model.snapshot import TooFewTrips, read, split
from tests.model import small_city


def test_a_snapshot_reads_the_same_without_the_columns_the_model_may_not_see(tmp_path):
    table = small_city.trips(1500, 7, seed=3)
    made = small_city.write_snapshot(tmp_path, table)
    whole = read(tmp_path / made.digest)
    table.drop(NOT_FOR_THE_MODEL).write_parquet(tmp_path / made.digest / "trips.parquet")

    assert read(tmp_path / made.digest).trips.table.equals(whole.trips.table)
    assert not set(whole.trips.table.columns) & set(NOT_FOR_THE_MODEL)


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

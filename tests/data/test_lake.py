"""Lake and quarantine: files by day and batch, nothing that no verdict speaks of."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime

import polars as pl
import pytest

from contracts.tables import dtypes
from contracts.trips import CompletedTrip
from data.lake import Lake, LakeDamaged
from data.quarantine import Quarantine, Refused
from tests.trips import completed_row


def trips(*booked: str) -> pl.DataFrame:
    rows = [
        CompletedTrip.model_validate(completed_row(trip_id=f"{number}-{at[:10]}", booked_at=at)).model_dump()
        for number, at in enumerate(booked)
    ]
    return pl.DataFrame(rows, schema=dtypes())


def test_a_day_is_a_folder_by_booking_in_utc_and_columns_are_the_contracts(tmp_path):
    lake = Lake(tmp_path)
    lake.write("b1", trips("2026-06-01T23:59:00Z", "2026-06-02T01:30:00+02:00", "2026-06-02T02:30:00+02:00"))

    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet"))
    assert files == ["day=2026-06-01/b1.parquet", "day=2026-06-02/b1.parquet"]
    assert dict(pl.read_parquet(tmp_path / files[0], hive_partitioning=False).schema) == dtypes()
    assert lake.read({"b1": 3})["booked_at"].max() == datetime(2026, 6, 2, 0, 30, tzinfo=UTC)


def test_only_the_batches_named_are_read_and_an_empty_lake_has_the_columns(tmp_path):
    lake = Lake(tmp_path)
    assert dict(lake.read({}).schema) == dtypes()
    lake.write("b1", trips("2026-06-01T08:00:00Z"))
    lake.write("b2", trips("2026-06-01T09:00:00Z"))

    assert lake.read({"b2": 1})["booked_at"].to_list() == [datetime(2026, 6, 1, 9, tzinfo=UTC)]


def test_lost_rows_are_an_error_not_a_smaller_lake(tmp_path):
    lake = Lake(tmp_path)
    lake.write("b1", trips("2026-06-01T08:00:00Z"))

    with pytest.raises(LakeDamaged, match="holds 1 rows of 2 batches that accepted 3"):
        lake.read({"b1": 1, "b2": 2})


def test_what_never_committed_is_removed(tmp_path):
    lake, quarantine = Lake(tmp_path / "lake"), Quarantine(tmp_path / "quarantine")
    for batch in ("kept", "lost"):
        lake.write(batch, trips("2026-06-01T08:00:00Z"))
        quarantine.write(batch, [Refused("rule", 1, {})])
    lake.keep_only(["kept"])
    quarantine.keep_only(["kept"])

    assert {path.stem for path in tmp_path.rglob("*.*")} == {"kept"}


def test_people_can_read_quarantine_and_count_it_by_rule(tmp_path):
    quarantine = Quarantine(tmp_path / "quarantine")
    row = completed_row(vehicle="horse")
    quarantine.write("b1", [Refused("vehicle.literal_error", "horse", row)] * 3)
    quarantine.write("b2", [Refused("ended_in_the_future", {"ended_at": datetime(2027, 1, 1, tzinfo=UTC)}, row)])
    quarantine.write("b3", [])

    line = (tmp_path / "quarantine" / "b1.jsonl").read_text().splitlines()[0]
    assert json.loads(line) == {"rule": "vehicle.literal_error", "value": "horse", "row": row}
    assert not (tmp_path / "quarantine" / "b3.jsonl").exists()
    said = subprocess.run(
        [sys.executable, "-m", "data.quarantine"],
        env={"TANDEM_VAR": str(tmp_path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "4 rows" in said
    assert [line.split()[1] for line in said.splitlines() if line.startswith("│")] == [
        "vehicle.literal_error",
        "ended_in_the_future",
    ]

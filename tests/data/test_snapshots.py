"""Snapshots: named by what is in them, sealed once, exactly the rows asked for."""

from __future__ import annotations

import json
from datetime import UTC, timedelta

import polars as pl
import pytest

from contracts.snapshots import SnapshotMade, SnapshotZone
from contracts.tables import content_digest, dtypes
from data.city.reference import City
from data.history import LIVE_START, simulate
from data.snapshots import Cutter, NothingToCut, main
from data.worker import city_zones


@pytest.fixture(scope="module")
def trips() -> pl.DataFrame:
    return simulate(City(7), LIVE_START - timedelta(hours=8), LIVE_START)


@pytest.fixture
def cutter(tmp_path) -> Cutter:
    return Cutter(tmp_path / "snapshots", "city", "Europe/Berlin", city_zones(7))


def test_the_folder_holds_what_the_contract_says(cutter, trips):
    made = cutter.cut(trips, "d-1", LIVE_START - timedelta(hours=2))
    place = cutter.folder / made.digest

    assert sorted(path.name for path in place.iterdir()) == ["snapshot.json", "trips.parquet", "zones.json"]
    assert sorted(path.name for path in cutter.folder.iterdir()) == [made.digest]
    assert SnapshotMade.model_validate_json((place / "snapshot.json").read_text()) == made
    zones = [SnapshotZone.model_validate(item) for item in json.loads((place / "zones.json").read_text())]
    assert zones == list(cutter.zones)
    assert made.zone_groups == {zone.zone: zone.group for zone in zones}
    rows = pl.read_parquet(place / "trips.parquet")
    assert dict(rows.schema) == dtypes()
    assert rows.equals(trips.sort("booked_at", "trip_id"))
    assert (made.rows, made.first_requested_at) == (trips.height, trips["requested_at"].min())
    recent = trips.filter(
        (pl.col("outcome") == "delivered") & (pl.col("requested_at") >= made.change_at.astimezone(UTC))
    )
    assert 0 < made.rows_since_change == recent.height < trips.height


def test_anyone_can_check_what_lies_there_against_its_name(cutter, trips):
    made = cutter.cut(trips)
    place = cutter.folder / made.digest
    rows, zones = pl.read_parquet(place / "trips.parquet"), (place / "zones.json").read_text()

    assert content_digest(made.source, made.time_zone, zones, rows.iter_slices(77)) == made.digest
    longer = rows.with_columns(pl.col("duration_min") + 0.001)
    assert content_digest(made.source, made.time_zone, zones, [longer]) != made.digest
    assert content_digest(made.source, made.time_zone, zones.replace("1", "2", 1), [rows]) != made.digest


def test_without_a_change_all_delivered_rows_count(cutter, trips):
    delivered = trips.filter(pl.col("outcome") == "delivered").height

    assert cutter.cut(trips).rows_since_change == delivered < trips.height


def test_the_same_rows_in_any_order_have_the_same_name(cutter, trips, tmp_path):
    elsewhere = Cutter(tmp_path / "elsewhere", "city", "Europe/Berlin", city_zones(7))

    assert cutter.cut(trips).digest == elsewhere.cut(trips.sample(fraction=1.0, shuffle=True, seed=1)).digest


@pytest.mark.parametrize(
    "change",
    [
        pl.col("distance_km") + pl.when(pl.row_index() == 5).then(1e-12).otherwise(0.0),
        pl.when(pl.row_index() == 5).then(None).otherwise("parcel_kg").alias("parcel_kg"),
        pl.col("ended_at") + pl.when(pl.row_index() == 5).then(pl.duration(microseconds=1)).otherwise(pl.duration()),
    ],
)
def test_the_least_change_of_a_row_changes_the_name(cutter, trips, change):
    trips = trips.with_columns(parcel_kg=pl.col("parcel_kg").fill_null(1.0))

    assert cutter.cut(trips).digest != cutter.cut(trips.with_columns(change)).digest


def test_other_zones_change_the_name(trips, tmp_path):
    moved = [zone.model_copy(update={"group": "Elsewhere"}) for zone in city_zones(7)]
    digests = [Cutter(tmp_path, "city", "Europe/Berlin", zones).cut(trips).digest for zones in (city_zones(7), moved)]

    assert digests[0] != digests[1]


def test_a_sealed_snapshot_never_changes(cutter, trips):
    first = cutter.cut(trips, "d-1")
    sealed = {path.name: path.read_bytes() for path in (cutter.folder / first.digest).iterdir()}
    again = cutter.cut(trips, "d-2", LIVE_START)

    assert (again.digest, again.decision_id) == (first.digest, "d-2")
    assert {path.name: path.read_bytes() for path in (cutter.folder / first.digest).iterdir()} == sealed


def test_no_rows_no_snapshot(cutter, trips):
    with pytest.raises(NothingToCut):
        cutter.cut(trips.clear())
    assert not cutter.folder.exists()


def test_a_time_without_its_offset_is_refused_at_once(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["snapshots", "--source", "city", "--before", "2026-06-01T07:00"])
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert "needs an offset" in capsys.readouterr().err

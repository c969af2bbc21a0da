"""New York's trip records: whatever their types, into the contract, with every dirty row accounted for."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from contracts.tables import schema
from data.quarantine import Quarantine
from data.tlc import TlcIntake, take_in
from data.tlc_records import NEW_YORK, Month, NotTripRecords, months_in, read_zones

REAL = Path(__file__).parents[3] / "shared" / "realdata"
UNTIL = datetime(2019, 10, 1, tzinfo=NEW_YORK).astimezone(UTC)
MAIN, AIRPORT, FAR, UNKNOWN = 10, 20, 30, 264
CENTROIDS = """location_id,borough,zone,lat,lon
10,Manhattan,Main,40.75,-73.99
20,Queens,Airport,40.77,-73.87
30,Bronx,Far,40.85,-73.9
"""


def a_trip(
    start: str, minutes: float = 20, pair: tuple[int, int] = (MAIN, AIRPORT), miles: float = 8.0
) -> dict[str, Any]:
    begins = datetime.fromisoformat(start)
    return {"start": begins, "end": begins + timedelta(minutes=minutes), "pair": pair, "miles": miles}


def usual(month: str) -> list[dict[str, Any]]:
    """Twelve trips on a day of a month; the middle one of their distances is 8 miles."""
    miles = [7.0] * 5 + [8.0] * 2 + [9.0] * 5
    return [a_trip(f"{month}-05T{hour + 6:02d}:00", 20 + hour, miles=miles[hour]) for hour in range(12)]


def write_yellow(folder: Path, month: str, trips: list[dict[str, Any]], **changed: Any) -> Path:
    """As published then: whole numbers, microseconds, a surcharge column that is all null."""
    table = pl.DataFrame(
        {
            "VendorID": [1] * len(trips),
            "tpep_pickup_datetime": [trip["start"] for trip in trips],
            "tpep_dropoff_datetime": [trip["end"] for trip in trips],
            "trip_distance": [trip["miles"] for trip in trips],
            "PULocationID": [trip["pair"][0] for trip in trips],
            "DOLocationID": [trip["pair"][1] for trip in trips],
            "congestion_surcharge": pl.Series([None] * len(trips), dtype=pl.Null),
        }
    ).with_columns(**changed)
    folder.mkdir(exist_ok=True)
    table.write_parquet(folder / f"yellow_tripdata_{month}.parquet")
    return folder / f"yellow_tripdata_{month}.parquet"


def write_green(folder: Path, month: str, trips: list[dict[str, Any]]) -> Path:
    """Other names and other types: text for times, floats for zones, 32 bits for miles, no vendor."""
    table = pl.DataFrame(
        {
            "VendorID": pl.Series([None] * len(trips), dtype=pl.Float64),
            "lpep_pickup_datetime": [f"{trip['start']:%Y-%m-%d %H:%M:%S}" for trip in trips],
            "lpep_dropoff_datetime": [f"{trip['end']:%Y-%m-%d %H:%M:%S}" for trip in trips],
            "PULocationID": pl.Series([float(trip["pair"][0]) for trip in trips]),
            "DOLocationID": pl.Series([trip["pair"][1] for trip in trips], dtype=pl.Int32),
            "trip_distance": pl.Series([trip["miles"] for trip in trips], dtype=pl.Float32),
            "ehail_fee": pl.Series([None] * len(trips), dtype=pl.String),
        }
    )
    folder.mkdir(exist_ok=True)
    table.write_parquet(folder / f"green_tripdata_{month}.parquet")
    return folder / f"green_tripdata_{month}.parquet"


@pytest.fixture
def place(tmp_path) -> Path:
    (tmp_path / "zones.csv").write_text(CENTROIDS)
    return tmp_path


def taken(place: Path, out: str = "out") -> tuple[TlcIntake, pl.DataFrame]:
    """The intake over `place/trips`, and its accepted rows."""
    intake = take_in([place / "trips"], place / "zones.csv", UNTIL, place / out, Console(quiet=True))
    return intake, intake.lake.read(intake.accepted)


def test_yellow_and_green_of_differing_types_give_the_same_rows(place):
    write_yellow(place / "trips", "2019-01", usual("2019-01"))
    write_yellow(place / "trips", "2019-02", usual("2019-02"), PULocationID=pl.col("PULocationID").cast(pl.Float64))
    write_green(place / "trips", "2019-03", usual("2019-03"))
    intake, rows = taken(place)

    schema().validate(rows)
    assert intake.reasons == {}
    assert intake.accepted == {"yellow-2019-01-0000": 12, "yellow-2019-02-0000": 12, "green-2019-03-0000": 12}
    march = rows.filter(pl.col("trip_id") == "green-2019-03-00000003").row(0, named=True)
    assert march["booked_at"] == datetime(2019, 3, 5, 14, tzinfo=UTC)  # nine in New York's winter
    assert march["requested_at"] == march["picked_up_at"] == march["booked_at"]
    assert march["duration_min"] == 23.0
    assert (march["vehicle"], march["outcome"], march["source"]) == ("car", "delivered", "fallback")
    assert rows["distance_km"].unique().to_list() == [pytest.approx(8.0 * 1.609)]
    assert march["promised_by"] == march["booked_at"] + timedelta(minutes=march["p90_min"])
    assert (march["p10_min"], march["p50_min"], march["p90_min"]) == (21.0, 25.0, 30.0)


def test_every_dirty_row_is_quarantined_under_its_rule_and_nothing_is_dropped(place):
    dirty = {
        "unknown_zone": a_trip("2019-03-06T08:00", pair=(MAIN, UNKNOWN)),
        "duration_min.greater_than": a_trip("2019-03-06T08:00", minutes=-5),
        "duration_min.less_than_equal": a_trip("2019-03-06T08:00", minutes=2881),
        "local_time_of_a_clock_change": a_trip("2019-03-10T01:50", minutes=20),  # 02:10 never was
        "outside_its_month": a_trip("2008-12-31T23:00"),
    }
    twice = a_trip("2019-11-03T01:30")  # was twice
    long = [a_trip("2019-03-06T08:00", minutes=1430), a_trip("2019-03-09T23:30", minutes=240)]
    write_yellow(place / "trips", "2019-03", [*usual("2019-03"), *dirty.values(), *long])
    write_yellow(place / "trips", "2019-11", [*usual("2019-11"), twice])
    intake, rows = taken(place)

    assert intake.reasons == {**dict.fromkeys(dirty, 1), "local_time_of_a_clock_change": 2}
    assert rows.height + intake.reasons.total() == 12 + len(dirty) + len(long) + 13
    assert sorted(rows["duration_min"])[-2:] == [180.0, 1430.0]  # the night of the change has an hour less
    refused = list(Quarantine(place / "out" / "quarantine").read())
    assert Counter(item.rule for item in refused) == intake.reasons
    told = next(item for item in refused if item.row["trip_id"].startswith("yellow-2019-11"))
    assert told.value["pickup_local"] == "2019-11-03 01:30:00"


def test_the_route_is_never_the_trips_own_and_knows_nothing_of_the_test_months(place):
    rare = a_trip("2019-03-07T08:00", pair=(MAIN, FAR), miles=90.0)
    later = [{**trip, "miles": 15.0} for trip in usual("2019-11")]

    def distances(out: str, rare_miles: float, later_miles: float, usual_miles: float) -> dict[str, float]:
        month = [{**trip, "miles": trip["miles"] + usual_miles} for trip in usual("2019-03")]
        write_yellow(place / "trips", "2019-03", [*month, {**rare, "miles": rare_miles}])
        write_yellow(place / "trips", "2019-11", [{**trip, "miles": later_miles} for trip in later])
        _, rows = taken(place, out)
        return dict(zip(rows["trip_id"], rows["distance_km"], strict=True))

    before = distances("before", 90.0, 15.0, 0.0)
    assert distances("own", 5.0, 1.5, 0.0) == before
    assert before["yellow-2019-11-00000000"] == pytest.approx(8.0 * 1.609)
    straight_km = 13.48
    assert before["yellow-2019-03-00000012"] == pytest.approx(straight_km * 8.0 * 1.609 / 10.36, rel=0.01)
    assert distances("lever", 90.0, 15.0, 1.0) != before


def test_miles_sold_as_kilometres_would_be_refused_whole(place):
    """The rule is the city's: a month whose routes are shorter than the straight line is no month of kilometres."""
    write_yellow(place / "trips", "2019-03", [{**trip, "miles": trip["miles"] / 1.609} for trip in usual("2019-03")])
    intake, rows = taken(place)

    assert rows.height == 0
    assert intake.reasons == {"route-ratio": 12}


def test_the_cut_off_divides_train_from_test_by_new_yorks_midnight(place):
    edge = [a_trip("2019-09-30T23:59"), a_trip("2019-09-30T12:00")]
    write_yellow(place / "trips", "2019-09", [*usual("2019-09"), *edge])
    write_yellow(place / "trips", "2019-10", [a_trip("2019-10-01T00:00"), *usual("2019-10")])
    intake, _ = taken(place)
    made = intake.cut(UNTIL)

    assert {name: snapshot.rows for name, snapshot in made.items()} == {"train": 14, "test": 13}
    assert made["test"].first_requested_at == datetime(2019, 10, 1, 4, tzinfo=UTC)
    assert (made["train"].source, made["train"].time_zone) == ("tlc", "America/New_York")
    assert made["train"].zone_groups == {MAIN: "Manhattan", AIRPORT: "Queens", FAR: "Bronx"}
    kept = json.loads((place / "out" / "snapshots" / made["train"].digest / "snapshot.json").read_text())
    assert kept["rows"] == 14


def test_zones_lie_where_they_lie_in_kilometres(place):
    zones = {zone.zone: zone for zone in read_zones(place / "zones.csv")}

    assert zones[AIRPORT].x_km - zones[MAIN].x_km == pytest.approx(10.11, abs=0.05)  # 0.12 degrees east
    assert zones[FAR].y_km - zones[MAIN].y_km == pytest.approx(11.13, abs=0.05)  # 0.1 degrees north


def test_what_is_no_month_is_refused_by_name(place):
    pl.DataFrame({"a": [1]}).write_parquet(place / "other_2019-01.parquet")
    with pytest.raises(NotTripRecords, match="no month of yellow or green trips"):
        Month.of(place / "other_2019-01.parquet")
    one = write_yellow(place / "trips", "2019-01", usual("2019-01"))
    with pytest.raises(NotTripRecords, match="yellow-2019-01 is there twice"):
        months_in([place / "trips", one])
    taken(place)
    with pytest.raises(NotTripRecords, match="holds a lake already"):
        taken(place)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real trip records in ../shared/realdata beside this checkout")
def test_real_months_come_in_with_their_dirt_counted(tmp_path):
    files = [REAL / f"yellow_tripdata_{month}.parquet" for month in ("2018-11", "2019-03", "2020-01")]
    intake = take_in(files, REAL / "taxi_zone_centroids.csv", UNTIL, tmp_path / "out", Console(quiet=True))
    rows = intake.lake.read(intake.accepted)

    assert rows.height + intake.reasons.total() == 30_000
    assert 0.97 < rows.height / 30_000 < 0.99
    assert set(intake.reasons) <= {
        "unknown_zone",
        "duration_min.greater_than",
        "local_time_of_a_clock_change",
        "outside_its_month",
    }
    assert rows["duration_min"].max() > 1000  # near 24 hours: odd, but not impossible
    assert rows["distance_km"].max() < 100  # though a meter says 46,826 miles
    made = intake.cut(UNTIL)
    assert made["train"].rows + made["test"].rows == rows.height


def test_files_that_are_not_there_or_no_tables_are_named(place):
    (place / "trips").mkdir()
    (place / "trips" / "yellow_tripdata_2019-01.parquet").write_text("no Parquet")
    (place / "other.csv").write_text("a,b\n1,2\n")

    for trips in (place / "nowhere", place / "trips"):
        with pytest.raises(NotTripRecords, match=f"{trips}.*: mend --trips"):
            months_in([trips])
    for zones in (place / "nowhere.csv", place / "other.csv"):
        with pytest.raises(NotTripRecords, match=f"{zones}: .*: mend --zones"):
            read_zones(zones)

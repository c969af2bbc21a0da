"""Incidents: what each changes, in its window and nowhere else, in history and live alike."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from chassis.databases import open_database
from contracts.conditions import TruthRequest
from contracts.trips import TripRequest
from data.city import incidents
from data.city.incidents import BadIncident, Incident, Started, UnknownIncident
from data.city.log import METADATA, IncidentLog, IncidentRuns
from data.city.reference import City
from data.city.times import ZONE, instant, minutes_at, steps_at
from data.history import _quoted

START = datetime(2026, 6, 2, 6, tzinfo=ZONE)
END = START + timedelta(hours=30)
ASKED = minutes_at(START + timedelta(hours=6))


@pytest.fixture(scope="module")
def city() -> City:
    return City(11)


@pytest.fixture(scope="module")
def calm(city) -> pl.DataFrame:
    return wished(city, "calm")


def wished(city: City, name: str, lasts_min: float = 720) -> pl.DataFrame:
    """Every wish of 30 hours as a trip, with an incident from the sixth to the eighteenth hour."""
    incident = incidents.load(name).model_copy(update={"lasts_min": lasts_min})
    return _quoted(city, START, END, [Started(incident, ASKED)])


def crossing(city: City, trips: pl.DataFrame) -> np.ndarray:
    return city.streets.crossing[trips["pickup_zone"] - 1, trips["dropoff_zone"] - 1]


def inside(trips: pl.DataFrame, column: str) -> np.ndarray:
    asked = instant(ASKED).astimezone(UTC)
    return trips[column].is_between(asked, asked + timedelta(hours=12), closed="left").to_numpy()


def test_all_files_load_and_say_what_they_do():
    names = sorted(path.stem for path in incidents.FOLDER.glob("*.toml"))

    assert {"calm", "bridge-closed", "miles", "weather-outage"} <= set(names)
    assert all(len(incidents.load(name).statement) > 20 for name in names)


def test_calm_changes_nothing(city, calm):
    assert calm.equals(_quoted(city, START, END))


def test_bridge_closed_slows_what_crosses_the_river_and_no_other_column_moves(city, calm):
    closed = wished(city, "bridge-closed")
    delivered = (calm["outcome"] == "delivered").to_numpy()
    ratio = (closed["duration_min"] / calm["duration_min"]).to_numpy()
    hit = crossing(city, calm) & inside(calm, "booked_at") & delivered

    assert hit.sum() > 300
    assert 1.29 < ratio[hit].min() < 1.35
    assert 1.55 < ratio[hit].max() < 1.61
    assert (ratio[~hit & delivered] == 1).all()
    columns = [name for name in calm.columns if name not in ("duration_min", "ended_at", "picked_up_at")]
    assert closed.select(columns).equals(calm.select(columns))


def test_miles_changes_the_published_numbers_and_no_truth(city, calm):
    miles = wished(city, "miles")
    ratio = (calm["distance_km"] / miles["distance_km"]).to_numpy()
    hit = inside(calm, "requested_at")

    assert ratio[hit] == pytest.approx(1.609, abs=0.003)
    assert (ratio[~hit] == 1).all()
    assert miles.drop("distance_km").equals(calm.drop("distance_km"))
    started = [Started(incidents.load("miles"), ASKED)]
    before, during = city.map_at(ASKED - 1, started), city.map_at(ASKED, started)
    assert np.array(before.route_km) == pytest.approx(1.609 * np.array(during.route_km), abs=0.002)
    assert before.model_dump(exclude={"route_km"}) == during.model_dump(exclude={"route_km"})


def test_a_weather_outage_empties_the_weather_columns_alone(city, calm):
    silent = wished(city, "weather-outage")
    hit = inside(calm, "requested_at")
    hit &= (
        calm["requested_at"] - instant(ASKED).astimezone(UTC) >= timedelta(minutes=5)
    ).to_numpy()  # from the next reading on

    for column in ("rain_mm_h", "temperature_c"):
        assert silent[column].is_null().to_numpy()[hit].all()
        assert calm[column].is_null().to_numpy()[hit].mean() < 0.2
    assert silent.drop("rain_mm_h", "temperature_c").equals(calm.drop("rain_mm_h", "temperature_c"))
    steps = steps_at(ASKED + 5 * np.arange(12))
    readings = city.conditions(steps, [Started(incidents.load("weather-outage"), ASKED)])
    assert all(seen.rain_mm_h is None and seen.temperature_c is None for seen in readings)
    assert any(seen.city_pace is not None for seen in readings)


def test_live_truth_is_the_simulated_truth_under_an_incident(city):
    """Two in one: the table of a whole day and the answer about one trip come from the same code."""
    closed = wished(city, "bridge-closed").filter(pl.col("outcome") == "delivered")
    incident = incidents.load("bridge-closed").model_copy(update={"lasts_min": 720.0})
    rows = closed.filter(pl.Series(crossing(city, closed) & inside(closed, "booked_at"))).head(20)
    fields = list(TripRequest.model_fields)

    assert rows.height == 20
    for row in rows.iter_rows(named=True):
        trip = TripRequest(**{name: row[name] for name in fields})
        answer = city.answer(TruthRequest(trip=trip, booked_at=row["booked_at"]), [Started(incident, ASKED)])
        assert (answer.picked_up_at, answer.ended_at) == (row["picked_up_at"], row["ended_at"])


def test_a_window_may_open_later_than_the_start():
    incident = Incident(name="late", statement="later", starts_after_min=30, lasts_min=10, changes=incidents.Changes())
    started = Started(incident, 100.0)

    assert started.covers(np.array([129.9, 130.0, 139.9, 140.0])).tolist() == [False, True, True, False]


class Dawdling(IncidentLog):
    """Comes late to what follows its commit."""

    def __setattr__(self, name: str, value: object) -> None:
        time.sleep(0.1)
        super().__setattr__(name, value)


def test_an_incident_asked_for_by_several_at_once_starts_once(tmp_path):
    log = Dawdling(open_database(f"sqlite:///{tmp_path}/city.db", METADATA))
    with ThreadPoolExecutor(4) as askers:
        asked = [askers.submit(log.start, "bridge-closed", 1000.0) for _ in range(4)]

    assert [type(ask.exception()) for ask in asked if ask.exception()] == [IncidentRuns] * 3
    assert len(log.started) == len(IncidentLog(log.engine).started) == 1


def test_an_unknown_incident_names_those_there_are():
    with pytest.raises(UnknownIncident, match=r"no incident 'flood': there are bridge-closed, calm"):
        incidents.load("flood")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("name = 'x'\nstatement = 'y'\n[changes]\ncrossing_slowr = [1, 2]", "crossing_slowr"),
        ("name = 'z'\nstatement = 'y'\n[changes]", "calls itself 'z'"),
        ("name = ", "x.toml"),
    ],
)
def test_a_bad_file_is_refused_with_its_fault(tmp_path, text, fault):
    (tmp_path / "x.toml").write_text(text)

    with pytest.raises(BadIncident, match=fault):
        incidents.load("x", tmp_path)

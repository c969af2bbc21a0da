"""Product's copy of the city: fresh readings, stale ones, bad ones, and a city that is lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chassis.databases import open_database
from contracts.bookings import QuoteRequest
from contracts.conditions import Conditions
from contracts.feeds import Event
from product.conditions import CityView, NoMapYet, UnknownZone
from product.tables import METADATA
from tests.product.neighbours import a_map

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
STALE = timedelta(minutes=30)
WISH = QuoteRequest(pickup_zone=101, dropoff_zone=103, vehicle="van")
MAP = a_map()


@pytest.fixture
def engine(tmp_path):
    return open_database(f"sqlite:///{tmp_path}/product.db", METADATA)


def events(*items) -> list[Event]:
    kinds = [("map", item) if not isinstance(item, Conditions) else ("reading", item) for item in items]
    return [
        Event(id=str(number), source="/city", type=f"conditions.{kind}", time=NOON, subject="city", data=dict(data))
        for number, (kind, data) in enumerate(
            ((kind, item if isinstance(item, dict) else item.model_dump(mode="json")) for kind, item in kinds), 1
        )
    ]


def heard(view, engine, *items) -> None:
    with engine.begin() as tx:
        view.handle(tx, events(*items))


def test_the_newest_map_and_reading_count(engine):
    view = CityView(engine, STALE)
    heard(view, engine, MAP, Conditions(at=NOON, rain_mm_h=9), Conditions(at=NOON, rain_mm_h=2, city_pace=1.3))

    trip = view.trip(WISH, "t1", NOON)
    assert (trip.distance_km, trip.rain_mm_h, trip.temperature_c, trip.city_pace) == (MAP.route_km[0][2], 2, None, 1.3)


def test_a_reading_older_than_half_an_hour_counts_as_missing(engine):
    view = CityView(engine, STALE)
    heard(view, engine, MAP, Conditions(at=NOON, rain_mm_h=2, temperature_c=8, city_pace=1.3))

    assert view.trip(WISH, "t1", NOON + STALE).rain_mm_h == 2
    late = view.trip(WISH, "t1", NOON + STALE + timedelta(seconds=1))
    assert (late.rain_mm_h, late.temperature_c, late.city_pace) == (None, None, None)


def test_a_lost_city_leaves_its_map_behind(engine):
    heard(CityView(engine, STALE), engine, MAP)

    assert CityView(engine, STALE).trip(WISH, "t1", NOON).distance_km == MAP.route_km[0][2]


def test_without_a_map_or_for_a_foreign_zone_there_is_no_trip(engine):
    view = CityView(engine, STALE)
    with pytest.raises(NoMapYet):
        view.trip(WISH, "t1", NOON)
    heard(view, engine, MAP)
    with pytest.raises(UnknownZone, match="dropoff_zone: zone 7 is not among the 24"):
        view.trip(WISH.model_copy(update={"dropoff_zone": 7}), "t1", NOON)


@pytest.mark.parametrize(
    "bad",
    [
        MAP.model_copy(update={"route_km": [row[:-1] for row in MAP.route_km]}),
        MAP.model_copy(update={"route_km": [[0.0] * 24] * 24}),
        MAP.model_copy(update={"zones": [], "route_km": []}),
        {"zones": "none"},
    ],
)
def test_a_bad_map_is_logged_and_the_good_one_kept(engine, caplog, bad):
    view = CityView(engine, STALE)
    heard(view, engine, MAP)
    heard(view, engine, bad)

    assert view.known().map == MAP
    assert CityView(engine, STALE).known().map == MAP
    assert "no good" in caplog.text

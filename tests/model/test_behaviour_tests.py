"""The behaviour tests themselves: each goes red on a graph that misbehaves its way, and only then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from contracts.bundle import Scope
from contracts.trips import VEHICLES, TripRequest
from model.behaviour import behaviour

ZONE = ZoneInfo("Europe/Berlin")
SCOPE = Scope(zones=[1, 2, 3], vehicles=list(VEHICLES), min_distance_km=0.5, max_distance_km=20)
TRIPS = [
    TripRequest(
        trip_id=f"t-{number}",
        requested_at=datetime(2026, 6, 1, tzinfo=ZONE) + timedelta(hours=5 * number),
        pickup_zone=1 + number % 3,
        dropoff_zone=1 + number % 2,
        distance_km=1 + number % 9,
        vehicle=VEHICLES[number % 4],
        rain_mm_h=float(number % 5),
        city_pace=1 + number % 3 / 10,
    )
    for number in range(200)
]
Middle = Callable[[TripRequest], float]


def sensible(trip: TripRequest) -> float:
    """A median that knows its trade."""
    km_h = {"bike": 14.0, "scooter": 22.0, "van": 20.0, "car": 25.0}[trip.vehicle]
    wet = 1 + (0.05 if trip.vehicle == "bike" else 0.01) * (trip.rain_mm_h or 0)
    at = trip.requested_at.astimezone(ZONE)
    return (4 + 60 * trip.distance_km / km_h * (trip.city_pace or 1.2)) * wet * (1 + at.hour / 100 + at.weekday() / 50)


def failed(middle: Middle, trips: Sequence[TripRequest] = TRIPS) -> set[str]:
    def ask(asked: Sequence[TripRequest]) -> np.ndarray:
        return np.array([[0.8, 1.0, 1.4]]) * np.array([[middle(trip)] for trip in asked])

    return {item.name for item in behaviour(ask, trips, SCOPE, ZONE) if not item.passed}


def test_a_sensible_graph_passes_all():
    assert failed(sensible) == set()


@pytest.mark.parametrize(
    ("graph", "test"),
    [
        (lambda trip: sensible(trip) + (trip.requested_at - TRIPS[0].requested_at).days / 10, "a week later"),
        (lambda trip: sensible(trip.model_copy(update={"requested_at": TRIPS[0].requested_at})), "nine hours later"),
        (lambda trip: sensible(trip) / (1 + (trip.rain_mm_h or 0)), "rain lengthens a bike's trip"),
        (lambda trip: sensible(trip) / (trip.city_pace or 1.2) ** 2, "slow streets lengthen a car's trip"),
        (lambda trip: sensible(trip) - 12 * (trip.distance_km > 8), "a longer route shortens no quantile"),
        (lambda trip: float("nan") if trip.city_pace is None else sensible(trip), "must-work trips"),
        (lambda trip: sensible(trip) * (30 if trip.distance_km == 20 else 1), "must-work trips"),
    ],
)  # fmt: skip
def test_each_goes_red_on_its_own_fault(graph: Middle, test: str):
    assert test in failed(graph)


@pytest.mark.parametrize("change", ["2026-03-29", "2026-10-25"])
def test_a_change_of_the_clocks_is_no_fault_of_a_graph(change: str):
    """Held-out trips tell their time in UTC. In spring some wall-clock times do not come again a week later."""
    first = datetime.fromisoformat(change).replace(tzinfo=UTC) - timedelta(days=14)
    times = [first + timedelta(minutes=50 * number) for number in range(500)]
    asked = [TRIPS[number % 200].model_copy(update={"requested_at": at}) for number, at in enumerate(times)]

    assert failed(sensible, asked) == set()
    assert "a week later" in failed(lambda trip: sensible(trip) + (trip.requested_at - first).days / 10, asked)


def test_a_graph_that_says_the_same_of_every_trip_is_caught_by_the_levers():
    assert {"a route half as long again", "nine hours later"} <= failed(lambda _: 20.0)


def test_what_is_never_known_has_no_direction():
    blind = [trip.model_copy(update={"rain_mm_h": None, "city_pace": None}) for trip in TRIPS]
    assert failed(lambda trip: sensible(trip) / (1 + (trip.rain_mm_h or 0)), blind) == set()

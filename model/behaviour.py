"""Behaviour tests of a graph: what must not move its answers, what must, and trips that any model gets right.

The three kinds are those of CheckList (Ribeiro et al., ACL 2020). What must not move or shorten answers has a lever
beside it: a change that must move them, so that a test which changes nothing cannot pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from contracts.bundle import Behaviour, Scope
from contracts.trips import TripRequest, minute_of_week

Ask = Callable[[Sequence[TripRequest]], np.ndarray]  # n trips to quantiles in minutes, shape (n, 3)
Minutes = np.ndarray  # shape (n, 3)

STILL_MIN = 1e-3  # answers closer than that are the same
MOST = 0.9  # of the trips must follow a direction, since a learnt one may have its exceptions
HEAVY_RAIN_MM_H, SLOW_STREETS = 6.0, 1.6
FASTEST_KM_H, LONGEST_MIN = 120, 24 * 60


def behaviour(ask: Ask, trips: Sequence[TripRequest], scope: Scope, zone: ZoneInfo) -> list[Behaviour]:
    """All that can be tested on these held-out trips: a column that is never known has no direction."""
    return [*_invariances(ask, trips, zone), *_directions(ask, trips, scope), _must_work(ask, trips[-1], scope)]


def _invariances(ask: Ask, trips: Sequence[TripRequest], zone: ZoneInfo) -> Iterator[Behaviour]:
    def later(by: timedelta) -> list[TripRequest]:
        def then(at: datetime) -> datetime:
            return (at.astimezone(zone) + by).astimezone(at.tzinfo)  # on the city's wall clock

        return _changed(trips, lambda trip: {"requested_at": then(trip.requested_at)})

    def minute(trip: TripRequest) -> int:
        return minute_of_week(trip.requested_at, zone)

    weeks = zip(trips, later(timedelta(days=7)), strict=True)
    alike = [(trip, then) for trip, then in weeks if minute(trip) == minute(then)]  # in spring an hour is left out
    one, other = (ask(asked) for asked in zip(*alike, strict=True))
    most = float(np.abs(other - one).max())
    yield Behaviour(
        name="a week later", kind="invariance", expected=f"moves no answer by more than {STILL_MIN} min", measured=most,
        passed=most <= STILL_MIN,
    )  # fmt: skip
    yield _lever("nine hours later", ask(trips), ask(later(timedelta(hours=9))))


def _directions(ask: Ask, trips: Sequence[TripRequest], scope: Scope) -> Iterator[Behaviour]:
    bikes = [trip for trip in trips if trip.vehicle == "bike"]
    if bikes and any(trip.rain_mm_h is not None for trip in trips):
        dry, wet = ({"rain_mm_h": rain} for rain in (0.0, HEAVY_RAIN_MM_H))
        yield _longer("rain lengthens a bike's trip", ask, bikes, dry, wet)
    cars = [trip for trip in trips if trip.vehicle in ("car", "van")]
    if cars and any(trip.city_pace is not None for trip in trips):
        yield _longer("slow streets lengthen a car's trip", ask, cars, {"city_pace": 1.0}, {"city_pace": SLOW_STREETS})

    def by(factor: float) -> list[TripRequest]:
        return _changed(trips, lambda trip: {"distance_km": min(factor * trip.distance_km, scope.max_distance_km)})

    usual = ask(trips)
    shorter = float((ask(by(1.3)) < usual - STILL_MIN).any(1).mean())
    yield Behaviour(
        name="a longer route shortens no quantile", kind="direction", expected="for no trip", measured=shorter,
        passed=shorter == 0,
    )  # fmt: skip
    yield _lever("a route half as long again", usual, ask(by(1.5)))


def _lever(name: str, usual: Minutes, moved: Minutes) -> Behaviour:
    share = float((np.abs(moved - usual).max(1) > STILL_MIN).mean())
    expected = f"moves at least {MOST:.0%} of the answers"
    return Behaviour(name=name, kind="lever", expected=expected, measured=share, passed=share >= MOST)


def _longer(
    name: str, ask: Ask, trips: Sequence[TripRequest], before: dict[str, Any], after: dict[str, Any]
) -> Behaviour:
    first, then = (ask([trip.model_copy(update=change) for trip in trips]) for change in (before, after))
    share = float((then[:, 1] > first[:, 1]).mean())
    expected = f"for at least {MOST:.0%} of {len(trips)} trips"
    return Behaviour(name=name, kind="direction", expected=expected, measured=share, passed=share >= MOST)


def _must_work(ask: Ask, trip: TripRequest, scope: Scope) -> Behaviour:
    """Shortest and longest route, each vehicle, between two zones and within one, all known and nothing known."""
    nothing_known: dict[str, float | None] = {
        "parcel_kg": None,
        "rain_mm_h": None,
        "temperature_c": None,
        "city_pace": None,
    }
    all_known: dict[str, float | None] = {"parcel_kg": 1.0, "rain_mm_h": 0.0, "temperature_c": 10.0, "city_pace": 1.2}
    suite = [
        trip.model_copy(update={"vehicle": vehicle, "distance_km": km, "pickup_zone": start} | known)
        for vehicle, km, start, known in product(
            scope.vehicles,
            (scope.min_distance_km, scope.max_distance_km),
            (trip.dropoff_zone, scope.zones[0]),
            (nothing_known, all_known),
        )
    ]
    low, middle, high = ask(suite).T
    least = np.array([trip.distance_km for trip in suite]) / FASTEST_KM_H * 60
    right = np.isfinite([low, middle, high]).all(0) & (low > 0) & (low <= middle) & (middle <= high)
    right &= (middle >= least) & (middle <= LONGEST_MIN)
    failures = int((~right).sum())
    expected = f"none of {len(suite)} trips without ordered, finite minutes below {LONGEST_MIN} and {FASTEST_KM_H} km/h"
    return Behaviour(
        name="must-work trips", kind="minimum function", expected=expected, measured=failures, passed=failures == 0
    )


def _changed(trips: Sequence[TripRequest], change: Callable[[TripRequest], dict[str, Any]]) -> list[TripRequest]:
    return [trip.model_copy(update=change(trip)) for trip in trips]

"""Cohorts: closed by a watermark, judged as of one instant, nobody dropped."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from contracts import requirements
from monitoring.cohorts import Schedule, figures
from tests.monitoring.streams import NOON, SPREAD, a_trip, quantiles

POLICY = requirements.load().policy
SCHEDULE = Schedule(timedelta(minutes=POLICY.cohort_min), timedelta(minutes=POLICY.closing_min))


def as_of(trip, at):
    """The trip as somebody sees it who looks at `at`."""
    return trip if trip.ended_at <= at else replace(trip, ended_at=at, outcome="open")


def test_trips_read_as_they_arrive_look_better_than_they_are_and_closed_cohorts_do_not():
    rng = random.Random(7)
    now = NOON + timedelta(hours=6)
    trips = []
    for number in range(6_000):  # true miss share: one in ten
        asked = NOON + timedelta(minutes=number * 360 / 6_000)
        trips.append(a_trip(20 * pow(2.718281828, SPREAD * rng.gauss(0, 1)), trip_id=f"t{number}", requested_at=asked))
    seen = [as_of(trip, now) for trip in trips]

    newest = [trip for trip in seen if trip.requested_at > now - timedelta(minutes=30)]
    arrived = [trip.miss("v1") for trip in newest if trip.outcome == "delivered"]
    naive = arrived.count("above") / len(arrived)
    closed = [trip.miss("v1") for trip in seen if SCHEDULE.closes_at(SCHEDULE.start_of(trip.requested_at)) <= now]
    ours = closed.count("above") / len(closed)

    assert naive < 0.05
    assert ours == pytest.approx(0.10, abs=0.015)


def test_an_open_trip_is_a_miss_once_its_p90_has_passed_and_unknown_before():
    p90 = quantiles().p90_min
    assert a_trip(p90 + 1, outcome="open").miss("v1") == "above"
    assert a_trip(p90 - 1, outcome="open").miss("v1") is None
    assert a_trip(1.0, outcome="open").miss("v1") is None  # short so far is not below p10


@pytest.mark.parametrize(("minutes", "miss"), [(5, "below"), (20, "inside"), (60, "above")])
def test_a_delivered_trip_falls_on_one_side(minutes, miss):
    assert a_trip(minutes).miss("v1") == miss


@pytest.mark.parametrize("outcome", ["cancelled", "lost"])
def test_cancelled_and_lost_trips_are_counted_but_have_no_duration(outcome):
    trip = a_trip(60, outcome=outcome)
    assert trip.miss("v1") is None
    assert trip.late is None
    assert figures([trip, a_trip()])[outcome] == 1
    assert figures([trip, a_trip()])["booked"] == 2


def test_lateness_is_known_once_the_promise_has_passed():
    assert a_trip(41).late is True
    assert a_trip(39).late is False
    assert a_trip(41, outcome="open").late is True
    assert a_trip(39, outcome="open").late is None


def test_figures_count_by_version_and_group():
    trips = [a_trip(20), a_trip(90), a_trip(5, group="west"), a_trip(20, quantiles=None, model_quoted=False)]
    versions = figures(trips)["versions"]["v1"]
    assert (versions[""]["of"], versions[""]["above"], versions[""]["below"]) == (3, 1, 1)
    assert versions["hills"]["of"] == 2
    assert versions["west"]["below"] == 1
    assert versions[""]["loss_min"] > 0


def test_cohorts_lie_on_a_grid_and_close_in_order_each_once():
    start = SCHEDULE.start_of(NOON + timedelta(minutes=7))
    assert start == NOON
    assert SCHEDULE.closes_at(NOON) == NOON + timedelta(minutes=POLICY.cohort_min + POLICY.closing_min)
    first = SCHEDULE.newest_closed(NOON)
    assert SCHEDULE.closes_at(first) == NOON
    due = list(SCHEDULE.due(first, NOON + timedelta(minutes=44)))
    assert due == [first + timedelta(minutes=15), first + timedelta(minutes=30)]
    assert list(SCHEDULE.due(due[-1], NOON + timedelta(minutes=44))) == []

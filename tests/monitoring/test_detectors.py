"""Detectors: rare false alarms, quick true ones, and where the change began."""

from __future__ import annotations

from datetime import timedelta

import pytest

from contracts import requirements
from monitoring.detectors import Detector
from tests.monitoring.streams import NOON, SPREAD, Z90, hourly, log_durations

POLICY = requirements.load().policy
ALLOWED = 0.1 + POLICY.tolerance
GAP = timedelta(minutes=0.6)  # between two booked trips


def detector() -> Detector:
    return Detector(POLICY.trips_between_false_alarms)


def feed(watching: Detector, logs, start=NOON, until_alarm=True) -> int | None:
    """Trips until the alarm on misses above p90; None when there was none."""
    for number, log in enumerate(logs):
        watching.add(log > SPREAD * Z90, ALLOWED, start + number * GAP)
        if until_alarm and watching.level >= watching.threshold:
            return number + 1
    return None


def test_false_alarms_stay_below_the_policys_figure_with_a_margin():
    trips, alarms = 200_000, 0
    watching = {"above": detector(), "below": detector()}
    for log in log_durations(trips, seed=3):
        for side, missed in (("above", log > SPREAD * Z90), ("below", log < -SPREAD * Z90)):
            watching[side].add(missed, ALLOWED, NOON)
            if watching[side].level >= watching[side].threshold:
                alarms += 1
                watching[side] = detector()

    allowed = 2 * trips / POLICY.trips_between_false_alarms
    assert alarms <= allowed / 2, f"{alarms} alarms of two detectors in {trips} calm trips"


def test_without_tolerance_a_flat_null_would_cry_wolf():
    """The lever that must matter: the same stream against a null a little too low."""
    watching, alarms = detector(), 0
    for log in log_durations(100_000, seed=3):
        watching.add(log > SPREAD * Z90, 0.085, NOON)
        if watching.level >= watching.threshold:
            alarms, watching = alarms + 1, detector()
    assert alarms >= 10


@pytest.mark.parametrize("calm", [0, 5_000])
def test_a_closed_bridge_is_found_within_hundreds_of_trips_however_long_it_was_calm(calm):
    delays = []
    for seed in range(15):
        watching = detector()
        feed(watching, log_durations(calm, seed), until_alarm=False)
        delay = feed(watching, log_durations(4_000, 1_000 + seed, crossing=0.28, slowdown=1.5), NOON + calm * GAP)
        delays.append(delay or 4_000)
    delays.sort()
    assert delays[7] <= 400, delays
    assert delays[-2] <= 1_000, delays


def test_it_estimates_where_the_change_began():
    errors = []
    for seed in range(15):
        watching = detector()
        feed(watching, log_durations(2_000, seed), until_alarm=False)
        feed(watching, log_durations(4_000, 1_000 + seed, crossing=0.28, slowdown=1.5), NOON + 2_000 * GAP)
        errors.append(abs(watching.began - (NOON + 2_000 * GAP)) / GAP)
    assert sorted(errors)[7] <= 150, errors


def test_an_alarm_ends_soon_after_its_cause():
    watching = detector()
    feed(watching, log_durations(4_000, 1, crossing=0.5, slowdown=1.6), until_alarm=False)
    assert watching.peak >= watching.threshold

    feed(watching, log_durations(900, 2), until_alarm=False)
    assert watching.peak < watching.threshold


def test_an_alarm_does_not_flicker():
    """A level that dips just below the threshold is the same alarm."""
    watching = detector()
    feed(watching, log_durations(4_000, 1, crossing=0.28, slowdown=1.5))
    while watching.level >= watching.threshold:
        watching.add(False, ALLOWED, NOON)
    assert watching.peak >= watching.threshold


def test_fewer_misses_than_allowed_are_nobodys_alarm():
    watching = detector()
    assert feed(watching, (-1.0 for _ in range(5_000))) is None
    assert watching.level < len("evidence stays near nothing")
    assert watching.began is None


def test_the_reference_knows_hour_group_and_the_citys_clock():
    reference = hourly(extra={("above p90", "hills"): 0.03, ("above p90", "west"): -0.05})
    reference.hourly["above p90"][12] = 0.2  # Monday noon in the city is 10:00 UTC in summer

    assert reference.allowed("above p90", None, NOON, 0.02) == pytest.approx(0.22)
    assert reference.allowed("above p90", None, NOON + timedelta(hours=1), 0.02) == pytest.approx(0.12)
    assert reference.allowed("above p90", "hills", NOON, 0.02) == pytest.approx(0.25)
    assert reference.allowed("above p90", "west", NOON, 0.02) == pytest.approx(0.22)
    assert reference.allowed("below p10", "hills", NOON, 0.02) == pytest.approx(0.12)

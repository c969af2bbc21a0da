"""Detectors: rare false alarms, quick true ones, and where the change began."""

from __future__ import annotations

from datetime import timedelta

import pytest

from contracts import requirements
from monitoring.detectors import Detector
from tests.monitoring.streams import NOON, SPREAD, Z90, hourly, log_durations

POLICY = requirements.load().policy
ALLOWED = 0.1 + POLICY.tolerance
COHORT = 25  # trips
LENGTH = timedelta(minutes=POLICY.cohort_min)
ABOVE, BELOW = SPREAD * Z90, -SPREAD * Z90


def detector() -> Detector:
    return Detector(POLICY.trips_between_false_alarms)


def cohorts(logs, missed, allowed=ALLOWED):
    """Trips in cohorts, as a detector takes them."""
    misses = [(missed(log), allowed) for log in logs]
    return [misses[place : place + COHORT] for place in range(0, len(misses), COHORT)]


def feed(watching: Detector, logs, start=NOON, until_alarm=True) -> int | None:
    """Trips until the alarm on misses above p90; None when there was none."""
    for number, cohort in enumerate(cohorts(logs, lambda log: log > ABOVE)):
        watching.add(cohort, start + number * LENGTH)
        if until_alarm and watching.level >= watching.threshold:
            return (number + 1) * COHORT
    return None


def alarms(logs, missed, allowed=ALLOWED) -> int:
    """Alarms over a stream, starting anew after each."""
    found, watching = 0, detector()
    for cohort in cohorts(logs, missed, allowed):
        watching.add(cohort, NOON)
        if watching.level >= watching.threshold:
            found, watching = found + 1, detector()
    return found


@pytest.mark.parametrize("jams", [0.03, 0.08], ids=["mild jams", "heavy jams"])
def test_false_alarms_stay_below_the_policys_figure_with_a_margin(jams):
    trips = 200_000
    logs = list(log_durations(trips, seed=3, jams=jams))
    found = alarms(logs, lambda log: log > ABOVE) + alarms(logs, lambda log: log < BELOW)

    allowed = 2 * trips / POLICY.trips_between_false_alarms
    assert found <= allowed / 2, f"{found} alarms of two detectors in {trips} calm trips"


def test_a_null_below_the_truth_cries_wolf():
    """The lever that must matter: the same calm stream against too low a reference."""
    assert alarms(log_durations(100_000, seed=3), lambda log: log > ABOVE, allowed=0.075) >= 10


def test_trips_of_one_cohort_count_as_one_bet_however_they_hang_together():
    """A jam makes every trip of some cohorts late: forty misses of one cause are not forty proofs."""
    together, apart = detector(), detector()
    jam = [(True, ALLOWED)] * 30
    together.add(jam, NOON)
    for trip in jam:
        apart.add([trip], NOON)
    assert together.level < together.threshold
    assert apart.level > apart.threshold


@pytest.mark.parametrize("calm", [0, 5_000])
def test_a_closed_bridge_is_found_within_hundreds_of_trips_however_long_it_was_calm(calm):
    delays = []
    for seed in range(15):
        watching = detector()
        feed(watching, log_durations(calm, seed), until_alarm=False)
        bridge = log_durations(4_000, 1_000 + seed, crossing=0.28, slowdown=1.5)
        delays.append(feed(watching, bridge, NOON + calm // COHORT * LENGTH) or 4_000)
    delays.sort()
    assert delays[7] <= 700, delays
    assert delays[-2] <= 1_400, delays


def test_it_estimates_where_the_change_began():
    errors, began = [], NOON + 80 * LENGTH
    for seed in range(15):
        watching = detector()
        feed(watching, log_durations(80 * COHORT, seed), until_alarm=False)
        feed(watching, log_durations(4_000, 1_000 + seed, crossing=0.28, slowdown=1.5), began)
        errors.append(abs(watching.began - began) / LENGTH)
    assert sorted(errors)[7] <= 6, errors  # cohorts


def test_an_alarm_ends_soon_after_its_cause():
    watching = detector()
    feed(watching, log_durations(4_000, 1, crossing=0.5, slowdown=1.6), until_alarm=False)
    assert watching.peak >= watching.threshold

    feed(watching, log_durations(1_500, 2), until_alarm=False)
    assert watching.peak < watching.threshold


def test_an_alarm_does_not_flicker():
    """A level that dips just below the threshold is the same alarm."""
    watching = detector()
    feed(watching, log_durations(8_000, 1, crossing=0.28, slowdown=1.5))
    while watching.level >= watching.threshold:
        watching.add([(False, ALLOWED)], NOON)
    assert watching.peak >= watching.threshold


def test_fewer_misses_than_allowed_are_nobodys_alarm():
    watching = detector()
    assert feed(watching, [-1.0] * 5_000) is None
    assert watching.level < 2 * COHORT
    assert watching.began is None


def test_a_cohort_without_trips_changes_nothing():
    watching = detector()
    watching.add([], NOON)
    assert (watching.trips, watching.level, watching.began) == (0, 0.0, None)


def test_the_reference_knows_hour_group_and_the_citys_clock():
    reference = hourly(extra={("above p90", "hills"): 0.03, ("above p90", "west"): -0.05})
    reference.hourly["above p90"][12] = 0.2  # Monday noon in the city is 10:00 UTC in summer

    assert reference.allowed("above p90", None, NOON, 0.02) == pytest.approx(0.22)
    assert reference.allowed("above p90", None, NOON + timedelta(hours=1), 0.02) == pytest.approx(0.12)
    assert reference.allowed("above p90", "hills", NOON, 0.02) == pytest.approx(0.25)
    assert reference.allowed("above p90", "west", NOON, 0.02) == pytest.approx(0.22)
    assert reference.allowed("below p10", "hills", NOON, 0.02) == pytest.approx(0.12)

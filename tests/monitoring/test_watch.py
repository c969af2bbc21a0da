"""The fold from closings to evidence."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from contracts import requirements
from monitoring.coverage import Share
from monitoring.evidence import Batch, Closing, Serving
from monitoring.watch import Watch
from tests.monitoring.streams import NOON, a_trip, hourly, quantiles

RECORD = requirements.load()
QUARTER = timedelta(minutes=15)
V1 = Serving("v1", NOON)


def closing(number: int, trips: int = 10, minutes: float = 60.0, **changed) -> Closing:
    """Cohort `number` from NOON: trips that all took `minutes`."""
    start = NOON + number * QUARTER
    asked = [start + timedelta(minutes=place) for place in range(trips)]
    judged = tuple(a_trip(minutes, requested_at=at, trip_id=f"t{number}-{at.minute}") for at in asked)
    return replace(Closing(start, start + timedelta(minutes=135), judged, V1), **changed)


def batch(number: int, cohort: int, accepted: int = 10, quarantined: int = 0) -> Batch:
    first = NOON + cohort * QUARTER
    return Batch(number, f"b{number}", accepted, quarantined, accepted == 0, "", first, first + QUARTER, {})


def watched(*closings: Closing) -> Watch:
    watch = Watch(RECORD, {"v1": hourly(), "v2": hourly()})
    for one in closings:
        watch.take_in(one)
    return watch


def reading(watch: Watch, group=None):
    return next(one for one in watch.evidence().readings if (one.side, one.group) == ("above p90", group))


def test_misses_raise_the_level_overall_and_in_their_group():
    watch = watched(*(closing(number) for number in range(6)))
    assert reading(watch).level > RECORD.policy.trips_between_false_alarms
    assert reading(watch, "hills").level == reading(watch).level
    assert reading(watch).stretch.since == NOON
    assert reading(watch).stretch.outcomes == 60
    assert watch.evidence().held.overall.p90 == Share(0, 60)


def test_a_new_champion_gets_fresh_detectors_and_keeps_the_coverage_of_its_shadow_time():
    shadow = {"v1": quantiles(), "v2": quantiles(60.0)}

    def shadowed(number: int, serving: Serving) -> Closing:
        one = closing(number, serving=serving)
        return replace(one, trips=tuple(replace(trip, quantiles=shadow) for trip in one.trips))

    before = [closing(number) for number in range(6)]
    trained = shadowed(6, Serving("v1", NOON, "v2", NOON + 6 * QUARTER))
    promoted = shadowed(7, Serving("v2", NOON + 7 * QUARTER, previous="v1"))
    watch = watched(*before, trained, promoted)

    assert reading(watch).trips == 10
    assert watch.evidence().held.overall.of == 20
    assert watch.evidence().challenger is None
    assert watch.evidence().previous.rival == "v1"


@pytest.mark.parametrize("fault", ["refused batch", "silent feed", "lost estimates"])
def test_cohorts_judged_while_data_is_broken_move_nothing(fault):
    broken = {
        "refused batch": closing(1, batches=(batch(1, 90, accepted=0, quarantined=10), batch(2, 90, accepted=990))),
        "silent feed": closing(1, silent=("feed trips is silent",)),
        "lost estimates": closing(1),
    }[fault]
    if fault == "lost estimates":
        broken = replace(broken, trips=tuple(replace(trip, quantiles=None) for trip in broken.trips))
    watch = watched(closing(0), broken, closing(2), closing(3), closing(4))
    assert watch.evidence().clean_cohorts == 3
    assert reading(watch).trips == 10  # the first cohort's

    watch.take_in(closing(5))
    assert watch.evidence().clean_cohorts == RECORD.policy.clean_cohorts
    assert reading(watch).trips == 20


def test_trips_of_a_refused_batch_are_left_out_even_when_their_cohort_closes_later():
    refused = batch(1, cohort=9, accepted=0, quarantined=10)
    clean = (batch(number, cohort=30) for number in range(2, 40))
    closings = [closing(0, trips=0, batches=(refused,))]
    closings += [closing(number, trips=0, batches=(next(clean), next(clean), next(clean))) for number in range(1, 9)]
    watch = watched(*closings, closing(9), closing(11))

    assert watch.evidence().clean_cohorts >= RECORD.policy.clean_cohorts
    assert reading(watch).trips == 10
    assert watch.evidence().outcomes == 10


def test_rows_quarantined_since_a_change_are_counted_by_batch():
    batches = (batch(1, 0), batch(2, 1, 8, 2), batch(3, 2, 7, 3))
    watch = watched(closing(0, batches=batches), *(closing(number) for number in range(1, 4)))
    assert watch.batches.since(NOON) == Share(5, 30)
    assert watch.batches.since(NOON + 2 * QUARTER + timedelta(minutes=1)) == Share(3, 10)
    assert watch.batches.since(NOON + 9 * QUARTER) == Share(0, 0)


def test_outcomes_since_a_change_are_counted_by_request_though_cohorts_go_by_booking():
    kept_quote = a_trip(requested_at=NOON - timedelta(hours=2), booked_at=NOON + QUARTER)
    late_booker = closing(1)
    watch = watched(closing(0), replace(late_booker, trips=(*late_booker.trips, kept_quote)))
    assert watch.evidence().outcomes == 21
    assert reading(watch).stretch.since == NOON
    assert reading(watch).stretch.outcomes == 20


def test_windows_look_back_as_far_as_the_record_says():
    short = [
        item.model_copy(update={"newest": 15}) if item.id in ("coverage-p90", "late-promises") else item
        for item in RECORD.all()
    ]
    watch = Watch(RECORD.model_copy(update={"requirement": short}), {"v1": hourly()})
    for one in (closing(0), closing(1), closing(2, minutes=20.0)):
        watch.take_in(one)
    assert watch.evidence().held.overall.p90 == Share(10, 15)
    assert watch.evidence().late == Share(5, 15)


def test_a_champion_without_a_reference_is_not_watched():
    watch = Watch(RECORD, {})
    watch.take_in(closing(0))
    assert not watch.evidence().watched
    assert watch.evidence().readings == ()
    assert watch.evidence().held.overall.of == 10

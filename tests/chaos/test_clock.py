"""The wall clock is set while serving runs, and between two starts."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest

from chassis.clock import Clock
from tests.chaos.customers import asking
from tests.chaos.jumping_clock import OFF_BY
from tests.serving.processes import serving_process

pytestmark = pytest.mark.slow
HOUR_S = 3600
JUMPS = 150


def off_by(var: Path, seconds: int) -> None:
    """Set the clock, in one step."""
    part = var / "clock-part"
    part.write_text(str(seconds))
    part.replace(var / OFF_BY)


def hours(events) -> list[int]:
    """In which city hours things happened, each named when another begins."""
    return [int(hour[-2:]) for hour, _ in groupby(event["time"][:13] for event in events)]


def test_a_clock_that_is_set_back_and_forth_refuses_nobody_and_keeps_the_feed_in_order(place, told):
    with serving_process(place, module="tests.chaos.jumping_clock") as serving, asking(serving.url) as customers:
        customers.until_answered()
        for jump in range(JUMPS):  # so many that requests are on their way while it jumps
            off_by(place.var, (-HOUR_S, 2 * HOUR_S)[jump % 2])
            customers.until_answered(2)
        customers.end()
        events = serving.service.feed("estimates")
        row = told(f"clock set back an hour or forth two, {JUMPS} times", customers, events)
        measured_s = serving.service.metric("tandem_estimate_seconds_sum")

    assert row.saw.keys() == {"200"}
    assert (row.lost, row.unheard) == (0, 0)
    assert {6, 7, 9} == set(hours(events))
    assert len(hours(events)) > JUMPS / 2
    assert 0 < measured_s < sum(it.took_s for it in customers.heard)


def test_started_again_with_its_clock_an_hour_back_it_answers_on_in_order(place, told):
    with serving_process(place) as first, asking(first.url) as customers:
        customers.until_answered()
    clock = Clock.load(place.var / "clock.json")
    clock.model_copy(update={"wall_start": clock.wall_start + HOUR_S}).save(place.var / "clock.json")
    with serving_process(place, port=first.port) as second, asking(second.url) as later:
        later.until_answered()
        later.end()
        events = second.service.feed("estimates")

    assert customers.saw().keys() == later.saw().keys() == {"200"}
    assert hours(events) == [7, 6]
    assert [int(event["id"]) for event in events] == list(range(1, len(events) + 1))
    assert {event["data"]["estimate_id"] for event in events} == {*customers.answered(), *later.answered()}

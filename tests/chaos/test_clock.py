"""The wall clock is set while serving runs, and between two starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from chassis.clock import Clock
from tests.chaos.customers import asking
from tests.chaos.jumping_clock import OFF_BY
from tests.serving.processes import serving_process

pytestmark = pytest.mark.slow
HOUR_S = 3600


def off_by(var: Path, seconds: int) -> None:
    """Set the clock, in one step."""
    part = var / "clock-part"
    part.write_text(str(seconds))
    part.replace(var / OFF_BY)


def hours(events) -> list[int]:
    """In which city hours things happened, each named when another begins."""
    found = [event["time"][:13] for event in events]
    return [int(hour[-2:]) for at, hour in enumerate(found) if at == 0 or hour != found[at - 1]]


def test_a_clock_that_is_set_back_and_forth_refuses_nobody_and_keeps_the_feed_in_order(place, told):
    with (
        serving_process(place, module="tests.chaos.jumping_clock") as serving,
        asking(serving.url) as customers,
    ):
        for seconds in (0, -HOUR_S, 2 * HOUR_S):
            off_by(place.var, seconds)
            customers.until_answered()
        customers.end()
        events = serving.service.feed("estimates")
        row = told("clock set back an hour, then three forth", customers, events)
        measured_s = serving.service.metric("tandem_estimate_seconds_sum")

    assert row.saw.keys() == {"200"}
    assert row.lost == 0
    assert hours(events) == [7, 6, 9]
    assert 0 < measured_s < 60


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
    assert [event["data"]["estimate_id"] for event in events][-len(later.answered()) :] != []
    assert hours(events) == [7, 6]
    assert [int(event["id"]) for event in events] == list(range(1, len(events) + 1))

"""Bundles go bad: spoilt on disk, answering NaN, never answering."""

from __future__ import annotations

from itertools import pairwise

import pytest

from contracts.trips import TripRequest
from serving.settings import Settings
from tests.bundles import SOUND_UP_TO_KM, a_trip, make_bundle
from tests.chaos.customers import PROBES_WAIT_S, Ask, Probes, asking, short_trips
from tests.serving.processes import promoted, serving_process

pytestmark = pytest.mark.slow
DEFAULTS = {name: field.default for name, field in Settings.model_fields.items()}
SLACK_S = 0.5  # for a machine that does other work, too


def now_and_then_a_long_one(every: int) -> Ask:
    """One trip a request, and so many to one on which a misbehaving bundle shows what it is."""

    def trips(number: int) -> list[TripRequest]:
        long = a_trip(f"long-{number}", distance_km=SOUND_UP_TO_KM + 5)
        return [long] if number % every == every - 1 else short_trips(number)

    return trips


def test_a_bundle_spoilt_on_disk_serves_on_and_after_a_restart_the_one_before_it_does(place, told):
    with serving_process(place) as first:
        make_bundle(place.bundles, "2", minutes_per_km=3.0)
        promoted(first.service, "2")
        with asking(first.url) as customers:
            customers.until_answered()
            graph = place.bundles / "2" / "model.onnx"
            graph.write_bytes(b"\xff" * graph.stat().st_size)
            customers.until_answered(200)
        spoilt = told("bundle spoilt on disk", customers, first.service.feed("estimates"))
    with serving_process(place, port=first.port) as second, asking(first.url) as later:
        later.until_answered()
        later.end()
        events, rejected = second.service.feed("estimates"), second.service.feed("rollout")[-2]

    assert spoilt.saw.keys() == {"200"}
    assert spoilt.lost == 0
    assert {it["bundle_version"] for heard in customers.heard for it in heard.estimates} == {"2"}
    assert later.saw().keys() == {"200"}
    assert {it["bundle_version"] for heard in later.heard for it in heard.estimates} == {"1"}
    assert len(events) == len(customers.answered()) + len(later.answered())
    assert rejected["data"]["version"] == "2"
    assert "was changed or cut" in rejected["data"]["reason"]


def test_a_champion_that_answers_nan_is_told_to_nobody_and_rolled_back(place, told):
    with serving_process(place) as serving:
        make_bundle(place.bundles, "2", misbehaves="nan")
        promoted(serving.service, "2")
        with asking(serving.url, now_and_then_a_long_one(5)) as customers:
            customers.until_answered(100)
            assert serving.service.control("roll_back").status_code == 200
            rolled_back = len(customers.heard)
            customers.until_answered(100)
            customers.end()
            row = told(
                "champion answers NaN to one trip in 5, then rolled back", customers, serving.service.feed("estimates")
            )

    assert row.lost == 0
    assert row.saw.keys() == {"200", "503 bundle-misbehaves"}
    assert all(int(it.headers["retry-after"]) > 0 for it in customers.refused())
    under_way = 8
    assert {it.status for it in customers.heard[rolled_back + under_way :]} == {"200"}


def test_a_champion_that_hangs_keeps_nobody_beyond_the_limit_and_leaves_serving_alive(place, told):
    with serving_process(place) as serving:
        make_bundle(place.bundles, "2", misbehaves="hangs")
        promoted(serving.service, "2")
        with asking(serving.url, now_and_then_a_long_one(300)) as customers:
            with Probes(serving.url) as probes:
                customers.until(lambda _: len(customers.refused()) > 20, "some were told that there is no estimate")
                customers.until_answered(200)
            assert serving.service.control("roll_back").status_code == 200
            rolled_back = len(customers.heard)
            customers.until_answered(100)
            customers.end()
            events = serving.service.feed("estimates")
            row = told("champion hangs on one trip in 300, then rolled back", customers, events, probes)

    assert row.lost == 0
    assert row.saw.keys() <= {"200", "503 bundle-misbehaves", "503 too-late", "503 queue-full"}
    assert max(it.took_s for it in customers.heard) < DEFAULTS["serving_longest_answer_s"] + SLACK_S
    assert all(int(it.headers["retry-after"]) > 0 for it in customers.refused())
    assert probes.slowest_s() < PROBES_WAIT_S
    assert {it.status for it in customers.heard[rolled_back + 100 :]} <= {"200"}


def test_a_challenger_that_hangs_costs_customers_its_budget_once_a_second_at_most(place, told):
    with serving_process(place) as serving:
        place.upstream.release(make_bundle(place.bundles, "2", misbehaves="hangs"))
        serving.service.until_serving(challenger="2")
        with asking(serving.url, now_and_then_a_long_one(10)) as customers:
            customers.until_answered(600)
            customers.end()
            row = told("challenger in shadow hangs on one trip in 10", customers, serving.service.feed("estimates"))

    lasted_s = customers.heard[-1].over - customers.began
    held_up = sorted(it.over for it in customers.heard if it.took_s >= DEFAULTS["serving_shadow_budget_s"])
    times = sum(later - earlier > 0.5 for earlier, later in pairwise([0.0, *held_up]))
    assert row.saw.keys() == {"200"}
    assert row.lost == 0
    assert 1 <= times <= lasted_s + 1
    assert len(held_up) < len(customers.heard) / 4
    assert max(it.took_s for it in customers.heard) < DEFAULTS["serving_shadow_budget_s"] + SLACK_S

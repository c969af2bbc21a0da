"""What adds or saves minutes: Shapley values of the graph that answers, and how serving offers them."""

from __future__ import annotations

import random
from itertools import permutations
from math import factorial

import numpy as np
import pytest
from pydantic import ValidationError

from contracts.estimates import MOST_EXPLAINED, REASON_GROUPS, Estimate, Explanation
from contracts.trips import MODEL_INPUTS, VEHICLES
from serving.bundles import Batch, LoadedBundle, Unexplained, load
from serving.explanation import COALITIONS, WEIGHTS, members, weights
from serving.watchdog import Watch
from tests.bundles import SOUND_UP_TO_KM, TYPICAL, a_trip, make_bundle
from tests.serving.conftest import a_champion, a_place

GROUPS = len(REASON_GROUPS)
RAINY = {"rain_mm_h": 4.0, "city_pace": 1.5, "requested_at": "2026-06-05T17:30:00+02:00"}


def some_trips(number: int, seed: int = 7):
    """Trips that differ from the typical one in some inputs, missing ones among them."""
    rng = random.Random(seed)
    return [
        a_trip(
            f"t{place}",
            requested_at=f"2026-06-0{rng.randint(1, 7)}T{rng.randint(0, 23):02}:30:00+02:00",
            pickup_zone=rng.randint(1, 60),
            dropoff_zone=rng.randint(1, 60),
            distance_km=round(rng.uniform(0.2, 15), 2),
            vehicle=rng.choice(VEHICLES),
            parcel_kg=rng.choice([None, 2.5]),
            rain_mm_h=rng.choice([None, 0.0, 3.2]),
            temperature_c=rng.choice([None, -4.0, 21.5]),
            city_pace=rng.choice([None, 0.8, 1.9]),
        )
        for place in range(number)
    ]


def by_group(explanation: Explanation) -> dict[str, float]:
    return {reason.group: reason.minutes for reason in explanation.reasons}


def p50s(bundle: LoadedBundle, trips) -> list[float]:
    return [float(row[1]) for row in bundle.minutes(Batch(trips))]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> LoadedBundle:
    root = tmp_path_factory.mktemp("bundles")
    make_bundle(root, "1", heeds_conditions=True)
    return load(root, "1", None, Watch())


def test_every_model_input_is_in_exactly_one_group():
    assert sorted(name for names in REASON_GROUPS.values() for name in names) == sorted(it.name for it in MODEL_INPUTS)


def test_where_there_is_no_estimate_there_is_none_to_explain():
    told = Explanation(typical_min=20, reasons=[])
    with pytest.raises(ValidationError, match="an explanation of no estimate"):
        Estimate(
            estimate_id="e", trip_id="t", bundle_version="1", status="out_of_scope", reason="far", explanation=told
        )


def test_what_groups_add_on_their_own_is_what_they_get():
    adds = np.array([-6.0, 0.5, 3.0, 0.0, 3.0, 1.25])
    worth = 24 + adds @ members(GROUPS)

    values = WEIGHTS @ worth

    assert values == pytest.approx(adds, abs=1e-12)
    assert values[2] == pytest.approx(values[4], abs=1e-12)  # alike in all they add


def test_two_groups_that_matter_only_together_share_alike():
    inside = members(GROUPS)

    values = WEIGHTS @ np.where(inside[1] & inside[4], 10.0, 0.0)

    assert values == pytest.approx([0, 5, 0, 0, 5, 0], abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_values_are_the_average_over_all_orders_of_joining(seed):
    worth = np.random.default_rng(seed).uniform(5, 90, COALITIONS)
    averages = np.zeros(GROUPS)
    for order in permutations(range(GROUPS)):
        coalition = 0
        for group in order:
            joined = coalition | 1 << group
            averages[group] += (worth[joined] - worth[coalition]) / factorial(GROUPS)
            coalition = joined

    assert weights(GROUPS) @ worth == pytest.approx(averages, abs=1e-9)


def test_reasons_sum_to_the_difference_from_the_typical_trip(bundle):
    trips = some_trips(MOST_EXPLAINED)
    (typical_min,) = p50s(bundle, [TYPICAL])

    explanations = bundle.explain(trips)

    for explanation, p50 in zip(explanations, p50s(bundle, trips), strict=True):
        assert explanation.typical_min == pytest.approx(typical_min, abs=1e-4)
        assert [reason.group for reason in explanation.reasons] == list(REASON_GROUPS)
        assert sum(by_group(explanation).values()) == pytest.approx(p50 - typical_min, abs=1e-3)
    largest = {group: max(abs(by_group(it)[group]) for it in explanations) for group in REASON_GROUPS}
    assert min(largest[group] for group in ("distance", "time_of_week", "weather", "city_pace")) > 1
    assert max(largest[group] for group in ("vehicle", "zones")) < 1e-4  # this graph does not look at them


def test_a_group_like_the_typical_trips_gets_exactly_nothing(bundle):
    (alike,) = bundle.explain([a_trip("like-the-typical-one")])
    assert set(by_group(alike).values()) == {0.0}

    (rainy,) = bundle.explain([a_trip(distance_km=7.3, rain_mm_h=2.0)])
    assert {group for group, minutes in by_group(rainy).items() if minutes != 0} == {"distance", "weather"}


def test_rain_on_a_longer_way_adds_more_and_each_group_has_its_sign(bundle):
    near, far = bundle.explain([a_trip(distance_km=1.0, **RAINY), a_trip(distance_km=9.0, **RAINY)])

    assert by_group(near)["distance"] < 0 < by_group(far)["distance"]
    assert 0 < by_group(near)["weather"] < by_group(far)["weather"]
    assert by_group(near)["time_of_week"] > 0
    assert by_group(near)["city_pace"] > 0


def test_trips_explained_together_and_alone_are_explained_alike(bundle):
    trips = some_trips(3, seed=11)

    together, alone = bundle.explain(trips), [bundle.explain([trip])[0] for trip in trips]

    for one, other in zip(together, alone, strict=True):
        assert by_group(one) == pytest.approx(by_group(other), abs=1e-4)


@pytest.mark.parametrize("fault", ["nan", "throws"])
def test_a_graph_that_fails_on_a_mixture_is_named(tmp_path, fault):
    make_bundle(tmp_path, "1", misbehaves=fault, typical=a_trip("typical", distance_km=SOUND_UP_TO_KM + 5))
    with pytest.raises(Unexplained, match="bundle 1 can't be explained"):
        load(tmp_path, "1", None, Watch()).explain([a_trip()])


@pytest.fixture(scope="module")
def heeding(tmp_path_factory):
    with a_place(tmp_path_factory.mktemp("shared")) as place, a_champion(place, heeds_conditions=True) as service:
        yield service


def test_serving_explains_on_request_and_only_then(heeding):
    trips = [a_trip("a", distance_km=8.0, **RAINY), a_trip("out", dropoff_zone=900), a_trip("b", distance_km=0.7)]

    plain = heeding.estimate(*trips).json()["estimates"]
    answered = heeding.estimate(*trips, with_reasons=True).json()["estimates"]

    assert all("explanation" not in estimate for estimate in plain)
    assert [estimate["status"] for estimate in answered] == ["estimated", "out_of_scope", "estimated"]
    assert "explanation" not in answered[1]
    for estimate, before in ((answered[0], plain[0]), (answered[2], plain[2])):
        assert estimate["quantiles"] == before["quantiles"]
        told = Explanation.model_validate(estimate["explanation"])
        whole = told.typical_min + sum(by_group(told).values())
        assert whole == pytest.approx(estimate["quantiles"]["p50_min"], abs=1e-3)
        assert by_group(told)["distance"] != 0
    assert heeding.metric('tandem_explanations_total{status="explained"}') == 2
    assert "typical_min" not in heeding.client.get("/feeds/estimates").text  # told to who asked, kept by nobody


def test_more_trips_than_may_be_explained_at_once_are_refused_with_the_number(heeding):
    trips = some_trips(MOST_EXPLAINED)
    assert heeding.estimate(*trips, with_reasons=True).status_code == 200

    refused = heeding.estimate(*trips, a_trip("one-more"), with_reasons=True)

    assert refused.status_code == 422
    assert f"at most {MOST_EXPLAINED} trips, got {MOST_EXPLAINED + 1}" in refused.json()["detail"]
    assert heeding.estimate(*trips, a_trip("one-more")).status_code == 200


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"typical": None}, "no_typical_trip"),
        ({"misbehaves": "nan", "typical": a_trip("typical", distance_km=SOUND_UP_TO_KM + 5)}, "misbehaved"),
    ],
)
def test_that_nothing_can_be_explained_costs_nobody_an_estimate(place, trip, how, status):
    with a_champion(place, **how) as service:
        (estimate,) = service.estimate(trip, with_reasons=True).json()["estimates"]

        assert estimate["status"] == "estimated"
        assert "explanation" not in estimate
        assert service.metric(f'tandem_explanations_total{{status="{status}"}}') == 1


def test_the_bundle_that_is_shown_is_the_one_explained(place, champion):
    place.upstream.release(make_bundle(place.bundles, "2", minutes_per_km=4.0))
    champion.until_serving(challenger="2")
    champion.control("canary", canary_share=0.5)
    trips = [a_trip(f"t{number}", distance_km=8.0) for number in range(MOST_EXPLAINED)]

    estimates = champion.estimate(*trips, with_reasons=True).json()["estimates"]

    adds = {it["bundle_version"]: by_group(Explanation.model_validate(it["explanation"])) for it in estimates}
    assert adds["1"]["distance"] == pytest.approx(10.0, abs=1e-3)  # 5 km above the typical trip, 2 minutes each
    assert adds["2"]["distance"] == pytest.approx(20.0, abs=1e-3)

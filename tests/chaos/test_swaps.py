"""Fifty swaps of the champion in mid-load."""

from __future__ import annotations

from collections import Counter

import psutil
import pytest

from contracts.trips import TripRequest
from tests.bundles import a_trip, make_bundle, quantiles_of
from tests.chaos.customers import asking
from tests.serving.processes import promoted, serving_process

pytestmark = pytest.mark.slow
SWAPS, REQUESTS = 50, 10_000
MOST_GROWTH_MB = 10
TRIPS = [a_trip(f"trip-{number}") for number in range(3)]


def three_trips(_number: int) -> list[TripRequest]:
    """Always the same: what differs is who answers."""
    return TRIPS


def test_ten_thousand_requests_over_fifty_swaps_none_failed_none_mixed_and_memory_stays(place, told):
    slopes = {str(number): 1.0 + number for number in range(1, SWAPS + 2)}
    for version, slope in list(slopes.items())[1:]:
        make_bundle(place.bundles, version, slope)
    with serving_process(place) as serving, asking(serving.url, three_trips, each_per_s=1000) as customers:
        memory_mb, process = [], psutil.Process(serving.process.pid)
        for swap, version in enumerate(list(slopes)[1:], 1):
            promoted(serving.service, version)
            customers.until_answered(REQUESTS // SWAPS // 4)  # by this version
            customers.until(lambda _, by=swap: len(customers.heard) >= by * REQUESTS // SWAPS, "as many have asked")
            memory_mb.append(process.memory_info().rss / 1e6)
        customers.end()
        row = told(f"{SWAPS} swaps in mid-load", customers, serving.service.feed("estimates"))

    seen = Counter(it.estimates[0]["bundle_version"] for it in customers.heard)
    mixed = [it for it in customers.heard if len({estimate["bundle_version"] for estimate in it.estimates}) != 1]
    untrue = [
        estimate
        for it in customers.heard
        for estimate in it.estimates
        if abs(estimate["quantiles"]["p50_min"] - quantiles_of(3.0, slopes[estimate["bundle_version"]]).p50_min) > 0.001
    ]
    assert row.saw.keys() == {"200"}
    assert row.saw["200"] >= REQUESTS
    assert (row.lost, row.unheard) == (0, 0)
    assert seen.keys() == slopes.keys()
    assert mixed == untrue == []
    assert memory_mb[-1] - memory_mb[9] < MOST_GROWTH_MB

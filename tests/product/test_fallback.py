"""The fallback answers from the first second on, and better once it has outcomes."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.trips import VEHICLES, TripRequest, minute_of_week
from product.fallback import LEAST_OUTCOMES, FallbackTable, PastOutcome, empirical, rule_of_thumb

BERLIN = ZoneInfo("Europe/Berlin")
MONDAY_8 = datetime(2026, 6, 1, 8, tzinfo=BERLIN)


def a_trip(km: float = 3.5, at: datetime = MONDAY_8, vehicle: str = "bike") -> TripRequest:
    return TripRequest(trip_id="t", requested_at=at, pickup_zone=1, dropoff_zone=2, distance_km=km, vehicle=vehicle)


def outcomes(minutes: float, count: int = LEAST_OUTCOMES, **trip) -> list[PastOutcome]:
    like = a_trip(**trip)
    minute = minute_of_week(like.requested_at, BERLIN)
    return [PastOutcome(like.vehicle, like.distance_km, minute, minutes) for _ in range(count)]


def test_with_no_outcomes_at_all_it_goes_by_the_rule_of_thumb():
    assert FallbackTable().estimate(a_trip(), BERLIN) == rule_of_thumb("bike", 3.5)
    assert rule_of_thumb("bike", 14).p50_min == pytest.approx(9 + 60)


def test_it_learns_by_vehicle_distance_and_part_of_the_day():
    evening, sunday = MONDAY_8 + timedelta(hours=9), MONDAY_8 - timedelta(days=1)
    table = FallbackTable.of(
        outcomes(20)
        + outcomes(33, at=evening)
        + outcomes(26, at=sunday)
        + outcomes(44, km=9)
        + outcomes(15, vehicle="car")
    )

    def typical(**trip):
        return table.estimate(a_trip(**trip), BERLIN).p50_min

    assert (typical(), typical(at=evening), typical(at=sunday)) == (20, 33, 26)
    assert (typical(km=9), typical(vehicle="car")) == (44, 15)


def test_a_thin_cell_backs_off_to_the_whole_day_then_to_the_rule():
    some = outcomes(20, LEAST_OUTCOMES - 1) + outcomes(30, 1, at=MONDAY_8 + timedelta(hours=9))

    assert FallbackTable.of(some).estimate(a_trip(at=MONDAY_8 + timedelta(hours=4)), BERLIN).p50_min == 20
    assert FallbackTable.of(some[:-2]).estimate(a_trip(), BERLIN) == rule_of_thumb("bike", 3.5)


def test_nine_in_ten_past_trips_were_quicker_than_p90():
    durations = [float(number) for number in range(1, 1001)]
    estimate = empirical(durations)

    assert sum(one <= estimate.p90_min for one in durations) == pytest.approx(900, abs=1)
    assert sum(one <= estimate.p10_min for one in durations) == pytest.approx(100, abs=1)


@given(
    st.floats(0.05, 200),
    st.sampled_from(VEHICLES),
    st.integers(0, 10079),
    st.lists(st.floats(0.001, 2880), min_size=LEAST_OUTCOMES, max_size=60),
)
def test_every_trip_the_contract_allows_gets_an_estimate_the_contract_allows(km, vehicle, minute, durations):
    trip = a_trip(km, MONDAY_8 + timedelta(minutes=minute), vehicle)
    past = [PastOutcome(vehicle, km, minute, one) for one in durations]

    for table in (FallbackTable(), FallbackTable.of(past)):
        estimate = table.estimate(trip, BERLIN)  # Quantiles refuse to cross or to leave their range
        assert estimate.p10_min > 0

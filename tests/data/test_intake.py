"""Intake: every row ends in the lake or in quarantine, with the rule it broke and the value at fault."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.requirements import load
from contracts.trips import CompletedTrip, columns
from data.batch_rules import ZoneReference
from data.intake import Intake, Verdict
from data.worker import city_zones

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NOON = datetime(2026, 6, 1, 9, tzinfo=UTC)
ZONES = tuple(city_zones(20260601))


def a_row(trip_id: str = "trip-1", **changes: Any) -> dict[str, Any]:
    """A sound row as the trips feed carries it: 25 minutes from zone 1 to zone 2."""
    row = {
        "trip_id": trip_id, "requested_at": "2026-06-01T08:59:00+00:00", "pickup_zone": 1, "dropoff_zone": 2,
        "distance_km": 1.85, "vehicle": "bike", "parcel_kg": 2.0, "rain_mm_h": 0.0, "temperature_c": 14.5,
        "city_pace": 1.1, "booked_at": "2026-06-01T11:00:00+02:00", "picked_up_at": "2026-06-01T09:10:00Z",
        "ended_at": "2026-06-01T09:25:00+00:00", "outcome": "delivered", "duration_min": 25.0, "source": "fallback",
        "estimate_id": None, "bundle_version": None, "p10_min": 15.0, "p50_min": 22.0, "p90_min": 31.0,
        "promised_by": "2026-06-01T09:31:00+00:00", "audit": False,
    }  # fmt: skip
    return {**row, **changes}


def judge(rows: Sequence[dict[str, Any]], known: Sequence[str] = (), detour: float | None = 1.303) -> Verdict:
    return Intake(ZoneReference(ZONES, detour), load()["route-ratio"], NOW).judge(
        "batch-1", rows, set(known).intersection
    )


def without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


def test_sound_rows_are_accepted_as_they_are_with_times_in_utc():
    verdict = judge([a_row("a"), a_row("b", parcel_kg=None, city_pace=None)])

    assert verdict.event_type == "batch.accepted"
    assert verdict.accepted.columns == list(CompletedTrip.model_fields)
    assert verdict.accepted["booked_at"].to_list() == [NOON, NOON]
    assert verdict.judged.missing_share == {"rain_mm_h": 0.0, "temperature_c": 0.0, "city_pace": 0.5}
    assert verdict.judged.first_requested_at == NOON - timedelta(minutes=1)
    assert set(verdict.judged.missing_share) < set(columns(CompletedTrip))


BROKEN = {
    "distance_km.less_than_equal": (a_row(distance_km=201.0), 201.0),
    "distance_km.finite_number": (a_row(distance_km=float("nan")), None),
    "pickup_zone.int_type": (a_row(pickup_zone=None), None),
    "pickup_zone.value_error": (a_row(pickup_zone="5"), "5"),
    "dropoff_zone.value_error": (a_row(dropoff_zone=True), True),
    "parcel_kg.greater_than": (a_row(parcel_kg=0.0), 0.0),
    "vehicle.literal_error": (a_row(vehicle="horse"), "horse"),
    "trip_id.string_type": (a_row(trip_id=5), 5),
    "trip_id.string_pattern_mismatch": (a_row("no spaces"), "no spaces"),
    "booked_at.timezone_aware": (a_row(booked_at="2026-06-01T09:00:00"), "2026-06-01T09:00:00"),
    "ended_at.missing": (without(a_row(), "ended_at"), None),
    "unknown_field": (a_row(distance_miles=1.1), {"distance_miles": 1.1}),
    "duration_min.less_than_equal": (a_row(duration_min=2881.0), 2881.0),
    "duration_min.greater_than": (a_row(duration_min=-3.0), -3.0),
    "unknown_zone": (a_row(dropoff_zone=900), {"pickup_zone": 1, "dropoff_zone": 900}),
    "booked_before_asked": (a_row(requested_at="2026-06-01T09:00:01Z"), ...),
    "ended_before_booked": (a_row(ended_at="2026-06-01T08:59:59Z", picked_up_at=None), ...),
    "ended_in_the_future": (a_row(ended_at="2026-06-01T13:00:01Z"), ...),
    "picked_up_outside_trip": (a_row(picked_up_at="2026-06-01T09:25:01Z"), ...),
    "duration_without_delivery": (a_row(outcome="lost"), {"outcome": "lost", "duration_min": 25.0}),
    "duration_is_not_its_times": (a_row(duration_min=24.0), ...),
    "estimate_crosses": (a_row(p50_min=31.5), {"p10_min": 15.0, "p50_min": 31.5, "p90_min": 31.0}),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_row_is_quarantined_with_rule_value_and_row_and_costs_its_neighbours_nothing(rule: str):
    row, value = BROKEN[rule]
    verdict = judge([a_row("before"), row, a_row("after")])

    (refused,) = verdict.refused
    assert refused.rule == rule
    assert refused.row is row
    if value is not ... and rule != "distance_km.finite_number":
        assert refused.value == value
    assert verdict.accepted["trip_id"].to_list() == ["before", "after"]
    assert verdict.judged.reasons == {rule: 1}
    json.dumps(refused.value, default=str)


def test_an_undelivered_trip_has_no_duration_and_that_is_sound():
    lost = a_row("lost", outcome="lost", duration_min=None)
    cancelled = a_row("cancelled", outcome="cancelled", duration_min=None, picked_up_at=None)

    assert judge([lost, cancelled]).judged.rows_accepted == 2
    assert judge([a_row(duration_min=None)]).judged.reasons == {"duration_without_delivery": 1}


def test_a_long_duration_is_no_reason():
    booked = NOON - timedelta(hours=46)
    row = a_row(
        requested_at=booked.isoformat(), booked_at=booked.isoformat(), picked_up_at=None, duration_min=46 * 60 + 25.0
    )

    assert judge([row]).judged.rows_accepted == 1


def test_a_trip_that_comes_twice_is_accepted_once():
    verdict = judge([a_row("new"), a_row("new", distance_km=1.9), a_row("old")], known=["old"])

    assert verdict.accepted["distance_km"].to_list() == [1.85]
    assert [item.rule for item in verdict.refused] == ["duplicate_trip", "duplicate_trip"]


def test_the_broken_copy_of_a_trip_does_not_cost_its_sound_one():
    assert judge([a_row("trip", p10_min=99.0), a_row("trip")]).judged.reasons == {"estimate_crosses": 1}


def test_a_batch_of_broken_rows_alone_is_told_as_quarantined():
    verdict = judge([a_row(vehicle="horse")])

    assert verdict.event_type == "batch.quarantined"
    assert (verdict.judged.rows_accepted, verdict.judged.rows_quarantined) == (0, 1)


def test_reading_by_column_and_row_by_row_give_the_same_frame():
    rows = [a_row(str(number), parcel_kg=None if number % 2 else 1.5) for number in range(20)]
    by_column = judge(rows).accepted
    row_by_row = judge([*rows, a_row(surprise=1)]).accepted

    assert by_column.equals(row_by_row)
    assert by_column.schema == row_by_row.schema


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.datetimes().map(str),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
MUTATION = st.tuples(st.integers(0, 9), st.sampled_from([*CompletedTrip.model_fields, "surprise"]), JSON_VALUES)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(MUTATION, max_size=4))
def test_whatever_comes_rows_in_are_rows_accepted_plus_rows_quarantined(mutations: list[tuple[int, str, Any]]):
    rows = [a_row(str(number)) for number in range(10)]
    for number, name, value in mutations:
        rows[number] = {**rows[number], name: value}
    verdict = judge(rows)

    assert verdict.accepted.height + len(verdict.refused) == len(rows)
    assert sum(verdict.judged.reasons.values()) == verdict.judged.rows_quarantined == len(verdict.refused)
    untouched = {str(number) for number in range(10)} - {str(number) for number, _, _ in mutations}
    taken_over = {value for _, name, value in mutations if name == "trip_id" and isinstance(value, str)}
    assert untouched - taken_over <= set(verdict.accepted["trip_id"])


def test_pandera_judges_values_that_have_the_right_type():
    """Were the schema's check of values lost, as it is on a lazy frame, this row would be accepted."""
    verdict = judge([a_row("bad", temperature_c=61.0), a_row("good")])

    assert verdict.judged.reasons == {"temperature_c.less_than_equal": 1}
    assert isinstance(verdict.accepted, pl.DataFrame)

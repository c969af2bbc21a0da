"""One definition of a trip: its uses must agree."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from pydantic import ValidationError

from contracts import tables
from contracts.trips import (
    DRIFT_COLUMNS,
    FAIRNESS_GROUPS,
    MODEL_INPUTS,
    NOT_FOR_THE_MODEL,
    CompletedTrip,
    TripRequest,
    columns,
    fingerprint,
    minute_of_week,
    model_inputs,
)
from tests.trips import a_completed_trip, a_request

BERLIN = ZoneInfo("Europe/Berlin")


def test_every_field_states_what_it_means():
    for name, column in columns(CompletedTrip).items():
        assert column.meaning, name
        assert column.unit, name


def test_what_is_known_only_later_is_not_for_the_model():
    for name, column in columns(CompletedTrip).items():
        if column.known != "request":
            assert column.model_input is None, name
    assert {"estimate_id", "bundle_version", "p90_min", "promised_by", "outcome"} <= set(NOT_FOR_THE_MODEL)


def test_monitors_watch_what_the_model_sees_but_time_itself():
    seen = {name for name, column in columns(CompletedTrip).items() if column.model_input}

    assert seen - set(DRIFT_COLUMNS) == {"requested_at"}
    assert set(DRIFT_COLUMNS) <= seen
    assert FAIRNESS_GROUPS == {"pickup_zone": "zone group of the pickup"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pickup_zone", 0),
        ("pickup_zone", 1024),
        ("pickup_zone", True),
        ("pickup_zone", "4"),
        ("pickup_zone", 4.5),
        ("distance_km", math.nan),
        ("distance_km", math.inf),
        ("distance_km", -1),
        ("vehicle", "boat"),
        ("requested_at", "2026-06-01T08:30:00"),
        ("requested_at", "2026-06-01T08:30Z"),
        ("requested_at", "1780000000"),
        ("requested_at", "1970-01-01T00:00:00Z"),
        ("requested_at", 1_780_000_000),
        ("trip_id", ""),
        ("trip_id", "a b"),
        ("rain_mm_h", "0"),
        ("tip_eur", 1.0),
    ],
)
def test_a_bad_request_is_refused_by_name(field: str, value: Any):
    with pytest.raises(ValidationError) as refused:
        a_request(**{field: value})
    assert refused.value.errors()[0]["loc"][0] == field


def test_row_and_table_make_the_same_model_inputs():
    luck = random.Random(3)
    start = datetime(2026, 3, 28, 20, tzinfo=UTC)  # across the change to summer time
    trips = [
        a_completed_trip(
            requested_at=(start + timedelta(minutes=luck.randint(0, 3000))).isoformat(),
            vehicle=luck.choice(("bike", "scooter", "van", "car")),
            rain_mm_h=luck.choice((None, 1.25)),
            city_pace=luck.choice((None, 0.9)),
        )
        for _ in range(200)
    ]
    frame = pl.DataFrame([trip.model_dump() for trip in trips], schema=tables.dtypes(), orient="row")

    by_row = model_inputs(trips, BERLIN)
    by_table = tables.model_inputs(frame, BERLIN)

    assert by_table.columns == [item.name for item in MODEL_INPUTS]
    assert set(by_row) == set(by_table.columns)
    for item in MODEL_INPUTS:
        expected = pl.Series(by_row[item.name], dtype=by_table[item.name].dtype)
        assert expected.equals(by_table[item.name]), item.name


def test_minute_of_week_follows_the_citys_wall_clock():
    assert minute_of_week(datetime.fromisoformat("2026-06-01T00:00+02:00"), BERLIN) == 0
    assert minute_of_week(datetime.fromisoformat("2026-05-31T22:30+00:00"), BERLIN) == 30
    assert minute_of_week(datetime.fromisoformat("2026-06-07T23:59+02:00"), BERLIN) == 7 * 1440 - 1


def test_the_fingerprint_notices_a_changed_unit(monkeypatch: pytest.MonkeyPatch):
    before = fingerprint()
    column = columns(TripRequest)["distance_km"]
    try:
        object.__setattr__(column, "unit", "mi")
        fingerprint.cache_clear()
        assert fingerprint() != before
    finally:
        object.__setattr__(column, "unit", "km")
        fingerprint.cache_clear()
    assert fingerprint() == before


def test_the_fingerprint_is_the_one_that_sealed_bundles_carry():
    """A change here means that every bundle must be trained again: raise the contract's version and say so."""
    assert fingerprint() == "9c7f07bac88d01f84c48572e841ba51384dd782563bf8d09f0742de8bdacad74"

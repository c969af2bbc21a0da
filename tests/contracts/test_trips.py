"""One definition of a trip: its uses must agree."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandera.errors
import polars as pl
import pytest
from pydantic import ValidationError

from contracts import tables
from contracts.trips import (
    MODEL_INPUTS,
    NOT_FOR_THE_MODEL,
    CompletedTrip,
    TripRequest,
    columns,
    fingerprint,
    minute_of_week,
    model_inputs,
)
from tests.trips import a_completed_trip, a_request, completed_row

BERLIN = ZoneInfo("Europe/Berlin")
SCHEMA = tables.schema()


def test_every_field_states_what_it_means():
    for name, column in columns(CompletedTrip).items():
        assert column.meaning, name
        assert column.unit, name


def test_what_is_known_only_later_is_not_for_the_model():
    for name, column in columns(CompletedTrip).items():
        if column.known != "request":
            assert column.model_input is None, name
    assert {"estimate_id", "bundle_version", "p90_min", "promised_by", "outcome"} <= set(NOT_FOR_THE_MODEL)


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


def verdicts(rows: list[dict[str, Any]]) -> list[tuple[bool, bool]]:
    """For each row: does pydantic take it, does the table schema take it."""
    both = []
    for row in rows:
        try:
            CompletedTrip.model_validate(row)
            wire = True
        except ValidationError:
            wire = False
        try:
            typed = row | {
                name: datetime.fromisoformat(row[name]).astimezone(UTC)
                for name in ("requested_at", "booked_at", "picked_up_at", "ended_at", "promised_by")
                if row[name] is not None
            }
            SCHEMA.validate(pl.DataFrame([typed], schema=tables.dtypes(), strict=True, orient="row"), lazy=True)
            table = True
        except (pandera.errors.SchemaErrors, TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            table = False
        both.append((wire, table))
    return both


def mutations(count: int) -> list[dict[str, Any]]:
    """Rows with one or two fields changed to something odd: nulls, limits and just past them, wrong choices."""
    luck = random.Random(7)
    odd: dict[str, list[Any]] = {
        "pickup_zone": [0, 1, 1023, 1024, None, -5],
        "dropoff_zone": [0, 1, 1023, 1024, None],
        "distance_km": [0.05, 0.049, 200.0, 200.1, -1.0, None, math.nan, math.inf, 1e308],
        "parcel_kg": [None, 0.0, 0.01, 500.0, 500.5, math.nan],
        "rain_mm_h": [None, -0.1, 0.0, 200.0, 201.0, -math.inf],
        "temperature_c": [None, -50.0, -50.1, 60.0, 60.1],
        "city_pace": [None, 0.0, 0.001, 20.0, 20.5],
        "vehicle": ["car", "boat", "", None],
        "trip_id": ["", "x" * 64, "x" * 65, "a b", None, "ünicode"],
        "outcome": ["lost", "eaten", None],
        "duration_min": [None, 0.0, 0.1, 2880.0, 2881.0, math.nan],
        "source": ["fallback", "guess", None],
        "estimate_id": [None, "", "e" * 65],
        "bundle_version": [None, "", "v" * 64],
        "p10_min": [0.0, 2881.0, None, 0.5],
        "p90_min": [math.inf, 60.0, None],
        "picked_up_at": [None],
        "audit": [True, None],
    }
    rows = []
    for _ in range(count):
        chosen = luck.sample(list(odd), luck.choice((1, 1, 2)))
        rows.append(completed_row(**{name: luck.choice(odd[name]) for name in chosen}))
    return rows


def test_pydantic_and_pandera_agree_on_mutated_rows():
    rows = mutations(100)
    judged = verdicts(rows)

    assert {wire for wire, _ in judged} == {True, False}  # the mutations reach both sides of the line
    disagree = [(row, both) for row, both in zip(rows, judged, strict=True) if both[0] != both[1]]
    assert disagree == []


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
        assert fingerprint() != before
    finally:
        object.__setattr__(column, "unit", "km")
    assert fingerprint() == before

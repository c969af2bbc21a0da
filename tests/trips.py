"""Trips for tests: one valid row of each wire model, as a producer would send it."""

from __future__ import annotations

from typing import Any

from contracts.trips import CompletedTrip, TripRequest


def request_row(**changes: Any) -> dict[str, Any]:
    """A trip request as JSON, with some fields changed."""
    row: dict[str, Any] = {
        "trip_id": "t-1",
        "requested_at": "2026-06-01T08:30:00+02:00",
        "pickup_zone": 4,
        "dropoff_zone": 31,
        "distance_km": 4.2,
        "vehicle": "bike",
        "parcel_kg": 1.5,
        "rain_mm_h": 0.0,
        "temperature_c": 18.5,
        "city_pace": 1.2,
    }
    return row | changes


def completed_row(**changes: Any) -> dict[str, Any]:
    """A completed trip as JSON, with some fields changed."""
    row = request_row() | {
        "booked_at": "2026-06-01T08:30:10+02:00",
        "picked_up_at": "2026-06-01T08:39:10+02:00",
        "ended_at": "2026-06-01T08:55:10+02:00",
        "outcome": "delivered",
        "duration_min": 25.0,
        "source": "model",
        "estimate_id": "e-1",
        "bundle_version": "v1-00000000",
        "p10_min": 15.0,
        "p50_min": 22.0,
        "p90_min": 34.0,
        "promised_by": "2026-06-01T09:04:10+02:00",
        "audit": False,
    }
    return row | changes


def a_request(**changes: Any) -> TripRequest:
    """A valid trip request."""
    return TripRequest.model_validate(request_row(**changes))


def a_completed_trip(**changes: Any) -> CompletedTrip:
    """A valid completed trip."""
    return CompletedTrip.model_validate(completed_row(**changes))

"""The product's JSON API, as customers, couriers and the load tests use it. City times throughout."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from contracts.trips import (
    EstimateSource,
    Instant,
    Outcome,
    ParcelKg,
    TripId,
    TripRequest,
    Vehicle,
    Wire,
    Zone,
    number,
)

TripState = Literal["quoted", "booked", "picked_up", "delivered", "cancelled", "lost"]


class QuoteRequest(Wire):
    """Body of `POST /api/quotes`."""

    pickup_zone: Zone
    dropoff_zone: Zone
    vehicle: Vehicle
    parcel_kg: ParcelKg | None = None


class Quote(Wire):
    """Answer of `POST /api/quotes`: the price and the promise, good until `valid_until`."""

    trip_id: TripId
    price_eur: float
    promised_min: float
    promised_by: Instant
    p50_min: float
    source: EstimateSource
    bundle_version: str | None = None
    valid_until: Instant


class TripStatus(Wire):
    """Answer of `POST /api/trips/{trip_id}` (book) and `GET /api/trips/{trip_id}` (track)."""

    trip_id: TripId
    state: TripState
    pickup_zone: Zone
    dropoff_zone: Zone
    vehicle: Vehicle
    price_eur: float
    promised_min: float
    promised_by: Instant
    booked_at: Instant | None = None
    picked_up_at: Instant | None = None
    ended_at: Instant | None = None
    late_min: float | None = None
    compensation_eur: float = 0.0
    stars: int | None = None


class Job(Wire):
    """One booked trip a courier may take: `GET /api/courier/jobs?after=<seq>` answers those with a larger `seq`,
    oldest first, that have not ended."""

    seq: int
    trip: TripRequest
    booked_at: Instant


class CourierReport(Wire):
    """Body of `POST /api/courier/trips/{trip_id}/reports` (courier token). Sending it twice changes nothing."""

    event: Literal["picked_up", "delivered", "cancelled", "lost"]
    at: Instant


class Rating(Wire):
    """Body of `POST /api/trips/{trip_id}/rating`. The comment stays in product."""

    stars: Annotated[int, Field(ge=1, le=5), number]
    comment: Annotated[str, Field(max_length=500)] = ""


FINAL_STATES: tuple[Outcome, ...] = ("delivered", "cancelled", "lost")

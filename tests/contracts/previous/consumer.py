"""A consumer as another company wrote it against version 1.0.0, with copies of the wire models of that day.

It stands for everybody who is not upgraded on the day we are: it must go on working against today's services. Leave it
as it is until the previous version is another one. It knows only HTTP and JSON, and nothing of this repository.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal

import httpx
from pydantic import BaseModel, Field

Vehicle = Literal["bike", "scooter", "van", "car"]
State = Literal["quoted", "booked", "picked_up", "delivered", "cancelled", "lost"]


class Answer(BaseModel):
    """What we read of others. Fields we have never heard of are passed over, those we have must be sound."""


class Quantiles(Answer):
    p10_min: float = Field(gt=0)
    p50_min: float = Field(gt=0)
    p90_min: float = Field(gt=0)


class Estimate(Answer):
    estimate_id: str
    trip_id: str
    bundle_version: str
    status: Literal["estimated", "out_of_scope"]
    quantiles: Quantiles | None = None
    reason: str | None = None


class Estimates(Answer):
    estimates: list[Estimate]


class Quote(Answer):
    trip_id: str
    price_eur: float
    promised_min: float
    promised_by: datetime
    p50_min: float
    source: Literal["model", "fallback"]
    bundle_version: str | None
    valid_until: datetime


class Status(Answer):
    trip_id: str
    state: State
    pickup_zone: int
    dropoff_zone: int
    vehicle: Vehicle
    price_eur: float
    promised_by: datetime
    booked_at: datetime | None
    ended_at: datetime | None
    late_min: float | None
    compensation_eur: float
    stars: int | None


class Trip(Answer):
    trip_id: str
    requested_at: datetime
    pickup_zone: int = Field(ge=1, le=1023)
    dropoff_zone: int = Field(ge=1, le=1023)
    distance_km: float = Field(ge=0.05, le=200)
    vehicle: Vehicle
    parcel_kg: float | None
    rain_mm_h: float | None
    temperature_c: float | None
    city_pace: float | None


class Job(Answer):
    seq: int
    trip: Trip
    booked_at: datetime


class Quoted(Answer):
    trip: Trip
    source: Literal["model", "fallback"]
    shown: Quantiles
    promised_min: float
    price_eur: float


class Booked(Answer):
    trip_id: str
    booked_at: datetime
    promised_by: datetime


class PickedUp(Answer):
    trip_id: str
    picked_up_at: datetime


class Ended(Trip):
    booked_at: datetime
    ended_at: datetime
    outcome: Literal["delivered", "cancelled", "lost"]
    duration_min: float | None
    p10_min: float
    p50_min: float
    p90_min: float
    promised_by: datetime


class Rated(Answer):
    trip_id: str
    stars: int = Field(ge=1, le=5)
    late: bool


class BundleAnswer(Answer):
    role: Literal["champion", "challenger", "previous"]
    bundle_version: str
    quantiles: Quantiles | None


class Answered(Answer):
    estimate_id: str
    trip: Trip
    shown: str
    answers: list[BundleAnswer]


class Rollout(Answer):
    champion: str | None
    challenger: str | None
    mode: Literal["shadow", "canary"]


class RolloutChanged(Answer):
    before: Rollout
    after: Rollout
    cause: str
    reason: str
    at: datetime


class Event(Answer):
    id: str = Field(pattern="^[0-9]+$")
    type: str
    time: datetime
    subject: str
    data: dict[str, Any]


READ: dict[str, type[Answer]] = {
    "trip.quoted": Quoted,
    "trip.booked": Booked,
    "trip.picked_up": PickedUp,
    "trip.delivered": Ended,
    "trip.cancelled": Ended,
    "trip.lost": Ended,
    "rating.given": Rated,
    "estimate.answered": Answered,
    "rollout.changed": RolloutChanged,
}


class Consumer:
    """Asks, books, delivers and follows. Every method raises when it is answered otherwise than in its day."""

    def __init__(self, serving: httpx.Client, product: httpx.Client, courier_token: str) -> None:
        self.serving, self.product = serving, product
        self.courier = {"Authorization": f"Bearer {courier_token}"}

    def estimates(self) -> list[Estimate]:
        """Three trips: with all we may know, with as little as we must, and to a zone nobody has heard of."""
        least = {
            "trip_id": "old-2",
            "requested_at": "2026-06-01T09:00:00+02:00",
            "pickup_zone": 4,
            "dropoff_zone": 31,
            "distance_km": 3.0,
            "vehicle": "bike",
        }
        known = {"parcel_kg": 1.5, "rain_mm_h": 0.0, "temperature_c": 18.5, "city_pace": 1.2}
        trips = [least | known | {"trip_id": "old-1"}, least, least | {"trip_id": "old-3", "dropoff_zone": 1000}]
        got = self.serving.post("/v1/estimates", json={"trips": trips}).raise_for_status()
        estimates = Estimates.model_validate_json(got.content).estimates
        assert [item.trip_id for item in estimates] == ["old-1", "old-2", "old-3"]
        assert [item.status for item in estimates] == ["estimated", "estimated", "out_of_scope"]
        return estimates

    def journey(self, wait_for: Callable[[datetime], None], outcome: str = "delivered") -> Status:
        """Quote, book, pick up, bring to an end and rate one parcel; `wait_for` returns when a city time has come."""
        wish = {"pickup_zone": 101, "dropoff_zone": 108, "vehicle": "bike", "parcel_kg": 2.5}
        quote = Quote.model_validate_json(self.product.post("/api/quotes", json=wish).raise_for_status().content)
        path = f"/api/trips/{quote.trip_id}"
        booked = Status.model_validate_json(self.product.post(path).raise_for_status().content)
        assert booked.state == "booked"
        assert booked.booked_at is not None
        jobs = self.product.get("/api/courier/jobs", headers=self.courier).raise_for_status().json()
        assert quote.trip_id in [Job.model_validate(job).trip.trip_id for job in jobs]
        for minutes, event in enumerate(("picked_up", outcome), start=1):
            at = booked.booked_at + timedelta(minutes=minutes)
            wait_for(at)
            body = {"event": event, "at": at.isoformat()}
            self.product.post(
                f"/api/courier/trips/{quote.trip_id}/reports", json=body, headers=self.courier
            ).raise_for_status()
        self.product.post(f"{path}/rating", json={"stars": 4, "comment": "as ever"}).raise_for_status()
        ended = Status.model_validate_json(self.product.get(path).raise_for_status().content)
        assert (ended.state, ended.stars) == (outcome, 4)
        return ended

    def follow(self, server: httpx.Client, feed: str) -> list[tuple[Event, Answer]]:
        """A feed from its start, each event of a type we know with its payload."""
        query, found = {"lastEventId": 0, "limit": 3}, []
        while batch := server.get(f"/feeds/{feed}", params=query).raise_for_status().json():
            events = [Event.model_validate(item) for item in batch]
            found += [(event, READ[event.type].model_validate(event.data)) for event in events if event.type in READ]
            query["lastEventId"] = int(events[-1].id)
        return found

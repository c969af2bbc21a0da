"""Feeds: append-only logs that one team publishes and others follow, after the http-feeds.org convention.

`GET /feeds/<feed>?lastEventId=&limit=&timeout=` answers a JSON array of CloudEvents in order of id, waiting up to
`timeout` seconds when there is none yet. Delivery is at least once; a consumer keeps a durable cursor.

Readers tolerate: a reader meets events of a newer contract before it is upgraded itself, so it passes over what it
does not know (`chassis/readers.py`, docs/decisions/0007). Writers and requests stay strict.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from contracts.bundle import BundleRefused, BundleReleased
from contracts.conditions import CityMap, Conditions
from contracts.decisions import Decision
from contracts.estimates import BundleRejected, EstimateAnswered, Quantiles, RolloutChanged
from contracts.snapshots import BatchJudged, SnapshotMade
from contracts.trips import CompletedTrip, EstimateSource, Instant, Team, TripId, TripRequest, Wire

FeedName = Literal["conditions", "trips", "ratings", "snapshots", "bundles", "estimates", "rollout", "decisions"]
# The one team that writes each feed. The city's process is data's.
FEED_OWNERS: dict[FeedName, Team] = {
    "conditions": "data",
    "trips": "product",
    "ratings": "product",
    "snapshots": "data",
    "bundles": "model",
    "estimates": "serving",
    "rollout": "serving",
    "decisions": "monitoring",
}
EVENT_MEDIA_TYPE = "application/cloudevents-batch+json"
MOST_EVENTS = 5000
LONGEST_WAIT_S = 30


class Event(Wire):
    """A CloudEvent (1.0). `id` is a decimal number, one more than the id before it in the same feed.

    `time` is city time and says when the thing happened, not when it was written. Other attributes are passed over.
    """

    model_config = ConfigDict(extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    id: Annotated[str, Field(pattern=r"^[0-9]+$")]
    source: str
    type: str
    time: Instant
    subject: str
    datacontenttype: Literal["application/json"] = "application/json"
    data: dict[str, Any]


class TripQuoted(Wire):
    """The quote a customer was shown. `model_quantiles` is serving's answer even where the fallback was shown."""

    trip: TripRequest
    source: EstimateSource
    shown: Quantiles
    estimate_id: TripId | None = None
    bundle_version: str | None = None
    model_quantiles: Quantiles | None = None
    why_fallback: str | None = None
    promised_min: float
    price_eur: float
    audit: bool = False
    audit_share: float


class TripBooked(Wire):
    """The customer took the quote; the trip runs from `booked_at`."""

    trip_id: TripId
    booked_at: Instant
    promised_by: Instant


class TripPickedUp(Wire):
    """A courier has the parcel."""

    trip_id: TripId
    picked_up_at: Instant


class RatingGiven(Wire):
    """A customer's verdict. A comment is personal data and stays in product."""

    trip_id: TripId
    stars: Annotated[int, Field(ge=1, le=5)]
    late: bool


PAYLOADS: dict[str, type[Wire]] = {
    "conditions.map": CityMap,
    "conditions.reading": Conditions,
    "trip.quoted": TripQuoted,
    "trip.booked": TripBooked,
    "trip.picked_up": TripPickedUp,
    "trip.delivered": CompletedTrip,
    "trip.cancelled": CompletedTrip,
    "trip.lost": CompletedTrip,
    "rating.given": RatingGiven,
    "snapshot.made": SnapshotMade,
    "batch.accepted": BatchJudged,
    "batch.quarantined": BatchJudged,
    "bundle.released": BundleReleased,
    "bundle.refused": BundleRefused,
    "estimate.answered": EstimateAnswered,
    "rollout.changed": RolloutChanged,
    "bundle.rejected": BundleRejected,
    "decision.made": Decision,
}
TRIP_ENDS = ("trip.delivered", "trip.cancelled", "trip.lost")


def payload(event: Event) -> Wire:
    """The event's data as its type's model. Raises `KeyError` for an unknown type, `ValidationError` for a bad body."""
    return PAYLOADS[event.type].model_validate(event.data, extra="ignore")

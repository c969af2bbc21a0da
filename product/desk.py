"""The quote desk: gather what is known of a trip, decide what to show, record it. And the trip's later life."""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from fastapi.concurrency import run_in_threadpool
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from chassis.clock import Clock
from contracts.bookings import CourierReport, Quote, QuoteRequest, Rating, TripStatus
from contracts.estimates import Explanation, Quantiles
from contracts.feeds import TripQuoted
from contracts.trips import TripRequest
from product.conditions import CityView
from product.estimator import Answered, ServingClient, Unanswered
from product.fallback import Fallback
from product.ledger import Ledger
from product.promise import promise
from product.settings import Settings
from product.tracking import Change, Trip, book, rate, report, status

log = logging.getLogger(__name__)


def in_audit(trip_id: str, share: float) -> bool:
    """Whether a trip belongs to the audit share: by hash of its id, so that anyone can tell afterwards.

    >>> in_audit("any", 1.0), in_audit("any", 0.0)
    (True, False)
    """
    digest = hashlib.sha256(f"audit:{trip_id}".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def decide(trip: TripRequest, answer: Answered | Unanswered, usual: Quantiles, audit_share: float) -> TripQuoted:
    """What the customer is shown: the model's estimate; where there is none, or for the audit, the fallback's."""
    model = answer.quantiles if isinstance(answer, Answered) else None
    audit = model is not None and in_audit(trip.trip_id, audit_share)
    why = "audit" if audit else f"{answer.why}: {answer.detail}" if isinstance(answer, Unanswered) else None
    shown = usual if model is None or audit else model
    offer = promise(shown.p50_min, shown.p90_min, trip.vehicle, trip.distance_km, trip.parcel_kg)
    return TripQuoted(
        trip=trip,
        source="fallback" if why else "model",
        shown=shown,
        estimate_id=answer.estimate_id,
        bundle_version=answer.bundle_version,
        model_quantiles=model,
        why_fallback=why,
        promised_min=offer.minutes,
        price_eur=offer.price_eur,
        audit=audit,
        audit_share=audit_share,
    )


def explanation_of(quoted: TripQuoted, answer: Answered | Unanswered) -> Explanation | None:
    """Why the shown estimate is what it is; None unless it is the model's, for of no other it would be true."""
    return answer.explanation if quoted.source == "model" and isinstance(answer, Answered) else None


@dataclass(frozen=True, slots=True)
class Offer:
    """A quote, and what a page may say beside it."""

    quote: Quote
    explanation: Explanation | None


class Meters:
    """What product counts."""

    def __init__(self, registry: CollectorRegistry, budget_s: float, count_open: Callable[[], int]) -> None:
        edges = sorted({0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, budget_s})
        self.quotes = Counter("tandem_quotes", "Quotes shown", ["source"], registry=registry)
        self.fallbacks = Counter("tandem_fallbacks", "Quotes by the fallback", ["reason"], registry=registry)
        self.seconds = Histogram("tandem_quote_seconds", "Wall time of a quote", buckets=edges, registry=registry)
        Gauge("tandem_open_trips", "Trips under way", registry=registry).set_function(count_open)


@dataclass(frozen=True, slots=True)
class Desk:
    """Where customers and couriers are served."""

    city: CityView
    serving: ServingClient
    fallback: Fallback
    ledger: Ledger
    clock: Clock
    settings: Settings
    audit_share: float
    meters: Meters

    async def quote(self, wish: QuoteRequest, *, with_reasons: bool = False) -> Offer:
        """A price and a promise, with reasons where they are wanted and there are any. Raises `NoMapYet` and
        `UnknownZone`, never for what serving does."""
        start, now = time.perf_counter(), self.clock.now()
        trip = self.city.trip(wish, secrets.token_hex(10), now)
        answer = await self.serving.estimate(trip, with_reasons=with_reasons)
        usual = self.fallback.table.estimate(trip, self.clock.zone)
        quoted = decide(trip, answer, usual, self.audit_share)
        shown = Trip(quoted, valid_until=now + timedelta(minutes=self.settings.quote_valid_min))
        await run_in_threadpool(self.ledger.open_quote, shown)
        self._count(quoted, time.perf_counter() - start)
        quote = Quote(
            trip_id=trip.trip_id,
            price_eur=quoted.price_eur,
            promised_min=quoted.promised_min,
            promised_by=shown.promised_by,
            p50_min=quoted.shown.p50_min,
            source=quoted.source,
            bundle_version=quoted.bundle_version,
            valid_until=shown.valid_until,
        )
        return Offer(quote, explanation_of(quoted, answer))

    def book(self, trip_id: str) -> TripStatus:
        """Take a quote. Raises `UnknownTrip`, `QuoteExpired`."""
        return self._change(trip_id, lambda trip: book(trip, self.clock.now()))

    def report(self, trip_id: str, said: CourierReport) -> TripStatus:
        """A courier's report. Raises `UnknownTrip`, `NotBooked`, `ImpossibleReport`."""
        latest = self.clock.now() + timedelta(minutes=self.settings.report_skew_min)
        return self._change(trip_id, lambda trip: report(trip, said, latest))

    def rate(self, trip_id: str, rating: Rating) -> TripStatus:
        """A customer's rating. Raises `UnknownTrip`, `NotEnded`, `AlreadyRated`."""
        return self._change(trip_id, lambda trip: rate(trip, rating.stars, rating.comment, self.clock.now()))

    def status(self, trip_id: str) -> TripStatus:
        """The trip now. Raises `UnknownTrip`."""
        return status(self.ledger.find(trip_id), self.clock.now(), self.clock.zone)

    def _change(self, trip_id: str, decide: Callable[[Trip], Change]) -> TripStatus:
        change = self.ledger.change(trip_id, decide)
        if change.ignored is not None:
            log.warning("trip %s: a report changed nothing: %s", trip_id, change.ignored)
        return status(change.trip, self.clock.now(), self.clock.zone)

    def _count(self, quoted: TripQuoted, seconds: float) -> None:
        self.meters.quotes.labels(quoted.source).inc()
        self.meters.seconds.observe(seconds)
        if quoted.why_fallback is not None:
            self.meters.fallbacks.labels(quoted.why_fallback.split(":")[0]).inc()

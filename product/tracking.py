"""What may happen to a trip: book, report, rate. Decides and touches nothing; the ledger records what comes out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import get_args
from zoneinfo import ZoneInfo

from contracts.bookings import CourierReport, TripState, TripStatus
from contracts.feeds import RatingGiven, TripBooked, TripPickedUp, TripQuoted
from contracts.problems import TandemError
from contracts.trips import CompletedTrip, Outcome, Wire, minutes_between
from product.promise import compensation_eur

STATES: tuple[TripState, ...] = get_args(TripState)
OPEN_STATES: tuple[TripState, ...] = ("booked", "picked_up")
LONGEST = timedelta(days=2)  # the contract's bound on duration_min


class QuoteExpired(TandemError):
    """A quote is booked too late."""


class NotBooked(TandemError):
    """A courier reports on a trip that nobody booked."""


class ImpossibleReport(TandemError):
    """A report's time cannot be true."""


class NotEnded(TandemError):
    """A rating comes before the end of its trip."""


class AlreadyRated(TandemError):
    """A second rating says something else than the first."""


@dataclass(frozen=True, slots=True)
class Trip:
    """A trip as the ledger knows it: the quote as shown, and what has happened since."""

    quoted: TripQuoted
    valid_until: datetime
    state: TripState = "quoted"
    booked_at: datetime | None = None
    picked_up_at: datetime | None = None
    ended_at: datetime | None = None
    stars: int | None = None
    comment: str = ""

    @property
    def trip_id(self) -> str:
        return self.quoted.trip.trip_id

    @property
    def promised_by(self) -> datetime:
        """The promise; before the booking, what it would be for a booking at the time of the quote."""
        start = self.booked_at or self.quoted.trip.requested_at
        return start + timedelta(minutes=self.quoted.promised_min)


@dataclass(frozen=True, slots=True)
class News:
    """One thing to tell a feed, in city time."""

    type: str
    time: datetime
    data: Wire


@dataclass(frozen=True, slots=True)
class Change:
    """A trip afterwards and the news that commit with it; `ignored` says why a contradicting report changed nothing."""

    trip: Trip
    news: News | None = None
    ignored: str | None = None


def book(trip: Trip, now: datetime) -> Change:
    """Take the quote. Booking twice changes nothing: the second click meets the first one's booking."""
    if trip.state != "quoted":
        return Change(trip)
    if now > trip.valid_until:
        raise QuoteExpired(f"the offer of trip {trip.trip_id} has run out: ask for a new quote")
    booked = replace(trip, state="booked", booked_at=now)
    told = TripBooked(trip_id=trip.trip_id, booked_at=now, promised_by=booked.promised_by)
    return Change(booked, News("trip.booked", now, told))


def report(trip: Trip, said: CourierReport, latest: datetime) -> Change:
    """A courier's report, which may come twice, late or out of order; the first word on each fact stands.

    `latest` is the latest time a report may carry: now, and a little for clocks that differ.
    """
    if trip.booked_at is None:
        raise NotBooked(f"trip {trip.trip_id} is only quoted: it must be booked before a courier reports on it")
    _check_time(trip.trip_id, trip.booked_at, said, latest)
    if said.event == "picked_up":
        if trip.picked_up_at is not None:
            repeated = said.at == trip.picked_up_at
            return Change(
                trip, ignored=None if repeated else f"picked up at {trip.picked_up_at} already, said {said.at}"
            )
        if trip.ended_at is not None and said.at > trip.ended_at:
            return Change(trip, ignored=f"{trip.state} at {trip.ended_at}, a pickup at {said.at} came after that")
        # After the end a pickup only fills in its time: the state never goes back.
        after = replace(trip, picked_up_at=said.at, state="picked_up" if trip.ended_at is None else trip.state)
        return Change(after, News("trip.picked_up", said.at, TripPickedUp(trip_id=trip.trip_id, picked_up_at=said.at)))
    if trip.ended_at is not None:
        repeated = (said.event, said.at) == (trip.state, trip.ended_at)
        note = f"{trip.state} at {trip.ended_at} already, said {said.event} at {said.at}"
        return Change(trip, ignored=None if repeated else note)
    if trip.picked_up_at is not None and said.at < trip.picked_up_at:
        raise ImpossibleReport(f"at: {said.event} at {said.at}, before the pickup at {trip.picked_up_at}")
    ended = replace(trip, state=said.event, ended_at=said.at)
    return Change(ended, News(f"trip.{said.event}", said.at, completed(ended, trip.booked_at, said.event, said.at)))


def _check_time(trip_id: str, booked_at: datetime, said: CourierReport, latest: datetime) -> None:
    if said.at <= booked_at:
        raise ImpossibleReport(f"at: trip {trip_id} was booked at {booked_at}, nothing happened to it at {said.at}")
    if said.at > latest:
        raise ImpossibleReport(f"at: {said.at} has not come yet: report what has happened, once it has")
    if said.event == "delivered" and said.at - booked_at > LONGEST:
        raise ImpossibleReport(f"at: {said.at} is over two days after the booking: report the parcel as lost")


def rate(trip: Trip, stars: int, comment: str, now: datetime) -> Change:
    """The customer's verdict, once the trip has ended. Saying the same twice changes nothing."""
    if trip.ended_at is None:
        raise NotEnded(f"trip {trip.trip_id} is {trip.state}: rate it once it has ended")
    if trip.stars is not None:
        if trip.stars != stars:
            raise AlreadyRated(f"trip {trip.trip_id} has its {trip.stars} stars already: a rating is final")
        return Change(trip)
    given = RatingGiven(trip_id=trip.trip_id, stars=stars, late=trip.ended_at > trip.promised_by)
    return Change(replace(trip, stars=stars, comment=comment), News("rating.given", now, given))


def completed(trip: Trip, booked_at: datetime, outcome: Outcome, ended_at: datetime) -> CompletedTrip:
    """The whole row of a trip that has ended, as the trips feed tells it."""
    quoted = trip.quoted
    return CompletedTrip(
        **dict(quoted.trip),
        **dict(quoted.shown),
        booked_at=booked_at,
        picked_up_at=trip.picked_up_at,
        ended_at=ended_at,
        outcome=outcome,
        duration_min=minutes_between(booked_at, ended_at) if outcome == "delivered" else None,
        source=quoted.source,
        estimate_id=quoted.estimate_id,
        bundle_version=quoted.bundle_version,
        promised_by=trip.promised_by,
        audit=quoted.audit,
    )


def late_min(trip: Trip, now: datetime) -> float | None:
    """Minutes after the promise, 0 for a delivery in time; None for an open trip not late yet and for no delivery."""
    if trip.state == "quoted" or trip.state in ("cancelled", "lost"):
        return None
    late = minutes_between(trip.promised_by, trip.ended_at or now)
    return max(0.0, late) if trip.ended_at is not None or late > 0 else None


def status(trip: Trip, now: datetime, zone: ZoneInfo) -> TripStatus:
    """The trip as customers see it, in the city's local time. A lost parcel gets its whole price back."""

    def local(at: datetime | None) -> datetime | None:
        return at and at.astimezone(zone)

    quoted, late = trip.quoted, late_min(trip, now)
    earned = compensation_eur(quoted.price_eur, late or 0) if trip.state == "delivered" else 0.0
    return TripStatus(
        trip_id=trip.trip_id,
        state=trip.state,
        pickup_zone=quoted.trip.pickup_zone,
        dropoff_zone=quoted.trip.dropoff_zone,
        vehicle=quoted.trip.vehicle,
        price_eur=quoted.price_eur,
        promised_min=quoted.promised_min,
        promised_by=trip.promised_by.astimezone(zone),
        booked_at=local(trip.booked_at),
        picked_up_at=local(trip.picked_up_at),
        ended_at=local(trip.ended_at),
        late_min=late,
        compensation_eur=quoted.price_eur if trip.state == "lost" else earned,
        stars=trip.stars,
    )

"""The trips as recorded: each change of a trip and its news for the feeds commit together or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, Row, bindparam, func, insert, select, update

from chassis.feed_store import Draft, FeedStore
from chassis.sql import reading
from contracts.bookings import Job
from contracts.feeds import TripQuoted
from contracts.problems import TandemError
from contracts.trips import CompletedTrip, minute_of_week
from product.fallback import PastOutcome
from product.tables import PAST_OUTCOMES, TRIPS
from product.tracking import OPEN_STATES, Change, Trip

MOST_PAST_OUTCOMES = 20_000  # the newest ones: about a week, and quick to read
# Statements are built once: building one costs several times what running it does.
FIND = select(TRIPS).where(TRIPS.c.trip_id == bindparam("mine"))
LOCK = FIND.with_for_update()
CHANGE = update(TRIPS).where(TRIPS.c.trip_id == bindparam("mine"))
COUNT_OPEN = select(func.count()).select_from(TRIPS).where(TRIPS.c.state.in_(OPEN_STATES))
JOBS = (
    select(TRIPS.c.seq, TRIPS.c.quoted, TRIPS.c.booked_at)
    .where(TRIPS.c.seq > bindparam("after"), TRIPS.c.state.in_(OPEN_STATES))
    .order_by(TRIPS.c.seq)
    .limit(bindparam("most"))
)
CHANGING = ("state", "booked_at", "picked_up_at", "ended_at", "stars", "comment")


class UnknownTrip(TandemError):
    """There is no such trip."""


class Ledger:
    """Product's trips in its database, with the feeds they are told to."""

    def __init__(self, engine: Engine, zone: ZoneInfo) -> None:
        self.engine, self.zone = engine, zone
        self.trips_feed = FeedStore(engine, "trips")
        self.ratings_feed = FeedStore(engine, "ratings")

    def open_quote(self, trip: Trip) -> None:
        """Record a quote as shown."""
        quoted = trip.quoted
        asked_at = quoted.trip.requested_at
        with self.engine.begin() as tx:
            self.trips_feed.append(tx, [Draft("trip.quoted", asked_at, trip.trip_id, quoted)])
            row = _columns(trip) | {
                "trip_id": trip.trip_id,
                "source": "audit" if quoted.audit else quoted.source,
                "quoted": quoted.model_dump_json(),
                "requested_at": asked_at,
                "valid_until": trip.valid_until,
            }
            tx.execute(insert(TRIPS), row)

    def find(self, trip_id: str) -> Trip:
        """A trip. Raises `UnknownTrip`."""
        with reading(self.engine) as tx:
            return _trip(tx.execute(FIND, {"mine": trip_id}).first(), trip_id)

    def change(self, trip_id: str, decide: Callable[[Trip], Change]) -> Change:
        """Read a trip, decide, and record what comes out with its news, in one transaction. Raises `UnknownTrip`."""
        with self.engine.begin() as tx:
            trip = _trip(tx.execute(LOCK, {"mine": trip_id}).first(), trip_id)
            change = decide(trip)
            if (news := change.news) is not None:
                feed = self.ratings_feed if news.type == "rating.given" else self.trips_feed
                [event_id] = feed.append(tx, [Draft(news.type, news.time, trip_id, news.data)])
                seq = {"seq": event_id} if news.type == "trip.booked" else {}
                tx.execute(CHANGE, _columns(change.trip) | seq | {"mine": trip_id})
                if isinstance(news.data, CompletedTrip):
                    self.learn(tx, [news.data])
        return change

    def learn(self, tx: Connection, ended: Sequence[CompletedTrip]) -> None:
        """Keep delivered trips as past outcomes, for the fallback."""
        rows = [
            {
                "vehicle": trip.vehicle,
                "distance_km": trip.distance_km,
                "minute": minute_of_week(trip.requested_at, self.zone),
                "duration_min": trip.duration_min,
            }
            for trip in ended
            if trip.duration_min is not None
        ]
        if rows:
            tx.execute(insert(PAST_OUTCOMES), rows)

    def past_outcomes(self) -> list[PastOutcome]:
        """The newest delivered trips."""
        table = PAST_OUTCOMES.c
        query = select(table.vehicle, table.distance_km, table.minute, table.duration_min)
        with reading(self.engine) as tx:
            rows = tx.execute(query.order_by(table.id.desc()).limit(MOST_PAST_OUTCOMES)).all()
        return [PastOutcome(*row) for row in rows]

    def jobs(self, after: int, limit: int) -> list[Job]:
        """Booked trips that have not ended, oldest booking first, from the one after `after`."""
        with reading(self.engine) as tx:
            rows = tx.execute(JOBS, {"after": after, "most": limit}).all()
        return [
            Job(seq=row.seq, trip=TripQuoted.model_validate_json(row.quoted).trip, booked_at=row.booked_at)
            for row in rows
        ]

    def open_trips(self, limit: int) -> list[Trip]:
        """Trips under way, earliest promise first: the late ones lead."""
        query = select(TRIPS).where(TRIPS.c.state.in_(OPEN_STATES)).order_by(TRIPS.c.promised_by).limit(limit)
        with reading(self.engine) as tx:
            return [_trip(row, row.trip_id) for row in tx.execute(query)]

    def count_open(self) -> int:
        """How many trips are under way."""
        with reading(self.engine) as tx:
            return tx.execute(COUNT_OPEN).scalar_one()

    def counts(self, column: str, since: datetime) -> dict[str, int]:
        """How many quotes since an instant there are of each `state` or `source`."""
        query = select(TRIPS.c[column], func.count()).where(TRIPS.c.requested_at >= since).group_by(TRIPS.c[column])
        with reading(self.engine) as tx:
            return {row[0]: row[1] for row in tx.execute(query)}


def _columns(trip: Trip) -> dict[str, Any]:
    """The columns that change in a trip's life."""
    return {name: getattr(trip, name) for name in (*CHANGING, "promised_by")}


def _trip(row: Row[Any] | None, trip_id: str) -> Trip:
    if row is None:
        raise UnknownTrip(f"there is no trip {trip_id!r}: ask for a quote first, or mend the id")
    life = {name: getattr(row, name) for name in CHANGING}
    return Trip(TripQuoted.model_validate_json(row.quoted), row.valid_until, **life)

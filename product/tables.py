"""Product's tables. Nobody else reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Float, Index, Integer, MetaData, String, Table, Text, TypeDecorator


class Instant(TypeDecorator[datetime]):
    """A point in time. SQLite forgets zones and Postgres answers in the session's, so both hold UTC and answer it."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Any) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Any) -> datetime | None:
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


METADATA = MetaData()

TRIPS = Table(
    "trips",
    METADATA,
    Column("trip_id", String(64), primary_key=True),
    Column("seq", BigInteger, unique=True),  # id of its trip.booked event, so that couriers see bookings in order
    Column("state", String(12), nullable=False),
    Column("source", String(8), nullable=False),  # whose estimate was shown; audit: the fallback's, on purpose
    Column("quoted", Text, nullable=False),  # the TripQuoted as told to the feed, as JSON
    Column("requested_at", Instant, nullable=False, index=True),
    Column("valid_until", Instant, nullable=False),
    Column("promised_by", Instant, nullable=False),
    Column("booked_at", Instant),
    Column("picked_up_at", Instant),
    Column("ended_at", Instant),
    Column("stars", Integer),
    Column("comment", Text, nullable=False),  # personal data: stays here
)
Index("trips_by_state", TRIPS.c.state, TRIPS.c.promised_by)
Index("trips_by_state_and_seq", TRIPS.c.state, TRIPS.c.seq)

PAST_OUTCOMES = Table(
    "past_outcomes",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("vehicle", String(8), nullable=False),
    Column("distance_km", Float, nullable=False),
    Column("minute", Integer, nullable=False),
    Column("duration_min", Float, nullable=False),
)

FACTS = Table(  # what product remembers of the world outside: the map, the newest reading, the history imported
    "facts",
    METADATA,
    Column("name", String(20), primary_key=True),
    Column("value", Text, nullable=False),
)

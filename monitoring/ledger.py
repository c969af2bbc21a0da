"""Monitoring's database: what the feeds told, the working trips of open cohorts, and one row per tick, kept for ever."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
)

from chassis.feed_store import feed_tables
from chassis.followers import cursor_table
from contracts.estimates import EstimateAnswered
from contracts.feeds import Event, TripBooked, TripQuoted, payload
from contracts.trips import CompletedTrip, Wire
from monitoring.cohorts import EPOCH

W = TypeVar("W", bound=Wire)

TABLES = MetaData()
feed_tables(TABLES)
CURSORS = cursor_table(TABLES)
# Times are seconds since 1970. A fact is an event of a quiet feed, kept whole.
FACTS = Table(
    "facts",
    TABLES,
    Column("key", String(80), primary_key=True),  # feed and id
    Column("type", String(40), nullable=False, index=True),
    Column("number", BigInteger, nullable=False),
    Column("at", Float, nullable=False),
    Column("data", Text, nullable=False),
)
TRIPS = Table(
    "trips",
    TABLES,
    Column("trip_id", String(64), primary_key=True),
    Column("requested", Float, nullable=False, index=True),
    Column("zone", Integer, nullable=False),
    Column("source", String(10), nullable=False),
    Column("audit", Boolean, nullable=False),
    Column("estimate_id", String(64)),
    Column("booked", Float),
    Column("promised", Float),
    Column("ended", Float),
    Column("outcome", String(10)),
)
ESTIMATES = Table(
    "estimates",
    TABLES,
    Column("estimate_id", String(64), primary_key=True),
    Column("requested", Float, nullable=False, index=True),
    Column("quantiles", Text, nullable=False),  # by bundle version
)
# Ends of trips that are in no open cohort: history, and outcomes that came after their cohort had closed.
PAST = Table(
    "past_outcomes",
    TABLES,
    Column("hour", Float, primary_key=True),  # of the request
    *(Column(name, Integer, nullable=False) for name in ("delivered", "late", "cancelled", "lost")),
)
NEWEST = Table("newest", TABLES, Column("feed", String(40), primary_key=True), Column("at", Float, nullable=False))
TICKS = Table(
    "ticks",
    TABLES,
    Column("cohort", Float, primary_key=True),
    Column("at", Float, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("closing", "evidence", "verdict", "figures")),
    Column("digest", String(64), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("decision_id", String(80)),  # where the decision changed
    Column("state", String(10)),  # published, or waiting for a person
)


def instant(seconds: float) -> datetime:
    """A stored time."""
    return datetime.fromtimestamp(seconds, UTC)


def note_facts(tx: Connection, events: Sequence[Event]) -> None:
    """Handler of rollout, snapshots and bundles: keep what they say."""
    rows = [
        {
            "key": f"{event.source}:{event.id}",
            "type": event.type,
            "number": int(event.id),
            "at": event.time.timestamp(),
            "data": payload(event).model_dump_json(),
        }
        for event in events
    ]
    _replace(tx, FACTS, rows)


def note_estimates(tx: Connection, events: Sequence[Event]) -> None:
    """Handler of estimates: keep every bundle's quantiles until the cohort closes."""
    rows = []
    for event in events:
        said = EstimateAnswered.model_validate(event.data)
        quantiles = {answer.bundle_version: answer.quantiles for answer in said.answers if answer.quantiles}
        text = json.dumps({version: [q.p10_min, q.p50_min, q.p90_min] for version, q in quantiles.items()})
        rows.append(
            {"estimate_id": said.estimate_id, "requested": said.trip.requested_at.timestamp(), "quantiles": text}
        )
    _replace(tx, ESTIMATES, rows)


def note_trips(tx: Connection, events: Sequence[Event]) -> None:
    """Handler of trips: keep the trips of open cohorts, count the ends of all others by hour."""
    subjects = [event.subject for event in events]
    trips = {row["trip_id"]: dict(row) for row in _rows(tx, TRIPS, subjects)}
    past: dict[float, Counter[str]] = defaultdict(Counter)
    counted = PAST.c.keys()[1:]
    for event in events:
        match payload(event):
            case TripQuoted() as quote if event.subject not in trips:
                trips[event.subject] = {
                    **dict.fromkeys(TRIPS.c.keys()),
                    "trip_id": event.subject,
                    "requested": quote.trip.requested_at.timestamp(),
                    "zone": quote.trip.pickup_zone,
                    "source": quote.source,
                    "audit": quote.audit,
                    "estimate_id": quote.estimate_id,
                }
            case TripBooked() as booking if event.subject in trips:
                times = {"booked": booking.booked_at.timestamp(), "promised": booking.promised_by.timestamp()}
                trips[event.subject].update(times)
            case CompletedTrip() as end if event.subject in trips:
                trips[event.subject].update(ended=end.ended_at.timestamp(), outcome=end.outcome)
            case CompletedTrip() as end:
                late = end.outcome == "delivered" and end.ended_at > end.promised_by
                past[end.requested_at.timestamp() // 3600 * 3600].update({end.outcome: 1, "late": late})
    _replace(tx, TRIPS, list(trips.values()))
    for row in _rows(tx, PAST, list(past)):
        past[row["hour"]].update({name: row[name] for name in counted})
    _replace(tx, PAST, [{"hour": hour, **{name: ends[name] for name in counted}} for hour, ends in past.items()])
    newest = max([event.time.timestamp() for event in events] + [newest_event(tx)])
    _replace(tx, NEWEST, [{"feed": "trips", "at": newest}])


def newest_event(tx: Connection) -> float:
    """When the newest event of the trips feed happened; 0 when there was none."""
    return tx.execute(select(NEWEST.c.at)).scalar() or 0.0


def past_outcomes(tx: Connection) -> int:
    """Delivered trips that no cohort holds."""
    return tx.execute(select(func.sum(PAST.c.delivered))).scalar() or 0


def facts(
    tx: Connection, kind: type[W], type_: str, until: datetime, after: datetime = EPOCH
) -> list[tuple[datetime, W]]:
    """What quiet feeds said in (after, until], of one event type, in order."""
    told = (FACTS.c.type == type_) & (FACTS.c.at > after.timestamp()) & (FACTS.c.at <= until.timestamp())
    query = select(FACTS).where(told).order_by(FACTS.c.at, FACTS.c.number)
    return [(instant(row.at), kind.model_validate_json(row.data)) for row in tx.execute(query)]


def forget_trips(tx: Connection, before: datetime) -> None:
    """A closed cohort's trips live on in its tick."""
    for table in (TRIPS, ESTIMATES):
        tx.execute(delete(table).where(table.c.requested < before.timestamp()))


def _rows(tx: Connection, table: Table, keys: Sequence[Any]) -> Sequence[RowMapping]:
    return tx.execute(select(table).where(table.primary_key.columns[0].in_(set(keys)))).mappings().all()


def _replace(tx: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Write rows, over those with the same key: an event that comes twice changes nothing."""
    if rows:
        key = table.primary_key.columns[0]
        tx.execute(delete(table).where(key.in_([row[key.name] for row in rows])))
        tx.execute(insert(table), rows)

"""Monitoring's database: what the feeds told, the working trips of open cohorts, one row per tick, kept for ever."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy import Column, Connection, Float, Integer, String, Table, Text

from contracts.estimates import EstimateAnswered
from contracts.feeds import TRIP_ENDS, Event, TripBooked, TripQuoted, payload
from contracts.trips import Instant, Outcome, Wire

W = TypeVar("W", bound=Wire)
QUOTES_KEPT = timedelta(hours=6)  # longer than a quote can be booked
SLOT_S = 300  # divides the length of any sensible cohort, so that a closing falls between two slots

TABLES = sa.MetaData()
# Times are seconds since 1970. A fact is an event of a quiet feed, kept whole.
FACTS = Table(
    "facts",
    TABLES,
    Column("key", String(80), primary_key=True),  # feed and id
    Column("type", String(40), nullable=False, index=True),
    Column("number", sa.BigInteger, nullable=False),
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
    Column("audit", sa.Boolean, nullable=False),
    Column("estimate_id", String(64)),
    Column("booked", Float, index=True),
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
# Ends of trips that no cohort holds: history, and those that came after their cohort had closed.
PAST = Table(
    "past_outcomes",
    TABLES,
    Column("slot", Float, primary_key=True),  # start of the SLOT_S seconds in which they ended
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
    """Handler of estimates: keep every bundle's quantiles for as long as quotes are kept."""
    rows = []
    for event in events:
        said = EstimateAnswered.model_validate(event.data)
        quantiles = {answer.bundle_version: answer.quantiles for answer in said.answers if answer.quantiles}
        text = json.dumps({version: [q.p10_min, q.p50_min, q.p90_min] for version, q in quantiles.items()})
        rows.append(
            {"estimate_id": said.estimate_id, "requested": said.trip.requested_at.timestamp(), "quantiles": text}
        )
    _replace(tx, ESTIMATES, rows)


class _EndOfTrip(BaseModel):
    """What we use of a completed trip. History has 110,000 of them: checking every column would take as long again."""

    ended_at: Instant
    outcome: Outcome
    promised_by: Instant


def note_trips(tx: Connection, events: Sequence[Event]) -> None:
    """Handler of trips: keep the trips of open cohorts, count the ends of all others by hour."""
    subjects = [event.subject for event in events]
    trips = {row["trip_id"]: dict(row) for row in _rows(tx, TRIPS, subjects)}
    past: list[tuple[float, str, bool]] = []
    for event in events:
        match _EndOfTrip.model_validate(event.data) if event.type in TRIP_ENDS else payload(event):
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
            case _EndOfTrip() as end if event.subject in trips:
                trips[event.subject].update(ended=end.ended_at.timestamp(), outcome=end.outcome)
            case _EndOfTrip() as end:
                past.append((end.ended_at.timestamp(), end.outcome, end.ended_at > end.promised_by))
    _replace(tx, TRIPS, list(trips.values()))
    _count_past(tx, past)
    newest = max([event.time for event in events] + [newest_event(tx)])
    _replace(tx, NEWEST, [{"feed": "trips", "at": newest.timestamp()}])


def newest_event(tx: Connection) -> datetime:
    """When the newest event of the trips feed happened; long ago when there was none."""
    return instant(tx.execute(sa.select(NEWEST.c.at)).scalar() or 0.0)


def past_outcomes(tx: Connection, until: datetime) -> int:
    """Delivered trips that no cohort holds and that ended by then."""
    return tx.execute(sa.select(sa.func.sum(PAST.c.delivered)).where(PAST.c.slot < until.timestamp())).scalar() or 0


def _count_past(tx: Connection, ends: list[tuple[float, str, bool]]) -> None:
    """Add ends to their slots. An end is when, how, and whether the promise was broken."""
    slots: dict[float, Counter[str]] = defaultdict(Counter)
    for ended, outcome, late in ends:
        slots[ended // SLOT_S * SLOT_S].update({outcome: 1, "late": int(late and outcome == "delivered")})
    counted = PAST.c.keys()[1:]
    for row in _rows(tx, PAST, list(slots)):
        slots[row["slot"]].update({name: row[name] for name in counted})
    _replace(tx, PAST, [{"slot": slot, **{name: counts[name] for name in counted}} for slot, counts in slots.items()])


class Fact(NamedTuple, Generic[W]):
    """What a quiet feed said: its place in the feed, when (city time), and what."""

    number: int
    at: datetime
    data: W


def facts(tx: Connection, kind: type[W], event_type: str, until: datetime, after: int = 0) -> list[Fact[W]]:
    """The events of one type up to an instant, after event `after` of their feed, in order."""
    told = (FACTS.c.type == event_type) & (FACTS.c.number > after) & (FACTS.c.at <= until.timestamp())
    rows = tx.execute(sa.select(FACTS).where(told).order_by(FACTS.c.number))
    return [Fact(row.number, instant(row.at), kind.model_validate_json(row.data)) for row in rows]


def forget_trips(tx: Connection, start: datetime, end: datetime, closed_at: datetime) -> None:
    """Drop the trips of the cohort [start, end), which live on in its tick, and quotes that nobody can book any more.

    Ends that came too late for it are counted as past, and so are trips of earlier cohorts of which we heard too late.
    """
    over = TRIPS.c.booked < end.timestamp()
    unjudged = (TRIPS.c.ended > closed_at.timestamp()) | (TRIPS.c.booked < start.timestamp())
    late = tx.execute(sa.select(TRIPS).where(over & TRIPS.c.ended.is_not(None) & unjudged))
    _count_past(tx, [(row.ended, row.outcome, row.ended > row.promised) for row in late])
    run_out = (end - QUOTES_KEPT).timestamp()
    tx.execute(sa.delete(TRIPS).where(over | (TRIPS.c.booked.is_(None) & (TRIPS.c.requested < run_out))))
    tx.execute(sa.delete(ESTIMATES).where(ESTIMATES.c.requested < run_out))


def _rows(tx: Connection, table: Table, keys: Sequence[Any]) -> Sequence[sa.RowMapping]:
    return tx.execute(sa.select(table).where(table.primary_key.columns[0].in_(set(keys)))).mappings().all()


def _replace(tx: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Write rows, over those with the same key: an event that comes twice changes nothing."""
    if rows:
        key = table.primary_key.columns[0]
        tx.execute(sa.delete(table).where(key.in_([row[key.name] for row in rows])))
        tx.execute(sa.insert(table), rows)

"""A feed's storage: append in a transaction, read in order of id.

An append takes its ids by updating the feed's row in `feed_heads`, which holds that row's lock until the transaction
ends: ids become visible in order and without gaps, on SQLite and Postgres alike, so a cursor can't pass an id that
commits later. Events that are appended together share rows: a row costs the database more than the events in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from json.encoder import encode_basestring_ascii as quoted  # what `json.dumps` does of a string, in a tenth of its time

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import PoolProxiedConnection

from chassis.databases import reading
from contracts.feeds import FeedName
from contracts.problems import TandemError
from contracts.trips import Wire

FORGET_AT_ONCE = 1000
MOST_IN_ROW = 256  # events
START = '{"specversion":"1.0","id":"'  # of every event's JSON, up to its id


class CursorTooOld(TandemError):
    """A consumer asks for events older than the feed keeps."""

    def __init__(self, feed: str, after: int, kept_from: int) -> None:
        super().__init__(
            f"feed {feed} keeps events from id {kept_from} on, asked for those after {after}: "
            f"start again from lastEventId={kept_from - 1} and fetch what came before from the archive"
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """An event before it has an id. `time` is city time, when the thing happened."""

    type: str
    time: datetime
    subject: str
    data: Wire


def feed_tables(metadata: MetaData) -> tuple[Table, Table]:
    """Add a feed's two tables to a team's own metadata."""
    heads = Table(
        "feed_heads",
        metadata,
        Column("feed", String(40), primary_key=True),
        Column("last_id", BigInteger, nullable=False),
        Column("kept_from", BigInteger, nullable=False),
    )
    events = Table(
        "feed_events",
        metadata,
        Column("feed", String(40), nullable=False),
        Column("id", BigInteger, nullable=False),  # the last event's
        Column("event", Text, nullable=False),  # CloudEvents as JSON, ids included, a line each
        PrimaryKeyConstraint("feed", "id"),
    )
    return heads, events


class FeedStore:
    """One feed in its owner's database. Make it once, after `open_database`."""

    def __init__(self, engine: Engine, feed: FeedName, metadata: MetaData) -> None:
        self.engine, self.feed = engine, feed
        self.heads, self.events = metadata.tables["feed_heads"], metadata.tables["feed_events"]
        with engine.begin() as tx:
            known = tx.execute(select(self.heads.c.last_id).where(self.heads.c.feed == feed)).scalar()
            if known is None:
                tx.execute(insert(self.heads).values(feed=feed, last_id=0, kept_from=1))
        # Built once: building a statement anew costs several times what running it does.
        last_id, mine = self.heads.c.last_id, update(self.heads).where(self.heads.c.feed == feed)
        self._take = mine.values(last_id=last_id + bindparam("count")).returning(last_id)
        self._add = insert(self.events)

    def lock(self, tx: Connection) -> int:
        """Keep everybody else from appending until the caller's transaction ends; answers the newest event's id."""
        last: int = tx.execute(self._take, {"count": 0}).scalar_one()
        return last

    def append(self, tx: Connection, drafts: Sequence[Draft]) -> list[int]:
        """Append events inside the caller's transaction, so that they commit with what they tell of. Answers ids."""
        return self.append_encoded(
            tx,
            [
                (START, _tails(self.feed, it.type, it.time, [(it.subject, it.data.model_dump_json())])[0])
                for it in drafts
            ],
        )

    def append_encoded(self, tx: Connection, heads_and_tails: Sequence[tuple[str, str]]) -> list[int]:
        """Append events already encoded as the JSON before and after their id (bulk imports)."""
        if not heads_and_tails:
            return []
        count = len(heads_and_tails)
        last: int = tx.execute(self._take, {"count": count}).scalar_one()
        ids = list(range(last - count + 1, last + 1))
        events = [f"{head}{number}{tail}" for number, (head, tail) in zip(ids, heads_and_tails, strict=True)]
        tx.execute(
            self._add, [{"feed": self.feed, "id": number, "event": text} for number, text in _rows(last, events)]
        )
        return ids

    def read(self, after: int, limit: int) -> list[str]:
        """Up to `limit` events after an id, each a CloudEvent as JSON. Raises `CursorTooOld`."""
        with reading(self.engine) as tx:
            mine = self.heads.c.feed == self.feed
            kept_from: int = tx.execute(select(self.heads.c.kept_from).where(mine)).scalar_one()
            if after < kept_from - 1:
                raise CursorTooOld(self.feed, after, kept_from)
            its = self.events.c
            there = (its.feed == self.feed) & its.id.between(after + 1, after + limit + MOST_IN_ROW)
            rows = tx.execute(select(its.id, its.event).where(there).order_by(its.id)).all()
        if not rows:
            return []
        events = [event for _, text in rows for event in text.split("\n")]
        known = after - (rows[-1].id - len(events))  # the first row may begin with events that the caller has
        return events[known : known + limit]

    def last_id(self) -> int:
        """Id of the newest event, 0 when there is none."""
        with reading(self.engine) as tx:
            last: int = tx.execute(select(self.heads.c.last_id).where(self.heads.c.feed == self.feed)).scalar_one()
            return last

    def trim(self, before: int) -> None:
        """Forget events with an id below `before`; a cursor behind it gets `CursorTooOld` from then on."""
        with self.engine.begin() as tx:
            tx.execute(delete(self.events).where((self.events.c.feed == self.feed) & (self.events.c.id < before)))
            tx.execute(update(self.heads).where(self.heads.c.feed == self.feed).values(kept_from=before))

    def forget_older(self, than: datetime) -> int:
        """Forget events from before an instant, oldest first, up to the first that isn't; answers how many."""
        with reading(self.engine) as tx:
            query = select(self.heads.c.kept_from).where(self.heads.c.feed == self.feed)
            began: int = tx.execute(query).scalar_one()
        first = began
        while texts := self.read(first - 1, FORGET_AT_ONCE):
            times = (datetime.fromisoformat(json.loads(text)["time"]) for text in texts)
            older = sum(1 for _ in takewhile(lambda time: time < than, times))
            if older == 0:
                break
            first += older
            self.trim(first)  # a few at a time: writers wait for each
        return first - began


class FeedUnwritable(TandemError):
    """The feed's database would not take an append; nothing of it is in the feed."""


class FeedWriter:
    """Appends to one feed in transactions of their own, one at a time: for a feed whose every append somebody waits
    for. It speaks to the database driver itself, since SQLAlchemy takes four times as long as the commit.

    `local` says whether the database is a file, to which an append takes microseconds; a lock of others on it is waited
    for up to `patience_s`. Who can't wait so long takes the lock before, with `seize`.
    """

    def __init__(self, store: FeedStore, patience_s: float) -> None:
        dialect = store.engine.dialect
        self.store, self.local, self.patience_ms = store, dialect.name == "sqlite", round(1000 * patience_s)
        self._errors = (dialect.loaded_dbapi.Error, SQLAlchemyError)
        mark = "?" if self.local else "%s"
        self._take = "UPDATE feed_heads SET last_id = last_id + ? WHERE feed = ? RETURNING last_id".replace("?", mark)
        self._add = "INSERT INTO feed_events (feed, id, event) VALUES (?, ?, ?)".replace("?", mark)
        self._connection: PoolProxiedConnection | None = None
        self._waits_ms, self._begun = -1, False

    def seize(self, within_s: float) -> bool:
        """Take a local database's lock for the next append; answers whether it was to be had in time."""
        try:
            self._begin(round(1000 * within_s))
        except self._errors:  # the append meets it, too, and tells
            self._disconnect()
        return self._begun

    def append(self, event_type: str, time: datetime, told: Sequence[tuple[str, str]]) -> None:
        """Append events of one type and city time, each as its subject and its data in JSON, and commit. Raises
        `FeedUnwritable`; the next append may go well again."""
        feed = self.store.feed
        try:
            encoded = _tails(feed, event_type, time, told)
            connection = self._begin(self.patience_ms)
            cursor = connection.cursor()
            cursor.execute(self._take, (len(encoded), feed))
            [last] = cursor.fetchall()
            first = last[0] - len(encoded) + 1
            events = [f"{START}{number}{rest}" for number, rest in enumerate(encoded, first)]
            cursor.executemany(self._add, [(feed, *row) for row in _rows(last[0], events)])
            connection.commit()
            self._begun = False
        except Exception as error:
            self._disconnect()
            if not isinstance(error, self._errors):
                raise
            raise FeedUnwritable(f"feed {feed} cannot be written ({type(error).__name__}: {error})") from error

    def _begin(self, patience_ms: int) -> PoolProxiedConnection:
        """A connection whose transaction has begun."""
        connection = self._connection or self.store.engine.raw_connection()
        self._connection = connection
        if self.local and not self._begun:
            cursor = connection.cursor()
            if patience_ms != self._waits_ms:
                cursor.execute(f"PRAGMA busy_timeout={patience_ms}")
                self._waits_ms = patience_ms
            cursor.execute("BEGIN IMMEDIATE")  # a lock asked for in mid-transaction can fail without waiting
        self._begun = True
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._waits_ms, self._begun = -1, False
        if connection is not None:
            with suppress(*self._errors):
                connection.rollback()  # first, else its lock lasts as long as anything knows of its cursor
            connection.invalidate()


def _rows(last: int, events: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Events up to the id `last` as the table holds them."""
    for start in range(0, len(events), MOST_IN_ROW):
        several = events[start : start + MOST_IN_ROW]
        yield last - len(events) + start + len(several), "\n".join(several)


def _tails(feed: str, event_type: str, time: datetime, told: Sequence[tuple[str, str]]) -> list[str]:
    """The JSON of events after their ids; before them it is `START`."""
    same = f'","source":"/tandem/{feed}","type":"{event_type}","time":"{time.isoformat()}","subject":'
    return [f'{same}{quoted(subject)},"datacontenttype":"application/json","data":{data}}}' for subject, data in told]

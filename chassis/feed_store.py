"""A feed's storage: append in a transaction, read in order of id.

An append first locks the feed until its transaction ends, then takes the ids behind the newest one: ids become visible
in order and without gaps, on SQLite and Postgres alike, so a cursor can't pass an id that commits later. Events that
are appended together share rows: a row costs the database more than the events in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from json.encoder import encode_basestring_ascii as quoted  # what `json.dumps` does of a string, in a tenth of its time
from typing import Any

from chassis.sql import Database, Transaction, create, marked, reading
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


class FeedTable:
    """A feed's events in its owner's database, and the row of `feed_heads` that is the lock of who appends.

    Ids follow the newest event's, or where none is left what `kept_from` says.
    """

    def __init__(self, database: Database[Any], feed: FeedName) -> None:
        self._feed, self._locked = (feed,), database.name == "sqlite"  # where a writer has the lock from its begin
        self._lock = marked(database, "SELECT feed FROM feed_heads WHERE feed = ? FOR UPDATE")
        self._newest = marked(
            database,
            f"SELECT coalesce((SELECT max(id) FROM feed_{feed}), kept_from - 1) FROM feed_heads WHERE feed = ?",  # noqa: S608
        )
        self._add = marked(database, f"INSERT INTO feed_{feed} (id, event) VALUES (?, ?)")  # noqa: S608 a feed's name

    def newest(self, tx: Transaction) -> int:
        """Id of the newest event, 0 when there is none."""
        [[last]] = tx.exec_driver_sql(self._newest, self._feed).fetchall()
        return int(last)

    def lock(self, tx: Transaction) -> int:
        """Keep everybody else from appending until the transaction ends; answers the newest event's id."""
        if not self._locked:
            tx.exec_driver_sql(self._lock, self._feed).fetchall()
        return self.newest(tx)

    def add(self, tx: Transaction, last: int, events: Sequence[str]) -> None:
        """Write down events up to the id `last`, locked before."""
        for start in range(0, len(events), MOST_IN_ROW):
            several = events[start : start + MOST_IN_ROW]
            tx.exec_driver_sql(self._add, (last - len(events) + start + len(several), "\n".join(several)))


class FeedStore:
    """One feed in its owner's database, whose tables it makes where they are missing."""

    def __init__(self, database: Database[Any], feed: FeedName) -> None:
        create(
            database,
            "CREATE TABLE IF NOT EXISTS feed_heads (feed VARCHAR(40) PRIMARY KEY, kept_from BIGINT NOT NULL)",
            # To SQLite an `INTEGER PRIMARY KEY`, in these words, is the row's own number, and needs no index beside it.
            f"CREATE TABLE IF NOT EXISTS feed_{feed} "
            f"(id {'INTEGER' if database.name == 'sqlite' else 'BIGINT'} PRIMARY KEY, event TEXT NOT NULL)",
            f"INSERT INTO feed_heads (feed, kept_from) VALUES ('{feed}', 1) ON CONFLICT DO NOTHING",  # noqa: S608 its name
        )
        self.database, self.feed, self.table = database, feed, FeedTable(database, feed)
        self._read = marked(
            database,
            f"SELECT kept_from, id, event FROM feed_heads LEFT JOIN feed_{feed} ON id BETWEEN ? AND ? "  # noqa: S608
            "WHERE feed = ? ORDER BY id",
        )
        self._forget = marked(database, f"DELETE FROM feed_{feed} WHERE id < ?")  # noqa: S608
        self._kept = marked(database, "SELECT kept_from FROM feed_heads WHERE feed = ?")
        self._keep = marked(database, "UPDATE feed_heads SET kept_from = ? WHERE feed = ? AND kept_from < ?")

    def append(self, tx: Transaction, drafts: Sequence[Draft]) -> list[int]:
        """Append events inside the caller's transaction, so that they commit with what they tell of. Answers ids."""
        return self.append_encoded(
            tx,
            [
                (START, tails(self.feed, it.type, it.time, [(it.subject, it.data.model_dump_json())])[0])
                for it in drafts
            ],
        )

    def append_encoded(self, tx: Transaction, heads_and_tails: Sequence[tuple[str, str]]) -> list[int]:
        """Append events already encoded as the JSON before and after their id (bulk imports)."""
        if not heads_and_tails:
            return []
        first = self.table.lock(tx) + 1
        events = [f"{head}{number}{tail}" for number, (head, tail) in enumerate(heads_and_tails, first)]
        self.table.add(tx, first + len(events) - 1, events)
        return list(range(first, first + len(events)))

    def read(self, after: int, limit: int) -> list[str]:
        """Up to `limit` events after an id, each a CloudEvent as JSON. Raises `CursorTooOld`."""
        with reading(self.database) as tx:  # one statement: another could see that events were forgotten meanwhile
            rows = tx.exec_driver_sql(self._read, (after + 1, after + limit + MOST_IN_ROW, self.feed)).fetchall()
        [kept_from, last, _] = rows[-1]
        if after < kept_from - 1:
            raise CursorTooOld(self.feed, after, kept_from)
        if last is None:
            return []
        events = [event for _, _, text in rows for event in text.split("\n")]
        known = after - (last - len(events))  # the first row may begin with events that the caller has
        return events[known : known + limit]

    def lock(self, tx: Transaction) -> int:
        """Keep everybody else from appending until the caller's transaction ends; answers the newest event's id."""
        return self.table.lock(tx)

    def last_id(self) -> int:
        """Id of the newest event, 0 when there is none."""
        with reading(self.database) as tx:
            return self.table.newest(tx)

    def trim(self, before: int) -> None:
        """Forget events with an id below `before`; a cursor behind it gets `CursorTooOld` from then on."""
        with self.database.begin() as tx:
            tx.exec_driver_sql(self._forget, (before,))
            tx.exec_driver_sql(self._keep, (before, self.feed, before))  # another may have forgotten more by now

    def forget_older(self, than: datetime) -> int:
        """Forget events from before an instant, oldest first, up to the first that isn't; answers how many. Raises
        `CursorTooOld` where others forget faster."""
        with reading(self.database) as tx:
            [[began]] = tx.exec_driver_sql(self._kept, (self.feed,)).fetchall()
        first = int(began)
        while texts := self.read(first - 1, FORGET_AT_ONCE):
            times = (datetime.fromisoformat(json.loads(text)["time"]) for text in texts)
            older = sum(1 for _ in takewhile(lambda time: time < than, times))
            if older == 0:
                break
            first += older
            self.trim(first)  # a few at a time: writers wait for each
        return first - int(began)


def tails(feed: str, event_type: str, time: datetime, told: Sequence[tuple[str, str]]) -> list[str]:
    """The JSON of events after their ids; before them it is `START`."""
    same = f'","source":"/tandem/{feed}","type":"{event_type}","time":"{time.isoformat()}","subject":'
    return [f'{same}{quoted(subject)},"datacontenttype":"application/json","data":{data}}}' for subject, data in told]

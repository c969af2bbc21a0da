"""Following a feed: poll it over HTTP, handle events and save the cursor in one transaction."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from http.client import HTTPException
from urllib.parse import urlencode
from urllib.request import urlopen

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import BigInteger, Column, Connection, Engine, MetaData, String, Table, insert, select, update
from sqlalchemy.exc import OperationalError

from chassis.readers import understood
from contracts.feeds import MOST_EVENTS, Event, FeedName
from contracts.problems import TandemError

SILENT_S = 40.0  # for so long a feed may say nothing before it counts as away: more than it may wait for news
log = logging.getLogger(__name__)
EVENTS = TypeAdapter(list[Event])
Handler = Callable[[Connection, Sequence[Event]], None]


class FeedAway(TandemError):
    """A feed could not be reached, refused, was cut off or answered what is no feed."""


def cursor_table(metadata: MetaData) -> Table:
    """Add the table of cursors to a consumer's own metadata: one row per followed feed."""
    return Table(
        "cursors",
        metadata,
        Column("feed", String(40), primary_key=True),
        Column("last_id", BigInteger, nullable=False),
    )


class Follower:
    """Follows one feed. Delivery is at least once: a handler must bear seeing an event again.

    `handle` gets events in order inside the transaction that also saves the cursor, so an effect in the consumer's
    database and the cursor commit together. `last_answer` is the wall time (`time.time()`) of the feed's last answer.
    What a newer contract added, event types and fields, never reaches `handle` (docs/decisions/0007).
    """

    def __init__(
        self, base_url: str, feed: FeedName, engine: Engine, cursors: Table, handle: Handler, limit: int = MOST_EVENTS
    ) -> None:
        self.url, self.feed, self.engine, self.cursors = f"{base_url}/feeds/{feed}", feed, engine, cursors
        self.handle, self.limit = handle, limit
        self.timeout_s = SILENT_S
        # Certificates are loaded once, which takes 50 ms and a megabyte, and only where they are needed.
        self._trusted = ssl.create_default_context() if base_url.startswith("https:") else None
        self.last_answer = time.time()
        self.caught_up = False

    def step(self, wait_s: float = 0) -> int:
        """Fetch and handle one batch; answers how many events it held. Raises `FeedAway`."""
        with self.engine.begin() as tx:
            after = tx.execute(select(self.cursors.c.last_id).where(self.cursors.c.feed == self.feed)).scalar()
        events = self._fetch({"lastEventId": after or 0, "limit": self.limit, "timeout": wait_s})
        self.last_answer = time.time()
        self.caught_up = len(events) < self.limit
        known = [event for event in map(understood, events) if event is not None]
        if known:
            self.commit(known)
        if events and (not known or known[-1].id != events[-1].id):  # else the next poll would get these again, at once
            with self.engine.begin() as tx:
                self.save(tx, int(events[-1].id))
        return len(events)

    def _fetch(self, query: dict[str, float]) -> list[Event]:
        try:
            question = f"{self.url}?{urlencode(query)}"
            with urlopen(question, timeout=self.timeout_s, context=self._trusted) as answer:  # noqa: S310 our own setting
                return EVENTS.validate_json(answer.read())
        except (OSError, HTTPException, ValidationError) as error:  # among OSError: every status that is no success
            raise FeedAway(f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]) from error

    def commit(self, events: Sequence[Event]) -> None:
        """Handle events and save the cursor in one transaction. Override to work before or after it: what takes long
        must not hold its lock, and what shall only happen once it has committed can't be in it."""
        with self.engine.begin() as tx:
            self.handle(tx, events)
            self.save(tx, int(events[-1].id))

    def drain(self) -> int:
        """Handle everything the feed has now; answers how many events that were."""
        total = 0
        while True:
            total += self.step()
            if self.caught_up:
                return total

    def follow(self, stop: threading.Event, wait_s: float = 5) -> None:
        """Follow until `stop` is set. A feed or database that is away is tried again, a little later each time, up to
        5 s."""
        pause = 0.1
        while not stop.is_set():
            try:
                self.step(wait_s)
                pause = 0.1
            except (FeedAway, OperationalError) as error:
                what = "our database" if isinstance(error, OperationalError) else f"feed {self.feed}"
                log.warning("%s is away (%s); trying again in %.1f s", what, error, pause)
                stop.wait(pause)
                pause = min(pause * 2, 5.0)

    def save(self, tx: Connection, last_id: int) -> None:
        """Save the cursor in the caller's transaction."""
        mine = self.cursors.c.feed == self.feed
        if tx.execute(update(self.cursors).where(mine).values(last_id=last_id)).rowcount == 0:
            tx.execute(insert(self.cursors).values(feed=self.feed, last_id=last_id))

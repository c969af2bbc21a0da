"""Following a feed: poll it over HTTP, handle events and save the cursor in one transaction."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from http.client import HTTPException
from typing import Generic, TypeVar
from urllib.parse import urlencode
from urllib.request import urlopen

from pydantic import TypeAdapter, ValidationError

from chassis.readers import understood
from chassis.sql import Database, DatabaseAway, Transaction, create, marked, reading
from contracts.feeds import MOST_EVENTS, Event, FeedName
from contracts.problems import TandemError

SILENT_S = 40.0  # for so long a feed may say nothing before it counts as away: more than it may wait for news
log = logging.getLogger(__name__)
EVENTS = TypeAdapter(list[Event])
T = TypeVar("T", bound=Transaction)


class FeedAway(TandemError):
    """A feed could not be reached, refused, was cut off or answered what is no feed."""


class Follower(Generic[T]):
    """Follows one feed, with the cursor in the consumer's own database.

    Delivery is at least once: a handler must bear seeing an event again.

    `handle` gets events in order inside the transaction that also saves the cursor, so an effect in the consumer's
    database and the cursor commit together. `last_answer` is the wall time (`time.time()`) of the feed's last answer.
    What a newer contract added, event types and fields, never reaches `handle` (docs/decisions/0007).
    """

    def __init__(
        self,
        base_url: str,
        feed: FeedName,
        database: Database[T],
        handle: Callable[[T, Sequence[Event]], None],
        limit: int = MOST_EVENTS,
    ) -> None:
        self.url, self.feed, self.database = f"{base_url}/feeds/{feed}", feed, database
        self.handle, self.limit = handle, limit
        create(database, "CREATE TABLE IF NOT EXISTS cursors (feed VARCHAR(40) PRIMARY KEY, last_id BIGINT NOT NULL)")
        self._cursor = marked(database, "SELECT last_id FROM cursors WHERE feed = ?")
        self._save = marked(
            database,
            "INSERT INTO cursors (feed, last_id) VALUES (?, ?) "
            "ON CONFLICT (feed) DO UPDATE SET last_id = excluded.last_id",
        )
        self.timeout_s = SILENT_S
        # Certificates are loaded once, which takes 50 ms and a megabyte, and only where they are needed.
        self._trusted = ssl.create_default_context() if base_url.startswith("https:") else None
        self.last_answer = time.time()
        self.caught_up = False

    def step(self, wait_s: float = 0) -> int:
        """Fetch and handle one batch; answers how many events it held. Raises `FeedAway`."""
        with reading(self.database) as tx:
            known = tx.exec_driver_sql(self._cursor, (self.feed,)).fetchall()
        after = known[0][0] if known else 0
        events = self._fetch({"lastEventId": after, "limit": self.limit, "timeout": wait_s})
        self.last_answer = time.time()
        self.caught_up = len(events) < self.limit
        news = [event for event in map(understood, events) if event is not None]
        if news:
            self.commit(news)
        if events and (not news or news[-1].id != events[-1].id):  # else the next poll would get these again, at once
            with self.database.begin() as tx:
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
        with self.database.begin() as tx:
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
            except (FeedAway, DatabaseAway) as error:
                what = "our database" if isinstance(error, DatabaseAway) else f"feed {self.feed}"
                log.warning("%s is away (%s); trying again in %.1f s", what, error, pause)
                stop.wait(pause)
                pause = min(pause * 2, 5.0)

    def save(self, tx: T, last_id: int) -> None:
        """Save the cursor in the caller's transaction."""
        tx.exec_driver_sql(self._save, (self.feed, last_id))

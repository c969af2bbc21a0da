"""The estimates feed's one writer: it commits whatever waits in one transaction, and who waits learns of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event as Flag

from sqlalchemy.exc import SQLAlchemyError

from chassis.feed_store import Draft, FeedStore
from contracts.problems import TandemError

log = logging.getLogger(__name__)
LOOK_AT_STOP_S = 0.2


class NotRecorded(TandemError):
    """An answer could not be written to the estimates feed, and so must not be sent."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The events of one request, and who waits for their commit."""

    drafts: Sequence[Draft]
    loop: asyncio.AbstractEventLoop
    committed: asyncio.Future[None]

    def settle(self, error: NotRecorded | None) -> None:
        """Tell the waiting request, from the writer's thread."""
        self.loop.call_soon_threadsafe(self._settle, error)

    def _settle(self, error: NotRecorded | None) -> None:
        if self.committed.done():  # the caller has gone
            return
        if error is None:
            self.committed.set_result(None)
        else:
            self.committed.set_exception(error)


class Journal:
    """Group commit: under load many requests share one transaction, alone a request waits for nobody."""

    def __init__(self, store: FeedStore) -> None:
        self.store = store
        self.queue: SimpleQueue[Entry] = SimpleQueue()

    async def write(self, drafts: Sequence[Draft]) -> None:
        """Return once the events are committed. Raises `NotRecorded`."""
        loop = asyncio.get_running_loop()
        entry = Entry(drafts, loop, loop.create_future())
        self.queue.put(entry)
        await entry.committed

    def run(self, stop: Flag) -> None:
        """The writer's thread: commit until told to stop and nothing waits."""
        while not (stop.is_set() and self.queue.empty()):
            try:
                entries = [self.queue.get(timeout=LOOK_AT_STOP_S)]
            except Empty:
                continue
            while not self.queue.empty():  # nobody else takes from it
                entries.append(self.queue.get())
            error = self._commit(entries)
            for entry in entries:
                entry.settle(error)

    def _commit(self, entries: Sequence[Entry]) -> NotRecorded | None:
        try:
            with self.store.engine.begin() as tx:
                self.store.append(tx, [draft for entry in entries for draft in entry.drafts])
        except SQLAlchemyError as error:
            log.exception("estimates of %d requests could not be recorded; their callers get a 503", len(entries))
            return NotRecorded(f"the estimates feed cannot be written ({type(error).__name__}): see serving's log")
        return None

"""The estimates feed's one writer: it commits whatever waits in one transaction, and who waits learns of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Event as Flag

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from chassis.feed_store import Draft, FeedStore
from chassis.problems import ProblemError

log = logging.getLogger(__name__)
LOOK_AT_STOP_S = 0.2


class Journal:
    """Group commit: under load many requests share one transaction, alone a request waits for nobody."""

    def __init__(self, store: FeedStore) -> None:
        self.store = store
        self.queue: SimpleQueue[tuple[Sequence[Draft], Future[None]]] = SimpleQueue()

    async def write(self, drafts: Sequence[Draft]) -> None:
        """Return once the events are committed; what could not be recorded must not be answered."""
        committed: Future[None] = Future()
        self.queue.put((drafts, committed))
        await asyncio.wrap_future(committed)

    def run(self, stop: Flag) -> None:
        """The writer's thread: commit until told to stop and nothing waits."""
        with self.store.engine.connect() as connection:  # kept: taking one from the pool costs as much as a commit
            while not (stop.is_set() and self.queue.empty()):
                try:
                    waiting = [self.queue.get(timeout=LOOK_AT_STOP_S)]
                except Empty:
                    continue
                while not self.queue.empty():  # nobody else takes from it
                    waiting.append(self.queue.get())
                error = self._commit(connection, [draft for drafts, _ in waiting for draft in drafts])
                for _, committed in waiting:
                    if not committed.set_running_or_notify_cancel():
                        continue  # its caller has gone
                    if error is None:
                        committed.set_result(None)
                    else:
                        committed.set_exception(error)

    def _commit(self, connection: Connection, drafts: Sequence[Draft]) -> ProblemError | None:
        try:
            with connection.begin():
                self.store.append(connection, drafts)
        except SQLAlchemyError as error:
            log.exception("%d estimates could not be recorded; their callers get a 503", len(drafts))
            detail = f"the estimates feed cannot be written ({type(error).__name__}): see serving's log"
            return ProblemError(503, "not-recorded", detail, retry_after_s=5)
        return None

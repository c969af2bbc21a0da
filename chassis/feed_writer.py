"""Appends to a feed whose every append somebody waits for."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from datetime import datetime

from chassis.drivers import DriverDatabase, DriverTransaction, is_locked
from chassis.feed_store import START, FeedTable, tails
from contracts.feeds import FeedName
from contracts.problems import TandemError

LOOK_S = 0.0002  # SQLite itself would look again after a millisecond, then two, then five


class FeedUnwritable(TandemError):
    """The feed's database would not take an append; nothing of it is in the feed."""


class FeedWriter:
    """Appends to one feed, which a `FeedStore` has made, in transactions of their own, one at a time.

    A local database takes an append in microseconds; a lock of others on it is waited for up to `patience_s`. Who can't
    wait so long takes the lock before, with `seize`.
    """

    def __init__(self, database: DriverDatabase, feed: FeedName, patience_s: float) -> None:
        self.database, self.feed, self.patience_s = database, feed, patience_s
        self.local, self._table = database.local, FeedTable(database, feed)
        self._tx: DriverTransaction | None = None
        self._begun = False

    def seize(self, within_s: float) -> bool:
        """Take a local database's lock for the next append; answers whether it was to be had in time."""
        try:
            self._begin(within_s)
        except self.database.errors:  # the append meets it, too, and tells
            self._disconnect()
        return self._begun

    def append(self, event_type: str, at: datetime, told: Sequence[tuple[str, str]]) -> None:
        """Append events of one type and city time, each as its subject and its data in JSON, and commit. Raises
        `FeedUnwritable`; the next append may go well again."""
        try:
            rest = tails(self.feed, event_type, at, told)
            tx = self._begin(self.patience_s)
            last = self._table.lock(tx)
            events = [f"{START}{number}{tail}" for number, tail in enumerate(rest, last + 1)]
            self._table.add(tx, last + len(events), events)
            tx.connection.commit()
            self._begun = False
        except Exception as error:
            self._disconnect()
            if not isinstance(error, self.database.errors):
                raise
            raise FeedUnwritable(f"feed {self.feed} cannot be written ({type(error).__name__}: {error})") from error

    def _begin(self, patience_s: float) -> DriverTransaction:
        """A transaction that has begun, on a connection that is kept."""
        if self._tx is None:
            self._tx = DriverTransaction(self.database.connect(waits_s=0))
        until = time.monotonic() + patience_s
        while not self._begun:
            try:
                self._tx.exec_driver_sql(self.database.writes)
                self._begun = True
            except sqlite3.OperationalError as error:
                if not is_locked(error) or time.monotonic() > until:
                    raise
                time.sleep(LOOK_S)
        return self._tx

    def _disconnect(self) -> None:
        tx, self._tx, self._begun = self._tx, None, False
        if tx is not None:
            self.database.drop(tx.connection)

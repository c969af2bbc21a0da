"""A database through its driver alone, for a service that must be small and quick: SQLAlchemy takes 12 MB of memory, 28
on disk and several times as long as a commit (docs/decisions/0011). Who has tables to query wants `chassis.databases`.

What survives on SQLite (WAL, synchronous=NORMAL): a commit is in the operating system's hands before it returns, so a
killed process, or all of them, loses none. A power cut or a crash of the operating system loses those since the last
checkpoint, which is what syncs the log to disk: the newest ones, up to one commit and none before it, and never leaves
the database corrupt. A checkpoint comes each second, where `checkpoint` runs. On Postgres a commit survives either, as
its `synchronous_commit` says.
"""

from __future__ import annotations

import fcntl
import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from copy import copy
from importlib import import_module
from pathlib import Path
from threading import Event as Flag
from typing import Any
from urllib.parse import urlsplit

from chassis.sql import DatabaseAway, NoPostgresDriver

log = logging.getLogger(__name__)
CHECKPOINT_EVERY_S = 1.0
CACHE_KIB = 256  # of a file that is written at its end and seldom read: more makes no commit faster, and fills up
LONGEST_LOG_PAGES = 16_384  # of 4 KiB: 64 MiB
READS, WRITES = "BEGIN", "BEGIN IMMEDIATE"  # SQLite's lock, asked for in mid-transaction, can fail without waiting
MOST_KEPT = 5  # connections that rest
HOLDS_MS = 50  # for how long a checkpoint that holds off writers waits for readers
PRAGMAS = ("synchronous=NORMAL", f"cache_size=-{CACHE_KIB}", "wal_autocheckpoint=0")
WAITS_S, LOOK_S = 10.0, 0.002  # for a lock of others


class DriverTransaction:
    """A connection in a transaction, as `chassis.sql.Transaction`."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def exec_driver_sql(self, statement: str, parameters: tuple[Any, ...] = (), /) -> Any:
        """Run one statement; answers its cursor."""
        return self.connection.execute(statement, parameters)


class DriverDatabase:
    """A `chassis.sql.Database` by URL. It keeps connections, for the next transaction of whichever thread.

    No commit on SQLite waits for a checkpoint's writes and syncs, some 20 ms with every thousandth page: `checkpoint`
    must run beside it. A write waits up to 10 s for another writer. Raises `NoPostgresDriver`.
    """

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        self.local = scheme == "sqlite"
        self.name = "sqlite" if self.local else "postgresql"
        self.path, self._url = Path(rest[1:]), f"postgresql://{rest}"
        self._driver: Any = sqlite3
        if self.local:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        else:
            try:
                self._driver = import_module("psycopg")
            except ImportError as error:
                there = urlsplit(self._url)  # whose password is not told
                raise NoPostgresDriver(f"postgresql://{there.hostname}{there.path}") from error
        self.errors: type[Exception] = self._driver.Error
        self.writes = self._begin = WRITES if self.local else READS  # how a transaction that writes begins
        self._kept: list[Any] = []

    def connect(self, waits_s: float = WAITS_S) -> Any:
        """A connection of the caller's own, on which nothing begins by itself; on SQLite one that waits so long for a
        lock."""
        if not self.local:
            return self._driver.connect(self._url, autocommit=True)
        connection = sqlite3.connect(self.path, timeout=waits_s, isolation_level=None, check_same_thread=False)
        keep_log(connection)
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def drop(self, connection: Any) -> None:
        """Undo what a connection has begun, and close it."""
        with suppress(self.errors):
            connection.rollback()  # first, else its lock lasts as long as anything knows of its cursor
        connection.close()

    @contextmanager
    def begin(self) -> Iterator[DriverTransaction]:
        """As `Database`."""
        connection = None
        try:
            connection = self._begun()
            yield DriverTransaction(connection)
            connection.commit()
        except BaseException as error:
            if connection is not None:
                self.drop(connection)
            if isinstance(error, self._driver.OperationalError):
                raise DatabaseAway(f"{type(error).__name__}: {error}") from error
            raise
        if len(self._kept) < MOST_KEPT:
            self._kept.append(connection)
        else:
            connection.close()

    def execution_options(self, *, reads_only: bool) -> DriverDatabase:
        """As `Database`; both share their connections."""
        other = copy(self)
        other._begin = READS if reads_only else self._begin
        return other

    def _begun(self) -> Any:
        """A connection whose transaction has begun. A kept one that the other end has closed meanwhile is forgotten."""
        while True:
            try:
                connection, kept = self._kept.pop(), True
            except IndexError:
                connection, kept = self.connect(), False
            try:
                connection.execute(self._begin)
            except self.errors:
                self.drop(connection)
                if self.local or not kept:
                    raise
            else:
                return connection


def keep_log(connection: sqlite3.Connection) -> None:
    """Switch SQLite to its log (WAL). Of several that open a new file at once one does it, and SQLite lets the others
    fail without waiting."""
    until = time.monotonic() + WAITS_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if not is_locked(error) or time.monotonic() > until:
                raise
            time.sleep(LOOK_S)
        else:
            return


def is_locked(error: sqlite3.OperationalError) -> bool:
    """Whether SQLite only has to wait for others."""
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def checkpoint(database: DriverDatabase, stop: Flag) -> None:
    """Background work: move what is committed from SQLite's log into the database, each second until told to stop.

    Writers go on meanwhile, and while they never rest the log only grows: it starts anew with the first commit that
    finds all of it moved. Past `LONGEST_LOG_PAGES` they are therefore held off for one checkpoint.

    Of the processes that share a database one does this, and only when something was committed. Before 3.51.3 SQLite
    corrupts a database if a checkpoint begins when all is moved already and a commit starts the log anew in that very
    moment (https://sqlite.org/wal.html#walresetbug). There is nothing to do on other databases.
    """
    if not database.local:
        return
    moved: int | None = None  # what `data_version` told before a checkpoint after which nothing was left to move
    with Path(f"{database.path}-checkpoints").open("w") as turn, closing(database.connect()) as connection:
        connection.execute(f"PRAGMA busy_timeout={HOLDS_MS}")
        while not stop.wait(CHECKPOINT_EVERY_S):
            with suppress(BlockingIOError):
                fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
                try:
                    moved = _move(connection, moved)
                except sqlite3.OperationalError as error:  # a full disk, say: the log may still take commits
                    log.warning("%s: no checkpoint now, another in %g s: %s", database.path, CHECKPOINT_EVERY_S, error)
                    moved = None


def _move(connection: sqlite3.Connection, moved: int | None) -> int | None:
    """One checkpoint, if anything was committed since `moved`; answers `moved` anew."""
    [version] = connection.execute("PRAGMA data_version").fetchone()
    if version == moved:
        return moved
    _, pages, done = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if pages > LONGEST_LOG_PAGES:
        _, pages, done = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    return version if pages == done else None

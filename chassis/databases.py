"""One database per team, opened by URL: SQLite in WAL mode by default, Postgres when the URL says so.

What survives on SQLite (WAL, synchronous=NORMAL): a commit is in the operating system's hands before it returns, so a
killed process, or all of them, loses none. A power cut or a crash of the operating system loses those since the last
checkpoint, which is what syncs the log to disk: the newest ones, up to one commit and none before it, and never leaves
the database corrupt. A checkpoint comes with every thousandth page, however long that takes to gather, or each second
where `checkpoint` runs. On Postgres a commit survives either, as its `synchronous_commit` says.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event as Flag
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, create_engine, event
from sqlalchemy.engine import make_url

from contracts.problems import TandemError

CHECKPOINT_EVERY_S = 1.0
SQLITES_CACHE_KIB = 2_000  # its own default
LONGEST_LOG_PAGES = 16_384  # of 4 KiB: 64 MiB
HOLDS_MS = 50  # for how long a checkpoint that holds off writers waits for readers


class NoPostgresDriver(TandemError):
    """A database's URL names Postgres, and what speaks to it is not installed."""


def open_database(
    url: str, tables: MetaData, *, checkpointed_apart: bool = False, cache_kib: int = SQLITES_CACHE_KIB
) -> Engine:
    """Connect, creating the file's folder and missing tables.

    On SQLite a write waits up to 10 s for another writer. Where it is `checkpointed_apart`, no commit waits for a
    checkpoint's writes and syncs, some 20 ms with every thousandth page; `checkpoint` must run beside it.
    Each connection keeps `cache_kib` of the file in memory. Raises `NoPostgresDriver`.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        try:
            engine = create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
        except ImportError as error:
            raise NoPostgresDriver(f"{parsed!r} is on Postgres: pip install 'tandem-couriers[postgres]'") from error
        tables.create_all(engine)
        return engine
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": 10, "check_same_thread": False})
    event.listen(engine, "connect", _prepare_sqlite)
    if checkpointed_apart:
        event.listen(engine, "connect", _leave_checkpoints)
    event.listen(engine, "connect", partial(_cache, cache_kib))
    event.listen(engine, "begin", _begin_now)
    tables.create_all(engine)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, see _begin_now
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def _cache(kib: int, connection: Any, _record: Any) -> None:
    connection.execute(f"PRAGMA cache_size=-{kib}")  # less than nothing: KiB and not pages


def _leave_checkpoints(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA wal_autocheckpoint=0")


def checkpoint(engine: Engine, stop: Flag) -> None:
    """Background work: move what is committed from SQLite's log into the database, each second until told to stop.

    Writers go on meanwhile, and while they never rest the log only grows: it starts anew with the first commit that
    finds all of it moved. Past `LONGEST_LOG_PAGES` they are therefore held off for one checkpoint.

    Of the processes that share a database one does this, and only when something was committed. Before 3.51.3 SQLite
    corrupts a database if a checkpoint begins when all is moved already and a commit starts the log anew in that very
    moment (https://sqlite.org/wal.html#walresetbug). There is nothing to do on other databases.
    """
    if engine.dialect.name != "sqlite":
        return
    moved: int | None = None  # what `data_version` told before a checkpoint after which nothing was left to move
    with Path(f"{engine.url.database}-checkpoints").open("w") as turn, closing(engine.raw_connection()) as connection:
        connection.detach()  # from the pool, whose connections wait longer
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={HOLDS_MS}")
        while not stop.wait(CHECKPOINT_EVERY_S):
            with suppress(BlockingIOError):
                fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
                moved = _move(cursor, moved)


def _move(cursor: Any, moved: int | None) -> int | None:
    """One checkpoint, if anything was committed since `moved`; answers `moved` anew."""
    [version] = cursor.execute("PRAGMA data_version").fetchone()
    if version == moved:
        return moved
    _, pages, done = cursor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if pages > LONGEST_LOG_PAGES:
        _, pages, done = cursor.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    return version if pages == done else None


def _begin_now(connection: Connection) -> None:
    """A writer takes its lock at once: a lock asked for in mid-transaction can fail without waiting."""
    reads_only = connection.get_execution_options().get("reads_only", False)
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads, and so waits for no writer."""
    with engine.connect().execution_options(reads_only=True) as connection, connection.begin():
        yield connection

"""One database per team, opened by URL: SQLite in WAL mode by default, Postgres when the URL says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, create_engine, event
from sqlalchemy.engine import make_url


def open_database(url: str, tables: MetaData) -> Engine:
    """Connect, creating the file's folder and missing tables.

    On SQLite a write waits up to 10 s for another writer; a committed write survives a killed process, and a power cut
    may lose the last moments (synchronous=NORMAL) but never corrupts.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        engine = create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
        tables.create_all(engine)
        return engine
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": 10, "check_same_thread": False})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_now)
    tables.create_all(engine)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, see _begin_now
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_now(connection: Connection) -> None:
    """A writer takes its lock at once: a lock asked for in mid-transaction can fail without waiting."""
    reads_only = connection.get_execution_options().get("reads_only", False)
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads, and so waits for no writer."""
    with engine.connect().execution_options(reads_only=True) as connection, connection.begin():
        yield connection

"""One database per team, opened by URL, for teams with tables of their own: SQLite in WAL mode by default, Postgres
when the URL says so.

What survives on SQLite is told in `chassis.drivers`; here a checkpoint comes with every thousandth page, however long
that takes to gather.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, create_engine, event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import OperationalError

from chassis.drivers import WAITS_S, keep_log
from chassis.sql import DatabaseAway, NoPostgresDriver


def open_database(url: str, tables: MetaData) -> Engine:
    """Connect, creating the file's folder and missing tables. On SQLite a write waits up to 10 s for another writer.

    Where SQLAlchemy has an `OperationalError` it raises `DatabaseAway`. Raises `NoPostgresDriver`.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, connect_args={"timeout": WAITS_S, "check_same_thread": False})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_now)
    else:
        try:
            engine = create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
        except ImportError as error:
            raise NoPostgresDriver(repr(parsed)) from error
    event.listen(engine, "handle_error", _in_our_words)
    tables.create_all(engine)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, see _begin_now
    keep_log(connection)
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin_now(connection: Connection) -> None:
    """A writer takes its lock at once: a lock asked for in mid-transaction can fail without waiting."""
    reads_only = connection.get_execution_options().get("reads_only", False)
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")


def _in_our_words(context: ExceptionContext) -> DatabaseAway | None:
    error = context.sqlalchemy_exception
    return DatabaseAway(str(error)) if isinstance(error, OperationalError) and not context.is_pre_ping else None

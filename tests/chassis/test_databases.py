"""Opening a database: by SQLAlchemy, and by the driver alone."""

from __future__ import annotations

import sqlite3
import sys
import threading
from contextlib import ExitStack

import psycopg
import pytest
from sqlalchemy import MetaData, text

from chassis import drivers
from chassis.databases import open_database
from chassis.drivers import MOST_KEPT, DriverDatabase
from chassis.sql import DatabaseAway, NoPostgresDriver, create, marked, reading
from tests.chassis.conftest import BOTH_WAYS
from tests.postgres import postgres

BOTH = pytest.mark.parametrize("opened", BOTH_WAYS)
NOTES = "CREATE TABLE IF NOT EXISTS notes (word VARCHAR(40) PRIMARY KEY)"


def note(database, tx, word: str) -> None:
    tx.exec_driver_sql(marked(database, "INSERT INTO notes (word) VALUES (?)"), (word,))


def words(database) -> list[str]:
    with reading(database) as tx:
        return [word for (word,) in tx.exec_driver_sql("SELECT word FROM notes ORDER BY word").fetchall()]


@BOTH
def test_postgres_without_its_driver_says_what_to_install_and_no_password(opened, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as where it is not installed

    with pytest.raises(NoPostgresDriver) as told:
        opened("postgresql://tandem:secret@there/serving")

    assert str(told.value).endswith("there/serving is on Postgres: pip install 'tandem-couriers[postgres]'")
    assert "secret" not in str(told.value)


@BOTH
def test_a_transaction_is_kept_as_a_whole_or_not_at_all(opened, url):
    database = opened(url)
    create(database, NOTES)
    with database.begin() as tx:
        note(database, tx, "kept")
    with pytest.raises(KeyError), database.begin() as tx:
        note(database, tx, "lost")
        raise KeyError
    with pytest.raises(Exception, match=r"(?i)unique"), database.begin() as tx:
        note(database, tx, "lost, too")
        note(database, tx, "kept")
    assert words(database) == words(opened(url)) == ["kept"]


def made_at_once(opened, url: str) -> list[Exception]:
    """What goes wrong when eight open a database and make its tables in the same moment."""
    faults: list[Exception] = []
    start = threading.Barrier(8)

    def make() -> None:
        start.wait()
        try:
            create(opened(url), NOTES)
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return faults


@BOTH
def test_many_that_come_at_once_make_its_tables_once(opened, url):
    assert made_at_once(opened, url) == []
    assert words(opened(url)) == []


@BOTH
def test_nobody_fails_where_many_open_a_new_file_at_once(opened, tmp_path):
    """SQLite lets all but one fail that switch to its log in one moment, which few of these tries hit."""
    assert [made_at_once(opened, f"sqlite:///{tmp_path}/{number}.db") for number in range(40)] == [[]] * 40


@BOTH
def test_who_reads_waits_for_no_writer(opened, tmp_path):
    database = opened(f"sqlite:///{tmp_path}/some.db")
    create(database, NOTES)
    with database.begin() as tx:
        note(database, tx, "not yet")
        assert words(database) == []
    assert words(database) == ["not yet"]


@BOTH
def test_a_file_that_cannot_be_opened_is_away(opened, tmp_path):
    (tmp_path / "some.db").mkdir()
    with pytest.raises(DatabaseAway, match="unable to open"):
        create(opened(f"sqlite:///{tmp_path}/some.db"), NOTES)


@BOTH
def test_a_locked_file_is_away(opened, tmp_path, monkeypatch):
    database = opened(f"sqlite:///{tmp_path}/some.db")
    create(database, NOTES)
    with database.begin() as tx:
        tx.exec_driver_sql("PRAGMA busy_timeout=10")  # on the connection that is used next
    somebody = sqlite3.connect(tmp_path / "some.db", isolation_level=None)
    somebody.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseAway, match="database is locked"), database.begin():
        pass
    somebody.execute("ROLLBACK")
    with database.begin() as tx:
        note(database, tx, "free")
    assert words(database) == ["free"]


@BOTH
@pytest.mark.slow
def test_a_server_that_has_closed_our_connections_is_asked_over_new_ones(opened, tmp_path):
    with postgres(tmp_path) as url:
        database = opened(url)
        create(database, NOTES)
        with reading(database), reading(database):  # two, to be kept
            pass
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        assert words(database) == []
        with pytest.raises(DatabaseAway, match="terminat"), database.begin() as tx:
            with psycopg.connect(url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            note(database, tx, "lost")
        assert words(database) == []
    with pytest.raises(DatabaseAway), reading(database):
        pass


def test_a_url_of_sqlalchemys_is_read_as_it_reads_it(tmp_path):
    for name in ("plain.db", "a b#c.db"):
        theirs, url = tmp_path / name, f"sqlite:///{tmp_path / name}"
        with open_database(url, MetaData()).begin() as tx:
            tx.execute(text("CREATE TABLE theirs (number INTEGER)"))
        with reading(DriverDatabase(url)) as tx:
            assert tx.exec_driver_sql("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
        assert theirs.is_file()


def test_few_connections_are_kept(tmp_path):
    database = DriverDatabase(f"sqlite:///{tmp_path}/some.db")
    made = []
    database.connect, connect = lambda: made.append(connect()) or made[-1], database.connect
    with ExitStack() as many:
        for _ in range(2 * MOST_KEPT):
            many.enter_context(reading(database))
    with ExitStack() as many:
        for _ in range(MOST_KEPT):
            many.enter_context(reading(database))
    assert len(made) == 2 * MOST_KEPT
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[0].execute("SELECT 1")


def test_every_connection_to_sqlite_caches_little(tmp_path):
    database = DriverDatabase(f"sqlite:///{tmp_path}/some.db")
    with reading(database) as one, reading(database) as other:
        found = [it.exec_driver_sql("PRAGMA cache_size").fetchall() for it in (one, other)]
    assert found == [[(-drivers.CACHE_KIB,)]] * 2

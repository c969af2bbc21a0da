"""Checkpoints apart from commits: the log stays bounded, whoever writes and reads, and one process alone sees to it."""

from __future__ import annotations

import fcntl
import logging
import resource
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chassis import drivers
from chassis.drivers import DriverDatabase, checkpoint
from chassis.feed_store import FeedStore
from chassis.feed_writer import FeedWriter
from chassis.sql import reading
from tests.servers import eventually

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
PAGE = 4096
AT_COMMITS = 1000  # pages, as SQLite has it where nobody says otherwise
TOLD = [("trip-1", f'{{"said":"{"a" * 880}"}}')]


@contextmanager
def no_larger_than(size: int) -> Iterator[None]:
    """Files that this process writes. Beyond it Linux also sends a signal, which must not end the tests."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.fixture
def store(tmp_path) -> FeedStore:
    store = FeedStore(DriverDatabase(f"sqlite:///{tmp_path}/owner.db"), "estimates")
    with closing(store.database.connect()) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the empty tables
    return store


@contextmanager
def checkpointed(database: DriverDatabase) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=checkpoint, args=(database, stop))
    thread.start()
    yield
    stop.set()
    thread.join()


def log_pages(store: FeedStore) -> float:
    return Path(f"{store.database.path}-wal").stat().st_size / PAGE


def moved(store: FeedStore) -> int | None:
    """How many events are in the database's own file, without the log; None in the middle of a checkpoint."""
    try:
        with closing(sqlite3.connect(f"file:{store.database.path}?immutable=1", uri=True)) as without_log:
            return without_log.execute("SELECT count(*) FROM feed_estimates").fetchone()[0]
    except sqlite3.DatabaseError:
        return None


def append(store: FeedStore, times: int) -> None:
    writer = FeedWriter(store.database, "estimates", patience_s=10)
    for _ in range(times):
        writer.append("estimate.answered", NOON, TOLD)


def test_no_commit_does_a_checkpoint(store):
    append(store, 2500)

    assert log_pages(store) > 2 * AT_COMMITS
    assert moved(store) == 0


def test_a_checkpoint_for_which_there_is_no_room_is_tried_again(store, monkeypatch, caplog):
    monkeypatch.setattr(drivers, "CHECKPOINT_EVERY_S", 0.01)
    append(store, 50)
    with (
        no_larger_than(store.database.path.stat().st_size),
        caplog.at_level(logging.WARNING),
        checkpointed(store.database),
    ):
        eventually(lambda: "no checkpoint now" in caplog.text, "it has been told")
    with checkpointed(store.database):
        eventually(lambda: moved(store) == 50, "the database has it all")


def test_what_is_committed_is_moved_in_a_moment(store, monkeypatch):
    monkeypatch.setattr(drivers, "CHECKPOINT_EVERY_S", 0.01)
    with checkpointed(store.database):
        append(store, 20)
        eventually(lambda: moved(store) == 20, "the database has it all")
        append(store, 1)
        eventually(lambda: moved(store) == 21, "the database has the newest, too")


@pytest.mark.slow
def test_the_log_stays_bounded_while_writers_and_readers_never_rest(store, monkeypatch):
    monkeypatch.setattr(drivers, "CHECKPOINT_EVERY_S", 0.01)
    monkeypatch.setattr(drivers, "LONGEST_LOG_PAGES", 200)
    done, longest, seen = threading.Event(), 0.0, 0

    def poll() -> None:
        nonlocal longest, seen
        while not done.is_set():
            seen += len(store.read(seen, 5000))
            longest = max(longest, log_pages(store))

    reader = threading.Thread(target=poll)
    with checkpointed(store.database):
        reader.start()
        append(store, 6000)
        done.set()
        reader.join()
    seen += len(store.read(seen, 5000))

    assert seen == 6000
    assert longest < 12_000  # of some 23,000 that were written


def test_nothing_committed_is_nothing_to_do(store, monkeypatch):
    """Before 3.51.3 SQLite may corrupt a database when a checkpoint with nothing to move meets a commit."""
    did: list[str] = []
    append(store, 3)
    connection = sqlite3.connect(str(store.database.path), isolation_level=None)
    connection.set_trace_callback(did.append)

    found = drivers._move(connection, None)
    assert drivers._move(connection, found) == found
    assert [text for text in did if "wal_checkpoint" in text] == ["PRAGMA wal_checkpoint(PASSIVE)"]
    append(store, 1)
    assert drivers._move(connection, found) != found


def test_what_a_reader_keeps_in_the_log_is_moved_once_it_is_gone(store, monkeypatch):
    monkeypatch.setattr(drivers, "CHECKPOINT_EVERY_S", 0.01)
    append(store, 1)
    with checkpointed(store.database):
        with reading(store.database) as tx:
            assert tx.exec_driver_sql("SELECT count(*) FROM feed_estimates").fetchall() == [(1,)]
            append(store, 10)
        eventually(lambda: moved(store) == 11, "the rest is moved without another commit")


def test_of_two_processes_one_does_it(store, monkeypatch):
    monkeypatch.setattr(drivers, "CHECKPOINT_EVERY_S", 0.01)
    with Path(f"{store.database.path}-checkpoints").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # as another process would: such locks belong to open files
        with checkpointed(store.database):
            append(store, 1000)
            assert moved(store) == 0
            other.close()  # that process has ended
            eventually(lambda: moved(store) == 1000, "this one has taken over")

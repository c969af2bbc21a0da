"""What serving forgets of its feed, beside another worker that forgets the same, and while the database is away."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partialmethod

import pytest

from chassis.clock import Clock
from chassis.drivers import DriverDatabase
from chassis.feed_store import CursorTooOld, FeedStore
from chassis.feed_writer import FeedWriter
from serving import retention
from tests.servers import eventually
from tests.serving.conftest import LIVE

CLOCK = Clock(time_zone="Europe/Berlin", city_start=LIVE, wall_start=0, speed=1)
KEPT = timedelta(days=90)


@pytest.fixture
def store(tmp_path) -> FeedStore:
    """Holds three old events and, behind them, two new ones."""
    store = FeedStore(DriverDatabase(f"sqlite:///{tmp_path}/serving.db"), "estimates")
    writer, now = FeedWriter(store.database, "estimates", patience_s=1), CLOCK.now()
    for age, subjects in ((KEPT + timedelta(hours=1), "abc"), (KEPT - timedelta(hours=1), "de")):
        for subject in subjects:
            writer.append("estimate.answered", now - age, [(subject, "{}")])
    return store


@contextmanager
def forgetting(store: FeedStore) -> Iterator[threading.Thread]:
    stop = threading.Event()
    thread = threading.Thread(target=retention.forget, args=(store, CLOCK, KEPT, stop))
    thread.start()
    yield thread
    stop.set()
    thread.join(5)


def kept(store: FeedStore) -> list[str]:
    return [json.loads(event)["subject"] for event in store.read(3, 10)]


def forgotten(store: FeedStore) -> bool:
    try:
        store.read(2, 10)
    except CursorTooOld:
        return True
    return False


def test_what_is_old_is_forgotten_and_the_rest_kept(store):
    with forgetting(store):
        eventually(lambda: forgotten(store), "the three old ones are gone")
        assert kept(store) == ["d", "e"]


def test_who_forgets_late_takes_nothing_back(store):
    store.trim(before=6)
    store.trim(before=3)  # another worker, a moment later
    with pytest.raises(CursorTooOld, match="from id 6 on"):
        store.read(4, 10)
    FeedWriter(store.database, "estimates", patience_s=1).append("estimate.answered", CLOCK.now(), [("f", "{}")])
    assert store.last_id() == 6


def test_a_worker_that_forgets_at_the_same_moment_ends_nothing(store, monkeypatch, caplog):
    monkeypatch.setattr(retention, "LOOK_EVERY_S", 0.01)
    reads = store.read

    def read_after_another(after: int, limit: int) -> list[str]:
        if after == 0:
            store.trim(before=3)
        return reads(after, limit)

    monkeypatch.setattr(store, "read", read_after_another)
    with caplog.at_level(logging.WARNING), forgetting(store):
        eventually(lambda: forgotten(store), "the three old ones are gone")
    assert "at the next look" in caplog.text


def test_while_the_database_is_away_nothing_is_forgotten_and_nothing_ends(store, monkeypatch, caplog):
    monkeypatch.setattr(retention, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(DriverDatabase, "connect", partialmethod(DriverDatabase.connect, waits_s=0.02))
    store.database._kept.clear()
    somebody = store.database.connect()
    somebody.execute("BEGIN IMMEDIATE")
    with caplog.at_level(logging.WARNING), forgetting(store):
        eventually(lambda: "database is locked" in caplog.text, "it has said so")
        assert not forgotten(store)
        somebody.execute("ROLLBACK")
        eventually(lambda: forgotten(store), "the three old ones are gone")

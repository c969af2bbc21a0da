"""The feed's database takes nothing for a while: locked by somebody else, or no room."""

from __future__ import annotations

import resource
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from chassis.drivers import CHECKPOINT_EVERY_S
from serving.settings import Settings
from tests.chaos.customers import PROBES_WAIT_S, Probes, asking
from tests.postgres import postgres
from tests.serving.processes import serving_process

pytestmark = pytest.mark.slow
LONGEST_ANSWER_S = Settings.model_fields["serving_longest_answer_s"].default
LOCKED_S = 3.0
FULL_S = 2.5 * CHECKPOINT_EVERY_S
SLACK_S = 0.5  # for a machine that does other work, too


@contextmanager
def locked_sqlite(url: str) -> Iterator[None]:
    """Somebody else writes, for as long as this lasts."""
    somebody = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    somebody.execute("BEGIN IMMEDIATE")
    yield
    somebody.execute("ROLLBACK")


@contextmanager
def locked_postgres(url: str) -> Iterator[None]:
    """Somebody else holds the rows from which the feeds' ids come, for as long as this lasts."""
    with psycopg.connect(url) as somebody:
        somebody.execute("SELECT * FROM feed_heads FOR UPDATE")
        yield


@contextmanager
def sqlite(var: Path) -> Iterator[str]:
    """The URL of a file in a folder."""
    yield f"sqlite:///{var / 'serving.db'}"


@pytest.mark.parametrize(
    ("database", "lock"), [(sqlite, locked_sqlite), (postgres, locked_postgres)], ids=["SQLite", "Postgres"]
)
def test_while_the_database_is_locked_customers_are_told_in_time_and_serving_lives(place, told, database, lock):
    with (
        database(place.var) as url,
        serving_process(place, serving_database_url=url) as serving,
        asking(serving.url) as customers,
    ):
        customers.until_answered()
        with lock(url), Probes(serving.url) as probes:
            time.sleep(LOCKED_S)
        customers.until_answered()
        customers.end()
        fault = f"database locked for {LOCKED_S:g} s, {database.__name__}"
        row = told(fault, customers, serving.service.feed("estimates"), probes)

    assert row.lost == 0
    assert row.saw.keys() <= {"200", "503 too-late", "503 queue-full", "503 not-recorded"}
    assert len(customers.refused()) >= 8
    assert all(int(it.headers["retry-after"]) > 0 for it in customers.refused())
    assert row.slowest_s < LONGEST_ANSWER_S + SLACK_S
    assert probes.slowest_s() < PROBES_WAIT_S
    assert row.longest_pause_s < LOCKED_S + LONGEST_ANSWER_S + SLACK_S
    assert {it.status for it in customers.heard[-30:]} == {"200"}


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="no prlimit: another process's limits can't be set")
@pytest.mark.parametrize("full", ["serving.db-wal", "serving.db"], ids=["the log", "the database"])
def test_a_full_disk_is_told_as_such_and_with_room_again_it_answers_on_without_a_restart(place, told, full):
    with serving_process(place) as serving, asking(serving.url) as customers:
        customers.until_answered()
        no_larger = (place.var / full).stat().st_size
        _, most = resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE, (no_larger, resource.RLIM_INFINITY))
        customers.until(lambda heard: {it.status for it in heard[-50:]} == {"503"} and len(heard) > 50, "it is full")
        time.sleep(FULL_S)
        resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE, (most, most))
        customers.until_answered()
        customers.end()
        row = told(f"no room for {full}, then room again", customers, serving.service.feed("estimates"))
        assert serving.process.poll() is None

    assert row.lost == 0
    assert row.unheard == 0
    assert row.saw.keys() == {"200", "503 not-recorded"}
    assert all(int(it.headers["retry-after"]) > 0 for it in customers.refused())
    assert {it.status for it in customers.heard[-30:]} == {"200"}

"""The feed's database takes nothing for a while: locked by somebody else, or no room."""

from __future__ import annotations

import resource
import sqlite3
import time

import pytest

from serving.settings import Settings
from tests.chaos.customers import PROBES_WAIT_S, Probes, asking
from tests.serving.processes import serving_process

pytestmark = pytest.mark.slow
LONGEST_ANSWER_S = Settings.model_fields["serving_longest_answer_s"].default
LOCKED_S = 3.0
SLACK_S = 0.5  # for a machine that does other work, too


def test_while_the_database_is_locked_customers_are_told_in_time_and_serving_lives(place, told):
    with serving_process(place) as serving, asking(serving.url) as customers:
        customers.until_answered()
        somebody = sqlite3.connect(place.var / "serving.db", isolation_level=None)
        somebody.execute("BEGIN IMMEDIATE")
        with Probes(serving.url) as probes:
            time.sleep(LOCKED_S)
        somebody.execute("ROLLBACK")
        customers.until_answered()
        customers.end()
        row = told("database locked for 3 s", customers, serving.service.feed("estimates"), probes)

    assert row.lost == 0
    assert row.saw.keys() <= {"200", "503 too-late", "503 queue-full", "503 not-recorded"}
    assert len(customers.refused()) > 20
    assert all(int(it.headers["retry-after"]) > 0 for it in customers.refused())
    assert max(it.took_s for it in customers.heard) < LONGEST_ANSWER_S + SLACK_S
    assert row.longest_pause_s < LOCKED_S + 1 + SLACK_S  # however long somebody waits for a lock
    assert {it.status for it in customers.heard[-30:]} == {"200"}
    assert probes.slowest_s() < PROBES_WAIT_S


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="no prlimit: another process's limits can't be set")
def test_a_full_disk_is_told_as_such_and_with_room_again_it_answers_on_without_a_restart(place, told):
    with serving_process(place) as serving, asking(serving.url) as customers:
        customers.until_answered()
        no_larger = (place.var / "serving.db-wal").stat().st_size
        _, most = resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE, (no_larger, resource.RLIM_INFINITY))
        customers.until(lambda heard: {it.status for it in heard[-50:]} == {"503"} and len(heard) > 50, "it is full")
        resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE, (most, most))
        customers.until_answered()
        customers.end()
        row = told("no room for the database, then room again", customers, serving.service.feed("estimates"))
        assert serving.process.poll() is None

    assert row.lost == 0
    assert row.unheard == 0
    assert row.saw.keys() == {"200", "503 not-recorded"}
    assert all(int(it.headers["retry-after"]) > 0 for it in customers.refused())
    assert {it.status for it in customers.heard[-30:]} == {"200"}

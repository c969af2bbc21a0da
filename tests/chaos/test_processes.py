"""Serving is killed, or told to end, in mid-load."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack

import pytest

from tests.chaos.customers import CUT_OFF, UNREACHED, asking
from tests.chassis.balancer import balancing
from tests.servers import eventually
from tests.serving.processes import serving_process

pytestmark = pytest.mark.slow


def test_killed_in_mid_load_it_has_every_answer_in_the_feed_once(place, told):
    with serving_process(place) as doomed, asking(doomed.url) as customers:
        customers.until_answered()
        doomed.kill()
        customers.until(lambda heard: len(heard) > 20, "customers have noticed")
        with serving_process(place, port=doomed.port) as second:
            customers.until_answered()
            customers.end()
            row = told("kill -9, then started again", customers, second.service.feed("estimates"))

    assert row.lost == 0
    assert row.saw.keys() <= {"200", UNREACHED, CUT_OFF}
    assert row.saw[UNREACHED] > 0
    assert row.unheard <= row.saw.get(CUT_OFF, 0)


def test_behind_a_balancer_customers_do_not_notice_that_processes_are_replaced(place, told):
    with ExitStack() as stack:
        old = [stack.enter_context(serving_process(place)) for _ in range(2)]
        balancer = stack.enter_context(balancing([it.url for it in old]))
        customers = stack.enter_context(asking(balancer.url))
        customers.until_answered()
        for ending in old:
            ending.process.send_signal(signal.SIGTERM)
            ending.process.wait(timeout=20)
            customers.until_answered()
            new = stack.enter_context(serving_process(place, port=ending.port))
            eventually(lambda new=new: new.url in balancer.ready, "the balancer has seen it")
            customers.until_answered()
        customers.end()
        row = told("SIGTERM to two processes in turn, behind a balancer", customers, new.service.feed("estimates"))

    assert row.saw.keys() == {"200"}
    assert (row.lost, row.unheard) == (0, 0)


def test_a_worker_that_is_killed_costs_its_own_connections_and_is_replaced(place, told):
    with ExitStack() as stack:
        serving = stack.enter_context(serving_process(place, arguments=("--workers", "2")))
        before = serving.connected(2).keys()
        customers = stack.enter_context(asking(serving.url))
        customers.until_answered()
        os.kill(min(before), signal.SIGKILL)
        customers.until_answered(100)
        after = serving.connected(2).keys()
        customers.end()
        row = told("kill -9 of one of two workers", customers, serving.service.feed("estimates"))

    assert len(after - before) == 1
    assert row.lost == 0
    assert row.saw.keys() <= {"200", CUT_OFF}
    assert row.saw.get(CUT_OFF, 0) <= len(customers.threads)
    assert row.unheard <= row.saw.get(CUT_OFF, 0)

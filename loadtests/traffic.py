"""The demo's people, until told to end:  python -m loadtests.traffic"""

from __future__ import annotations

import signal

import gevent  # type: ignore[import-untyped]
from locust import FastHttpUser  # noqa: F401  # first: it makes sockets cooperative before anything opens one
from locust.env import Environment

from chassis.clock import Clock
from chassis.logs import write_logs
from contracts.problems import plain_words
from loadtests.couriers import Couriers, log
from loadtests.customers import Customers
from loadtests.settings import TrafficSettings

SUMMARY_EVERY_S = 60


def run(settings: TrafficSettings) -> None:
    """Let customers and couriers live until SIGINT or SIGTERM."""
    Customers.settings = Couriers.settings = settings
    Customers.clock = Couriers.clock = Clock.load(settings.clock_file)
    environment = Environment(user_classes=[Customers, Couriers])
    runner = environment.create_local_runner()
    runner.start(user_count=2, spawn_rate=2)
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, runner.quit)
    gevent.spawn(_summaries, environment)
    runner.greenlet.join()


def _summaries(environment: Environment) -> None:
    while True:
        gevent.sleep(SUMMARY_EVERY_S)
        for entry in sorted(environment.stats.entries.values(), key=lambda item: item.name):
            log.info(
                "%s: %d asked, %d failed, median %s ms, p99 %s ms",
                entry.name, entry.num_requests, entry.num_failures, entry.median_response_time,
                entry.get_response_time_percentile(0.99),
            )  # fmt: skip


if __name__ == "__main__":
    with plain_words():
        settings = TrafficSettings()
        write_logs("traffic", settings.log)
        run(settings)

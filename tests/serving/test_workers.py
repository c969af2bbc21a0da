"""Two workers on one socket: one feed, one count, one rollout. tests/chaos kills one of them."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise, starmap
from typing import Any

import pytest

from tests.bundles import a_trip, make_bundle
from tests.servers import eventually
from tests.serving.conftest import Place
from tests.serving.processes import ServingProcess, promoted, serving_process

pytestmark = pytest.mark.slow


@dataclass
class Worker:
    """One of the workers, by a kept-alive connection to it."""

    number: int
    http: http.client.HTTPConnection

    def estimate(self, trip_id: str) -> dict[str, Any]:
        """An estimate."""
        body = json.dumps({"trips": [a_trip(trip_id).model_dump(mode="json")]})
        status, told = self._ask("POST", "/v1/estimates", body)
        assert status == 200, told
        return json.loads(told)["estimates"][0]

    def champion(self) -> str:
        """Who serves, as this worker says."""
        return json.loads(self._ask("GET", "/v1/rollout")[1])["champion"]

    def counted(self) -> float:
        """Requests answered well, as this worker says."""
        told = self._ask("GET", "/metrics")[1]
        lines = (line.rpartition(" ") for line in told.splitlines())
        return next(float(value) for name, _, value in lines if name == 'tandem_estimate_requests_total{code="200"}')

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        self.http.request(method, path, body, {"content-type": "application/json"})
        answer = self.http.getresponse()
        return answer.status, answer.read().decode()


@contextmanager
def two_workers(place: Place) -> Iterator[tuple[ServingProcess, Worker, Worker]]:
    """Serving by two workers whose champion is bundle 1."""
    place.upstream.release(make_bundle(place.bundles, "1"))
    with serving_process(place, arguments=("--workers", "2")) as serving:
        one, other = starmap(Worker, serving.connected(2).items())
        yield serving, one, other


def test_two_workers_write_one_feed_in_order_and_count_together(place):
    with two_workers(place) as (serving, *workers):

        def ask(worker: Worker) -> list[str]:
            return [worker.estimate(f"{worker.number}-{at}")["estimate_id"] for at in range(150)]

        with ThreadPoolExecutor(2) as callers:
            answered = [estimate_id for ids in callers.map(ask, workers) for estimate_id in ids]
        events = serving.service.feed("estimates")

        assert [event["id"] for event in events] == [str(number) for number in range(1, 301)]
        assert sorted(event["data"]["estimate_id"] for event in events) == sorted(answered)
        by = [event["data"]["trip"]["trip_id"].partition("-")[0] for event in events]
        assert sum(before != after for before, after in pairwise(by)) > 10  # they wrote side by side
        assert [worker.counted() for worker in workers] == [300, 300]


def test_whoever_is_told_the_rollout_is_the_same_in_both_workers_within_a_second(place):
    with two_workers(place) as (serving, one, other):
        for version, slope in (("2", 3.0), ("3", 4.0), ("4", 5.0)):
            make_bundle(place.bundles, version, slope)
            promoted(serving.service, version)
            told = time.monotonic()
            eventually(lambda now=version: one.champion() == other.champion() == now, "both serve it", within_s=1)
            assert [it.estimate("t")["bundle_version"] for it in (one, other)] == [version, version]
            assert time.monotonic() - told < 1
        assert len([it for it in serving.service.feed("rollout") if it["type"] == "rollout.changed"]) == 7

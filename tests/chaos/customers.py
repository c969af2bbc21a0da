"""Customers of serving: a small steady load, whoever answers it and however, and what they saw."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from contracts.estimates import EstimatesRequest
from contracts.trips import TripRequest
from tests.bundles import a_trip

PROBES_WAIT_S = 1.0  # for liveness, as Kubernetes does unless told otherwise
GIVES_UP_S = 5.0  # a customer who has heard nothing by then
UNREACHED = "connection refused"
CUT_OFF = "cut off"  # the connection ended before an answer
UNANSWERED = "no answer"
Ask = Callable[[int], list[TripRequest]]  # the trips of a request, by how many came before it


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of one request: when it was sent and when it was over, both `time.monotonic()`, and the status, or
    `UNREACHED`, `CUT_OFF` or `UNANSWERED`."""

    asked: float
    over: float
    status: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None

    @property
    def took_s(self) -> float:
        """How long the customer waited."""
        return self.over - self.asked

    @property
    def estimates(self) -> list[dict[str, Any]]:
        """The estimates of a good answer."""
        return self.body["estimates"] if self.status == "200" else []

    @property
    def outcome(self) -> str:
        """The status, and of a problem its type."""
        problem = self.body.get("type", "").rpartition("/")[2] if self.body else ""
        return f"{self.status} {problem}".rstrip()


class Customers:
    """Each asks on its own kept-alive connection, again and again at constant intervals; one who was kept waiting goes
    on from there."""

    def __init__(self, url: str, ask: Ask, customers: int, each_per_s: float) -> None:
        self.at, self.ask, self.every_s = urlsplit(url), ask, 1 / each_per_s
        self.heard: list[Heard] = []
        self.began = time.monotonic()
        self._stop = threading.Event()
        self._asked = iter(range(10**9))
        self.threads = [
            threading.Thread(target=self._go_on, args=(number * self.every_s / customers,))
            for number in range(customers)
        ]

    def start(self) -> None:
        """Come in, one after the other."""
        for thread in self.threads:
            thread.start()

    def end(self) -> None:
        """Leave, each once the last request is over."""
        self._stop.set()
        for thread in self.threads:
            thread.join()

    def until(self, holds: Callable[[Sequence[Heard]], bool], what: str, within_s: float = 20) -> None:
        """Wait until something holds of what was heard since now."""
        before, patience = len(self.heard), time.monotonic() + within_s
        while not holds(self.heard[before:]):
            assert time.monotonic() < patience, f"waited in vain until {what}; customers saw {dict(self.saw())}"
            time.sleep(0.01)

    def until_answered(self, count: int = 50) -> None:
        """Wait until so many more have estimates."""
        self.until(lambda heard: sum(it.status == "200" for it in heard) >= count, f"{count} more have estimates")

    def saw(self) -> Counter[str]:
        """How often which outcome was seen."""
        return Counter(it.outcome for it in self.heard)

    def answered(self) -> list[str]:
        """The ids of all estimates that somebody got."""
        return [estimate["estimate_id"] for it in self.heard for estimate in it.estimates]

    def longest_pause_s(self) -> float:
        """The longest time in which nobody got an estimate."""
        good = sorted(it.over for it in self.heard if it.status == "200")
        return max(later - earlier for earlier, later in pairwise(good))

    def refused(self) -> list[Heard]:
        """Those who were told that there is no estimate now."""
        return [it for it in self.heard if it.status == "503"]

    def _go_on(self, after_s: float) -> None:
        connection = http.client.HTTPConnection(self.at.hostname or "", self.at.port, timeout=GIVES_UP_S)
        due = time.monotonic() + after_s
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            heard = _asked(connection, self.ask(next(self._asked)))
            self.heard.append(heard)
            due = max(due + self.every_s, heard.over)
        connection.close()


def _asked(connection: http.client.HTTPConnection, trips: list[TripRequest]) -> Heard:
    body = EstimatesRequest(trips=trips).model_dump_json()
    began = time.monotonic()
    try:
        connection.request("POST", "/v1/estimates", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()  # the next request opens another
        why = {ConnectionRefusedError: UNREACHED, TimeoutError: UNANSWERED}.get(type(error), CUT_OFF)
        return Heard(began, time.monotonic(), why)
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return Heard(began, time.monotonic(), str(answer.status), headers, json.loads(text))


def short_trips(number: int) -> list[TripRequest]:
    """One trip, which every bundle of these tests answers well."""
    return [a_trip(f"trip-{number}")]


@contextmanager
def asking(url: str, ask: Ask = short_trips, customers: int = 8, each_per_s: float = 15) -> Iterator[Customers]:
    """Customers who ask while this lasts."""
    crowd = Customers(url, ask, customers, each_per_s)
    crowd.start()
    try:
        yield crowd
    finally:
        crowd.end()


class Probes:
    """An orchestrator that asks again and again whether serving lives, each time on a new connection."""

    def __init__(self, url: str, every_s: float = 0.05) -> None:
        self.at, self.every_s = urlsplit(url), every_s
        self.took_s: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on)

    def slowest_s(self) -> float:
        """How long the slowest answer took; for ever, where one did not come or was none."""
        return max(self.took_s)

    def __enter__(self) -> Probes:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._stop.wait(self.every_s):
            began = time.monotonic()
            connection = http.client.HTTPConnection(self.at.hostname or "", self.at.port, timeout=GIVES_UP_S)
            try:
                connection.request("GET", "/health/live")
                good = connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                good = False
            self.took_s.append(time.monotonic() - began if good else float("inf"))
            connection.close()

"""What customers and couriers have in common: one connection pool, city time, and a way to ask until answered."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

import gevent  # type: ignore[import-untyped]
from locust import FastHttpUser
from locust.contrib.fasthttp import FastResponse
from pydantic import BaseModel

from chassis.clock import Clock
from loadtests.settings import TrafficSettings

log = logging.getLogger(__name__)
LONGEST_PAUSE_S = 5.0


class People(FastHttpUser):
    """All people of one kind. Each acts in a greenlet of its own; together they are one locust user.

    Requests go to full URLs, since they speak with more than one service.
    """

    abstract = True
    fixed_count = 1
    concurrency = 200
    host = "http://127.0.0.1"
    settings: TrafficSettings
    clock: Clock

    def ask(self, method: str, url: str, name: str, body: BaseModel | None = None, **more: Any) -> FastResponse:
        """One request under a name in the statistics. Its status is 0 when nobody answered."""
        data = None if body is None else body.model_dump_json()
        headers = {"Content-Type": "application/json", **more.pop("headers", {})}
        return self.client.request(method, url, name=name, data=data, headers=headers, **more)

    def insist(self, method: str, url: str, name: str, body: BaseModel | None = None, **more: Any) -> FastResponse:
        """Ask until somebody answers: a service that restarts costs time, never a parcel."""
        pause = 0.2
        while True:
            answer = self.ask(method, url, name, body, **more)
            if 0 < answer.status_code < 500 and answer.status_code != 429:
                return answer
            gevent.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def wait_until(self, city: datetime) -> None:
        """Sleep until a city instant; not at all when it has passed."""
        gevent.sleep(max(0.0, self.clock.wall_seconds_until(city)))

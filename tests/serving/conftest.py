"""A place for serving to run in: its own var, and a real feed server that stands for model and monitoring."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from chassis.clock import Clock
from chassis.drivers import DriverDatabase
from chassis.feed_routes import feed_routes
from chassis.feed_store import Draft, FeedStore
from chassis.service import make_app
from chassis.tokens import make_tokens, read_token
from contracts.decisions import Decision, DecisionKind
from contracts.trips import Wire
from serving.main import build
from serving.settings import Settings
from tests.bundles import a_trip, make_bundle, released
from tests.servers import running

LIVE = datetime.fromisoformat("2026-06-01T07:00+02:00")


class Upstream:
    """What model and monitoring publish, served over HTTP from a database of its own."""

    def __init__(self, folder: Path) -> None:
        self.database = DriverDatabase(f"sqlite:///{folder}/upstream.db")
        self.bundles = FeedStore(self.database, "bundles")
        self.decisions = FeedStore(self.database, "decisions")
        self.url = ""

    def app(self):
        app = make_app("upstream", CollectorRegistry(), ready=lambda: None)
        app.include_router(feed_routes(self.bundles, self.decisions))
        return app

    def release(self, folder: Path, **changes: object) -> None:
        told = released(folder).model_copy(update=changes)
        self._publish(self.bundles, "bundle.released", told.version, told)

    def decide(self, kind: DecisionKind, target: str | None, decision_id: str = "d-1") -> None:
        told = Decision(
            decision_id=decision_id,
            kind=kind,
            at=LIVE,
            reasons=["because the test says so"],
            requirement_ids=[],
            rejected=[],
            evidence_digest="0" * 64,
            target=target,
        )
        self._publish(self.decisions, "decision.made", decision_id, told)

    def publish_raw(self, store: FeedStore, event_type: str, subject: str, data: dict[str, object]) -> None:
        """An event as another version of the contract would write it."""
        head = {"source": f"/tandem/{store.feed}", "type": event_type, "time": LIVE.isoformat(), "subject": subject}
        with self.database.begin() as tx:
            store.append_encoded(
                tx, [('{"specversion":"1.0","id":"', f'",{json.dumps(head)[1:-1]},"data":{json.dumps(data)}}}')]
            )

    def _publish(self, store: FeedStore, event_type: str, subject: str, told: Wire) -> None:
        with self.database.begin() as tx:
            store.append(tx, [Draft(event_type, LIVE, subject, told)])


@dataclass
class Service:
    """A running service as its callers see it."""

    client: httpx.Client
    control_token: str

    def estimate(self, *trips, with_reasons: bool = False, **more) -> httpx.Response:
        body = {"trips": [trip.model_dump(mode="json") for trip in trips]}
        return self.client.post("/v1/estimates", json=body | ({"with_reasons": True} if with_reasons else {}), **more)

    def rollout(self) -> dict:
        return self.client.get("/v1/rollout").json()

    def control(self, action: str, **fields) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.control_token}"}
        return self.client.post("/v1/rollout", json={"action": action, "reason": "test", **fields}, headers=headers)

    def feed(self, name: str) -> list[dict]:
        events: list[dict] = []
        while batch := self.client.get(f"/feeds/{name}", params={"lastEventId": len(events), "limit": 5000}).json():
            events += batch
        return events

    def metric(self, sample: str) -> float:
        """The value of one sample of /metrics, 0 where it isn't there yet."""
        lines = (line.rpartition(" ") for line in self.client.get("/metrics").text.splitlines())
        return next((float(value) for name, _, value in lines if name == sample), 0.0)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something that followers bring about has happened."""
        patience = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < patience, f"waited in vain until {what}; the rollout is {self.rollout()}"
            time.sleep(0.02)

    def until_serving(self, **roles: str | None) -> None:
        self.until(lambda: roles.items() <= self.rollout().items(), f"{roles} serve")


@dataclass
class Place:
    """A folder with clock, tokens and bundles in which serving can be started, stopped and started again."""

    var: Path
    upstream: Upstream

    @property
    def bundles(self) -> Path:
        return self.var / "bundles"

    def settings(self, **changes: object) -> Settings:
        return Settings(
            var=self.var,
            model_url=self.upstream.url,
            monitoring_url=self.upstream.url,
            serving_feed_wait_s=0.1,
            **changes,
        )

    @contextmanager
    def serving(self, **changes: object) -> Iterator[Service]:
        with running(build(self.settings(**changes))) as url, httpx.Client(base_url=url, timeout=20) as client:
            yield Service(client, read_token(self.var / "tokens", "control"))


@contextmanager
def a_place(folder: Path) -> Iterator[Place]:
    var = folder / "var"
    (var / "bundles").mkdir(parents=True)
    make_tokens(var / "tokens")
    Clock(time_zone="Europe/Berlin", city_start=LIVE, wall_start=time.time(), speed=1).save(var / "clock.json")
    upstream = Upstream(folder)
    with running(upstream.app()) as upstream.url:
        yield Place(var, upstream)


@contextmanager
def a_champion(place: Place, **how: object) -> Iterator[Service]:
    """A service whose champion is bundle 1, made as `make_bundle` is told."""
    place.upstream.release(make_bundle(place.bundles, "1", **how))
    with place.serving() as service:
        service.until_serving(champion="1")
        yield service


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    with a_place(tmp_path) as place:
        yield place


@pytest.fixture
def champion(place) -> Iterator[Service]:
    """A service whose champion is bundle 1, two minutes a kilometre."""
    with a_champion(place) as service:
        yield service


@pytest.fixture(scope="module")
def shared_champion(tmp_path_factory) -> Iterator[Service]:
    """The same for tests that leave its rollout and database alone."""
    with a_place(tmp_path_factory.mktemp("shared")) as place, a_champion(place) as service:
        yield service


@pytest.fixture
def trip():
    return a_trip()

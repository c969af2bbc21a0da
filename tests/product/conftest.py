"""A whole product between its neighbours, over real sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from chassis.clock import Clock
from chassis.tokens import read_token
from contracts.bookings import Quote
from contracts.conditions import CityMap, Conditions
from contracts.feeds import Event
from product.main import build
from product.settings import Settings
from tests.product.neighbours import FakeCity, FakeServing, a_map
from tests.servers import free_port, running

START = datetime(2026, 6, 1, 5, tzinfo=UTC)  # Monday 07:00 in Berlin
WISH = {"pickup_zone": 101, "dropoff_zone": 108, "vehicle": "bike", "parcel_kg": 2.5}


def eventually(happened: Callable[[], Any], what: str, patience_s: float = 10) -> Any:
    """Wait for a thing that another process or thread does; fail by name when it never comes."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if result := happened():
            return result
        time.sleep(0.02)
    raise AssertionError(f"waited {patience_s} s, and still not: {what}")


@dataclass
class Tandem:
    """A running product with its neighbours, and shorthands for what people do with it."""

    settings: Settings
    client: httpx.Client
    city: FakeCity
    serving: FakeServing
    clock: Clock
    stack: ExitStack = field(repr=False)

    def courier(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {read_token(self.settings.tokens_file, 'courier')}"}

    def quote(self, **changes: Any) -> Quote:
        got = self.client.post("/api/quotes", json=WISH | changes)
        assert got.status_code == 200, got.text
        return Quote.model_validate_json(got.content)

    def book(self, trip_id: str) -> httpx.Response:
        return self.client.post(f"/api/trips/{trip_id}")

    def report(self, trip_id: str, event: str, at: datetime) -> httpx.Response:
        body = {"event": event, "at": at.isoformat()}
        return self.client.post(f"/api/courier/trips/{trip_id}/reports", json=body, headers=self.courier())

    def feed(self, name: str = "trips") -> list[Event]:
        return [Event.model_validate(item) for item in self.client.get(f"/feeds/{name}").json()]

    def knows_the_city(self) -> None:
        eventually(lambda: self.client.get("/health/ready").status_code == 200, "product has the city's map")

    def metric(self, name: str) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)), 0.0)


def a_tandem(
    folder: Path,
    stack: ExitStack,
    *,
    database_url: str = "",
    serving_url: str = "",
    knows: bool = True,
    city_map: CityMap | None = None,
    **settings: Any,
) -> Tandem:
    """Start city, serving and product. Where product `knows` it, the city has published its map and a reading."""
    clock = Clock(time_zone="Europe/Berlin", city_start=START, wall_start=time.time(), speed=600)
    clock.save(folder / "clock.json")
    city, serving = FakeCity(folder), FakeServing()
    if knows:
        ahead = clock.now() + timedelta(hours=2)  # so that it stays fresh for as long as a test runs
        city.publish(city_map or a_map(), Conditions(at=ahead, rain_mm_h=0.4, temperature_c=17, city_pace=1.1))
    chosen = Settings(
        var=folder,
        city_url=stack.enter_context(running(city.app)),
        serving_url=serving_url or stack.enter_context(running(serving.app)),
        product_database_url=database_url,
        product_feed_wait_s=0.1,
        **settings,
    )
    url = stack.enter_context(running(build(chosen)))
    client = stack.enter_context(httpx.Client(base_url=url, timeout=20))
    tandem = Tandem(chosen, client, city, serving, clock, stack)
    if knows:
        tandem.knows_the_city()
    return tandem


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as entered:
        yield entered


@pytest.fixture
def tandem(tmp_path: Path, stack: ExitStack) -> Tandem:
    return a_tandem(tmp_path, stack)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tandem]:
    """One product for all tests of a module that leave no trace another one minds."""
    with ExitStack() as entered:
        yield a_tandem(tmp_path_factory.mktemp("shared"), entered)


def nobody_listens_here() -> str:
    """A URL where connecting is refused."""
    return f"http://127.0.0.1:{free_port()}"

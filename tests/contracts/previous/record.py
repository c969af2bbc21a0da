"""Records a version's real traffic, so that the next version can be held to it.

The old consumer meets real services over HTTP; what both sides say is written down, and one event of each type.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from chassis.tokens import read_token
from serving.main import build
from tests.bundles import make_bundle
from tests.contracts.previous.consumer import Consumer
from tests.monitoring.recorded import LIVE, Feeds, RecordedCity, refusal, snapshot
from tests.product.conftest import Tandem, a_tandem, eventually
from tests.servers import running
from tests.serving.conftest import Place, a_place

ZONES = range(1, 200)  # those of the test city's map, and of the consumer's own trips
Behind = Callable[[str], AbstractContextManager[str]]  # from a service's address to the one its callers use


@dataclass
class Tandems:
    """Product on real serving, each over HTTP."""

    serving: httpx.Client
    product: httpx.Client
    tandem: Tandem
    place: Place

    @property
    def consumer(self) -> Consumer:
        """The old consumer beside them."""
        token = read_token(self.tandem.settings.tokens_file, "courier")
        return Consumer(self.serving, self.product, token)

    def wait_for(self, at: datetime) -> None:
        """Return when a city time has come."""
        eventually(lambda: self.tandem.clock.now() > at, f"the city's clock shows {at}")


@contextmanager
def tandems(folder: Path, behind: Behind = nullcontext) -> Iterator[Tandems]:
    """Serving with a champion, and product that asks it; `behind` may put something between them and their callers."""
    (folder / "product").mkdir()
    with ExitStack() as stack:
        place = stack.enter_context(a_place(folder))
        place.upstream.release(make_bundle(place.bundles, "1", zones=ZONES))
        url = stack.enter_context(behind(stack.enter_context(running(build(place.settings())))))
        serving = stack.enter_context(httpx.Client(base_url=url, timeout=20))
        eventually(lambda: serving.get("/health/ready").is_success, "serving has a champion")
        tandem = a_tandem(folder / "product", stack, serving_url=url)
        url = stack.enter_context(behind(str(tandem.client.base_url)))
        yield Tandems(serving, stack.enter_context(httpx.Client(base_url=url, timeout=20)), tandem, place)


def record(folder: Path) -> None:
    """Write `traffic.json` (requests and answers) and `events.json` (one of each type) into a folder."""
    with tempfile.TemporaryDirectory() as var, tandems(Path(var)) as services:
        broken = {"version": "0"}
        services.place.upstream.publish_raw(services.place.upstream.bundles, "bundle.released", "0", broken)
        services.place.upstream.decide("watch", None)
        traffic: list[dict[str, Any]] = []
        clients = services.serving, services.product
        for client in clients:
            client.event_hooks["response"].append(lambda answer: traffic.append(_exchange(answer)))
        services.consumer.estimates()
        for outcome in ("delivered", "cancelled", "lost"):
            services.consumer.journey(services.wait_for, outcome)
        for client in clients:
            client.event_hooks["response"].clear()
        seen: dict[str, Any] = {}
        with _other_feeds(Path(var)) as others:
            urls = {
                str(services.product.base_url): ("trips", "ratings"),
                str(services.serving.base_url): ("estimates", "rollout"),
                services.place.upstream.url: ("bundles", "decisions"),
                services.tandem.settings.city_url: ("conditions",),
                others: ("snapshots", "bundles"),
            }
            for url, feed in ((url, feed) for url, feeds in urls.items() for feed in feeds):
                for event in httpx.get(f"{url}/feeds/{feed}").json():
                    if event["data"] != broken:
                        seen.setdefault(event["type"], event)
    for name, told in (("traffic", traffic), ("events", list(seen.values()))):
        (folder / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")


def _exchange(answer: httpx.Response) -> dict[str, Any]:
    asked = answer.request
    return {
        "method": asked.method,
        "path": asked.url.path,
        "body": json.loads(asked.content) if asked.content else None,
        "status": answer.status_code,
        "answer": json.loads(answer.read()),
    }


@contextmanager
def _other_feeds(folder: Path) -> Iterator[str]:
    """What data publishes, and a refused retraining."""
    until = LIVE + timedelta(hours=3)
    told = [*RecordedCity(seed=6).events(3), snapshot(LIVE), refusal(LIVE, "d-1", "no better than the champion")]
    feeds = Feeds(folder / "feeds.db", told)
    feeds.publish(until)
    with feeds.served() as url:
        yield url

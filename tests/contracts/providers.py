"""Each service for real, in a folder of its own, for those who hold its published interface to its word.

Every function here is a context manager that answers a `Provider`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import httpx

from chassis.clock import Clock
from chassis.tokens import make_tokens
from contracts.conditions import CityMap
from contracts.trips import HIGHEST_ZONE
from monitoring.app import build as build_monitoring
from monitoring.settings import Settings as MonitoringSettings
from tests.bundles import make_bundle
from tests.monitoring.desk import Desk
from tests.monitoring.recorded import LIVE, Feeds, RecordedCity, with_champion
from tests.product.conftest import Tandem, a_tandem, eventually
from tests.product.neighbours import a_map
from tests.servers import running
from tests.serving.conftest import a_champion, a_place

HOURS = 5  # of recorded city time that monitoring has seen: enough outcomes after an incident to want a retraining


@dataclass(frozen=True, slots=True)
class Provider:
    """A running service: where it is, its tokens by role, and ids that its callers may know, by path parameter."""

    url: str
    tokens: dict[str, str]
    ids: dict[str, list[str]] = field(default_factory=dict)


@contextmanager
def serving(folder: Path) -> Iterator[Provider]:
    """Serving with a champion and a challenger."""
    with a_place(folder) as place, a_champion(place) as service:
        place.upstream.release(make_bundle(place.bundles, "2"))
        service.until_serving(challenger="2")
        yield Provider(str(service.client.base_url), tokens(place.var), {"name": ["tandem"], "version": ["1", "2"]})


@contextmanager
def product(folder: Path) -> Iterator[Provider]:
    """Product with a trip in each state of its life."""
    with ExitStack() as stack:
        tandem = a_tandem(folder, stack, city_map=a_map_to_the_edges())
        yield Provider(str(tandem.client.base_url), tokens(folder), {"trip_id": some_trips(tandem)})


@contextmanager
def monitoring(folder: Path) -> Iterator[Provider]:
    """Monitoring some hours after an incident, with a retraining that waits for approval."""
    city = RecordedCity(seed=6, per_minute=8, bridge_closed_h=0, slowdown=1.8)
    feeds = Feeds(folder / "feeds.db", with_champion() + city.events(HOURS))
    var = folder / "var"
    clock = Clock(time_zone="Europe/Berlin", city_start=LIVE, wall_start=time.time() - HOURS * 3600, speed=1)
    clock.save(var / "clock.json")
    make_tokens(var / "tokens")
    with feeds.served() as upstream:
        feeds.publish(LIVE)
        desk = Desk(upstream, feeds, f"sqlite:///{var}/monitoring.db", approval="ask")
        desk.run(HOURS)
        waiting = [tick["decision_id"] for tick in desk.ticks() if tick["state"] == "waiting"]
        assert waiting, "the incident was meant to make monitoring want a retraining"
        urls = {f"{team}_url": upstream for team in ("product", "serving", "data", "model")}
        with running(build_monitoring(MonitoringSettings(var=var, approval="ask", **urls))) as url:
            eventually(lambda: httpx.get(f"{url}/health/ready").is_success, "monitoring is ready")
            yield Provider(url, tokens(var), {"decision_id": waiting})


def a_map_to_the_edges() -> CityMap:
    """A map that has the lowest and the highest zones that the contract allows, which guessed requests favour."""
    known = a_map()
    edges = (1, 2, HIGHEST_ZONE - 1, HIGHEST_ZONE)
    moved = [zone.model_copy(update={"zone": edge}) for zone, edge in zip(known.zones[-4:], edges, strict=True)]
    return known.model_copy(update={"zones": known.zones[:-4] + moved})


def some_trips(tandem: Tandem) -> list[str]:
    """Trips that were quoted, booked, delivered, cancelled and lost."""
    trip_ids = [tandem.quote().trip_id for _ in range(5)]
    for trip_id, end in zip(trip_ids[1:], (None, "delivered", "cancelled", "lost"), strict=True):
        assert tandem.book(trip_id).is_success
        if end is not None:
            soon = tandem.clock.now() + timedelta(seconds=30)
            eventually(lambda soon=soon: tandem.clock.now() > soon, "half a city minute passes")
            answer = tandem.report(trip_id, end, soon)
            assert answer.is_success, answer.text
    return trip_ids


def tokens(var: Path) -> dict[str, str]:
    """By role, as the service reads them."""
    found: dict[str, str] = json.loads((var / "tokens").read_text())
    return found

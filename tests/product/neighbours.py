"""Product's neighbours as little real servers: a city that publishes a feed, a serving that behaves as told."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry
from sqlalchemy import MetaData

from chassis.databases import open_database
from chassis.feed_routes import feed_routes
from chassis.feed_store import Draft, FeedStore
from chassis.service import make_app
from contracts.conditions import CityMap, Conditions, MapZone
from contracts.estimates import Estimate, EstimatesAnswer, EstimatesRequest, Explanation, Quantiles, Reason

MODEL_SAYS = Quantiles(p10_min=11.0, p50_min=18.0, p90_min=30.2)

BECAUSE = Explanation(
    typical_min=24.2,
    reasons=[
        Reason(group="distance", minutes=-9.1),
        Reason(group="time_of_week", minutes=0.4),
        Reason(group="weather", minutes=3.0),
        Reason(group="city_pace", minutes=0.0),
        Reason(group="vehicle", minutes=-0.5),
        Reason(group="zones", minutes=0.0),
    ],
)


def a_map(columns: int = 6, rows: int = 4) -> CityMap:
    """Square zones of 1.6 km, half of them on each side of a river, four groups."""
    zones = []
    for number in range(columns * rows):
        column, row = number % columns, number // columns
        north = row >= rows // 2
        x, y = 1.6 * column, 1.6 * row + (0.9 if north else 0)
        group = f"{'North' if north else 'South'} {'east' if column >= columns // 2 else 'west'}"
        corners = [(x, y), (x + 1.5, y), (x + 1.5, y + 1.5), (x, y + 1.5)]
        place = MapZone(
            zone=101 + number,
            name=f"Square {number + 1}",
            group=group,
            bank="north" if north else "south",
            x_km=x + 0.75,
            y_km=y + 0.75,
            outline=corners,
        )
        zones.append(place)
    routes = [[0.6 + 1.3 * math.dist((a.x_km, a.y_km), (b.x_km, b.y_km)) for b in zones] for a in zones]
    return CityMap(time_zone="Europe/Berlin", zones=zones, route_km=routes)


class FakeCity:
    """A conditions feed to publish into. `app` serves it."""

    def __init__(self, folder: Path) -> None:
        metadata = MetaData()
        self.feed = FeedStore(open_database(f"sqlite:///{folder}/city.db", metadata), "conditions")
        self.app = make_app("city", CollectorRegistry(), ready=lambda: None)
        self.app.include_router(feed_routes(self.feed))

    def publish(self, *news: CityMap | Conditions) -> None:
        with self.feed.database.begin() as tx:
            for item in news:
                kind = "map" if isinstance(item, CityMap) else "reading"
                at = getattr(item, "at", datetime(2026, 6, 1, tzinfo=UTC))
                self.feed.append(tx, [Draft(f"conditions.{kind}", at, "city", item)])


@dataclass
class FakeServing:
    """Answers every trip with the same quantiles, in the way it is told to; keeps what it was asked."""

    way: str = "well"
    asked: list[EstimatesRequest] = field(default_factory=list)

    @property
    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/estimates")
        async def estimates(request: Request) -> Response:
            asked = EstimatesRequest.model_validate_json(await request.body())
            self.asked.append(asked)
            if self.way == "late":
                await asyncio.sleep(1)
            if self.way == "500":
                return Response("out of order", 500)
            trip_id = "another-trip" if self.way == "wrong trip" else asked.trips[0].trip_id
            made = {"estimate_id": f"est-{asked.trips[0].trip_id}", "trip_id": trip_id, "bundle_version": "v7"}
            if self.way == "out of scope":
                only = Estimate(**made, status="out_of_scope", reason="zone not seen")
            else:
                why = BECAUSE if asked.with_reasons and self.way != "no reasons" else None
                only = Estimate(**made, status="estimated", quantiles=MODEL_SAYS, explanation=why)
            body = EstimatesAnswer(estimates=[only]).model_dump_json()
            if self.way == "crossing":
                body = body.replace("30.2", "12.0")
            if self.way == "not json":
                body = body[:-4]
            if self.way == "two answers":
                body = EstimatesAnswer(estimates=[only, only]).model_dump_json()
            return Response(body, media_type="application/json")

        return app

"""The city over HTTP: truth for couriers, wishes for the simulated customers, incidents for lessons."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, Query
from prometheus_client import CollectorRegistry, Counter

from chassis.feed_routes import feed_routes
from chassis.problems import documented
from chassis.service import make_app
from chassis.tokens import Tokens, requires
from contracts.conditions import IncidentStart, TruthAnswer, TruthRequest, Wish
from contracts.problems import TandemError
from contracts.trips import Instant, Wire
from data.city.incidents import Started, UnknownIncident
from data.city.keeper import Keeper
from data.city.log import IncidentRuns
from data.city.streets import UnknownZone
from data.city.times import BeforeTheCity, instant, minutes_at

LONGEST_SPAN_MIN = 1440


class BadSpan(TandemError):
    """Wishes are asked for over a time that is empty or too long."""


class IncidentShown(Wire):
    """An incident somebody started, and its window."""

    name: str
    statement: str
    start: Instant
    end: Instant
    running: bool


def city_app(keeper: Keeper, tokens: Tokens) -> FastAPI:
    """The city's app; the keeper beats in its background."""
    registry = CollectorRegistry()
    truths = Counter("tandem_city_truths", "Trips that couriers asked the truth of", ["outcome"], registry=registry)
    city, log, clock = keeper.city, keeper.log, keeper.clock
    app = make_app(
        "city",
        registry,
        ready=lambda: None if keeper.ready else "the city has published nothing yet",
        background={"keeper": keeper.run},
        statuses={UnknownZone: 422, BeforeTheCity: 422, BadSpan: 422, UnknownIncident: 404, IncidentRuns: 409},
    )
    app.include_router(feed_routes(keeper.feed))

    @app.post("/v1/truth", dependencies=[Depends(requires("courier", tokens))], responses=documented(401, 422))
    async def truth(asked: TruthRequest) -> TruthAnswer:
        answer = city.answer(asked, log.started)
        truths.labels(answer.outcome).inc()
        return answer

    @app.get("/v1/wishes", responses=documented(422))
    async def wishes(after: Annotated[Instant, Query()], until: Annotated[Instant, Query()]) -> list[Wish]:
        start, end = minutes_at(after), minutes_at(until)
        if not 0 <= end - start <= LONGEST_SPAN_MIN:
            raise BadSpan(f"from {after} until {until} is {end - start:g} minutes: ask for 0 to {LONGEST_SPAN_MIN}")
        return city.wishes(start, end)

    @app.get("/v1/incidents")
    async def incidents() -> list[IncidentShown]:
        return [_shown(started, minutes_at(clock.now())) for started in log.started]

    @app.post(
        "/v1/incidents",
        status_code=201,
        dependencies=[Depends(requires("control", tokens))],
        responses=documented(401, 404, 409, 422),
    )
    def start_incident(asked: IncidentStart) -> IncidentShown:
        now = minutes_at(clock.now())
        return _shown(log.start(asked.name, now), now)

    return app


def _shown(started: Started, now: float) -> IncidentShown:
    return IncidentShown(
        name=started.incident.name,
        statement=started.incident.statement,
        start=instant(started.start),
        end=instant(started.end),
        running=started.start <= now < started.end,
    )

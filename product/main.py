"""Product, wired by hand: the only place that names concrete parts."""

from __future__ import annotations

from datetime import timedelta
from threading import Event as Flag

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from chassis.clock import Clock
from chassis.databases import open_database
from chassis.feed_routes import feed_routes
from chassis.followers import Follower
from chassis.service import make_app
from chassis.tokens import Tokens, make_tokens
from contracts import requirements
from product.api import HTTP_STATUS, api_routes
from product.conditions import CityView
from product.desk import Desk, Meters
from product.estimator import Breaker, ServingClient
from product.fallback import Fallback
from product.ledger import Ledger
from product.pages import page_routes, static_files
from product.settings import Settings
from product.tables import METADATA

BUDGET_SHARE = 0.9  # of the longest wait agreed: the rest is for noticing that it is over, on a busy machine too


def build(settings: Settings) -> FastAPI:
    """Product as an app. Raises `NoClock` where there is no clock."""
    clock = Clock.load(settings.clock_file)
    record = requirements.load()
    budget_s = BUDGET_SHARE * record["estimate-wait"].ceiling / 1000
    make_tokens(settings.tokens_file)
    tokens = Tokens(settings.tokens_file)
    engine = open_database(settings.database_url("product"), METADATA)
    city = CityView(engine, stale_after=timedelta(minutes=settings.stale_reading_min))
    ledger = Ledger(engine, clock.zone)
    fallback = Fallback(ledger.past_outcomes)
    registry = CollectorRegistry()
    desk = Desk(
        city=city,
        serving=ServingClient(settings.url("serving"), budget_s, Breaker()),
        fallback=fallback,
        ledger=ledger,
        clock=clock,
        settings=settings,
        audit_share=record.policy.audit_share,
        meters=Meters(registry, budget_s, ledger.count_open),
    )

    def follow_city(stop: Flag) -> None:
        Follower(settings.url("city"), "conditions", engine, city.handle).follow(
            stop, wait_s=settings.product_feed_wait_s
        )

    def rebuild_fallback(stop: Flag) -> None:
        fallback.rebuild()
        while not stop.wait(settings.fallback_every_h * 3600 / clock.speed):
            fallback.rebuild()

    app = make_app(
        "product",
        registry,
        ready=lambda: None if city.city else "the city's map has not arrived yet",
        background={"conditions": follow_city, "fallback": rebuild_fallback},
        statuses=HTTP_STATUS,
    )
    app.include_router(api_routes(desk, tokens))
    app.include_router(feed_routes(ledger.trips_feed, ledger.ratings_feed))
    app.include_router(page_routes(desk, tokens))
    app.mount("/static", static_files())
    return app

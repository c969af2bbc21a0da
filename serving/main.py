"""Serving's wiring, in this one place."""

from __future__ import annotations

from functools import partial

from fastapi import FastAPI
from sqlalchemy import MetaData

from chassis.clock import Clock
from chassis.databases import open_database
from chassis.feed_routes import feed_routes
from chassis.feed_store import FeedStore, feed_tables
from chassis.followers import cursor_table
from chassis.logs import write_logs
from chassis.service import make_app
from chassis.tokens import Tokens
from contracts import requirements
from serving.bundles import BundleRefused
from serving.conductor import Conductor, RolloutFollower, seal_table
from serving.desk import EstimateDesk, Shadow
from serving.edge import Edge
from serving.journal import Journal
from serving.metrics import Metrics
from serving.rollout import NotApplicable
from serving.routes import estimate_routes, rollout_routes
from serving.settings import Settings


def app_from_settings() -> FastAPI:
    """The service as the environment sets it: for workers, which begin with nothing else."""
    settings = Settings()
    write_logs("serving", settings.log)
    return build(settings)


def build(settings: Settings) -> FastAPI:
    """The service: bundles of the last rollout loaded, nothing started."""
    metadata = MetaData()
    feed_tables(metadata)
    cursors, seals = cursor_table(metadata), seal_table(metadata)
    engine = open_database(settings.database_url("serving"), metadata)
    estimates, rollout = FeedStore(engine, "estimates", metadata), FeedStore(engine, "rollout", metadata)
    clock = Clock.load(settings.clock_file)
    metrics = Metrics(requirements.load())

    conductor = Conductor(rollout, seals, settings.bundles, clock, metrics)
    conductor.start()
    journal = Journal(estimates)
    shadow = Shadow(settings.serving_shadow_budget_s)
    desk = EstimateDesk(conductor, journal, shadow, clock, metrics, settings.serving_most_waiting_trips)
    metrics.waiting.set_function(lambda: desk.waiting)
    bundles = RolloutFollower(conductor, settings.url("model"), "bundles", cursors)
    decisions = RolloutFollower(conductor, settings.url("monitoring"), "decisions", cursors)

    app = make_app(
        "serving",
        metrics.registry,
        ready=lambda: None if "champion" in conductor.fleet.bundles else "no champion: wait for the first release",
        background={
            "journal": journal.run,
            "follow bundles": partial(bundles.follow, wait_s=settings.serving_feed_wait_s),
            "follow decisions": partial(decisions.follow, wait_s=settings.serving_feed_wait_s),
        },
        statuses={NotApplicable: 409, BundleRefused: 409},
        drain_s=settings.serving_drain_s,
    )
    app.include_router(estimate_routes(desk))
    app.include_router(rollout_routes(conductor, Tokens(settings.tokens_file)))
    app.include_router(feed_routes(estimates, rollout))
    app.add_middleware(Edge, metrics=metrics, largest_body_bytes=settings.serving_largest_body_bytes)
    return app

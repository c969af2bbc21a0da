"""Serving's wiring, in this one place."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from fastapi import FastAPI

from chassis.clock import Clock
from chassis.drivers import DriverDatabase, checkpoint
from chassis.feed_routes import feed_routes
from chassis.feed_store import FeedStore
from chassis.feed_writer import FeedWriter
from chassis.logs import write_logs
from chassis.service import make_app
from chassis.spans import exporter
from chassis.tokens import Tokens
from contracts import requirements
from serving.bundles import BundleRefused
from serving.conductor import Conductor, RolloutFollower, Seals
from serving.desk import EstimateDesk
from serving.edge import Edge
from serving.engine import Engine, Patience
from serving.metrics import Metrics, Now
from serving.observation import Observation
from serving.protocol_v2 import protocol_v2_routes
from serving.retention import forget
from serving.rollout import NotApplicable
from serving.routes import estimate_routes, rollout_routes
from serving.settings import Settings
from serving.shortcut import Shortcut
from serving.store import open_store


def app_from_settings() -> FastAPI:
    """The service as the environment sets it: for workers, which begin with nothing else."""
    settings = Settings()
    write_logs("serving", settings.log)
    return build(settings)


def build(settings: Settings) -> FastAPI:
    """The service: bundles of the last rollout loaded, nothing started."""
    database = DriverDatabase(settings.database_url("serving"))
    estimates, rollout = FeedStore(database, "estimates"), FeedStore(database, "rollout")
    clock = Clock.load(settings.clock_file)
    wanted = requirements.load()
    metrics = Metrics(wanted)

    bundle_store = open_store(settings.bundles_url, settings.bundles, settings.var / "serving" / "bundles")
    conductor = Conductor(rollout, Seals(database), bundle_store, clock, metrics)
    conductor.start()
    patience = Patience(settings.serving_longest_run_s, settings.serving_pause_s)
    shadow = Patience(settings.serving_shadow_budget_s, settings.serving_pause_s)
    feed = FeedWriter(database, "estimates", settings.serving_longest_lock_s)
    reasons = Patience(settings.serving_reasons_budget_s, settings.serving_pause_s)
    engine = Engine(conductor, feed, clock, metrics, patience, shadow, reasons)
    desk = EstimateDesk(
        engine,
        settings.serving_most_waiting_trips,
        wanted["estimate-latency-p99"].ceiling / 1000,  # who would wait longer need not come in
        settings.serving_longest_answer_s,
        metrics,
    )
    largest_body = settings.serving_largest_body_bytes
    bundles = RolloutFollower(conductor, settings.url("model"), "bundles")
    decisions = RolloutFollower(conductor, settings.url("monitoring"), "decisions")
    followers = {"bundles": bundles, "decisions": decisions}
    now = Now(lambda: conductor.fleet.rollout, lambda: {feed: it.last_answer for feed, it in followers.items()})

    def ready() -> str | None:
        if "champion" not in conductor.fleet.bundles:
            return "no champion: wait for the first release"
        return conductor.behind

    export = exporter(settings, "serving")
    observation = Observation(metrics, export)
    tracing = {} if export is None else {"send spans": export.close_after}
    app = make_app(
        "serving",
        metrics.registry,
        ready,
        background={
            **tracing,
            "watch the rollout": conductor.watch,
            "count who waits": desk.count,
            "checkpoint": partial(checkpoint, database),
            "forget old estimates": partial(
                forget, estimates, clock, timedelta(days=settings.serving_estimates_kept_days)
            ),
            "follow bundles": partial(bundles.follow, wait_s=settings.serving_feed_wait_s),
            "follow decisions": partial(decisions.follow, wait_s=settings.serving_feed_wait_s),
        },
        statuses={NotApplicable: 409, BundleRefused: 409},
        drain_s=settings.serving_drain_s,
        collectors=[now],
        direct=Shortcut(desk, observation, largest_body),
    )
    app.include_router(estimate_routes(desk))
    app.include_router(rollout_routes(conductor, Tokens(settings.tokens_file)))
    app.include_router(protocol_v2_routes(conductor, ready, metrics, settings.serving_longest_run_s))
    app.include_router(feed_routes(estimates, rollout))
    app.add_middleware(Edge, observation=observation, largest_body_bytes=largest_body)
    return app

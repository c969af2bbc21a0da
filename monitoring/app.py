"""The monitoring service: pages, JSON, metrics, approvals and the decisions feed around one `Monitor`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from chassis.databases import open_database, reading
from chassis.feed_routes import feed_routes
from chassis.problems import ProblemError, documented
from chassis.service import make_app
from chassis.tokens import read_token, requires
from contracts import requirements
from contracts.clock import Clock
from contracts.decisions import KINDS
from monitoring import pages
from monitoring.announcer import Announcer
from monitoring.ledger import TABLES
from monitoring.monitor import Monitor
from monitoring.settings import Settings

TEMPLATES = Path(__file__).with_name("templates")


def build(settings: Settings) -> FastAPI:
    """Wire the service: the only place that names its parts."""
    clock = Clock.load(settings.clock_file)
    engine = open_database(settings.database_url("monitoring"), TABLES)
    announcer = Announcer(engine, settings.approval)
    monitor = Monitor(engine, requirements.load(), clock.now, settings.url, announcer)
    registry = CollectorRegistry()
    registry.register(Figures(monitor))
    app = make_app(
        "monitoring",
        registry,
        ready=lambda: None if monitor.newest else "no cohort has closed yet: are product and the clock running?",
        background={"rounds": lambda stop: monitor.run(stop, settings.monitoring_poll_s)},
    )
    app.include_router(feed_routes(announcer.feed))
    add_routes(app, monitor, clock, read_token(settings.tokens_file, "staff"))
    return app


def add_routes(app: FastAPI, monitor: Monitor, clock: Clock, staff_token: str) -> None:
    """Pages for people, JSON for machines."""
    templates = Jinja2Templates(TEMPLATES)
    templates.env.filters["city_time"] = lambda at: at.astimezone(clock.zone).strftime("%a %d %b %H:%M")
    record = monitor.record

    def view() -> pages.View:
        with reading(monitor.engine) as tx:
            newest = pages.newest_view(tx, record, max(monitor.freshness().values()))
        if newest is None:
            raise ProblemError(503, "no-tick-yet", "no cohort has closed yet; ask again in a moment", retry_after_s=1)
        return newest

    @app.get("/", response_class=HTMLResponse, tags=["pages"])
    def status_page(request: Request) -> HTMLResponse:
        with reading(monitor.engine) as tx:
            shown: dict[str, Any] = {
                "view": pages.newest_view(tx, record, max(monitor.freshness().values())),
                "charts": pages.charts(pages.ticks(tx, pages.SHOWN_TICKS), record),
                "announced": pages.announced(tx, 5),
            }
        shown |= {"freshness": monitor.freshness(), "stalest": record["feed-freshness"], "now": clock.now()}
        return templates.TemplateResponse(request, "status.html", shown)

    @app.get("/decisions", response_class=HTMLResponse, tags=["pages"])
    def decisions_page(request: Request) -> HTMLResponse:
        with reading(monitor.engine) as tx:
            return templates.TemplateResponse(request, "decisions.html", {"announced": pages.announced(tx, 200)})

    @app.get("/v1/status", tags=["monitoring"], responses=documented(503))
    def status() -> dict[str, Any]:
        return pages.status_as_json(view(), monitor.freshness())

    @app.get("/v1/requirements", tags=["monitoring"], responses=documented(503))
    def requirement_lines() -> list[dict[str, Any]]:
        return pages.lines_as_json(view().lines)

    @app.get("/v1/ticks", tags=["monitoring"])
    def stored_ticks(limit: Annotated[int, Query(ge=1, le=1000)] = 96) -> list[dict[str, Any]]:
        with reading(monitor.engine) as tx:
            rows = pages.ticks(tx, limit)
        kept = ("cohort", "at", "kind", "digest", "decision_id", "state")
        parsed = ("verdict", "figures")
        return [{name: row[name] for name in kept} | {name: json.loads(row[name]) for name in parsed} for row in rows]

    @app.post(
        "/v1/approvals/{decision_id}",
        tags=["monitoring"],
        dependencies=[Depends(requires("staff", staff_token))],
        responses=documented(401, 409),
    )
    def approve(decision_id: str) -> dict[str, str]:
        monitor.announcer.approve(decision_id)
        return {"decision_id": decision_id, "state": "published"}


class Figures(Collector):
    """Gauges of the newest tick, read when Prometheus asks. Groups and roles are bounded; trips are never labels."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family after the other."""
        lag = GaugeMetricFamily("tandem_feed_lag_seconds", "Wall seconds since a feed last answered", labels=["feed"])
        for feed, age in self.monitor.freshness().items():
            lag.add_metric([feed], age)
        yield lag
        with reading(self.monitor.engine) as tx:
            view = pages.newest_view(tx, self.monitor.record)
        if view is None:
            return
        seen = view.evidence
        coverage = GaugeMetricFamily("tandem_coverage_p90_ratio", "Share within p90", labels=["group", "role"])
        tallies = {("", "champion"): seen.held.overall} | {
            (group, "champion"): tally for group, tally in seen.held.groups.items()
        }
        for duel, role in ((seen.challenger, "challenger"), (seen.previous, "previous")):
            if duel is not None:
                tallies |= {("", role): duel.tally} | {(group, role): tally for group, tally in duel.groups.items()}
        for (group, role), tally in tallies.items():
            if tally.of:
                coverage.add_metric([group or "all", role], tally.p90.value)
        yield coverage
        for name, help_, share in (
            ("tandem_late_promises_ratio", "Share of promises broken", seen.late),
            ("tandem_outcome_join_ratio", "Share of outcomes that found their estimate", seen.joined),
            ("tandem_quarantined_rows_ratio", "Share of rows quarantined", seen.health.quarantined),
        ):
            if share.of:
                yield GaugeMetricFamily(name, help_, value=share.value)
        decision = GaugeMetricFamily("tandem_decision_state", "1 for the current decision", labels=["kind"])
        for kind in KINDS:
            decision.add_metric([kind], float(kind == view.verdict.kind))
        yield decision

"""The monitoring service: pages, JSON, metrics, approvals and the decisions feed around one `Monitor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from prometheus_client import CollectorRegistry
from pydantic import Field

from chassis.clock import Clock
from chassis.databases import open_database
from chassis.feed_routes import feed_routes
from chassis.problems import ProblemError, documented
from chassis.service import make_app
from chassis.sql import reading
from chassis.tokens import Tokens, requires
from contracts import dictionary, measurements, requirements
from contracts.problems import TandemError
from monitoring import pages
from monitoring.announcer import Announcer
from monitoring.ledger import TABLES
from monitoring.metrics import Gauges
from monitoring.monitor import Monitor
from monitoring.promises import NoLevels, NoReleaseYet, Promises, slider
from monitoring.settings import Settings
from monitoring.ticks import EVIDENCE, VERDICT

HERE = Path(__file__).parent
DecisionId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
SHOWN_TICKS = 192  # two city days of quarter hours
HTTP_STATUS: dict[type[TandemError], int] = {NoReleaseYet: 503, NoLevels: 404}


def build(settings: Settings) -> FastAPI:
    """Wire the service: the only place that names its parts."""
    clock = Clock.load(settings.clock_file)
    engine = open_database(settings.database_url("monitoring"), TABLES)
    announcer = Announcer(engine, settings.approval)
    monitor = Monitor(engine, requirements.load(), clock.now, settings.url, announcer, settings.measured)
    registry = CollectorRegistry()
    registry.register(Gauges(monitor))
    app = make_app(
        "monitoring",
        registry,
        ready=lambda: None if monitor.newest else "no cohort has closed yet: do the followed feeds answer?",
        background={"rounds": lambda stop: monitor.run(stop, settings.monitoring_poll_s)},
        statuses=HTTP_STATUS,
    )
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    app.include_router(feed_routes(announcer.feed))
    add_pages(app, monitor, clock)
    add_json(app, monitor, clock, Tokens(settings.tokens_file))
    return app


def add_pages(app: FastAPI, monitor: Monitor, clock: Clock) -> None:
    """Pages for people."""
    templates = Jinja2Templates(HERE / "templates")
    templates.env.filters["city_time"] = lambda at: at.astimezone(clock.zone).strftime("%a %d %b %H:%M")
    templates.env.filters["city_day"] = lambda at: at.astimezone(clock.zone).strftime("%a %d %b %Y")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def status_page(request: Request) -> HTMLResponse:
        record, freshness = monitor.record, monitor.freshness()
        shown: dict[str, Any] = {"freshness": freshness, "stalest": record["feed-freshness"], "now": clock.now()}
        with reading(monitor.engine) as tx:
            shown["view"] = pages.newest_view(tx, record, max(freshness.values()))
            shown["charts"] = pages.charts(pages.ticks(tx, SHOWN_TICKS), record)
            shown["announced"] = pages.announced(tx, 5)
        return templates.TemplateResponse(request, "status.html", shown)

    @app.get("/requirements", response_class=HTMLResponse, include_in_schema=False)
    def requirements_page(request: Request) -> HTMLResponse:
        record, left = monitor.record, [] if monitor.measured is None else measurements.kept(monitor.measured)
        with reading(monitor.engine) as tx:
            view = pages.newest_view(tx, record, max(monitor.freshness().values()))
        rows = pages.agreed(record, view.lines if view else (), left)
        return templates.TemplateResponse(request, "requirements.html", {"rows": rows, "waivers": record.waiver})

    @app.get("/promise", response_class=HTMLResponse, include_in_schema=False)
    def promise_page(request: Request) -> HTMLResponse:
        shown: dict[str, Any] = {"requirement": monitor.record["late-promises"]}
        try:
            with reading(monitor.engine) as tx:
                shown["promises"] = pages.promises_at(tx, clock.now(), monitor.record)
            shown["slider"] = slider(shown["promises"])
        except (NoReleaseYet, NoLevels) as missing:
            shown["missing"] = str(missing)
        return templates.TemplateResponse(request, "promise.html", shown)

    @app.get("/dictionary", response_class=HTMLResponse, include_in_schema=False)
    def dictionary_page(request: Request) -> HTMLResponse:
        tables = [(title, [dictionary.cells(field) for field in fields]) for title, fields in dictionary.tables()]
        return templates.TemplateResponse(
            request, "dictionary.html", {"headings": dictionary.HEADINGS, "tables": tables}
        )

    @app.get("/decisions", response_class=HTMLResponse, include_in_schema=False)
    def decisions_page(request: Request) -> HTMLResponse:
        with reading(monitor.engine) as tx:
            return templates.TemplateResponse(request, "decisions.html", {"announced": pages.announced(tx, 200)})


def add_json(app: FastAPI, monitor: Monitor, clock: Clock, tokens: Tokens) -> None:
    """The same for machines, and a person's approval."""

    def newest() -> pages.View:
        with reading(monitor.engine) as tx:
            view = pages.newest_view(tx, monitor.record, max(monitor.freshness().values()))
        if view is None:
            raise ProblemError(503, "no-tick-yet", "no cohort has closed yet; ask again in a moment", retry_after_s=1)
        return view

    @app.get("/v1/status", tags=["monitoring"], responses=documented(503))
    def status() -> dict[str, Any]:
        view = newest()
        return {
            "evidence": EVIDENCE.dump_python(view.evidence, mode="json"),
            "evidence_digest": view.digest,
            "verdict": VERDICT.dump_python(view.verdict, mode="json"),
            "feed_lag_s": monitor.freshness(),
        }

    @app.get("/v1/requirements", tags=["monitoring"], responses=documented(503))
    def requirement_lines() -> list[dict[str, Any]]:
        return [pages.as_json(line) for line in newest().lines]

    @app.get("/v1/ticks", tags=["monitoring"], responses=documented(422))
    def stored_ticks(limit: Annotated[int, Query(ge=1, le=1000)] = 96) -> list[dict[str, Any]]:
        with reading(monitor.engine) as tx:
            rows = pages.ticks(tx, limit)
        plain, parsed = ("cohort", "at", "kind", "digest", "decision_id", "state"), ("verdict", "figures")
        return [{name: row[name] for name in plain} | {name: json.loads(row[name]) for name in parsed} for row in rows]

    @app.get("/v1/promise", tags=["monitoring"], responses=documented(404, 503))
    def promise_levels() -> Promises:
        with reading(monitor.engine) as tx:
            return pages.promises_at(tx, clock.now(), monitor.record)

    staff = Depends(requires("staff", tokens))

    @app.post(
        "/v1/approvals/{decision_id}", tags=["monitoring"], dependencies=[staff], responses=documented(401, 409, 422)
    )
    def approve(decision_id: DecisionId) -> dict[str, str]:
        monitor.announcer.approve(decision_id)
        return {"decision_id": decision_id, "state": "published"}

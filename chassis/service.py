"""A service process: one FastAPI app with health, metrics and problems, listening on one port."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import PlainTextResponse
from fastapi.staticfiles import StaticFiles
from fastapi.telemetry import TelemetryConfig
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from chassis.direct import Direct, connection
from chassis.http import Limits
from chassis.life import Life, Work, settle
from chassis.problems import ProblemError, documented, translate_errors
from contracts.problems import TandemError

SWAGGER = Path(__file__).parent / "swagger"  # the page that shows `/openapi.json`, with all that it loads
KEPT_ALIVE_S = 75  # longer than our clients keep an idle connection, so that none is closed under a request
HANGS_S = 10  # a worker silent for so long is replaced; to start takes one a second, on a busy machine some
ACCEPTED_AT_ONCE = 8  # connections a turn of the event loop: uvloop takes in one a turn from each socket it listens on
OTHER_FILES = 100  # that a process keeps open beside its connections: databases, logs, its own requests

# What browsers may not make of any answer of ours. uvicorn writes them with its own, so that no request pays for them.
FOR_BROWSERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "frame-ancestors 'none'"),
    ("Referrer-Policy", "same-origin"),
]


def make_app(
    title: str,
    registry: CollectorRegistry,
    ready: Callable[[], str | None],
    background: Mapping[str, Work] | None = None,
    statuses: Mapping[type[TandemError], int] | None = None,
    started: Callable[[], str | None] = lambda: None,
    drain_s: float = 0.0,
    collectors: Sequence[Collector] = (),
    direct: Direct | None = None,
) -> FastAPI:
    """An app with `/health/live`, `/health/startup`, `/health/ready`, `/metrics`, `/docs/` and problem answers.

    `started` and `ready` answer why the service hasn't started or isn't ready, or None. `background` and `drain_s` are
    told in `Life`. `collectors` are asked at each scrape, in the worker that answers it: they tell what holds for the
    whole service, which metrics that workers add up can't. `direct` answers what can't afford the app's layers.
    """
    life = Life(title, background or {}, drain_s)
    scraped = _scraped(registry)
    for collector in collectors:
        scraped.register(collector)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        life.start()
        life.drain_on_signals(asyncio.get_running_loop())
        yield {"life": life, "direct": direct}
        life.end()

    # FastAPI's own telemetry looks for exporters at every request, which takes longer than our metrics.
    silent: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
    app = FastAPI(title=title, lifespan=lifespan, docs_url=None, redoc_url=None, telemetry=silent)
    app.state.life = life
    translate_errors(app, statuses)
    app.mount("/docs", StaticFiles(directory=SWAGGER, html=True))

    @app.get("/health/live", tags=["health"])
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/health/startup", tags=["health"], responses=documented(503))
    async def has_started() -> dict[str, str]:
        return _healthy("started", life.why_not_started() or started())

    @app.get("/health/ready", tags=["health"], responses=documented(503))
    async def is_ready() -> dict[str, str]:
        return _healthy("ready", life.why_not_ready() or ready())

    @app.get("/metrics", tags=["health"], response_class=PlainTextResponse)
    def metrics() -> Response:
        return Response(generate_latest(scraped), media_type=CONTENT_TYPE_LATEST)

    return app


def _healthy(status: str, reason: str | None) -> dict[str, str]:
    if reason is not None:
        raise ProblemError(503, f"not-{status}", reason, retry_after_s=1)
    return {"status": status}


def _scraped(registry: CollectorRegistry) -> CollectorRegistry:
    """What a scrape tells: the metrics of this process or, in a worker, of all workers."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")  # prometheus_client's own variable: it counts in files there
    if folder is None:
        return registry
    of_all = CollectorRegistry()
    MultiProcessCollector(of_all, folder)  # type: ignore[no-untyped-call]
    return of_all


def server_config(app: Any, limits: Limits | None = None, **more: Any) -> uvicorn.Config:
    """How uvicorn shall serve an app or its factory."""
    how: dict[str, Any] = {
        "http": partial(connection, limits or Limits()),
        "ws": "none",
        "log_config": None,  # its loggers are formatted as all others
        "log_level": "warning",
        "access_log": False,
        "proxy_headers": False,
        "headers": FOR_BROWSERS,
        "timeout_graceful_shutdown": 5,
        "timeout_keep_alive": KEPT_ALIVE_S,
        "timeout_worker_healthcheck": HANGS_S,
    }
    return uvicorn.Config(app, **{**how, **more})


def listening_socket(bind: str, port: int, name: str, limits: Limits) -> socket.socket:
    """A bound socket, and room for its connections. A taken port ends the process, saying what to set."""
    most_open, ceiling = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.connections + OTHER_FILES
    if most_open != resource.RLIM_INFINITY and most_open < wanted:
        most = wanted if ceiling == resource.RLIM_INFINITY else min(wanted, ceiling)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, ceiling))
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((bind, port))
    except OSError as error:
        sys.exit(
            f"{name}: cannot listen on {bind}:{port} ({error.strerror}): set TANDEM_{name.upper()}_PORT to a free one"
        )
    return sock


def several(sock: socket.socket) -> list[socket.socket]:
    """A bound socket several times over, so that many who connect at once to a busy service are not taken in one a
    turn: of 1,500 at once the last were taken after three seconds."""
    return [sock, *(sock.dup() for _ in range(ACCEPTED_AT_ONCE - 1))]


def listen(app: FastAPI, bind: str, port: int, name: str, limits: Limits | None = None) -> None:
    """Serve an app in this process until it is told to end. `chassis.workers.share` does it in several."""
    limits = limits or Limits()
    sock = listening_socket(bind, port, name, limits)
    settle()
    with suppress(KeyboardInterrupt):  # uvicorn has drained by then and raises it anew for its caller
        uvicorn.Server(server_config(app, limits)).run(sockets=several(sock))
    life: Life = app.state.life
    if life.failures:
        sys.exit(f"{name}: {', '.join(life.failures)} failed; see the log above")

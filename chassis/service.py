"""A service process: one FastAPI app with health, metrics and problems, listening on one port."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from threading import Event as Flag
from threading import Thread

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import PlainTextResponse
from fastapi.telemetry import TelemetryConfig
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from chassis.problems import ProblemError, documented, translate_errors
from contracts.problems import TandemError

KEPT_ALIVE_S = 75  # longer than our clients keep an idle connection, so that none is closed under a request


def make_app(
    title: str,
    registry: CollectorRegistry,
    ready: Callable[[], str | None],
    background: Mapping[str, Callable[[Flag], None]] | None = None,
    statuses: Mapping[type[TandemError], int] | None = None,
) -> FastAPI:
    """An app with `/health/live`, `/health/ready`, `/metrics` and problem answers.

    `ready` answers why the service isn't ready, or None. Each `background` function runs in a thread of its own from
    start to shutdown and returns soon after its flag is set; one that raises ends the process, so that the supervisor
    starts it afresh.
    """
    stop = Flag()
    failures: list[str] = []

    def run(name: str, work: Callable[[Flag], None]) -> None:
        try:
            work(stop)
        except Exception:
            logging.getLogger(title).exception("background %s failed; the process ends to be started afresh", name)
            failures.append(name)
            os.kill(os.getpid(), signal.SIGINT)  # uvicorn drains on it; it ends this process alone

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        threads = [Thread(target=run, args=item, name=item[0], daemon=True) for item in (background or {}).items()]
        for thread in threads:
            thread.start()
        yield
        stop.set()
        for thread in threads:
            thread.join(timeout=10)

    # FastAPI's own telemetry looks for exporters at every request, which takes longer than our metrics.
    silent: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
    app = FastAPI(title=title, lifespan=lifespan, docs_url=None, redoc_url=None, telemetry=silent)
    app.state.failures = failures
    translate_errors(app, statuses)

    @app.get("/health/live", tags=["health"])
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/health/ready", tags=["health"], responses=documented(503))
    async def is_ready() -> dict[str, str]:
        reason = f"background {failures[0]} failed" if failures else ready()
        if reason is not None:
            raise ProblemError(503, "not-ready", reason, retry_after_s=1)
        return {"status": "ready"}

    @app.get("/metrics", tags=["health"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


def listen(app: FastAPI, bind: str, port: int, name: str) -> None:
    """Serve an app until the process is told to end. A taken port ends it with a message that says what to set."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((bind, port))
    except OSError as error:
        sys.exit(
            f"{name}: cannot listen on {bind}:{port} ({error.strerror}): set TANDEM_{name.upper()}_PORT to a free one"
        )
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=5, timeout_keep_alive=KEPT_ALIVE_S
    )
    with suppress(KeyboardInterrupt):  # uvicorn has drained by then and raises it anew for its caller
        uvicorn.Server(config).run(sockets=[sock])
    if app.state.failures:
        sys.exit(f"{name}: {', '.join(app.state.failures)} failed; see the log above")


def log_to_stderr(name: str) -> None:
    """Plain log lines on stderr, which the supervisor collects."""
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {name} %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)

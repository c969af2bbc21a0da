"""A small service, to test the process around it:  python -m tests.chassis.small_service

Its environment says how: SMALL_PORT, SMALL_WORKERS, SMALL_DRAIN_S, SMALL_VAR, SMALL_FAILS,
SMALL_NEEDS.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import InfoMetricFamily
from prometheus_client.registry import Collector

from chassis.logs import about_request, write_logs
from chassis.service import listen, make_app
from chassis.workers import share
from contracts.problems import TandemError
from tests.servers import eventually, free_port

ENV = os.environ


class NoParts(TandemError):
    """What the service needs is not there."""


class Name(Collector):
    """What no worker can add up."""

    def collect(self) -> Iterator[Any]:
        yield InfoMetricFamily("small", "The service", {"name": "small"})


def app_from_environment() -> FastAPI:
    """The service."""
    write_logs("small", "json")
    if ENV.get("SMALL_FAILS") == "on purpose":
        raise NoParts("parts are missing: order some")
    if "SMALL_NEEDS" in ENV and not Path(ENV["SMALL_NEEDS"]).exists():
        raise NoParts(f"{ENV['SMALL_NEEDS']} is missing: order it")
    if ENV.get("SMALL_FAILS") == "by a bug":
        raise ZeroDivisionError
    registry = CollectorRegistry()
    asked = Counter("small_asked", "Requests", registry=registry)
    workers = Gauge("small_workers", "Workers", registry=registry, multiprocess_mode="livesum")
    workers.set(1)
    app = make_app(
        "small", registry, ready=lambda: None, drain_s=float(ENV.get("SMALL_DRAIN_S", "0")), collectors=[Name()]
    )

    @app.get("/work")
    async def work(ms: float = 0) -> int:
        asked.inc()
        await asyncio.sleep(ms / 1000)
        return os.getpid()

    @app.get("/log")
    async def log(request_id: str) -> str:
        about_request(request_id, "0123456789abcdef0123456789abcdef")
        try:
            json.loads("{")
        except ValueError:
            logging.getLogger("small.part").exception("%d lines\nbroken", 2)
        return request_id

    return app


@contextmanager
def small_service(var: Path, **how: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The service in a process of its own; answers its URL and the process. What it says is in `var`/log."""
    port = free_port()
    environment = {f"SMALL_{name.upper()}": str(value) for name, value in {"port": port, "var": var, **how}.items()}
    with (var / "log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chassis.small_service"],
            env=ENV | environment,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: process.poll() is not None or answers(url), "the service is up")
        yield url, process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # workers that a failed test left behind


def answers(url: str) -> bool:
    """Whether somebody serves there and is ready."""
    try:
        return get(f"{url}/health/ready", within_s=2)[0] == 200
    except OSError:
        return False


def get(url: str, within_s: float = 10) -> tuple[int, str]:
    """Status and text of an answer, asked for on a connection of its own. Raises `OSError` where there is none."""
    try:
        with urllib.request.urlopen(url, timeout=within_s) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except http.client.HTTPException as error:
        raise OSError(f"{url}: {error!r}") from error


def main() -> None:
    """Serve."""
    write_logs("small", "json")
    where = ("127.0.0.1", int(ENV["SMALL_PORT"]), "small")
    workers = int(ENV.get("SMALL_WORKERS", "1"))
    if workers > 1:
        share(app_from_environment, workers, *where, Path(ENV["SMALL_VAR"]) / "metrics")
    else:
        listen(app_from_environment(), *where)


if __name__ == "__main__":
    main()

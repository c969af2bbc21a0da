"""Serving as it is run: `python -m serving` in processes of its own, which can be killed."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import httpx
import psutil

from chassis.tokens import read_token
from tests.servers import free_port
from tests.serving.conftest import Place, Service

READY_WITHIN_S = 60


@dataclass
class ServingProcess:
    """Serving at `url`; what it says is in `log`."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    service: Service

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def is_ready(self) -> bool:
        """Whether it says so."""
        try:
            return self.service.client.get("/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def workers(self) -> dict[int, psutil.Process]:
        """Its workers by process number, where it has several."""
        return {child.pid: child for child in psutil.Process(self.process.pid).children() if _works(child)}

    def connected(self, workers: int) -> dict[int, http.client.HTTPConnection]:
        """A connection to each of so many workers, by process number; each of them has said on it that it is ready."""
        found: dict[int, http.client.HTTPConnection] = {}
        patience = time.monotonic() + READY_WITHIN_S
        while len(found) < workers:
            assert time.monotonic() < patience, f"only {len(found)} workers answer: {self.log.read_text()[-2000:]}"
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            connection.request("GET", "/health/ready")
            answer = connection.getresponse()
            answer.read()
            if answer.status != HTTPStatus.OK:
                continue
            here = connection.sock.getsockname()
            for number, worker in self.workers().items():
                if _has(worker, here):
                    found.setdefault(number, connection)
            time.sleep(0.01)
        return found

    def kill(self) -> None:
        """End it as a power cut would: without a word."""
        self.process.kill()
        self.process.wait()


def _works(child: psutil.Process) -> bool:
    """Whether a child is a living worker, and not the resource tracker of multiprocessing."""
    try:
        return "spawn_main" in " ".join(child.cmdline())
    except psutil.NoSuchProcess:  # or a zombie
        return False


def _has(worker: psutil.Process, peer: tuple[str, int]) -> bool:
    """Whether a worker has the connection that somebody made from this address."""
    try:
        return any(it.raddr == peer for it in worker.net_connections("tcp"))
    except psutil.NoSuchProcess:
        return False


@contextmanager
def serving_process(
    place: Place,
    *,
    port: int | None = None,
    module: str = "serving",
    arguments: tuple[str, ...] = (),
    **settings: object,
) -> Iterator[ServingProcess]:
    """Serving over a place's state, ready; told to end, unless it has ended, at the end."""
    port = port or free_port()
    told = {
        "var": place.var,
        "serving_port": port,
        "model_url": place.upstream.url,
        "monitoring_url": place.upstream.url,
        "serving_feed_wait_s": 0.2,
    } | settings
    environment = os.environ | {f"TANDEM_{name.upper()}": str(value) for name, value in told.items()}
    log, url = place.var / "serving.log", f"http://127.0.0.1:{port}"
    with log.open("ab") as said:
        process = subprocess.Popen([sys.executable, "-m", module, *arguments], env=environment, stderr=said)
    with httpx.Client(base_url=url, timeout=20) as client:
        running = ServingProcess(url, process, log, Service(client, read_token(place.var / "tokens", "control")))
        try:
            patience = time.monotonic() + READY_WITHIN_S
            while not running.is_ready():
                assert process.poll() is None, f"serving ended by itself: {log.read_text()[-2000:]}"
                assert time.monotonic() < patience, f"serving was not ready in time: {log.read_text()[-2000:]}"
                time.sleep(0.02)
            yield running
        finally:
            process.terminate()
            process.wait(30)


def promoted(service: Service, version: str) -> None:
    """Make a bundle champion, whoever was that before."""
    for action, fields in (("challenge", {"version": version}), ("promote", {})):
        answer = service.control(action, **fields)
        assert answer.status_code == 200, answer.text
    assert service.rollout()["champion"] == version

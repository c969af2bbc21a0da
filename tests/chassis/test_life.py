"""A process's life as others see it: started, live, ready, draining, gone."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from chassis.life import Life
from chassis.service import make_app
from tests.chassis.balancer import balancing
from tests.chassis.small_service import get, small_service
from tests.servers import eventually, running


def test_started_live_and_ready_are_told_apart():
    reasons: dict[str, str | None] = {"started": "warming up", "ready": "no champion"}
    app = make_app(
        "small", CollectorRegistry(), ready=lambda: reasons["ready"], started=lambda: reasons["started"],
        background={"wait": lambda stop: stop.wait()},
    )  # fmt: skip
    with running(app) as url:

        def asked(kind: str) -> tuple[int, str]:
            answer = httpx.get(f"{url}/health/{kind}")
            return answer.status_code, answer.json().get("detail") or answer.json()["status"]

        assert [asked(kind) for kind in ("startup", "live", "ready")] == [
            (503, "warming up"), (200, "live"), (503, "no champion"),
        ]  # fmt: skip
        reasons["started"] = None
        assert asked("startup") == (200, "started")
        assert asked("ready") == (503, "no champion")


def test_a_service_has_not_started_before_its_background_work():
    life = Life("small", {"follow": lambda stop: stop.wait()}, drain_s=0)
    assert life.why_not_started() == "not begun yet: follow"
    life.start()
    eventually(lambda: life.why_not_started() is None, "the work has begun")
    life.end()


class Load:
    """Clients that ask on a new connection each time, as fast as they are answered."""

    def __init__(self, url: str, clients: int = 4) -> None:
        self.url, self.answers, self.stop = url, [], threading.Event()
        self.threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def _ask(self) -> None:
        while not self.stop.is_set():
            try:
                self.answers.append(get(f"{self.url}/work?ms=20")[0])
            except OSError as error:
                self.answers.append(repr(error))

    def end(self) -> list[int | str]:
        self.stop.set()
        for thread in self.threads:
            thread.join()
        return self.answers


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_behind_a_balancer_nobody_notices_that_a_backend_ends(tmp_path, workers):
    with ExitStack() as stack:
        places = [tmp_path / "a", tmp_path / "b"]
        for place in places:
            place.mkdir()
        (first, ending), (second, _) = [
            stack.enter_context(small_service(place, workers=workers, drain_s=1)) for place in places
        ]
        balancer = stack.enter_context(balancing([first, second]))
        load = Load(balancer.url)
        time.sleep(0.5)
        ending.send_signal(signal.SIGTERM)
        ending.wait(timeout=10)
        asked_by_then = len(load.answers)
        time.sleep(0.3)
        answers = load.end()
    assert balancer.passed[first] > 10
    assert len(answers) > asked_by_then > 50
    assert set(answers) == {200}


def test_told_to_end_it_is_not_ready_at_once_answers_on_and_lets_nobody_stay(tmp_path: Path):
    with small_service(tmp_path, drain_s=1.5) as (url, process), httpx.Client(base_url=url) as client:
        assert "connection" not in client.get("/work").headers
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        eventually(lambda: client.get("/health/ready").status_code == 503, "it is not ready", within_s=0.5)
        ready = client.get("/health/ready").json()
        answer = client.get("/work")
        live = client.get("/health/live")
        process.send_signal(signal.SIGTERM)  # a supervisor signals a group and its leader passes it on: once is meant
        process.wait(timeout=10)
        took_s = time.monotonic() - told

    assert (ready["type"], ready["detail"]) == ("/problems/not-ready", "draining: this process ends soon")
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert live.status_code == 200
    assert 1.5 <= took_s < 4


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path):
    with small_service(tmp_path, drain_s=30) as (url, process):
        process.send_signal(signal.SIGINT)
        eventually(lambda: get(f"{url}/health/ready")[0] == 503, "it drains", within_s=5)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=10)


def test_a_settled_process_does_not_look_through_what_it_is_made_of():
    code = """
import gc, sys
import chassis.service  # as much as any service is made of
from chassis.life import settle
before = len(gc.get_objects())
settle()
assert before > 50_000, before
assert len(gc.get_objects()) < 500, len(gc.get_objects())  # those that the collector looks through
assert sys.getswitchinterval() < 0.001
cycle = []
cycle.append(cycle)
del cycle
assert gc.collect() == 1  # what comes later it takes away as ever
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

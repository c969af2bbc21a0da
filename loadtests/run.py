"""Judge a Tandem of its own under the load that requirements name:  python -m loadtests.run"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import gevent  # type: ignore[import-untyped]
import httpx
import psutil  # type: ignore[import-untyped]
from locust.env import Environment
from rich.console import Console

from chassis.clock import Clock
from contracts import measurements
from contracts.problems import TandemError, plain_words
from contracts.requirements import Load, load
from loadtests import report
from loadtests.histogram import Histogram
from loadtests.settings import TrafficSettings
from loadtests.steady import SteadyEstimates, SteadyPeople, SteadyQuotes

SERVICES = ("product", "serving", "monitoring", "city", "data", "model")
QUICK, STEADY = "600", "1"  # city seconds per wall second: until there is a champion; while measuring
CHAMPION_WITHIN_S = 400
SETTLE_S = 10  # after a warm start the followers catch up; they must not be measured


class NoChampion(TandemError):
    """The Tandem under test did not come up."""


@contextmanager
def tandem(settings: TrafficSettings, speed: str) -> Iterator[psutil.Process]:
    """A Tandem until leaving, entered once a champion serves; answers its launcher's process."""
    environment = os.environ | {f"TANDEM_{name}_PORT".upper(): str(settings.port(name)) for name in SERVICES}
    environment |= {"TANDEM_VAR": str(settings.var), "TANDEM_HISTORY_WEEKS": "6", "TANDEM_SPEED": speed}
    log = settings.var.with_name("launcher.log")
    with log.open("ab") as output:
        launcher = subprocess.Popen(
            [sys.executable, "-m", "deploy.run"], env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        deadline = time.monotonic() + CHAMPION_WITHIN_S
        while not _serves(settings):
            if time.monotonic() > deadline or launcher.poll() is not None:
                raise NoChampion(f"no champion in {CHAMPION_WITHIN_S} s; its launcher said:\n{log.read_text()[-2000:]}")
            time.sleep(0.5)
        yield psutil.Process(launcher.pid)
    finally:
        launcher.send_signal(signal.SIGINT)
        launcher.wait(timeout=90)


def _serves(settings: TrafficSettings) -> bool:
    try:
        return httpx.get(f"{settings.url('serving')}/health/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False  # not up yet


def measure(
    settings: TrafficSettings,
    workers: Callable[[], list[psutil.Process]],
    steady: Load,
    users: Sequence[type[SteadyPeople]] = (SteadyQuotes, SteadyEstimates),
) -> report.Measured:
    """Warm up, then measure what these users and serving's workers live through."""
    SteadyPeople.settings, SteadyPeople.load = settings, steady
    SteadyPeople.clock = Clock.load(settings.clock_file)
    environment = Environment(user_classes=list(users))
    runner = environment.create_local_runner()
    runner.start(user_count=len(users), spawn_rate=len(users))
    gevent.sleep(steady.warmup_s)
    environment.stats.reset_all()
    SteadyQuotes.by_model = 0
    before, memory = _histogram(settings), dict[int, float]()
    deadline = time.monotonic() + steady.duration_s
    while time.monotonic() < deadline:
        for worker in workers():
            memory[worker.pid] = max(memory.get(worker.pid, 0.0), worker.memory_info().rss / 1e6)
        gevent.sleep(min(1.0, max(0.0, deadline - time.monotonic())))
    ran = _histogram(settings).since(before)
    by_serving = report.Latency("by serving", ran.total, 1000 * ran.quantile(0.95), 1000 * ran.quantile(0.99))
    by_client = _seen(environment, "estimate", "by a client")
    quotes = _seen(environment, "quote", "quotes") if SteadyQuotes in users else None
    measured = report.Measured(quotes, SteadyQuotes.by_model, by_serving, by_client, memory)
    runner.quit()
    return measured


def _seen(environment: Environment, name: str, observer: str) -> report.Latency:
    stats = environment.stats.get(name, "POST")
    p95, p99 = (stats.get_response_time_percentile(share) for share in (0.95, 0.99))
    return report.Latency(observer, stats.num_requests - stats.num_failures, p95, p99)


def _workers(launcher: psutil.Process) -> list[psutil.Process]:
    """Serving's processes: the one that the supervisor started and any that it started."""
    served = [process for process in launcher.children(recursive=True) if process.cmdline()[1:3] == ["-m", "serving"]]
    return served + [child for process in served for child in process.children(recursive=True)]


def _histogram(settings: TrafficSettings) -> Histogram:
    metrics = httpx.get(f"{settings.url('serving')}/metrics", timeout=10).text
    return Histogram.read(metrics, "tandem_estimate_seconds")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@plain_words()
def main() -> int:
    """Exit status: 0 when every requirement of the load is kept."""
    record, console = load(), Console()
    steady = record.load[report.POPULATION]
    with tempfile.TemporaryDirectory(prefix="tandem-") as folder:
        ports = {f"{service}_port": _free_port() for service in SERVICES}
        settings = TrafficSettings.model_validate({"var": Path(folder, "var"), **ports})
        try:
            with console.status("a Tandem of its own learns its first model"), tandem(settings, QUICK):
                pass
            with console.status(f"{steady.arrivals_per_s:g} quotes a second"), tandem(settings, STEADY) as launcher:
                time.sleep(SETTLE_S)
                measured = measure(settings, partial(_workers, launcher), steady)
        except TandemError as error:
            sys.exit(str(error))
    lines = report.verdicts(measured, record, steady)
    report.publish(lines, measured, Path("reports"), record)
    measurements.keep(report.measurements_of(lines, record), TrafficSettings().measured)
    return 0 if all(line.passed for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())

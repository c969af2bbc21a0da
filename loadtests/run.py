"""Judge a Tandem of its own under the load that requirements name:  python -m loadtests.run"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent  # type: ignore[import-untyped]
import httpx
import psutil  # type: ignore[import-untyped]
from locust.env import Environment
from rich.console import Console

from contracts.clock import Clock
from contracts.problems import TandemError
from contracts.requirements import Load, load
from loadtests import report
from loadtests.histogram import Histogram
from loadtests.settings import TrafficSettings
from loadtests.steady import SteadyEstimates, SteadyPeople, SteadyQuotes

PORTS = ("product", "serving", "monitoring", "city", "data", "model")
LATENCY = "tandem_estimate_seconds"
CHAMPION_WITHIN_S, WARM_WITHIN_S = 400, 60
SETTLE_S = 10  # after a warm start the followers catch up; they must not be measured
QUICK, STEADY = "600", "1"  # city seconds per wall second: until there is a champion; while measuring


class NoTandem(TandemError):
    """The Tandem under test did not come up."""


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def running(environment: dict[str, str], log: Path) -> Iterator[psutil.Process]:
    """A Tandem from entering to leaving; answers its launcher's process."""
    with log.open("ab") as output:
        launcher = subprocess.Popen(
            [sys.executable, "-m", "deploy.run"], env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield psutil.Process(launcher.pid)
    finally:
        launcher.send_signal(signal.SIGINT)
        launcher.wait(timeout=90)


def wait_for(what: str, look: Callable[[], bool], within_s: float, log: Path) -> None:
    """Wait until it is there. Raises `NoTandem` with the end of the launcher's log."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if look():
                return
        except httpx.HTTPError:
            pass  # not up yet; the deadline decides
        time.sleep(0.5)
    raise NoTandem(f"no {what} within {within_s:.0f} s; the launcher said:\n{log.read_text()[-2000:]}")


def workers(launcher: psutil.Process) -> list[psutil.Process]:
    """Serving's processes: the one that was started and any that it started."""
    mine = launcher.children(recursive=True)
    served = [process for process in mine if process.cmdline()[1:3] == ["-m", "serving"]]
    return served + [child for process in served for child in process.children(recursive=True)]


def measure(settings: TrafficSettings, launcher: psutil.Process, steady: Load) -> report.Measured:
    """Warm up, measure, and answer what was measured."""
    SteadyPeople.settings, SteadyPeople.load = settings, steady
    SteadyPeople.clock = Clock.load(settings.clock_file)
    environment = Environment(user_classes=[SteadyQuotes, SteadyEstimates])
    runner = environment.create_local_runner()
    runner.start(user_count=2, spawn_rate=2)
    gevent.sleep(steady.warmup_s)
    environment.stats.reset_all()
    SteadyQuotes.by_model = 0
    before = served(settings)
    memory: dict[int, float] = {}
    deadline = time.monotonic() + steady.duration_s
    while time.monotonic() < deadline:
        for worker in workers(launcher):
            memory[worker.pid] = max(memory.get(worker.pid, 0.0), worker.memory_info().rss / 1e6)
        gevent.sleep(min(1.0, max(0.0, deadline - time.monotonic())))
    after = served(settings).since(before)
    quote, estimate = environment.stats.get("quote", "POST"), environment.stats.get("estimate", "POST")
    measured = report.Measured(
        quotes_answered=quote.num_requests - quote.num_failures,
        quotes_failed=quote.num_failures,
        quotes_by_model=SteadyQuotes.by_model,
        estimates_answered=estimate.num_requests - estimate.num_failures,
        served_samples=after.total,
        served_p95_ms=1000 * after.quantile(0.95),
        served_p99_ms=1000 * after.quantile(0.99),
        client_p95_ms=estimate.get_response_time_percentile(0.95),
        client_p99_ms=estimate.get_response_time_percentile(0.99),
        quote_p95_ms=quote.get_response_time_percentile(0.95),
        quote_p99_ms=quote.get_response_time_percentile(0.99),
        memory_mb=memory,
    )
    runner.quit()
    return measured


def served(settings: TrafficSettings) -> Histogram:
    """Serving's latency histogram as it stands."""
    return Histogram.read(httpx.get(f"{settings.url('serving')}/metrics", timeout=10).text, LATENCY)


def main(console: Console) -> int:
    """Exit status: 0 when every requirement of the load is kept."""
    record = load()
    steady = record.load[report.POPULATION]
    with tempfile.TemporaryDirectory(prefix="tandem-") as folder:
        own = {f"{service}_port": free_port() for service in PORTS}
        settings = TrafficSettings(var=Path(folder, "var"), **own)  # type: ignore[arg-type]
        environment = os.environ | {f"TANDEM_{name.upper()}": str(port) for name, port in own.items()}
        environment |= {"TANDEM_VAR": str(settings.var), "TANDEM_HISTORY_WEEKS": "2", "TANDEM_SPEED": QUICK}
        log = Path(folder, "launcher.log")

        def serves() -> bool:
            return httpx.get(f"{settings.url('serving')}/health/ready", timeout=5).status_code == 200

        try:
            learning = console.status("a Tandem of its own learns its first model (two to four minutes)")
            with learning, running(environment, log):
                wait_for("champion", serves, CHAMPION_WITHIN_S, log)
            with running(environment | {"TANDEM_SPEED": STEADY}, log) as launcher:
                wait_for("champion after a warm start", serves, WARM_WITHIN_S, log)
                time.sleep(SETTLE_S)
                with console.status(
                    f"{steady.arrivals_per_s:g} quotes/s for {steady.warmup_s + steady.duration_s:g} s"
                ):
                    measured = measure(settings, launcher, steady)
        except TandemError as error:
            console.print(f"[red]{error}[/]")
            return 1
    lines = report.verdicts(measured, record)
    report.show(lines, measured, console)
    report.write(lines, measured, Path("reports"))
    console.print("written: reports/loadtest.json, reports/loadtest.html")
    return 0 if all(line.passed for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main(Console(soft_wrap=True)))

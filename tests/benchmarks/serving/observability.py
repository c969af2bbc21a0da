"""What metrics, ids and logging cost a request: just those parts, called in this process as a request calls them."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from chassis.logs import about_request
from contracts.requirements import load
from serving.caller import Caller
from serving.metrics import Metrics
from serving.observation import Observation
from tests.benchmarks.report import Part
from tests.benchmarks.serving import goals
from tests.benchmarks.serving.bench import Bench, table
from tests.benchmarks.serving.bursts import Spread, on_core

ROUNDS = 20
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def pieces() -> dict[str, Callable[[], object]]:
    """What one request for one trip does beside its work: a trace that it comes with is gone on with, its ids are there
    for whoever logs (nothing is logged of a request that goes well) and go back as headers; and it is counted."""
    metrics = Metrics(load())
    observation = Observation(metrics, None)
    headers = {b"host": b"127.0.0.1", b"content-length": b"250", b"traceparent": TRACE}
    caller = Caller.of(headers)

    def count() -> None:
        metrics.said("champion", "estimated").inc(1)
        metrics.waiting.inc(1)
        metrics.waiting.inc(-1)
        observation.answered(caller, 200, time.perf_counter())

    return {
        "request id and trace, read or made": lambda: Caller.of(headers),
        "ids for the logs": lambda: about_request(caller.request_id, caller.span.trace_id),
        "ids as headers": caller.headers,
        "metrics": count,
    }


def measure(bench: Bench) -> Part:
    """Microseconds of each piece, on the servers' core."""
    part, took = Part("observability"), {}
    with on_core(bench.cores.server):
        for name, piece in pieces().items():
            took[name] = Spread.of([timed_us(piece, bench.plan.calls // ROUNDS) for _ in range(ROUNDS)])
    made = table("observability, µs a request: median (quartiles)", "piece", "µs")
    for name, spread in took.items():
        made.add_row(name, spread.text())
    part.tables.append(made)
    part.figures |= {name: spread.median for name, spread in took.items()}
    total = sum(spread.median for spread in took.values())
    part.verdicts = [goals.OBSERVABILITY_US.judge(total, " + ".join(took))]
    return part


def timed_us(piece: Callable[[], object], calls: int) -> float:
    """Microseconds a call: the median of some runs of calls."""
    took = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(calls):
            piece()
        took.append((time.perf_counter() - began) / calls * 1e6)
    return median(took)

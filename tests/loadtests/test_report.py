"""The load test's arithmetic: a histogram between two readings, and what makes a run red."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as LiveHistogram

from contracts.requirements import load
from loadtests.histogram import Histogram
from loadtests.report import POPULATION, Measured, verdicts, write

RECORD = load()
STEADY = RECORD.load[POPULATION]
ALL_QUOTES = int(STEADY.arrivals_per_s * STEADY.duration_s)
GOOD = Measured(
    quotes_answered=ALL_QUOTES,
    quotes_failed=0,
    quotes_by_model=ALL_QUOTES,
    estimates_answered=ALL_QUOTES,
    served_samples=2 * ALL_QUOTES,
    served_p95_ms=4,
    served_p99_ms=9,
    client_p95_ms=6,
    client_p99_ms=14,
    quote_p95_ms=20,
    quote_p99_ms=40,
    memory_mb={4711: 120.0},
)


def red(measured: Measured) -> set[str]:
    return {f"{line.requirement}: {line.measure}" for line in verdicts(measured, RECORD) if not line.passed}


def test_a_good_run_is_green():
    assert red(GOOD) == set()


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ({"quotes_answered": int(0.94 * ALL_QUOTES)}, "the run counts: quotes answered"),
        ({"served_samples": STEADY.least_samples - 1}, "the run counts: samples"),
        ({"served_p95_ms": RECORD["estimate-latency-p95"].ceiling + 1}, "estimate-latency-p95: by serving"),
        ({"client_p99_ms": RECORD["estimate-latency-p99"].ceiling + 1}, "estimate-latency-p99: by the client"),
        ({"served_p99_ms": math.nan}, "estimate-latency-p99: by serving"),
        ({"memory_mb": {1: 100.0, 2: RECORD["serving-memory"].ceiling + 1}}, "serving-memory: worker 2"),
        ({"memory_mb": {}}, "serving-memory"),
    ],
)
def test_each_fault_turns_its_own_line_red(fault, named):
    (line,) = red(replace(GOOD, **fault))
    assert line.startswith(named)


def test_only_what_came_between_the_readings_counts():
    registry = CollectorRegistry()
    live = LiveHistogram("wait_seconds", "-", registry=registry, buckets=(0.05, 0.15, 1))
    live.observe(0.9)  # before the run: must not count
    before = Histogram.read(generate_latest(registry).decode(), "wait_seconds")
    for _ in range(99):
        live.observe(0.01)
    live.observe(0.1)

    ran = Histogram.read(generate_latest(registry).decode(), "wait_seconds").since(before)

    assert ran.total == 100
    assert ran.quantile(0.99) == pytest.approx(0.05)
    assert 0.05 < ran.quantile(0.995) < 0.15
    with pytest.raises(KeyError):
        Histogram.read(generate_latest(registry).decode(), "another_seconds")


def test_the_written_report_holds_every_verdict(tmp_path):
    lines = verdicts(replace(GOOD, served_p95_ms=99.0), RECORD)
    write(lines, GOOD, tmp_path)

    written = json.loads((tmp_path / "loadtest.json").read_text())["verdicts"]
    assert [line["passed"] for line in written].count(False) == 1
    assert (tmp_path / "loadtest.html").read_text().count("<tr class=") == len(lines)

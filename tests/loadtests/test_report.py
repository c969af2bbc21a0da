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
from loadtests.report import POPULATION, Latency, Measured, publish, verdicts

RECORD = load()
STEADY = RECORD.load[POPULATION]
P95, P99 = RECORD["estimate-latency-p95"].ceiling, RECORD["estimate-latency-p99"].ceiling
ALL_QUOTES = int(STEADY.arrivals_per_s * STEADY.duration_s)
QUOTES = Latency("quotes", ALL_QUOTES, 20, 40)
BY_SERVING, BY_CLIENT = Latency("by serving", 2 * ALL_QUOTES, 4, 9), Latency("by a client", ALL_QUOTES, 6, 14)
GOOD = Measured(QUOTES, ALL_QUOTES, BY_SERVING, BY_CLIENT, {4711: 120.0})


def red(measured: Measured) -> set[str]:
    return {f"{line.requirement}: {line.how}" for line in verdicts(measured, RECORD, STEADY) if not line.passed}


def test_a_good_run_is_green():
    assert red(GOOD) == set()


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ({"quotes": replace(QUOTES, samples=int(0.94 * ALL_QUOTES))}, "the run counts: quotes answered"),
        ({"by_serving": replace(BY_SERVING, samples=STEADY.least_samples - 1)}, "the run counts: samples: by serving"),
        ({"by_client": replace(BY_CLIENT, samples=int(0.94 * ALL_QUOTES))}, "estimate-throughput: by a client"),
        ({"by_serving": replace(BY_SERVING, p95_ms=P95 + 1)}, "estimate-latency-p95: by serving"),
        ({"by_client": replace(BY_CLIENT, p99_ms=P99 + 1)}, "estimate-latency-p99: by a client"),
        ({"by_serving": replace(BY_SERVING, p99_ms=math.nan)}, "estimate-latency-p99: by serving"),
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


def test_the_published_report_holds_every_verdict(tmp_path):
    lines = verdicts(replace(GOOD, memory_mb={7: 9999.0}), RECORD, STEADY)
    publish(lines, GOOD, tmp_path, RECORD)

    written = json.loads((tmp_path / "loadtest.json").read_text())["verdicts"]
    assert [line["requirement"] for line in written if not line["passed"]] == ["serving-memory"]
    assert (tmp_path / "loadtest.html").read_text().count("MISSED") == 1

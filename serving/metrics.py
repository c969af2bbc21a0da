"""What serving measures of itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from contracts.estimates import Rollout
from contracts.requirements import Requirements

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


def latency_buckets(requirements: Requirements) -> list[float]:
    """Bucket edges in seconds: every latency limit is one, so that the share within a limit is exact."""
    limits = {item.ceiling / 1000 for item in requirements.all() if item.quality == "latency" and item.unit == "ms"}
    return sorted(limits | set(BUCKETS_S))


class Metrics:
    """Serving's metrics in one registry. Labels are bounded: roles, statuses, status codes, stages of the check."""

    def __init__(self, requirements: Requirements) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.estimates = Counter(
            "tandem_estimates_total", "What bundles said of trips", ["role", "status"], registry=registry
        )
        self.said = cache(self.estimates.labels)  # by role and status: to be looked up for each batch
        self.explanations = Counter(
            "tandem_explanations_total",
            "Estimates to be explained, by what became of it",
            ["status"],
            registry=registry,
        )
        self.inferred = Counter(
            "tandem_inferred_rows_total",
            "Rows asked of a bundle over the Open Inference Protocol; no estimates",
            ["status"],
            registry=registry,
        )
        self.requests = Counter("tandem_estimate_requests_total", "Requests by answer", ["code"], registry=registry)
        self.answered = self.requests.labels("200")  # by far the most: not to be looked up each time
        self.seconds = Histogram(
            "tandem_estimate_seconds",
            "Answered requests for estimates, from the first byte to the last",
            registry=registry,
            buckets=latency_buckets(requirements),
        )
        self.rejected = Counter(
            "tandem_bundles_rejected_total", "Bundles that serving would not load", ["reason"], registry=registry
        )
        self.ignored = Counter(
            "tandem_commands_ignored_total",
            "Decisions that did not fit what served then",
            ["action"],
            registry=registry,
        )
        self.waiting = Gauge(
            "tandem_waiting_trips",
            "Trips taken in and not yet answered",
            registry=registry,
            multiprocess_mode="livesum",
        )


class Now(Collector):
    """What holds at the moment of a scrape: who serves, and how old the news of the followed feeds is."""

    def __init__(self, rollout: Callable[[], Rollout], last_answers: Callable[[], Mapping[str, float]]) -> None:
        self.rollout, self.last_answers = rollout, last_answers

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        lag = GaugeMetricFamily(
            "tandem_feed_follow_lag_seconds", "Since a followed feed last answered", labels=["feed"]
        )
        for feed, answered in self.last_answers().items():
            lag.add_metric([feed], time.time() - answered)
        yield lag
        roles = {name: str(value or "") for name, value in self.rollout().model_dump().items()}
        yield InfoMetricFamily("tandem_rollout", "Versions that serve, by role", roles)

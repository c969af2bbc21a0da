"""Gauges of the newest tick, read when Prometheus asks. Groups and roles are bounded; trips are never labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from chassis.sql import reading
from contracts.decisions import KINDS
from monitoring.evidence import Evidence
from monitoring.monitor import Monitor
from monitoring.pages import newest_view


class Gauges(Collector):
    """What `/metrics` tells of a monitor."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family after the other."""
        lags = {(feed,): age for feed, age in self.monitor.freshness().items()}
        yield _gauge("tandem_feed_lag_seconds", "Wall seconds since a feed last answered", ("feed",), lags.items())
        with reading(self.monitor.engine) as tx:
            view = newest_view(tx, self.monitor.record)
        if view is None:
            return
        seen = view.evidence
        yield _gauge(
            "tandem_coverage_p90_ratio", "Share of trips within p90", ("group", "role"), _coverage(seen).items()
        )
        for name, meaning, share in (
            ("tandem_late_promises_ratio", "Share of promises broken", seen.late),
            ("tandem_outcome_join_ratio", "Share of outcomes that found their estimate", seen.joined),
            ("tandem_quarantined_rows_ratio", "Share of rows quarantined", seen.health.quarantined),
        ):
            if share.of:
                yield _gauge(name, meaning, (), [((), share.value)])
        levels = {(reading.side, reading.group or "all"): reading.level for reading in seen.readings}
        yield _gauge("tandem_detector_level_ratio", "Odds for a change", ("side", "group"), levels.items())
        kinds = {(kind,): float(kind == view.verdict.kind) for kind in KINDS}
        yield _gauge("tandem_decision_state", "1 for the current decision", ("kind",), kinds.items())


def _coverage(seen: Evidence) -> dict[tuple[str, ...], float]:
    tallies = {("all", "champion"): seen.held.overall}
    tallies |= {(group, "champion"): tally for group, tally in seen.held.groups.items()}
    for duel, role in ((seen.challenger, "challenger"), (seen.previous, "previous")):
        if duel is not None:
            tallies |= {("all", role): duel.tally} | {(group, role): tally for group, tally in duel.groups.items()}
    return {labels: tally.p90.value for labels, tally in tallies.items() if tally.of}


def _gauge(
    name: str, meaning: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for which, value in values:
        family.add_metric(which, value)
    return family

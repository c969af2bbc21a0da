"""A service's own latency histogram, read from its `/metrics` before and after a run."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts[i]` requests took at most `edges[i]` seconds; the last edge is infinite."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]

    @classmethod
    def read(cls, metrics: str, name: str) -> Histogram:
        """The histogram of that name in a metrics page, summed over labels. Raises `KeyError` when it isn't there."""
        counts: dict[float, float] = {}
        for family in text_string_to_metric_families(metrics):
            for sample in family.samples:
                if sample.name == f"{name}_bucket":
                    edge = float(sample.labels["le"])
                    counts[edge] = counts.get(edge, 0.0) + sample.value
        if not counts:
            raise KeyError(name)
        edges = tuple(sorted(counts))
        return cls(edges, tuple(counts[edge] for edge in edges))

    def since(self, before: Histogram) -> Histogram:
        """What was added since an earlier reading."""
        return Histogram(self.edges, tuple(now - then for now, then in zip(self.counts, before.counts, strict=True)))

    @property
    def total(self) -> int:
        """How many requests it holds."""
        return int(self.counts[-1])

    def quantile(self, share: float) -> float:
        """Seconds within which that share of requests was answered, interpolated inside its bucket; NaN when empty.

        >>> Histogram((0.05, 0.1, float("inf")), (90, 100, 100)).quantile(0.9)
        0.075
        """
        wanted = share * self.counts[-1]
        if not wanted:
            return float("nan")
        steps = pairwise([(0.0, 0.0), *zip(self.edges, self.counts, strict=True)])
        for (low, below), (high, upto) in steps:
            if upto >= wanted:
                return high if high == float("inf") else low + (high - low) * (wanted - below) / (upto - below)
        raise AssertionError("the last bucket holds all")

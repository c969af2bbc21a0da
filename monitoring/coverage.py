"""How well quantiles held: misses, shares with their intervals, pinball loss. All times in minutes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, NamedTuple

from contracts.trips import LEVELS

Miss = Literal["above", "inside", "below"]


class Quantiles(NamedTuple):
    """One in ten trips takes under `p10_min` minutes, half under `p50_min`, nine in ten under `p90_min`."""

    p10_min: float
    p50_min: float
    p90_min: float


def pinball(minutes: float, quantiles: Quantiles) -> float:
    """Pinball loss in minutes, mean over the three levels.

    >>> round(pinball(30.0, Quantiles(10.0, 20.0, 30.0)), 6)
    2.333333
    """
    misses = [(level, minutes - quantile) for level, quantile in zip(LEVELS, quantiles, strict=True)]
    return sum(max(level * miss, (level - 1) * miss) for level, miss in misses) / len(LEVELS)


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` out of `of`."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        """The plain share; NaN of nothing."""
        return self.hits / self.of if self.of else math.nan

    def interval(self, alpha: float) -> tuple[float, float]:
        """Wilson's interval at error level `alpha`, two-sided. Of nothing: anything between 0 and 1.

        >>> [round(bound, 3) for bound in Share(90, 100).interval(0.05)]
        [0.826, 0.945]
        """
        if not self.of:
            return 0.0, 1.0
        z2 = NormalDist().inv_cdf(1 - alpha / 2) ** 2
        middle = (self.hits + z2 / 2) / (self.of + z2)
        half = math.sqrt(z2 * (self.hits * (self.of - self.hits) / self.of + z2 / 4)) / (self.of + z2)
        return middle - half, middle + half


OF_NOTHING = Share(0, 0)


@dataclass(frozen=True, slots=True)
class Tally:
    """Trips counted by where their duration fell: above p90, below p10, of all."""

    above: int = 0
    below: int = 0
    of: int = 0

    def and_one(self, miss: Miss) -> Tally:
        """This tally with one more trip."""
        return Tally(self.above + (miss == "above"), self.below + (miss == "below"), self.of + 1)

    @property
    def p90(self) -> Share:
        """Share of trips that p90 covered."""
        return Share(self.of - self.above, self.of)

    @property
    def band(self) -> Share:
        """Share of trips between p10 and p90."""
        return Share(self.of - self.above - self.below, self.of)


NO_TRIPS = Tally()


def tally(misses: Sequence[Miss]) -> Tally:
    """Count misses."""
    return Tally(misses.count("above"), misses.count("below"), len(misses))

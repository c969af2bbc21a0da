"""What is measured of quantiles on held-out trips, and how sure each figure is."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from contracts.bundle import Bounds, Slice
from contracts.problems import TandemError
from contracts.trips import LEVELS
from model.snapshot import Inputs, Trips

HOURS = 168
DAYS, FEWEST_HOURS = 5, 8  # with fewer days than that hours are drawn; with fewer hours nothing can be said
RESAMPLES = 2000
SURE = 0.95


class TooFewHours(TandemError):
    """The held-out trips lie too close together to say how sure their figures are."""

    def __init__(self, hours: int) -> None:
        super().__init__(
            f"the held-out trips were asked for within {hours} hours; {FEWEST_HOURS} are needed to tell how sure their "
            "figures are: collect trips over a longer time"
        )


def trip_pinball_min(quantiles_min: np.ndarray, duration_min: np.ndarray) -> np.ndarray:
    """Pinball loss in minutes by trip and level, shape (n, 3), of quantiles (n, 3) and durations (n,)."""
    off = duration_min[:, None] - quantiles_min
    levels = np.array(LEVELS)
    loss: np.ndarray = np.maximum(levels * off, (levels - 1) * off)
    return loss


def pinball_min(quantiles_min: np.ndarray, duration_min: np.ndarray) -> np.ndarray:
    """Mean pinball loss in minutes per level, shape (3,), of quantiles (n, 3) and durations (n,).

    >>> pinball_min(np.array([[8.0, 10.0, 20.0]]), np.array([12.0])).round(1).tolist()
    [0.4, 1.0, 0.8]
    """
    loss: np.ndarray = trip_pinball_min(quantiles_min, duration_min).mean(0)
    return loss


def misses(quantiles_min: np.ndarray, duration_min: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which trips took longer than p90, and which less than p10; each shape (n,)."""
    return duration_min > quantiles_min[:, 2], duration_min < quantiles_min[:, 0]


def student(level: float, free: float) -> float:
    """Quantile of Student's t with `free` degrees of freedom, from its expansion about the normal one (Abramowitz and
    Stegun 1972, 26.7.5).

    >>> round(student(0.975, 6), 2)
    2.45
    """
    z = NormalDist().inv_cdf(level)
    terms = (z, (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return sum(term / free**power for power, term in enumerate(terms))


class Bootstrap:
    """How sure figures of some trips are: whole blocks of time are drawn with replacement, since trips of one day share
    its jams and weather (block bootstrap, Künsch 1989; percentile intervals, Efron and Tibshirani 1993, 13.3).

    A block is a day, or an hour where trips span fewer than five days. Intervals of so few blocks are too narrow: they
    are widened as Student's t is wider than the normal distribution. What one day has in common with the next they do
    not know, nor one hour with the next: ADR 0009 tells how often they hold. Raises `TooFewHours`.
    """

    def __init__(self, requested_at: np.ndarray) -> None:
        days, day = np.unique(requested_at.astype("datetime64[D]"), return_inverse=True)
        hours, hour = np.unique(requested_at.astype("datetime64[h]"), return_inverse=True)
        if len(hours) < FEWEST_HOURS:
            raise TooFewHours(len(hours))
        by_day = len(days) >= DAYS
        self.unit: Literal["day", "hour"] = "day" if by_day else "hour"
        self.block, self.count = (day, len(days)) if by_day else (hour, len(hours))
        even = np.full(self.count, 1 / self.count)
        self.draws = np.random.default_rng(1).multinomial(self.count, even, RESAMPLES)

    def ratio(self, above: np.ndarray, below: np.ndarray, of: int = 1) -> tuple[float, Bounds]:
        """The sum of `above` over the sum of `below`, both by trip, shape (n,), and its 95% interval; where `of` such
        intervals are looked at, all of them hold at once (Bonferroni)."""
        upper, lower = (np.bincount(self.block, values, self.count) for values in (above, below))
        with np.errstate(invalid="ignore"):  # a draw of blocks without such a trip says nothing
            drawn = (self.draws @ upper) / (self.draws @ lower)
        inside = 1 - (1 - SURE) / of / 2
        found, ends = float(upper.sum() / lower.sum()), np.nanquantile(drawn, [1 - inside, inside])
        low, high = found + self.widening(inside) * (ends - found)
        return found, (float(low), float(high))

    def share(self, chosen: np.ndarray, among: np.ndarray, of: int = 1) -> tuple[float, Bounds]:
        """As `ratio`, of trips `chosen` from those `among` which they are: between 0 and 1."""
        found, (low, high) = self.ratio(chosen, among, of)
        return found, (max(low, 0.0), min(high, 1.0))

    def widening(self, level: float) -> float:
        """By what draws of so few blocks stray too little, at a level such as 0.975."""
        spread = sqrt(self.count / (self.count - 1))  # of blocks about their own mean, over that about the true one
        return spread * student(level, self.count - 1) / NormalDist().inv_cdf(level)


@dataclass(frozen=True)
class Results:
    """What held-out trips say, by trip, shape (n,) each, and how sure their sums are."""

    loss_min: np.ndarray
    heuristic_loss_min: np.ndarray
    late: np.ndarray
    early: np.ndarray
    p50_min: np.ndarray
    sure: Bootstrap

    @classmethod
    def of(cls, trips: Trips, quantiles_min: np.ndarray, heuristic_min: np.ndarray) -> Results:
        """Results of quantiles (n, 3) on these trips, beside the heuristic's. Raises `TooFewHours`."""
        loss, heuristic_loss = (
            trip_pinball_min(found, trips.duration_min).mean(1) for found in (quantiles_min, heuristic_min)
        )
        late, early = misses(quantiles_min, trips.duration_min)
        return cls(loss, heuristic_loss, late, early, quantiles_min[:, 1], Bootstrap(trips.requested_at))

    def slice(self, chosen: np.ndarray | None = None, of: int = 1) -> Slice:
        """Loss and coverage where `chosen`, shape (n,), holds; its intervals hold for `of` slices at once."""
        here = np.ones(len(self.late)) if chosen is None else chosen.astype(float)
        figures = {
            "pinball_min": self.sure.ratio(here * self.loss_min, here, of),
            "pinball_ratio": self.sure.ratio(here * self.loss_min, here * self.heuristic_loss_min, of),
            "coverage_p90": self.sure.share(here * ~self.late, here, of),
            "coverage_band": self.sure.share(here * ~(self.late | self.early), here, of),
        }
        return Slice(
            rows=int(here.sum()),
            pinball_min=figures["pinball_min"][0],
            heuristic_pinball_min=float((here * self.heuristic_loss_min).sum() / here.sum()),
            coverage_p90=figures["coverage_p90"][0],
            coverage_band=figures["coverage_band"][0],
            mean_p50_min=float((here * self.p50_min).sum() / here.sum()),
            bounds={name: bounds for name, (_, bounds) in figures.items()},
        )

    def by(self, label: np.ndarray, *, at_once: bool = False) -> dict[str, Slice]:
        """One slice for each label, shape (n,); `at_once`: intervals that hold for all of them together."""
        names = sorted(set(label.tolist()))
        return {str(name): self.slice(label == name, len(names) if at_once else 1) for name in names}


def hourly_reference(inputs: Inputs, missed: np.ndarray, prior: ArrayLike, prior_trips: float = 200) -> list[float]:
    """Expected miss share in each hour of the week: held-out misses, shrunk to `prior` (one share, or one an hour)."""
    hour = inputs["minute_of_week"] // 60
    counts, found = np.bincount(hour, minlength=HOURS), np.bincount(hour, weights=missed, minlength=HOURS)
    shares: list[float] = ((found + prior_trips * np.asarray(prior)) / (counts + prior_trips)).tolist()
    return shares

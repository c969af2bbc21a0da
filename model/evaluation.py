"""What is measured of quantiles on held-out trips."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from contracts.bundle import Slice
from contracts.trips import LEVELS
from model.snapshot import Inputs

HOURS = 168


def pinball_min(quantiles_min: np.ndarray, duration_min: np.ndarray) -> np.ndarray:
    """Pinball loss in minutes per level, shape (3,), of quantiles (n, 3) and durations (n,).

    >>> pinball_min(np.array([[8.0, 10.0, 20.0]]), np.array([12.0])).round(1).tolist()
    [0.4, 1.0, 0.8]
    """
    off = duration_min[:, None] - quantiles_min
    levels = np.array(LEVELS)
    loss: np.ndarray = np.maximum(levels * off, (levels - 1) * off).mean(0)
    return loss


def measure(quantiles_min: np.ndarray, heuristic_min: np.ndarray, duration_min: np.ndarray) -> Slice:
    """Loss and coverage of the model, beside the heuristic's loss, on the same trips."""
    late, early = misses(quantiles_min, duration_min)
    return Slice(
        rows=len(duration_min),
        pinball_min=float(pinball_min(quantiles_min, duration_min).mean()),
        heuristic_pinball_min=float(pinball_min(heuristic_min, duration_min).mean()),
        coverage_p90=float(1 - late.mean()),
        coverage_band=float(1 - late.mean() - early.mean()),
        mean_p50_min=float(quantiles_min[:, 1].mean()),
    )


def misses(quantiles_min: np.ndarray, duration_min: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which trips took longer than p90, and which less than p10; each shape (n,)."""
    return duration_min > quantiles_min[:, 2], duration_min < quantiles_min[:, 0]


def by_group(
    groups: np.ndarray, quantiles_min: np.ndarray, heuristic_min: np.ndarray, duration_min: np.ndarray
) -> dict[str, Slice]:
    """The same per zone group of the pickup."""
    return {
        str(name): measure(quantiles_min[groups == name], heuristic_min[groups == name], duration_min[groups == name])
        for name in sorted(set(groups))
    }


def interval(share: float, rows: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95% interval of a share of `rows` trips.

    It takes trips for independent. They share hours and days, so it is somewhat too narrow: whoever judges by it
    calls a limit broken rather too often than too seldom.

    >>> [round(end, 3) for end in interval(0.9, 100)]
    [0.826, 0.945]
    """
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return centre - half, centre + half


def hourly_reference(inputs: Inputs, missed: np.ndarray, prior: ArrayLike, prior_trips: float = 200) -> list[float]:
    """Expected miss share in each hour of the week: held-out misses, shrunk to `prior` (one share, or one an hour)."""
    hour = inputs["minute_of_week"] // 60
    counts, found = np.bincount(hour, minlength=HOURS), np.bincount(hour, weights=missed, minlength=HOURS)
    shares: list[float] = ((found + prior_trips * np.asarray(prior)) / (counts + prior_trips)).tolist()
    return shares

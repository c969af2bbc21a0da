"""Probes of what must hold for any trip: a longer route shortens nothing, quantiles keep their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from contracts.trips import HIGHEST_ZONE, MODEL_INPUTS, VEHICLES
from model.snapshot import Inputs

ROUNDING = 1e-5  # of the answer: what float32 may lose
RANGE_KM = (0.05, 200.0)  # all that the contract lets a distance be


@dataclass(frozen=True)
class Probed:
    """How many quantiles shrank on the longer of two routes, how many pairs of neighbours crossed, out of how many
    trips; `worst` is the largest shrinkage as a share of the answer, rounding included."""

    trips: int
    shrunk: int
    crossed: int
    worst: float


def probe(answer: Callable[[Inputs], np.ndarray], like: Inputs, count: int) -> Probed:
    """Ask about `count` trips twice, the second time on a longer route. `answer` maps inputs to minutes, shape (n, 3).

    The trips are real ones (`like`) torn apart: each column from another trip, some missing, some zones unknown.
    """
    rng = np.random.default_rng(0)
    near = {name: values[rng.integers(len(values), size=count)] for name, values in like.items()}
    near["vehicle"] = rng.integers(len(VEHICLES), size=count)
    for item in MODEL_INPUTS:
        if item.nullable:
            near[item.name] = np.where(rng.random(count) < 0.2, np.nan, near[item.name]).astype(item.dtype)
    near["dropoff_zone"] = np.where(rng.random(count) < 0.05, HIGHEST_ZONE, near["dropoff_zone"])
    low, high = np.log(RANGE_KM)
    apart = np.sort(rng.uniform(low, high, size=(count, 2)), axis=1)
    apart[::2, 1] = np.minimum(apart[::2, 0] + rng.exponential(0.05, size=len(apart[::2])), high)  # half of them close
    first, second = (np.exp(column).astype(np.float32) for column in apart.T)
    short, long = answer(near | {"distance_km": first}), answer(near | {"distance_km": second})
    lost = (short - long) / short
    crossed = (np.diff(short, axis=1) < 0).sum() + (np.diff(long, axis=1) < 0).sum()
    return Probed(count, int((lost > ROUNDING).sum()), int(crossed), float(lost.max()))

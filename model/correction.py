"""Correcting the champion after a change, on the few trips since: what differs between parts of the city is learnt as
a shift of log p50 by zone group pair and vehicle, shrunk to nothing where trips are few."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch

from contracts.trips import VEHICLES
from model.fit import gap_factors
from model.network import DurationNetwork, predict
from model.snapshot import Trips

BLOCKS = 5  # contiguous in time: a shuffled fold would let a jam explain itself
BEFORE = 20_000  # trips before the change that say what the champion's errors were like then
CLIP = 3.0  # errors count as at most so many standard deviations: a forgotten parcel is no change of the city
PRIOR = {"all": 0.5, "pickup": 0.15, "dropoff": 0.15, "pair": 0.3, "way": 0.15, "vehicle": 0.15}  # sd of log shifts


class Correction:
    """Fits shifts on some rows since the change; the champion itself stays as it is."""

    def __init__(self, champion: DurationNetwork, before: Trips, since: Trips) -> None:
        self.champion, self.since = champion, since
        self.quantiles = predict(champion, since.inputs)
        usual = np.log(before.duration_min) - np.log(predict(champion, before.inputs)[:, 1])
        self.noise = float(np.std(usual.clip(*np.quantile(usual, [0.005, 0.995]))))
        # the mean error of a well calibrated median is not zero, since durations are skewed: compare with before
        baseline = float(usual.clip(-CLIP * self.noise, CLIP * self.noise).mean())
        error = np.log(since.duration_min) - np.log(self.quantiles[:, 1])
        self.error = error.clip(-CLIP * self.noise, 2 * CLIP * self.noise) - baseline
        group = champion.group.numpy()
        index = champion.encoder.zone_index.numpy()
        self.pickup = group[index[since.inputs["pickup_zone"]]]
        self.dropoff = group[index[since.inputs["dropoff_zone"]]]
        self.design, self.prior = _design(self.pickup, self.dropoff, since.inputs["vehicle"], len(champion.shift))

    def weights(self, rows: np.ndarray) -> np.ndarray:
        """The most likely shifts given the rows at `rows` and a normal prior around no shift (ridge regression)."""
        x = self.design[rows]
        precision = x.T @ x / self.noise**2 + np.diag(1 / self.prior**2)
        solved: np.ndarray = np.linalg.solve(precision, x.T @ self.error[rows] / self.noise**2)
        return solved

    def shifted(self, rows: np.ndarray, weights: np.ndarray, factors: tuple[float, float] | np.ndarray) -> np.ndarray:
        """The champion's quantiles at `rows` after shift and calibration, shape (n, 3)."""
        p10, p50, p90 = np.log(self.quantiles[rows]).T
        moved = p50 + self.design[rows] @ weights
        return np.exp(np.stack([moved - factors[0] * (p50 - p10), moved, moved + factors[1] * (p90 - p50)], axis=1))

    def held_out(self, rows: np.ndarray, blocks: int = BLOCKS) -> np.ndarray:
        """Uncalibrated quantiles for `rows`, each block of time shifted by what the other blocks say."""
        answer = np.zeros((len(rows), 3))
        for block in np.array_split(np.arange(len(rows)), blocks):
            others = np.delete(rows, block)
            answer[block] = self.shifted(rows[block], self.weights(others), (1.0, 1.0))
        return answer

    def evidence(self) -> np.ndarray:
        """Quantiles for every row since, shape (n, 3): no row took part in shift or calibration of its own block."""
        every = np.arange(len(self.since))
        answer = np.zeros((len(every), 3))
        for block in np.array_split(every, BLOCKS):
            others = np.delete(every, block)
            factors = gap_factors(self.held_out(others, BLOCKS - 1), self.since.duration_min[others])
            answer[block] = self.shifted(block, self.weights(others), factors)
        return answer

    def corrected(self) -> DurationNetwork:
        """The champion with shifts from all rows since, calibrated on predictions held out block by block."""
        every = np.arange(len(self.since))
        network = deepcopy(self.champion)
        sides = len(network.shift)
        pickup, dropoff = (side.ravel() for side in np.indices((sides, sides)))
        cells, _ = _design(pickup, dropoff, np.zeros(sides * sides, dtype=int), sides)
        weights = self.weights(every)
        cars = weights[-len(VEHICLES) :]
        table = cells[:, : -len(VEHICLES)] @ weights[: -len(VEHICLES)]
        network.shift += torch.from_numpy(table.reshape(sides, sides)).float()
        network.vehicle_shift += torch.from_numpy(cars).float()
        factors = gap_factors(self.held_out(every), self.since.duration_min)
        network.calibration *= torch.from_numpy(factors).float()
        return network


def _design(pickup: np.ndarray, dropoff: np.ndarray, vehicle: np.ndarray, sides: int) -> tuple[np.ndarray, np.ndarray]:
    """One column per possible shift, and each column's prior standard deviation. Both ways between two groups share a
    column (a closed bridge is closed both ways) beside one of their own."""
    low, high = np.minimum(pickup, dropoff), np.maximum(pickup, dropoff)
    kinds = {
        "all": (np.zeros_like(pickup), 1),
        "pickup": (pickup, sides),
        "dropoff": (dropoff, sides),
        "pair": (low * sides + high, sides * sides),
        "way": (pickup * sides + dropoff, sides * sides),
        "vehicle": (vehicle, len(VEHICLES)),
    }
    columns = [np.eye(size)[number] for number, size in kinds.values()]
    prior = np.concatenate([np.full(size, PRIOR[name]) for name, (_, size) in kinds.items()])
    return np.concatenate(columns, axis=1), prior

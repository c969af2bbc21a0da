"""Correcting the champion after a change, on the few trips since: which flows between zone groups changed, by how much.

Errors of the champion's median are averaged by flow (pickup group to dropoff group). A flow either stayed as it was or
belongs to the changed ones, whose shifts of log minutes spread around a common one: expectation maximisation finds
the share changed, that shift and its spread, and each flow's own shift is shrunk by how likely it changed. What a
stretch of hours has in common (jams, weather) is no part of it: it will not be there tomorrow.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch

from model.fit import gap_factors
from model.network import DurationNetwork, predict
from model.snapshot import Trips

BLOCKS = 5  # contiguous in time: a shuffled fold would let a jam explain itself
BEFORE = 20_000  # trips before the change that say what the champion's errors were like then
CLIP = 3.0  # errors count as at most so many standard deviations: a forgotten parcel is no change of the city
UNCHANGED_SD, LEAST_SD = 0.01, 0.02  # of log shifts, within the unchanged and the changed flows
ROUNDS = 30
TRUST = 0.5  # gaps were right before the change, and few trips say little of tails: go half the way to what these say


class Correction:
    """Learns shifts and calibration from rows since the change; the champion itself stays as it is."""

    def __init__(self, champion: DurationNetwork, before: Trips, since: Trips) -> None:
        self.champion, self.since = champion, since
        self.quantiles = predict(champion, since.inputs)
        usual = np.log(before.duration_min) - np.log(predict(champion, before.inputs)[:, 1])
        self.noise = float(np.std(usual.clip(*np.quantile(usual, [0.005, 0.995]))))
        usual = usual.clip(-CLIP * self.noise, CLIP * self.noise)
        size = max(len(since) // BLOCKS, 1)
        stretches = usual[: len(usual) // size * size].reshape(-1, size).mean(1)
        self.stretch_sd = float(np.sqrt(max(stretches.var() - self.noise**2 / size, 1e-6)))
        # the mean error of a right median is not zero, since durations are skewed: compare with before
        error = np.log(since.duration_min) - np.log(self.quantiles[:, 1])
        self.error = error.clip(-CLIP * self.noise, 2 * CLIP * self.noise) - usual.mean()
        group = champion.group.numpy()[champion.encoder.zone_index.numpy()]
        self.groups = len(champion.shift)
        self.flow = group[since.inputs["pickup_zone"]] * self.groups + group[since.inputs["dropoff_zone"]]
        self.block = np.arange(len(since)) * BLOCKS // len(since)

    def shifts(self, rows: np.ndarray) -> np.ndarray:
        """Shift of log minutes per flow, shape (groups x groups,), as the rows at `rows` tell; 0 for flows unseen."""
        error, flow, block = self.error[rows], self.flow[rows], self.block[rows]
        count = np.bincount(flow, minlength=self.groups**2)
        seen, noise = count > 0, self.noise**2 / np.maximum(count, 1)
        in_block = np.bincount(block, minlength=BLOCKS)
        stretch, shift = np.zeros(BLOCKS), np.zeros(self.groups**2)
        common, sd, share = 0.0, 0.3, 0.5
        for _ in range(ROUNDS):
            mean = np.bincount(flow, error - stretch[block], minlength=len(count)) / np.maximum(count, 1)
            changed = share * _density(mean - common, sd**2 + noise)
            stayed = (1 - share) * _density(mean, UNCHANGED_SD**2 + noise)
            likely = np.where(seen, changed / (changed + stayed), 0)
            own = common + (mean - common) * sd**2 / (sd**2 + noise)
            shift = likely * own
            total = likely.sum() + 1e-3
            common = float(shift.sum() / total)
            rest = (own - common) ** 2 + sd**2 * noise / (sd**2 + noise)
            sd = max(float(np.sqrt((likely * rest).sum() / total)), LEAST_SD)
            share = float(np.clip(likely[seen].mean(), 0.02, 0.98))
            left = np.bincount(block, error - shift[flow], minlength=BLOCKS)
            stretch = left / (in_block + self.noise**2 / self.stretch_sd**2)
        return shift

    def corrected(self) -> DurationNetwork:
        """The champion with shifts from all rows since, calibrated on estimates held out block by block."""
        every = np.arange(len(self.since))
        network = deepcopy(self.champion)
        network.shift += torch.from_numpy(self.shifts(every).reshape(self.groups, self.groups)).float()
        network.calibration *= torch.from_numpy(self._factors(every, BLOCKS)).float()
        return network

    def evidence(self) -> np.ndarray:
        """Quantiles for every row since, shape (n, 3): no row took part in shift or calibration of its own block."""
        every = np.arange(len(self.since))
        answer = np.zeros((len(every), 3))
        for block in np.array_split(every, BLOCKS):
            others = np.delete(every, block)
            answer[block] = self._shifted(block, self.shifts(others), self._factors(others, BLOCKS - 1))
        return answer

    def _factors(self, rows: np.ndarray, blocks: int) -> np.ndarray:
        """Calibration from `rows`, each block of them shifted by what the other blocks say."""
        answer = np.zeros((len(rows), 3))
        for block in np.array_split(np.arange(len(rows)), blocks):
            answer[block] = self._shifted(rows[block], self.shifts(np.delete(rows, block)), np.ones(2))
        factors: np.ndarray = gap_factors(answer, self.since.duration_min[rows]) ** TRUST
        return factors

    def _shifted(self, rows: np.ndarray, shifts: np.ndarray, factors: np.ndarray) -> np.ndarray:
        """The champion's quantiles at `rows` after shift and calibration, as the network would answer."""
        p10, p50, p90 = np.log(self.quantiles[rows]).T
        moved = p50 + shifts[self.flow[rows]]
        logs = [moved - factors[0] * (p50 - p10), moved, moved + factors[1] * (p90 - p50)]
        answer: np.ndarray = np.exp(np.stack(logs, axis=1))
        return answer


def _density(x: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Normal density around 0, up to a constant; never zero, so that far off stays comparable."""
    density: np.ndarray = np.exp(-x * x / (2 * variance)) / np.sqrt(variance) + 1e-30
    return density

"""Fitting: pinball loss by AdamW, then one-sided calibration of each outer level."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from contracts.problems import TandemError
from contracts.snapshots import SnapshotZone
from contracts.trips import LEVELS
from model.network import DurationNetwork, pinball_loss, predict, tensors
from model.parallel import CPU, Place
from model.snapshot import Trips

EPOCHS = 13  # how often each row is seen,
FEWEST_STEPS, MOST_STEPS = 500, 4000  # in at least and at most so many steps: more rows than 600,000 cost no more time
LARGEST_BATCH, SMALLEST_BATCH = 2048, 256
PEAK_RATE, DECAY = 1.4e-2, 0.3
WEATHER = ("rain_mm_h", "temperature_c")  # one feed: they fail together
OUTAGES = {  # how often training hides columns, so that the model bears their absence in service
    WEATHER: 0.05,
    ("city_pace",): 0.05,
    ("parcel_kg",): 0.05,
    ("pickup_zone",): 0.005,  # 0 is no zone's id: it reaches the unknown slot
    ("dropoff_zone",): 0.005,
}
CALIBRATION_BOUNDS = (0.3, 3.0)


class TrainingDiverged(TandemError):
    """The loss is no number any more."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(
            f"training diverged: the loss is {loss} at step {step}: look for durations or inputs that are no numbers, "
            "then for too high a learning rate"
        )


def fit(
    trips: Trips, zones: Sequence[SnapshotZone], seed: int, told: Callable[[float], None], place: Place = CPU
) -> tuple[DurationNetwork, list[float]]:
    """Train a fresh network; `told` hears the share done. Answers it with the training loss (minutes) of each lap, a
    thirteenth of all steps. Raises `TrainingDiverged`."""
    torch.manual_seed(seed)
    chance = torch.Generator().manual_seed(seed)
    network = DurationNetwork(zones)  # the same one in every process,
    if place.rank > 0:
        torch.manual_seed(seed + place.rank)  # and other columns hidden in each
    network.standardise(trips.inputs, trips.duration_min)
    columns = dict(zip(trips.inputs, tensors(trips.inputs), strict=True))
    durations = torch.from_numpy(trips.duration_min.astype(np.float32))
    batch = min(LARGEST_BATCH, max(SMALLEST_BATCH, len(trips) // 50))
    steps = min(max(EPOCHS * -(-len(trips) // batch), FEWEST_STEPS), MOST_STEPS)
    network.to(place.device).train()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps, pct_start=0.15)
    losses = []
    for step, together in enumerate(islice(_batches(len(trips), batch, chance), steps)):
        rows = place.share(together)
        seen = _hide({name: values[rows] for name, values in columns.items()})
        answers = network(*(values.to(place.device) for values in seen.values()))
        loss = pinball_loss(answers, durations[rows].to(place.device))
        losses.append(loss.item())
        if not isfinite(losses[-1]):
            raise TrainingDiverged(step, losses[-1])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        place.agree(network)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        told((step + 1) / steps)
    return network.cpu(), [float(lap.mean()) for lap in np.array_split(losses, EPOCHS)]


def _batches(rows: int, size: int, chance: torch.Generator) -> Iterator[Tensor]:
    """Row numbers in batches, every row once before any comes again; in order within a batch, since large snapshots
    are read from files."""
    while True:
        for batch in torch.split(torch.randperm(rows, generator=chance), size):
            yield batch.sort().values


def _hide(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """A batch with some columns hidden, as outages would."""
    for names, share in OUTAGES.items():
        gone = torch.rand(len(batch[names[0]])) < share
        for name in names:
            batch[name] = batch[name].masked_fill(gone, float("nan") if batch[name].is_floating_point() else 0)
    return batch


def calibrate(network: DurationNetwork, trips: Trips) -> None:
    """Rescale the log gaps of p10 and p90 from p50 so that each holds on `trips`."""
    network.calibration *= torch.from_numpy(gap_factors(predict(network, trips.inputs), trips.duration_min)).float()


def gap_factors(quantiles_min: np.ndarray, duration_min: np.ndarray) -> np.ndarray:
    """Factors of the log gaps p50-p10 and p90-p50 with which each level covers its share of the trips.

    A trip lies at `log(duration / p50) / gap` gaps above the median; the 0.9 quantile of that is p90's factor. Shapes
    (n, 3) and (n,) to (2,).
    """
    p10, p50, p90 = np.log(quantiles_min).T
    off = np.log(duration_min) - p50
    below = np.quantile(-off / np.maximum(p50 - p10, 1e-6), 1 - LEVELS[0])
    above = np.quantile(off / np.maximum(p90 - p50, 1e-6), LEVELS[2])
    factors: np.ndarray = np.clip([below, above], *CALIBRATION_BOUNDS)
    return factors

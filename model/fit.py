"""Fitting: pinball loss by AdamW, then one-sided calibration of each outer level."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from contracts.snapshots import SnapshotZone
from contracts.trips import LEVELS
from model.network import DurationNetwork, pinball_loss, predict, tensors
from model.snapshot import Trips

STEPS, FEWEST_EPOCHS = 500, 13  # optimizer steps that suffice, however few the rows; and at least so many epochs
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


def fit(
    trips: Trips, zones: Sequence[SnapshotZone], seed: int, told: Callable[[float], None]
) -> tuple[DurationNetwork, list[float]]:
    """Train a fresh network; `told` hears the share done. Answers it with the training loss (minutes) of each epoch."""
    torch.manual_seed(seed)
    network = DurationNetwork(zones)
    network.standardise(trips.inputs, trips.duration_min)
    columns = dict(zip(trips.inputs, tensors(trips.inputs), strict=True))
    durations = torch.from_numpy(trips.duration_min.astype(np.float32))
    batch = min(LARGEST_BATCH, max(SMALLEST_BATCH, len(trips) // 50))
    steps = -(-len(trips) // batch)
    epochs = max(FEWEST_EPOCHS, -(-STEPS // steps))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=epochs * steps, pct_start=0.15)
    curve = []
    network.train()
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.split(torch.randperm(len(trips)), batch):
            seen = _hide({name: values[rows] for name, values in columns.items()})
            loss = pinball_loss(network(*seen.values()), durations[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        curve.append(total / len(trips))
        told((epoch + 1) / epochs)
    return network, curve


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

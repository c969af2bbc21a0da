"""The network: quantiles of a trip's duration that cannot cross, nor, before calibration, shrink on a longer route."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from contracts.snapshots import SnapshotZone
from contracts.trips import LEVELS, MODEL_INPUTS
from model.encoder import Encoder
from model.snapshot import Inputs

STEPS = (-1.5, -0.5, 0.5, 1.5)  # where the slope in standardised log distance may change


class DurationNetwork(nn.Module):
    """Contract inputs, each (batch,), to `quantiles_min` (batch, 3): p10, p50, p90 in minutes.

    log p50 = level + slopes x rising functions of log distance, slopes positive: p50 rises with distance. Above and
    below it stand a share of p50 and some fixed minutes: p90 = p50 (1 + share + fixed / p50), p10 = p50 / (1 + share +
    fixed / p50), both positive, so quantiles keep their order and rise with p50. `calibration` rescales these log
    gaps: the order stays, but a factor far above 1 can make p90 fall where a short route gets longer, and corrections
    multiply their factors. The gate tries longer routes (`behaviour.py`). `shift` is what a correction after a change
    adds to log minutes by zone group of pickup and dropoff.
    """

    def __init__(self, zones: Sequence[SnapshotZone], hidden: int = 96) -> None:
        super().__init__()
        self.zones = list(zones)
        self.encoder = Encoder(zones)
        names = sorted({zone.group for zone in zones})
        self.calibration: Tensor
        self.distance: Tensor
        self.group: Tensor
        self.shift: Tensor
        self.steps: Tensor
        self.register_buffer("calibration", torch.ones(2))  # factors of the log gaps p50-p10 and p90-p50
        self.register_buffer("distance", torch.tensor([0.0, 1.0]))  # centre and spread of log km
        self.register_buffer("group", torch.tensor([0] + [names.index(zone.group) + 1 for zone in zones]))
        self.register_buffer("shift", torch.zeros(len(names) + 1, len(names) + 1))
        self.register_buffer("steps", torch.tensor(STEPS))
        self.body = nn.Sequential(
            nn.Linear(self.encoder.width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.head = nn.Linear(hidden, 2 + len(STEPS) + 4)

    def standardise(self, inputs: Inputs, duration_min: np.ndarray) -> None:
        """Take the constants of the graph and the head's starting point from training rows."""
        self.encoder.standardise(inputs)
        log_km = np.log(inputs["distance_km"])
        self.distance.copy_(torch.tensor([log_km.mean(), max(log_km.std(), 1e-3)]))
        with torch.no_grad():
            self.head.weight.mul_(0.3)
            self.head.bias.zero_()
            self.head.bias[0] = float(np.log(duration_min).mean())
            self.head.bias[1:-4] = -1.0
            self.head.bias[-4:] = torch.tensor([-1.5, 0.5, -1.5, 0.5])

    def forward(
        self,
        minute_of_week: Tensor,
        pickup_zone: Tensor,
        dropoff_zone: Tensor,
        distance_km: Tensor,
        vehicle: Tensor,
        parcel_kg: Tensor,
        rain_mm_h: Tensor,
        temperature_c: Tensor,
        city_pace: Tensor,
    ) -> Tensor:
        pickup, dropoff = self.encoder.zone_index[pickup_zone], self.encoder.zone_index[dropoff_zone]
        nullable = (parcel_kg, rain_mm_h, temperature_c, city_pace)
        out = self.head(self.body(self.encoder(minute_of_week, pickup, dropoff, vehicle, nullable)))
        far = ((torch.log(distance_km) - self.distance[0]) / self.distance[1])[:, None]
        rising = torch.cat([far, torch.sigmoid(2 * (far - self.steps))], dim=1)
        slopes = functional.softplus(out[:, 1:-4])
        shift = self.shift[self.group[pickup], self.group[dropoff]]
        usual = torch.exp(out[:, 0] + (slopes * (rising - 0.5)).sum(1))
        share_below, fixed_below, share_above, fixed_above = functional.softplus(out[:, -4:]).unbind(1)
        below = torch.log1p(share_below + fixed_below / usual) * self.calibration[0]
        above = torch.log1p(share_above + fixed_above / usual) * self.calibration[1]
        p50 = usual * torch.exp(shift)  # a shift moves all three quantiles alike
        return torch.stack([p50 * torch.exp(-below), p50, p50 * torch.exp(above)], dim=1)


def tensors(inputs: Inputs) -> list[Tensor]:
    """The network's arguments, in the contract's order."""
    return [torch.from_numpy(np.ascontiguousarray(inputs[item.name])) for item in MODEL_INPUTS]


def predict(network: DurationNetwork, inputs: Inputs) -> np.ndarray:
    """Quantiles in minutes, shape (n, 3)."""
    network.eval()
    with torch.no_grad():
        parts = [network(*chunk) for chunk in zip(*(torch.split(item, 16384) for item in tensors(inputs)), strict=True)]
    return torch.cat(parts).numpy().astype(np.float64)


def pinball_loss(quantiles_min: Tensor, duration_min: Tensor) -> Tensor:
    """Pinball loss in minutes, mean over the contract's levels and rows; shapes (n, 3) and (n,)."""
    levels = torch.tensor(LEVELS, device=quantiles_min.device)
    off = duration_min[:, None] - quantiles_min
    return torch.maximum(levels * off, (levels - 1) * off).mean()

"""From the contract's columns to features, inside the graph: serving has no feature code."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from contracts.snapshots import SnapshotZone
from contracts.trips import HIGHEST_ZONE, VEHICLES
from model.snapshot import Inputs

NULLABLE = ("parcel_kg", "rain_mm_h", "temperature_c", "city_pace")
WEEK_MIN = 7 * 24 * 60
WAVES = (*range(1, 7), *range(7, 7 * 9, 7))  # waves a week: up to six for the days' differences, then eight daily ones
ZONE_WIDTH, VEHICLE_WIDTH = 12, 4
CLIP = 5.0  # standard deviations
SAME_PLACE = 1e-6  # added to squared distances, so that the root has a slope at zero


def _bend(name: str, value: Tensor) -> Tensor:
    """Skewed columns on a scale where equal steps matter about equally."""
    return value if name == "temperature_c" else torch.log1p(value)


class Encoder(nn.Module):
    """Encodes the contract's inputs, each of shape (batch,), as features of shape (batch, `width`).

    Zone ids become indices through a table in the graph; 0 is the slot for zones it does not know. What standardises
    the columns and where zones lie are constants of the graph.
    """

    def __init__(self, zones: Sequence[SnapshotZone]) -> None:
        super().__init__()
        index = torch.zeros(HIGHEST_ZONE + 1, dtype=torch.int64)
        place = torch.zeros(len(zones) + 1, 2)
        for number, zone in enumerate(zones, start=1):
            index[zone.zone] = number
            place[number] = torch.tensor([zone.x_km, zone.y_km])
        place[1:] -= place[1:].mean(0)
        self.zone_index: Tensor
        self.place: Tensor
        self.waves: Tensor
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("zone_index", index)
        self.register_buffer("place", place / place[1:].std().clamp(min=1e-3))
        self.register_buffer("waves", torch.tensor(WAVES, dtype=torch.float32) * (2 * math.pi / WEEK_MIN))
        self.register_buffer("centre", torch.zeros(len(NULLABLE)))
        self.register_buffer("spread", torch.ones(len(NULLABLE)))
        self.pickup = nn.Embedding(len(zones) + 1, ZONE_WIDTH)
        self.dropoff = nn.Embedding(len(zones) + 1, ZONE_WIDTH)
        self.vehicle = nn.Embedding(len(VEHICLES), VEHICLE_WIDTH)
        self.width = 2 * len(WAVES) + 2 * ZONE_WIDTH + VEHICLE_WIDTH + 5 + 2 * len(NULLABLE)

    def standardise(self, inputs: Inputs) -> None:
        """Take centre and spread of the nullable columns from training rows."""
        for number, name in enumerate(NULLABLE):
            values = _bend(name, torch.from_numpy(inputs[name][~np.isnan(inputs[name])]))
            if len(values) > 1:
                self.centre[number] = values.mean()
                self.spread[number] = values.std().clamp(min=1e-3)

    def forward(
        self,
        minute_of_week: Tensor,
        pickup: Tensor,
        dropoff: Tensor,
        vehicle: Tensor,
        nullable: Sequence[Tensor],
    ) -> Tensor:
        """`pickup` and `dropoff` are zone indices; `nullable` the columns of `NULLABLE`, NaN where missing."""
        angle = minute_of_week.to(torch.float32)[:, None] * self.waves
        start, end = self.place[pickup], self.place[dropoff]
        way = end - start
        length = torch.sqrt((way * way).sum(1, keepdim=True) + SAME_PLACE)
        raw = torch.stack([_bend(name, value) for name, value in zip(NULLABLE, nullable, strict=True)], dim=1)
        missing = torch.isnan(raw)
        known = torch.where(missing, torch.zeros_like(raw), (raw - self.centre) / self.spread).clamp(-CLIP, CLIP)
        parts = (
            torch.sin(angle), torch.cos(angle), start, end, length,
            self.pickup(pickup), self.dropoff(dropoff), self.vehicle(vehicle), known, missing.to(torch.float32),
        )  # fmt: skip
        return torch.cat(parts, dim=1)

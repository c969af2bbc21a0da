"""By what held-out trips are told apart in the evidence, beside their zone group."""

from __future__ import annotations

import numpy as np

from contracts.trips import VEHICLES
from model.snapshot import Inputs

Labels = np.ndarray  # of text, shape (n,)
HOUR_BANDS = {0: "night", 6: "morning", 10: "midday", 15: "evening rush", 19: "evening"}  # by first hour
DISTANCE_BANDS_KM = (2, 5, 10)
WET_MM_H = 0.1


def labels(inputs: Inputs) -> dict[str, Labels]:
    """For each way of slicing the label of every trip."""
    hour, day = inputs["minute_of_week"] // 60 % 24, inputs["minute_of_week"] // 1440
    part = np.array(list(HOUR_BANDS.values()))[np.searchsorted(list(HOUR_BANDS), hour, side="right") - 1]
    low, middle, high = DISTANCE_BANDS_KM
    distances = np.array([f"under {low} km", f"{low} to {middle} km", f"{middle} to {high} km", f"{high} km and more"])
    rain = inputs["rain_mm_h"]
    weather = np.where(np.isnan(rain), "unknown", np.where(rain < WET_MM_H, "dry", "rain"))
    return {
        "vehicle": np.array(VEHICLES)[inputs["vehicle"]],
        "hour band": np.where(day >= 5, "weekend", part),
        "weather": weather,
        "distance band": distances[np.searchsorted(DISTANCE_BANDS_KM, inputs["distance_km"], side="right")],
    }

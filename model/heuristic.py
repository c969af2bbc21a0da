"""The heuristic the model must beat: empirical quantiles of like trips, backing off to coarser likeness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from contracts.trips import LEVELS
from model.snapshot import Trips

LEAST_TRIPS = 60  # in a cell, for its tenth percentile to rest on some six
BY_DISTANCE = (("band", "part", "vehicle"), ("band", "vehicle"), ("band",), ())
BY_ZONE_PAIR = (
    ("pickup_zone", "dropoff_zone", "part"),
    ("pickup_zone", "dropoff_zone"),
    ("pickup_zone", "band"),
    ("band",),
    (),
)
PARTS_OF_DAY = (0, 6, 10, 15, 19, 22)  # first hours of night, morning rush, midday, evening rush, evening, late


@dataclass(frozen=True)
class Heuristic:
    """p10, p50, p90 of past trips that share keys: the finest cell with enough of them answers."""

    edges_km: list[float]
    cells: list[tuple[tuple[str, ...], pl.DataFrame]]

    @classmethod
    def fit(cls, trips: Trips, back_off: Sequence[tuple[str, ...]] = BY_DISTANCE) -> Heuristic:
        """Count past trips; distance bands hold a tenth of them each."""
        edges = sorted(set(np.quantile(trips.inputs["distance_km"], np.arange(0.1, 1, 0.1)).tolist()))
        keyed = _keyed(trips, edges)
        quantiles = [
            pl.col("duration_min").quantile(level, "linear").alias(f"q{number}") for number, level in enumerate(LEVELS)
        ]
        cells = []
        for keys in back_off:
            made = keyed.group_by(*(keys or [pl.lit(0).alias("all")])).agg(pl.len().alias("n"), *quantiles)
            cells.append((keys, made.filter((pl.col("n") >= LEAST_TRIPS) | (not keys)).drop("n")))
        return cls(edges, cells)

    def predict(self, trips: Trips) -> np.ndarray:
        """Quantiles in minutes, shape (n, 3)."""
        keyed = _keyed(trips, self.edges_km)
        answer = np.full((len(trips), len(LEVELS)), np.nan)
        for keys, cell in self.cells:
            found = (
                keyed.join(cell, on=keys, how="left", maintain_order="left") if keys else keyed.join(cell, how="cross")
            )
            values = found.select(f"q{number}" for number in range(len(LEVELS))).to_numpy()
            answer = np.where(np.isnan(answer), values.astype(np.float64), answer)
        return answer


def _keyed(trips: Trips, edges_km: Sequence[float]) -> pl.DataFrame:
    minute = trips.inputs["minute_of_week"]
    part = sum(((minute // 60 % 24 >= hour).astype(int) for hour in PARTS_OF_DAY), start=10 * (minute // 1440 >= 5))
    keys = {name: trips.inputs[name] for name in ("pickup_zone", "dropoff_zone", "vehicle")}
    band = np.searchsorted(np.array(edges_km), trips.inputs["distance_km"])
    return pl.DataFrame({**keys, "part": part, "band": band, "duration_min": trips.duration_min})

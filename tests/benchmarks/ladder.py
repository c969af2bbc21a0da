"""The ladder: what each rival reached on the same test trips, over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from contracts.trips import LEVELS
from model.evaluation import misses, pinball_min


@dataclass(frozen=True)
class Measured:
    """One rival with one seed: pinball loss in minutes by level, coverage, seconds to train."""

    loss_min: np.ndarray
    coverage_p90: float
    coverage_band: float
    training_s: float

    @property
    def mean_min(self) -> float:
        """Mean pinball loss over the levels, in minutes."""
        return float(self.loss_min.mean())


@dataclass(frozen=True)
class Rung:
    """One rival over its seeds; what involves no chance has one."""

    name: str
    seeds: list[Measured]

    @property
    def mean_min(self) -> float:
        """Mean pinball loss over levels and seeds, in minutes."""
        return float(np.mean([item.mean_min for item in self.seeds]))

    def as_json(self) -> dict[str, Any]:
        """Every figure of every seed."""
        return {
            "pinball_min": self.mean_min,
            "seeds": [
                {
                    "pinball_min": item.mean_min,
                    "by_level_min": dict(zip(map(str, LEVELS), item.loss_min.tolist(), strict=True)),
                    "coverage_p90": item.coverage_p90,
                    "coverage_band": item.coverage_band,
                    "training_s": item.training_s,
                }
                for item in self.seeds
            ],
        }


def measured(quantiles_min: np.ndarray, duration_min: np.ndarray, training_s: float = 0.0) -> Measured:
    """What quantiles (n, 3) reached on durations (n,), both in minutes."""
    late, early = misses(quantiles_min, duration_min)
    loss = pinball_min(quantiles_min, duration_min)
    return Measured(loss, float(1 - late.mean()), float(1 - late.mean() - early.mean()), training_s)


def by_name(rungs: Sequence[Rung], name: str) -> Rung:
    """The rung of that name. Raises `KeyError`."""
    return {rung.name: rung for rung in rungs}[name]


def table(title: str, rungs: Sequence[Rung], against: str, unit: str = "min", unit_in_min: float = 1.0) -> Table:
    """One line a rung: losses in `unit`, the mean over that of `against`, coverage, seconds; each with its spread."""
    heads = (*(f"{level:g}, {unit}" for level in LEVELS), f"mean, {unit}", f"over {against}'s")
    made = Table("", *heads, "p90 covers", "band covers", "training, s", title=title)
    base = by_name(rungs, against).mean_min
    for rung in rungs:
        losses = np.stack([item.loss_min for item in rung.seeds]) / unit_in_min
        cells = [spread(losses[:, level], 3 if unit == "min" else 2) for level in range(len(LEVELS))]
        cells += [spread(losses.mean(1), 3 if unit == "min" else 2), f"{rung.mean_min / base:.4f}"]
        cells += [spread([item.coverage_p90 for item in rung.seeds], 3)]
        cells += [spread([item.coverage_band for item in rung.seeds], 3)]
        cells += [spread([item.training_s for item in rung.seeds], 1)]
        made.add_row(rung.name, *cells)
    return made


def spread(values: Sequence[float] | np.ndarray, digits: int) -> str:
    """The mean, and half of what lies between the least and the most.

    >>> spread([1.0, 2.0], 1), spread([1.0], 1)
    ('1.5 ±0.5', '1.0')
    """
    half = (max(values) - min(values)) / 2
    return f"{np.mean(values):.{digits}f}" + (f" ±{half:.{digits}f}" if len(values) > 1 else "")

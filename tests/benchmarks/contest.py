"""A contest: every rival learns from the same rows and answers the same later ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from contracts.snapshots import SnapshotZone
from model.snapshot import HELD_OUT, Trips


@dataclass(frozen=True)
class Contest:
    """Training rows and later test rows, both in order of request, and the map."""

    train: Trips
    test: Trips
    zones: Sequence[SnapshotZone]

    @property
    def windows(self) -> tuple[Trips, Trips]:
        """The training rows before their newest eighth, and that eighth: to calibrate on, to stop and to choose by."""
        at = self.train.requested_at
        first = int(np.searchsorted(at, at[int(len(at) * (1 - HELD_OUT))]))  # rows of one instant stay together
        return self.train.take(slice(0, first)), self.train.take(slice(first, None))

    def every(self, nth: int) -> Contest:
        """Every nth row."""
        sparse = slice(None, None, nth)
        return replace(self, train=self.train.take(sparse), test=self.test.take(sparse))

    def hidden(self, names: Sequence[str]) -> Contest:
        """The same contest with some inputs missing everywhere."""
        return replace(self, train=without(self.train, names), test=without(self.test, names))


def without(trips: Trips, names: Sequence[str]) -> Trips:
    """The same trips with some inputs missing."""
    return replace(trips, inputs=trips.inputs | {name: np.full_like(trips.inputs[name], np.nan) for name in names})

"""Detectors of a change in how often quantiles are missed: e-SR, fed one closed trip after the other.

A detector gambles against "a trip misses with at most the allowed probability": each trip multiplies what is staked by
a factor whose mean is at most one while that holds, and one fresh unit enters with each trip (Shiryaev-Roberts). So the
mean time to a false alarm is at least the threshold, in trips, as long as no trip is likelier to miss than allowed
given those before it. Several stakes are averaged: a small one finds slow leaks, a large one gross changes at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

Side = Literal["above p90", "below p10"]
SIDES: tuple[Side, ...] = ("above p90", "below p10")
EXTRA_MISSES = (0.04, 0.10, 0.25)  # each stake is the best one when trips miss that much oftener than allowed
HEADROOM = 100  # a level rises to this many thresholds at most, and ends an alarm when it has fallen as far below one


@dataclass(frozen=True, slots=True)
class Reference:
    """Miss shares to expect of one bundle: by side, for each hour of the week in the city's zone.

    `group_extra[side, group]` is how much more the group missed than all trips when the bundle was evaluated: what the
    gate has accepted is nobody's change.
    """

    zone: ZoneInfo
    hourly: dict[Side, list[float]]
    group_extra: dict[tuple[Side, str], float] = field(default_factory=dict)

    def allowed(self, side: Side, group: str | None, at: datetime, tolerance: float) -> float:
        """Highest miss probability of a trip requested at `at` that is not yet a change."""
        local = at.astimezone(self.zone)
        share = self.hourly[side][local.weekday() * 24 + local.hour] + tolerance
        if group is not None:
            share += max(0.0, self.group_extra.get((side, group), 0.0))
        return min(max(share, tolerance), 0.5)  # a reference measured as 0 still leaves the tolerance


@dataclass(slots=True)
class _Stake:
    extra: float
    level: float = 0.0  # Shiryaev-Roberts statistic
    run: float = 1.0  # evidence of the current run: a CUSUM, whose last return to 1 is where the change likely began
    began: datetime | None = None

    def add(self, missed: bool, allowed: float, at: datetime, highest: float) -> None:
        factor = 1 + self.extra / (allowed * (1 - allowed)) * (missed - allowed)
        if self.run <= 1:
            self.run, self.began = 1.0, at
        self.run = min(self.run * factor, highest)
        self.level = min((self.level + 1) * factor, highest)


class Detector:
    """Watches one side of one set of trips. `level` reaches `threshold` at most once in that many calm trips.

    `peak` is the highest level of the current excursion: it is in alarm from the threshold on, until the level has
    fallen far below it, so that an alarm neither flickers nor outlives its cause for long.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold, self.trips, self.peak = threshold, 0, 0.0
        self._stakes = [_Stake(extra) for extra in EXTRA_MISSES]

    def add(self, missed: bool, allowed: float, at: datetime) -> None:
        """One more trip, requested at `at`, which missed or not where `allowed` was the highest calm probability."""
        self.trips += 1
        for stake in self._stakes:
            stake.add(missed, allowed, at, self.threshold * HEADROOM)
        level = self.level
        self.peak = level if level < self.threshold / HEADROOM else max(self.peak, level)

    @property
    def level(self) -> float:
        """The evidence for a change, as odds."""
        return sum(stake.level for stake in self._stakes) / len(self._stakes)

    @property
    def began(self) -> datetime | None:
        """Where the current run of evidence began: the request time of its first trip."""
        best = max(self._stakes, key=lambda stake: stake.run)
        return best.began if best.run > 1 else None

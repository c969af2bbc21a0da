"""Detectors of a change in how often quantiles are missed: e-SR, fed one closed cohort after the other.

A detector gambles against "a trip misses with at most the allowed probability". A cohort multiplies what is staked by a
factor whose mean is at most one while that holds, and one fresh unit enters with each trip (Shiryaev-Roberts): so the
mean number of trips to a false alarm is at least the threshold. Trips of one cohort share its jams and showers, and a
product over trips would count one jam forty times; the mean of their factors is fair however they hang together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from monitoring.coverage import Miss

Side = Literal["above p90", "below p10"]
SIDES: dict[Side, Miss] = {"above p90": "above", "below p10": "below"}
FRACTIONS = (0.5, 0.9)  # of all that is there is staked: little finds slow leaks, much finds a closed bridge
HEADROOM = 10  # a level rises to this many thresholds at most, and an alarm ends when it has fallen as far below one


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
    fraction: float
    level: float = 0.0  # Shiryaev-Roberts statistic
    run: float = 1.0  # evidence of the current run: a CUSUM, whose last return to 1 is where the change likely began
    began: datetime | None = None

    def add(self, excess: float, trips: int, at: datetime, highest: float) -> None:
        factor = 1 + self.fraction * excess
        if self.run <= 1:
            self.run, self.began = 1.0, at
        self.run = min(self.run * factor, highest)
        self.level = min((self.level + trips) * factor, highest)


class Detector:
    """Watches one side of one set of trips. `level` reaches `threshold` at most once in that many calm trips.

    `peak` is the highest level of the current excursion: it is in alarm from the threshold on, until the level has
    fallen far below it, so that an alarm neither flickers nor outlives its cause for long.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold, self.trips, self.peak = threshold, 0, 0.0
        self._stakes = [_Stake(fraction) for fraction in FRACTIONS]

    def add(self, cohort: Sequence[tuple[bool, float]], at: datetime) -> None:
        """One more cohort, which starts at `at`: of each trip, whether it missed, and the highest calm probability."""
        if not cohort:
            return
        self.trips += len(cohort)
        excess = sum(missed / allowed for missed, allowed in cohort) / len(cohort) - 1
        for stake in self._stakes:
            stake.add(excess, len(cohort), at, self.threshold * HEADROOM)
        level = self.level
        self.peak = level if level < self.threshold / HEADROOM else max(self.peak, level)

    @property
    def level(self) -> float:
        """The evidence for a change, as odds."""
        return sum(stake.level for stake in self._stakes) / len(self._stakes)

    @property
    def began(self) -> datetime | None:
        """Where the current run of evidence began: the start of its first cohort."""
        best = max(self._stakes, key=lambda stake: stake.run)
        return best.began if best.run > 1 else None

"""Two bundles compared on the same trips: an e-process on their clipped paired losses.

A gain is the loss of the one that serves less the rival's loss, in minutes, each loss clipped. While the rival is no
better, stakes that bet on gains grow past 1/alpha with probability alpha at most, whenever one looks: so the verdict
may be read after each cohort. Stakes stay the same for every trip, so nobody wins with a mean gain below zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime

from monitoring.cohorts import JudgedTrip
from monitoring.coverage import NO_TRIPS, Tally, pinball

FRACTIONS = (0.15, 0.4, 0.9)  # of the largest stake that clipped losses can bear: for small, middling, large gains
HIGHEST_LOG = 50.0  # far beyond any verdict; keeps the figure printable


@dataclass(frozen=True, slots=True)
class Duel:
    """Where a comparison stands. `wins` and `loses` are the odds (e-values) that the rival is better, or worse.

    `tally` and `groups` count the rival's own misses on these trips. The audit's trips, whose customers chose without
    seeing the model's promise, have a tally and odds of their own.
    """

    rival: str
    since: datetime
    pairs: int
    mean_gain_min: float
    wins: float
    loses: float
    tally: Tally
    groups: dict[str, Tally]
    audit_tally: Tally
    audit_loses: float


@dataclass(slots=True)
class _Bets:
    """Bets that gains are above zero in the mean. Gains are shares of the largest one possible."""

    logs: list[float] = field(default_factory=lambda: [0.0] * len(FRACTIONS))

    def add(self, gain: float) -> None:
        self.logs = [log + math.log1p(fraction * gain) for log, fraction in zip(self.logs, FRACTIONS, strict=True)]

    @property
    def odds(self) -> float:
        return sum(math.exp(min(log, HIGHEST_LOG)) for log in self.logs) / len(self.logs)


@dataclass(slots=True)
class Comparison:
    """`rival` against `incumbent` on trips requested from `since` on; losses are clipped at `clip_min` minutes."""

    incumbent: str
    rival: str
    since: datetime
    clip_min: float
    pairs: int = 0
    total_gain: float = 0.0
    tally: Tally = NO_TRIPS
    groups: dict[str, Tally] = field(default_factory=dict)
    audit_tally: Tally = NO_TRIPS
    wins: _Bets = field(default_factory=_Bets)
    loses: _Bets = field(default_factory=_Bets)
    audit_loses: _Bets = field(default_factory=_Bets)

    def add(self, trip: JudgedTrip) -> None:
        """One more trip; it counts when it was requested in time and both bundles answered it."""
        miss = trip.miss(self.rival)
        if trip.requested_at < self.since or trip.quantiles is None or miss is None or not trip.miss(self.incumbent):
            return
        ours, theirs = (
            min(pinball(trip.minutes, trip.quantiles[version]), self.clip_min)
            for version in (self.incumbent, self.rival)
        )
        gain = (ours - theirs) / self.clip_min
        self.pairs += 1
        self.total_gain += ours - theirs
        self.wins.add(gain)
        self.loses.add(-gain)
        self.tally = self.tally.and_one(miss)
        if trip.group is not None:
            self.groups[trip.group] = self.groups.get(trip.group, NO_TRIPS).and_one(miss)
        if trip.audit:
            self.audit_tally = self.audit_tally.and_one(miss)
            self.audit_loses.add(-gain)

    def standing(self) -> Duel:
        """The comparison as it stands."""
        return Duel(
            rival=self.rival,
            since=self.since,
            pairs=self.pairs,
            mean_gain_min=self.total_gain / self.pairs if self.pairs else 0.0,
            wins=self.wins.odds,
            loses=self.loses.odds,
            tally=self.tally,
            groups=dict(sorted(self.groups.items())),
            audit_tally=self.audit_tally,
            audit_loses=self.audit_loses.odds,
        )

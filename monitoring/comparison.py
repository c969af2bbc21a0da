"""Two bundles compared on the same trips: an e-process on the mean gain of each cohort.

A gain is the loss of the one that serves less the rival's loss, in minutes, each loss clipped. A cohort bets once, on
the mean of its gains, clipped in turn: trips of one cohort share its jams and showers, and a product over trips would
count one jam forty times. Stakes stay the same for every cohort, so nobody wins with a mean gain below zero.

What holds: while no cohort can be expected to gain, whatever came before it, stakes grow past 1/alpha with probability
alpha at most, however its trips hang together and whenever one looks: so the verdict may be read after each cohort.
What does not: cohorts near in time hang together as well. A rival that is better on slow days, and worse on quick ones
by as much, does gain while a slow day lasts, and may win by its end; docs/results.md says how often. A least span of a
day would not mend that and would make a city whose bridge is closed wait for it, so there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import fmean

from monitoring.cohorts import JudgedTrip
from monitoring.coverage import NO_TRIPS, Tally, pinball

FRACTIONS = (0.15, 0.4, 0.9)  # of the largest stake that clipped gains can bear: for small, middling, large gains
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
    """Bets that cohorts gain in the mean. A gain is a share of the largest one that counts, from -1 to 1."""

    logs: list[float] = field(default_factory=lambda: [0.0] * len(FRACTIONS))

    def add(self, gain: float) -> None:
        self.logs = [log + math.log1p(fraction * gain) for log, fraction in zip(self.logs, FRACTIONS, strict=True)]

    @property
    def odds(self) -> float:
        return sum(math.exp(min(log, HIGHEST_LOG)) for log in self.logs) / len(self.logs)


@dataclass(slots=True)
class Comparison:
    """`rival` against `incumbent` on trips requested from `since` on.

    Losses of a trip are clipped at `loss_clip_min` minutes, the mean gain of a cohort at `gain_clip_min`.
    """

    incumbent: str
    rival: str
    since: datetime
    loss_clip_min: float
    gain_clip_min: float
    pairs: int = 0
    total_gain: float = 0.0
    tally: Tally = NO_TRIPS
    groups: dict[str, Tally] = field(default_factory=dict)
    audit_tally: Tally = NO_TRIPS
    wins: _Bets = field(default_factory=_Bets)
    loses: _Bets = field(default_factory=_Bets)
    audit_loses: _Bets = field(default_factory=_Bets)

    def add(self, cohort: Sequence[JudgedTrip]) -> None:
        """One more cohort. Of its trips those count that were requested in time and that both bundles answered."""
        gains, audit_gains = [], []
        for trip in cohort:
            miss, gain = trip.miss(self.rival), self._gain(trip)
            if miss is None or gain is None:
                continue
            gains.append(gain)
            self.tally = self.tally.and_one(miss)
            if trip.group is not None:
                self.groups[trip.group] = self.groups.get(trip.group, NO_TRIPS).and_one(miss)
            if trip.audit:
                audit_gains.append(gain)
                self.audit_tally = self.audit_tally.and_one(miss)
        self.pairs += len(gains)
        self.total_gain += sum(gains)
        share = self._share(gains)
        self.wins.add(share)
        self.loses.add(-share)
        self.audit_loses.add(-self._share(audit_gains))

    def _gain(self, trip: JudgedTrip) -> float | None:
        """Minutes of loss that the rival saves on a trip; None where it does not count."""
        both_judged = trip.miss(self.rival) and trip.miss(self.incumbent)
        if trip.requested_at < self.since or trip.quantiles is None or not both_judged:
            return None
        ours, theirs = (
            min(pinball(trip.minutes, trip.quantiles[version]), self.loss_clip_min)
            for version in (self.incumbent, self.rival)
        )
        return ours - theirs

    def _share(self, gains: Sequence[float]) -> float:
        """Mean gain as a share of the largest that counts; 0, which bets nothing, where there is none."""
        return max(-1.0, min(fmean(gains) / self.gain_clip_min, 1.0)) if gains else 0.0

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

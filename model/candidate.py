"""A candidate: a network that training proposes, with held-out answers to judge it by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np

from contracts.bundle import GateResult, Manifest, Scope
from contracts.problems import TandemError
from contracts.requirements import Requirement, Requirements
from model.bundle import scope
from model.correction import BEFORE, Correction
from model.evaluation import hourly_reference, misses, pinball_min
from model.fit import calibrate, fit
from model.heuristic import Heuristic
from model.network import DurationNetwork, predict
from model.parallel import CPU, Place
from model.snapshot import DAYS_TO_TEST, HELD_OUT, Snapshot, Trips, split

MANY = 0.1  # below this share of all rows, those since the change would drown in a training on all of them


class NotEnoughTruth(TandemError):
    """A retraining after a change has too few outcomes since that change; `verdict` is the gate's line of it."""

    def __init__(self, outcomes: int, needed: Requirement, change_at: datetime) -> None:
        super().__init__(
            f"not enough truth yet: {outcomes} of {needed.floor:.0f} outcomes since the change at "
            f"{change_at:%Y-%m-%d %H:%M}; decide again when there are more"
        )
        self.verdict = GateResult(
            requirement=needed.id, limit=needed.limit, measured=outcomes, passed=False, note="not enough truth yet"
        )


@dataclass(frozen=True)
class Champion:
    """The network that serves now, and its bundle's manifest."""

    network: DurationNetwork
    manifest: Manifest


@dataclass(frozen=True)
class Candidate:
    """A calibrated network. `quantiles_min` (n, 3) are held-out answers for the `test` trips: its own where it was
    trained afresh; of a correction, whose shifts and calibration have seen all those trips, the answers of others that
    left a trip's block out. A rival may learn from the `past` before them. `above` and `below` are the miss shares to
    expect in each hour of the week. `how` tells the way in words."""

    network: DurationNetwork
    scope: Scope
    past: Trips
    test: Trips
    quantiles_min: np.ndarray
    heuristic_min: np.ndarray
    above: list[float]
    below: list[float]
    how: str
    corrects: str | None = None
    since_change: int | None = None
    curve: list[float] = field(default_factory=list)

    @property
    def loss_min(self) -> float:
        """Mean pinball loss on the test trips, in minutes."""
        return float(pinball_min(self.quantiles_min, self.test.duration_min).mean())


def propose(
    snapshot: Snapshot,
    champion: Champion | None,
    record: Requirements,
    seed: int,
    told: Callable[[float], None],
    place: Place = CPU,
) -> Candidate:
    """The best candidate for a snapshot. Raises `NotEnoughTruth` or `TooFewTrips`."""
    since = snapshot.since_change()
    needed = record["retrain-outcomes"]
    if snapshot.made.change_at is not None and not needed.passes(int(since.sum())):
        raise NotEnoughTruth(int(since.sum()), needed, snapshot.made.change_at)
    if champion is None or snapshot.made.change_at is None:
        return afresh(snapshot, seed, told, place=place)
    share = float(since.mean())
    if share < MANY:
        corrected = correct(snapshot, champion, since)
        return replace(corrected, how=f"{corrected.how}; they are too few ({share:.1%}) to train on all rows instead")
    # held-out windows of a fifth of the new rows each leave three fifths of them to learn from
    everything = replace(afresh(snapshot, seed, told, share / 5, timedelta(0), place), since_change=int(since.sum()))
    if share > 0.5:
        return everything
    return better(correct(snapshot, champion, since), everything)


def better(corrected: Candidate, everything: Candidate) -> Candidate:
    """The one with less loss on the newest trips, by answers that learnt from none of them; `how` says what it beat."""
    newest = len(everything.test)
    rival = pinball_min(corrected.quantiles_min[-newest:], corrected.test.duration_min[-newest:]).mean()
    told = f"loss on the newest {newest:,} trips: corrected {rival:.3f} min, all rows {everything.loss_min:.3f} min"
    winner = everything if everything.loss_min < rival else corrected
    return replace(winner, how=f"{winner.how}; {told}")


def afresh(
    snapshot: Snapshot,
    seed: int,
    told: Callable[[float], None],
    held_out: float = HELD_OUT,
    days_to_test: timedelta = DAYS_TO_TEST,
    place: Place = CPU,
) -> Candidate:
    """Train on all rows: learn from the oldest, calibrate on newer ones, test on the newest."""
    windows = split(snapshot.trips, held_out, days_to_test)
    network, curve = fit(windows.train, snapshot.zones, seed, told, place)
    calibrate(network, windows.calibration)
    heuristic = Heuristic.fit(windows.train).predict(windows.test)
    quantiles = predict(network, windows.test.inputs)
    unlearnt = snapshot.trips.take(slice(len(windows.train), None))
    late, early = misses(predict(network, unlearnt.inputs), unlearnt.duration_min)
    return Candidate(
        network,
        scope(windows.train),
        snapshot.trips.take(slice(0, len(snapshot.trips) - len(windows.test))),
        windows.test,
        quantiles,
        heuristic,
        hourly_reference(unlearnt.inputs, late, late.mean()),
        hourly_reference(unlearnt.inputs, early, early.mean()),
        how=f"trained afresh on {len(windows.train):,} trips, calibrated on {len(windows.calibration):,} newer ones",
        curve=curve,
    )


def correct(snapshot: Snapshot, champion: Champion, since: np.ndarray) -> Candidate:
    """Correct the champion on the rows since the change, judged on rows that each fold held out."""
    before = np.flatnonzero(~since)
    rows = snapshot.trips.take(since)
    correction = Correction(champion.network, snapshot.trips.take(before[-BEFORE:]), rows)
    quantiles = correction.evidence()
    late, early = misses(quantiles, rows.duration_min)
    return Candidate(
        correction.corrected(),
        champion.manifest.scope,
        snapshot.trips.take(before),
        rows,
        quantiles,
        Heuristic.fit(snapshot.trips.take(before)).predict(rows),
        hourly_reference(rows.inputs, late, champion.manifest.above_p90_reference),
        hourly_reference(rows.inputs, early, champion.manifest.below_p10_reference),
        how=f"{champion.manifest.version} corrected on {len(rows):,} trips since the change, judged by cross-fitting",
        corrects=champion.manifest.version,
        since_change=len(rows),
    )

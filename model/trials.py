"""Trials for a learning curve: trainings on growing shares of a snapshot's training rows, judged on the same trips."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console
from rich.progress import Progress, TaskID

from contracts.problems import TandemError
from contracts.requirements import Requirement, Requirements
from contracts.trips import Wire
from model.candidate import Candidate, afresh
from model.evaluation import SURE, Bootstrap, Results
from model.fit import EPOCHS, FEWEST_STEPS, SMALLEST_BATCH
from model.snapshot import HELD_OUT, Snapshot, split

SIZES, SMALLEST = 5, 1 / 8  # of data, and the smallest as a share of the training rows
SEEDS = 5  # trainings on each size, while there is time


class NotEnoughGroups(TandemError):
    """No zone group has enough held-out trips to say how it fares."""


class TrainedOn(Wire):
    """One training on a share of the rows: what it measured of the metric on the held-out trips, its loss and the
    heuristic's in minutes, and how long it took."""

    rows: int
    seed: int
    measured: float
    loss_min: float
    heuristic_loss_min: float
    training_s: float


@dataclass(frozen=True)
class Trial:
    """One training, and what its metric is made of: `parts` as measured, shape (parts,), and `resampled`, (draws,
    parts), as other held-out trips would have had it. A ratio's parts are what stands above and below its line, those
    of a metric of zone groups the groups; any other metric is its own only part."""

    told: TrainedOn
    parts: np.ndarray
    resampled: np.ndarray


@dataclass(frozen=True)
class Share:
    """A snapshot that lacks some of its training rows and has the same calibration and test windows; `held_out` is the
    share by which `split` finds them."""

    snapshot: Snapshot
    rows: int
    held_out: float


def with_rows(snapshot: Snapshot, rows: int, seed: int) -> Share:
    """The snapshot with `rows` of its training rows, drawn by chance from all of their time: the newest few days alone
    would have seen no Sunday, and what that costs is not what few rows cost."""
    trips, all_rows = snapshot.trips, len(split(snapshot.trips).train)
    chosen = np.sort(np.random.default_rng(seed).choice(all_rows, rows, replace=False))
    left = trips.take(np.concatenate([chosen, np.arange(all_rows, len(trips))]))
    return Share(replace(snapshot, trips=left), rows, (int(len(trips) * HELD_OUT) + 0.5) / len(left))


def sizes(all_rows: int, least: int) -> list[int]:
    """Numbers of training rows to try, the largest first, none below `least`; each so many times the next one.

    A training takes `FEWEST_STEPS` however few its rows: below a size it sees each row more often than it would see
    those of all, and learns them by heart. What it then loses says nothing of larger ones, so we stay above that size,
    or where all rows are hardly more, within a third of them.
    """
    same_recipe = FEWEST_STEPS * SMALLEST_BATCH / EPOCHS
    smallest = max(SMALLEST * all_rows, min(same_recipe, all_rows / 3), least)
    return np.geomspace(all_rows, smallest, SIZES).round().astype(int).tolist() if smallest < all_rows else [all_rows]


def trials(
    snapshot: Snapshot,
    requirement: Requirement,
    record: Requirements,
    minutes: float,
    console: Console,
    now: Callable[[], float] = time.monotonic,
) -> list[Trial]:
    """Train on every size, the largest first, with one seed after the other. No training starts after `minutes`, or
    where it is known to take longer than what is left of them; the first one always runs."""
    all_rows, ends = len(split(snapshot.trips).train), now() + 60 * minutes
    unlearnt = len(snapshot.trips) - all_rows
    least = record["rows-per-week"].floor - unlearnt  # else `split` refuses the share
    tried = sizes(all_rows, math.ceil(least))
    planned = [(seed, rows) for seed in range(1, SEEDS + 1) for rows in tried]
    took: dict[int, float] = {}
    found: list[Trial] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=len(planned))
        for number, (seed, rows) in enumerate(planned):
            if found and now() + took.get(rows, 0) > ends:
                continue
            progress.update(task, description=f"{rows:,} rows, seed {seed}")
            share, began = with_rows(snapshot, rows, seed), now()
            candidate = afresh(share.snapshot, seed, bar(progress, task, number), share.held_out)
            took[rows] = now() - began
            found.append(trial(candidate, rows, seed, took[rows], unlearnt, requirement, record.policy.group_outcomes))
    return found


def bar(progress: Progress, task: TaskID, number: int) -> Callable[[float], None]:
    """Moves a task's bar as one training, after `number` others, tells the share of it that is done."""
    return lambda share: progress.update(task, completed=number + share)


def trial(
    candidate: Candidate,
    rows: int,
    seed: int,
    training_s: float,
    unlearnt: int,
    requirement: Requirement,
    group_outcomes: int,
) -> Trial:
    """What a training measured of the requirement's metric; of zone groups, the one furthest from the middle of the
    limits. `unlearnt` rows calibrated and tested. Raises `NotEnoughGroups` where it is about groups and none has
    `group_outcomes` held-out trips.

    Coverage depends on the days that calibrated as on those that tested, and we hold both against later days: what
    resampled test days do to it counts sqrt(1 + test rows / calibration rows) times.
    """
    results = Results.of(candidate.test, candidate.quantiles_min, candidate.heuristic_min)
    tested, group = len(candidate.test), candidate.test.group
    one = np.ones(tested)

    def told(measured: float, parts: Sequence[float], resampled: Sequence[np.ndarray]) -> Trial:
        loss_min, heuristic_loss_min = float(results.loss_min.mean()), float(results.heuristic_loss_min.mean())
        found = TrainedOn(
            rows=rows,
            seed=seed,
            measured=measured,
            loss_min=loss_min,
            heuristic_loss_min=heuristic_loss_min,
            training_s=training_s,
        )
        return Trial(found, np.array(parts), np.array(resampled).T)

    match requirement.metric:
        case "training_s":
            return told(training_s, [training_s], [np.full(len(results.sure.draws), training_s)])
        case "pinball_ratio":
            losses, drawn = zip(
                *(resample(results.sure, loss, one) for loss in (results.loss_min, results.heuristic_loss_min)),
                strict=True,
            )
            return told(losses[0] / losses[1], losses, drawn)
        case "coverage_p90":
            kept = 1.0 - results.late
        case _:
            kept = 1.0 - (results.late | results.early)
    slices = [one]
    if by_group(requirement):
        slices = [here * one for name in np.unique(group) if (here := group == name).sum() >= group_outcomes]
    if not slices:
        raise NotEnoughGroups(
            f"{requirement.id}: no zone group has {group_outcomes} of the {tested:,} held-out trips: collect more trips"
        )
    shares, drawn = zip(*(resample(results.sure, here * kept, here) for here in slices), strict=True)
    both = math.sqrt(1 + tested / (unlearnt - tested))
    again = [share + both * np.nan_to_num(other - share) for share, other in zip(shares, drawn, strict=True)]
    return told(max(shares, key=lambda share: abs(share - middle_of(requirement))), shares, again)


def middle_of(requirement: Requirement) -> float:
    """The middle of a requirement's two limits."""
    return (requirement.floor + requirement.ceiling) / 2


def by_group(requirement: Requirement) -> bool:
    """Whether a requirement is about each zone group on its own."""
    return requirement.id.startswith("group-")


def resample(sure: Bootstrap, above: np.ndarray, below: np.ndarray) -> tuple[float, np.ndarray]:
    """The sum of `above` over the sum of `below`, both by trip, shape (n,), and the same on resampled trips, straying
    from it as far as intervals of so few blocks reach."""
    upper, lower = (np.bincount(sure.block, values, sure.count) for values in (above, below))
    with np.errstate(invalid="ignore"):  # a draw of blocks without such a trip says nothing
        drawn: np.ndarray = (sure.draws @ upper) / (sure.draws @ lower)
    found = float(upper.sum() / lower.sum())
    return found, found + sure.widening((1 + SURE) / 2) * (drawn - found)

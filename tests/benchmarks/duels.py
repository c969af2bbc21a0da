"""How often a comparison errs, and how soon it sees a better rival:  python -m tests.benchmarks.duels BUNDLE

The reference city in calm weeks, answered by a bundle. Equals are its quantiles all shortened and all lengthened, by as
much as leaves their mean loss the same; a better rival says what the bundle says where the incumbent adds noise to it.
Comparisons as monitoring holds them look at every cohort between the policy's least and most pairs: over cohorts in
random order, which shows what trips of one cohort have in common, and over stretches of the calendar, which adds what
cohorts near in time have.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from itertools import chain, groupby, islice
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from contracts.requirements import load
from contracts.trips import LEVELS, TripRequest
from data.city.reference import City
from data.city.times import ZONE
from data.history import LIVE_START, simulate
from data.settings import Settings
from model.bundle import arrays
from model.export import run
from monitoring.cohorts import JudgedTrip, Schedule
from monitoring.comparison import Comparison
from monitoring.coverage import Quantiles

POLICY = load().policy
NEEDED = 2 / POLICY.verdict_alpha
SCHEDULE = Schedule(timedelta(minutes=POLICY.cohort_min), timedelta(minutes=POLICY.closing_min))
APART = (0.02, 0.05, 0.08, 0.12)  # by how much the shorter of two equals is shortened
BETTER = (0.05, 0.1, 0.2)  # share of the incumbent's loss that the rival saves
ORDERS, EVERY = 200, 58  # random orders; cohorts from the start of one stretch to that of the next

Cohorts = list[list[JudgedTrip]]


class Calm:
    """Delivered trips of calm weeks in order of booking, and the bundle's quantiles, shape (n, 3), in minutes."""

    def __init__(self, bundle: Path, weeks: int) -> None:
        rows = simulate(City(Settings().city_seed), LIVE_START, LIVE_START + timedelta(weeks=weeks))
        self.rows = rows.filter(pl.col("outcome") == "delivered").sort("booked_at", "trip_id")
        asked = self.rows.select(*TripRequest.model_fields).iter_rows(named=True)
        trips = [TripRequest.model_construct(**row) for row in asked]
        self.said, self.took = run(bundle / "model.onnx", arrays(trips, ZONE)), self.rows["duration_min"].to_numpy()

    def loss(self, said: np.ndarray) -> float:
        """Mean pinball loss in minutes."""
        miss, levels = self.took[:, None] - said, np.array(LEVELS)
        return float(np.maximum(levels * miss, (levels - 1) * miss).mean())

    def equals(self, apart: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Two that err on either side, and by how much the longer is lengthened."""
        short = self.said * (1 - apart)
        longer = _where(lambda by: self.loss(self.said * (1 + by)) - self.loss(short))
        return short, self.said * (1 + longer), longer

    def better(self, saved: float) -> tuple[np.ndarray, np.ndarray]:
        """An incumbent whose loss is so much above the bundle's, and the bundle."""
        noise = np.random.default_rng(1).normal(size=(len(self.said), 1))
        width = _where(lambda width: 1 - self.loss(self.said) / self.loss(self.said * np.exp(width * noise)) - saved)
        return self.said * np.exp(width * noise), self.said

    def cohorts(self, incumbent: np.ndarray, rival: np.ndarray) -> Cohorts:
        """The trips as monitoring judges them."""
        facts = self.rows.select("trip_id", "requested_at", "booked_at", "promised_by", "ended_at").iter_rows()
        judged = (
            JudgedTrip(trip_id, None, asked, booked, promised, ended, "delivered", "model", False, True, said)
            for (trip_id, asked, booked, promised, ended), said in zip(facts, _both(incumbent, rival), strict=True)
        )
        return [list(trips) for _, trips in groupby(judged, lambda trip: SCHEDULE.start_of(trip.booked_at))]


def _both(incumbent: np.ndarray, rival: np.ndarray) -> Iterator[dict[str, Quantiles]]:
    for ours, theirs in zip(incumbent.tolist(), rival.tolist(), strict=True):
        yield {"ours": Quantiles(*ours), "theirs": Quantiles(*theirs)}


def _where(rises: Callable[[float], float]) -> float:
    """Where between 0 and .9 a rising function is 0."""
    low, high = 0.0, 0.9
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if rises(middle) < 0 else (low, middle)
    return low


def verdicts(cohorts: Iterable[list[JudgedTrip]]) -> tuple[int | None, int | None]:
    """After how many cohorts a comparison is first won and first lost, if ever, before its pairs are spent."""
    comparison = Comparison("ours", "theirs", LIVE_START, POLICY.loss_clip_min, POLICY.gain_clip_min)
    won = lost = None
    for number, cohort in enumerate(cohorts, start=1):
        comparison.add(cohort)
        duel = comparison.standing()
        if duel.pairs >= POLICY.least_pairs:
            won = won or (number if duel.wins >= NEEDED else None)
            lost = lost or (number if duel.loses >= NEEDED else None)
        if duel.pairs >= POLICY.most_pairs:
            break
    return won, lost


def in_random_order(cohorts: Cohorts) -> Iterator[Iterator[list[JudgedTrip]]]:
    dice = np.random.default_rng(1)
    for _ in range(ORDERS):
        yield (cohorts[place] for place in dice.permutation(len(cohorts)))


def stretches(cohorts: Cohorts) -> Iterator[Iterator[list[JudgedTrip]]]:
    """From every so many cohorts on; the last ones go on at the beginning."""
    for start in range(0, len(cohorts), EVERY):
        yield islice(chain(cohorts, cohorts), start, start + len(cohorts))


def shares(told: list[tuple[int | None, int | None]]) -> list[str]:
    """How many were won, and how many lost."""
    return [f"{sum(side is not None for side in sides) / len(told):.3f}" for sides in zip(*told, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.duels", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--weeks", type=int, default=20)
    asked = parser.parse_args()
    calm, console = Calm(asked.bundle, asked.weeks), Console()
    equal = Table("equals", "random order: won", "lost", "stretches: won", "lost", title=f"{len(calm.rows):,} trips")
    for apart in APART:
        short, long, longer = calm.equals(apart)
        cohorts = calm.cohorts(short, long)
        told = [[verdicts(one) for one in order(cohorts)] for order in (in_random_order, stretches)]
        equal.add_row(f"-{apart:.0%} / +{longer:.1%}", *shares(told[0]), *shares(told[1]))
    console.print(equal)
    better = Table("loss saved", "won", "lost", "cohorts to win, median")
    for saved in BETTER:
        told = [verdicts(one) for one in stretches(calm.cohorts(*calm.better(saved)))]
        waits = sorted(won or POLICY.most_pairs for won, _ in told)
        better.add_row(f"{saved:.0%}", *shares(told), str(waits[len(waits) // 2]))
    console.print(better)


if __name__ == "__main__":
    main()

"""New York: published taxi trips through data's own path, against LightGBM under the same search, then month by month.

The records are not part of this repository: they lie in `../shared/realdata` beside the checkout, or where
TANDEM_REALDATA says.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from contracts.problems import TandemError
from data import tlc
from data.tlc_records import NEW_YORK, months_in
from model.evaluation import misses, pinball_min
from model.heuristic import BY_DISTANCE, BY_ZONE_PAIR, Heuristic
from model.network import predict
from model.snapshot import SEEN, prepare, read
from tests.benchmarks import coverage, goals, ladder, plots, rivals
from tests.benchmarks.contest import Contest
from tests.benchmarks.goals import Verdict
from tests.benchmarks.ladder import Rung, measured
from tests.benchmarks.report import Part, Steps, steps

WHERE = "TANDEM_REALDATA"
BESIDE = Path(__file__).parents[3] / "shared" / "realdata"
ZONES = "taxi_zone_centroids.csv"
UNTIL = datetime(2019, 10, 1, tzinfo=NEW_YORK)  # the first day of the test months
SHIFT = datetime(2020, 3, 1, tzinfo=NEW_YORK)  # from here on the city is another one: only the months' table looks
SETTINGS = 12  # that each side may try
SEARCH_EVERY = 5  # on every fifth training row, else the search takes hours
DAY_MIN, MINUTE_S = 24 * 60, 1 / 60
PLAUSIBLE = {"minutes": (1.0, 120.0), "miles": (0.1, 60.0), "mph": (1.0, 70.0)}  # what the data's README filters by
OURS, DEFAULT, TREES, REGROWN = "ours", "ours, as trained", "LightGBM", "LightGBM, all rows"
GIVEN = "LightGBM, given our encoder's features"
BY_PAIR, BY_KM = "heuristic: zone pair, time", "heuristic: distance, time"
Answers = dict[str, list[tuple[np.ndarray, float]]]  # by rival and seed: quantiles (n, 3) in minutes, training seconds


class NoRecords(TandemError):
    """There are no trip records to hold the model against."""


@dataclass(frozen=True)
class Rows:
    """Test trips by kind, masks of shape (n,): `sane` took between nothing and a day, `filtered` pass the README's
    filter, `early` were asked for before the shift; and the month of each, as text."""

    sane: np.ndarray
    filtered: np.ndarray
    early: np.ndarray
    month: np.ndarray

    def where(self, mask: np.ndarray) -> Rows:
        """The rows at `mask`."""
        return Rows(self.sane[mask], self.filtered[mask], self.early[mask], self.month[mask])


def measure(out: Path, seeds: Sequence[int], console: Console, *, quick: bool, alone: bool) -> Part:
    """New York's part; `alone` leaves LightGBM and both searches out, `quick` takes a tenth of the rows. Raises
    `NoRecords`."""
    folder = Path(os.environ.get(WHERE, BESIDE))
    if not (folder / ZONES).is_file():
        raise NoRecords(f"no {ZONES} in {folder}: set {WHERE} to a folder with it and with TLC's yellow trip records")
    contest, rows = records(folder, console)
    if quick:
        contest, rows = contest.every(10), rows.where(np.arange(len(rows.sane)) % 10 == 0)
    search = 0 if alone else 2 if quick else SETTINGS
    with steps(console, "New York", 2 * search + (1 if alone else 5) * len(seeds) + 1) as step:
        answers, tried = answered(contest, seeds, search, step)
    part = _judged(contest, rows, answers, out)
    part.figures |= {"seeds": list(seeds), "search": tried, "quick": quick}
    return part


def records(folder: Path, console: Console) -> tuple[Contest, Rows]:
    """The published months through data's intake and snapshots."""
    until = UNTIL.astimezone(UTC)
    with tempfile.TemporaryDirectory() as out:
        made = tlc.take_in([folder], folder / ZONES, until, Path(out) / "ny", console).cut(until)
        train, test = (Path(out) / "ny" / "snapshots" / made[name].digest for name in ("train", "test"))
        past = read(train)
        later = pl.read_parquet(test / "trips.parquet").filter(pl.col("duration_min").is_not_null())
    later = later.join(metered(folder), on="trip_id", how="left", validate="1:1").sort(SEEN)
    contest = Contest(past.trips, prepare(later.select(SEEN), past.zones, NEW_YORK), past.zones)
    return contest, kinds(later)


def metered(folder: Path) -> pl.DataFrame:
    """Metered miles by trip id. They are known after the trip: for the filter alone, no rival sees them."""
    parts = []
    for month in months_in([folder]):
        rows = month.trips.select("miles").collect().with_row_index("row")
        name = pl.lit(f"{month.name}-") + pl.col("row").cast(pl.String).str.zfill(8)  # as data.tlc names its trips
        parts.append(rows.select(name.alias("trip_id"), "miles"))
    return pl.concat(parts)


def kinds(trips: pl.DataFrame) -> Rows:
    """Which of the test trips count where."""
    minutes, miles = pl.col("duration_min"), pl.col("miles")
    looked_at = {"minutes": minutes, "miles": miles, "mph": miles / (minutes / 60)}
    plausible = pl.all_horizontal(looked_at[name].is_between(*ends) for name, ends in PLAUSIBLE.items())
    local = pl.col("requested_at").dt.convert_time_zone(NEW_YORK.key)
    found = trips.select(
        sane=(minutes > 0) & (minutes < DAY_MIN),
        filtered=plausible.fill_null(value=False),
        early=pl.col("requested_at") < SHIFT.astimezone(UTC),
        month=local.dt.strftime("%Y-%m"),
    )
    return Rows(*(found[name].to_numpy() for name in ("sane", "filtered", "early", "month")))


def answered(contest: Contest, seeds: Sequence[int], search: int, step: Steps) -> tuple[Answers, dict[str, object]]:
    """What every rival says of the test trips, and what the searches tried. Nobody sees test months before."""
    test = contest.test
    step("heuristics")
    answers: Answers = {
        name: [(Heuristic.fit(contest.train, keys).predict(test), 0.0)]
        for name, keys in ((BY_KM, BY_DISTANCE), (BY_PAIR, BY_ZONE_PAIR))
    }
    if not search:
        answers[OURS] = [_ours(contest, seed, rivals.AS_TRAINED, step) for seed in seeds]
        return answers, {}
    sparse = contest.every(SEARCH_EVERY)
    given, trees_tried = rivals.search_trees(sparse, search, step)
    chosen = rivals.chosen(trees_tried, unfolded=False)  # the same inputs as ours
    setting, ours_tried = rivals.search_ours(sparse, search, step)
    tried = {
        TREES: {"chosen": chosen, "given": given, "tried": trees_tried},
        OURS: {"chosen": setting, "tried": ours_tried},
    }
    answers |= {TREES: [], REGROWN: [], GIVEN: []}
    for seed in seeds:
        step(f"{TREES}, seed {seed}")
        trees = rivals.trees(contest, seed, chosen)
        answers[TREES].append((trees.predict(test), trees.training_s))
        step(f"{REGROWN}, seed {seed}")
        again = rivals.regrown(trees, contest, seed)
        answers[REGROWN].append((again.predict(test), again.training_s))
        step(f"{GIVEN}, seed {seed}")
        trees = rivals.trees(contest, seed, given)
        answers[GIVEN].append((trees.predict(test), trees.training_s))
    answers[DEFAULT] = [_ours(contest, seed, rivals.AS_TRAINED, step) for seed in seeds]
    if setting == rivals.AS_TRAINED:
        answers[OURS] = answers[DEFAULT]
    else:
        answers[OURS] = [_ours(contest, seed, setting, step) for seed in seeds]
    return answers, tried


def _ours(contest: Contest, seed: int, setting: rivals.Setting, step: Steps) -> tuple[np.ndarray, float]:
    step(f"{OURS}, seed {seed}")
    network, training_s = rivals.ours(contest, seed, setting)
    return predict(network, contest.test.inputs), training_s


def _judged(contest: Contest, rows: Rows, answers: Answers, out: Path) -> Part:
    took, part = contest.test.duration_min, Part("new-york")
    titles = {
        "filtered": "trips of October 2019 to February 2020, filtered as the data's README says",
        "all": "trips of the same months with known zones, between nothing and a day",
    }
    masks = {"filtered": rows.filtered & rows.early, "all": rows.sane & rows.early}
    part.figures |= {"training_rows": len(contest.train)} | {
        f"{name}_rows": int(mask.sum()) for name, mask in masks.items()
    }
    reached = {name: rungs(answers, took, mask) for name, mask in masks.items()}
    part.figures["ladder"] = {name: {rung.name: rung.as_json() for rung in found} for name, found in reached.items()}
    for name, found in reached.items():
        title = f"{int(masks[name].sum()):,} {titles[name]}"
        part.tables.append(ladder.table(title, found, TREES if TREES in answers else BY_PAIR, "s", MINUTE_S))
    part.verdicts += loss_verdicts(reached["filtered"])
    part.verdicts += coverage.verdicts(contest.test.take(masks["all"]), ladder.by_name(reached["all"], OURS))
    months = by_month(answers, took, rows)
    part.figures["months"] = months
    part.tables.append(month_table(months))
    part.plots += [
        plots.rungs(
            reached["filtered"], "New York: pinball loss, s, mean of levels", out / "new-york-ladder.png", MINUTE_S
        ),
        plots.months(months, out / "new-york-months.png"),
    ]
    return part


def rungs(answers: Answers, took: np.ndarray, mask: np.ndarray) -> list[Rung]:
    """Every rival on the test trips at `mask`."""
    return [
        Rung(name, [measured(quantiles[mask], took[mask], training_s) for quantiles, training_s in seeds])
        for name, seeds in answers.items()
    ]


def loss_verdicts(found: Sequence[Rung]) -> list[Verdict]:
    """Our loss on the filtered rows, against the peers' and against what only a leak reaches."""
    loss_s = {rung.name: rung.mean_min / MINUTE_S for rung in found}
    verdicts = [goals.NY_LOSS.judge(loss_s[OURS])]
    if TREES in loss_s:
        sound = goals.NY_LIGHTGBM_SOUND.judge(loss_s[TREES])
        void = "" if sound.state == "passed" else f"LightGBM's own loss is {loss_s[TREES]:.2f} s: a careless peer"
        others = {"regrown on all rows": REGROWN, "given our encoder's features": GIVEN}
        note = ", ".join(f"{what} {loss_s[OURS] / loss_s[name]:.4f}" for what, name in others.items())
        verdicts += [sound, goals.NY_LIGHTGBM.judge(loss_s[OURS] / loss_s[TREES], note, void)]
    verdicts.append(goals.NY_ZONE_PAIR.judge(loss_s[OURS] / loss_s[BY_PAIR]))
    least = min(loss_s, key=loss_s.__getitem__)
    return [*verdicts, goals.NY_LEAK.judge(loss_s[least], f"least: {least}")]


def by_month(answers: Answers, took: np.ndarray, rows: Rows) -> dict[str, dict[str, dict[str, float]]]:
    """Loss in seconds and coverage of the band on filtered rows, by rival and month, mean over seeds."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in (item for item in (OURS, TREES, BY_PAIR) if item in answers):
        found[name] = {}
        for month in sorted(set(rows.month.tolist())):
            here = rows.filtered & (rows.month == month)
            losses, covered = [], []
            for quantiles, _ in answers[name]:
                late, early = misses(quantiles[here], took[here])
                losses.append(pinball_min(quantiles[here], took[here]).mean() / MINUTE_S)
                covered.append(1 - late.mean() - early.mean())
            found[name][month] = {"pinball_s": float(np.mean(losses)), "coverage_band": float(np.mean(covered))}
    return found


def month_table(months: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    """One line a month: loss in seconds and coverage of the band, by rival."""
    made = Table(
        "month", *(f"{name}: loss, s (band covers)" for name in months), title="the same models, month by month"
    )
    for month in next(iter(months.values())):
        cells = [f"{found[month]['pinball_s']:.1f} ({found[month]['coverage_band']:.3f})" for found in months.values()]
        made.add_row(month, *cells)
    return made

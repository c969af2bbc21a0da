"""The reference city: every rival against the oracle, which knows all that the model's columns can tell."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from math import ceil
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console

from contracts.requirements import load
from data import oracle
from data.city.reference import City
from data.city.times import ZONE
from data.history import ESTIMATE, LIVE_START, simulate
from data.settings import Settings
from data.worker import city_zones
from model.evaluation import pinball_min
from model.export import export, probe, run
from model.fit import WEATHER
from model.heuristic import BY_DISTANCE, BY_ZONE_PAIR, Heuristic
from model.network import DurationNetwork, predict
from model.snapshot import SEEN, prepare
from tests.benchmarks import coverage, goals, ladder, plots, probes, rivals
from tests.benchmarks.contest import Contest, without
from tests.benchmarks.goals import Verdict
from tests.benchmarks.ladder import Measured, Rung, measured
from tests.benchmarks.report import Part, Steps, steps

TRAIN, TEST = 200_000, 50_000
TRIPS_A_WEEK = 13_500  # delivered ones, at least
SETTINGS = 12  # of LightGBM's search
PROBES = 10_000
OURS, TREES, REGROWN, ORACLE = "ours", "LightGBM", "LightGBM, all rows", "oracle"
BY_KM, BY_PAIR = "heuristic: distance, time, vehicle", "heuristic: zone pair, time"


def measure(out: Path, seeds: Sequence[int], console: Console, *, quick: bool, alone: bool) -> Part:
    """The city's part; `alone` leaves LightGBM out, `quick` takes a tenth of the rows."""
    share = 10 if quick else 1
    with console.status("simulating the city's past"):
        contest, table = reference_city(TRAIN // share, TEST // share)
    search = 0 if alone else 2 if quick else SETTINGS
    with steps(console, "city", search + (2 if alone else 4) * len(seeds) + 2) as step:
        part = _measured(contest, table, seeds, search, out, step, least_groups=load().policy.group_outcomes / share)
    part.figures["quick"] = quick
    return part


def reference_city(train: int, test: int) -> tuple[Contest, pl.DataFrame]:
    """A contest on the newest trips before the live start, and the test trips as a table, in the same order."""
    seed = Settings().city_seed
    start = LIVE_START - timedelta(weeks=ceil((train + test) / TRIPS_A_WEEK))
    trips = simulate(City(seed), start, LIVE_START).filter(pl.col("outcome") == "delivered")
    table = trips.sort(SEEN).tail(train + test)  # the order that training brings rows into
    zones = city_zones(seed)
    rows = prepare(table.select(SEEN), zones, ZONE)
    return Contest(rows.take(slice(0, train)), rows.take(slice(train, None)), zones), table.slice(train)


def rungs(
    contest: Contest, table: pl.DataFrame, seeds: Sequence[int], search: int, step: Steps
) -> tuple[list[Rung], list[DurationNetwork], dict[str, object]]:
    """The ladder from the heuristics to the oracle, our network of each seed, and what the search tried."""
    took = contest.test.duration_min
    step("oracle")
    best = oracle.quantiles(City(Settings().city_seed), table).select(ESTIMATE).to_numpy()
    found = [
        Rung(name, [measured(Heuristic.fit(contest.train, keys).predict(contest.test), took)])
        for name, keys in ((BY_KM, BY_DISTANCE), (BY_PAIR, BY_ZONE_PAIR))
    ]
    tried: dict[str, object] = {}
    if search:
        chosen, settings = rivals.search_trees(contest, search, step)
        tried = {"chosen": chosen, "tried": settings}
        stopped: list[Measured] = []
        regrown: list[Measured] = []
        for seed in seeds:
            step(f"{TREES}, seed {seed}")
            trees = rivals.trees(contest, seed, chosen)
            stopped.append(measured(trees.predict(contest.test), took, trees.training_s))
            step(f"{REGROWN}, seed {seed}")
            again = rivals.regrown(trees, contest, seed)
            regrown.append(measured(again.predict(contest.test), took, again.training_s))
        found += [Rung(TREES, stopped), Rung(REGROWN, regrown)]
    networks, reached = [], []
    for seed in seeds:
        step(f"{OURS}, seed {seed}")
        network, training_s = rivals.ours(contest, seed)
        networks.append(network)
        reached.append(measured(predict(network, contest.test.inputs), took, training_s))
    return [*found, Rung(OURS, reached), Rung(ORACLE, [measured(best, took)])], networks, tried


def _measured(
    contest: Contest,
    table: pl.DataFrame,
    seeds: Sequence[int],
    search: int,
    out: Path,
    step: Steps,
    least_groups: float,
) -> Part:
    record = load()
    found, networks, tried = rungs(contest, table, seeds, search, step)
    part = Part("city")
    rows = {
        "training_rows": len(contest.train),
        "test_rows": len(contest.test),
        "test_days": coverage.days(contest.test),
    }
    part.figures |= rows | {
        "seeds": list(seeds),
        "ladder": {rung.name: rung.as_json() for rung in found},
        "lightgbm": tried,
    }
    title = "reference city: {training_rows:,} training trips, {test_rows:,} later ones over {test_days} days".format(
        **rows
    )
    part.tables.append(ladder.table(title, found, ORACLE))
    part.verdicts += loss_verdicts(found) + coverage.verdicts(contest.test, ladder.by_name(found, OURS))
    groups = [coverage.by_group(contest.test, predict(item, contest.test.inputs), least_groups) for item in networks]
    part.verdicts.append(coverage.group_verdict(groups, record))
    part.tables.append(
        coverage.table("zone groups of the pickup, first seed, 95% intervals for all at once", groups[0], record)
    )
    part.figures["groups"] = {name: {key: asdict(item) for key, item in by.items()} for name, by in groups[0].items()}
    part.verdicts.append(weather_verdict(contest, networks, seeds, step))
    step("probes")
    part.verdicts += probe_verdicts(contest, networks[0])
    part.plots += [
        plots.rungs(found, "reference city: pinball loss, mean of three levels, min", out / "city-ladder.png"),
        plots.groups(groups[0], record, out / "city-groups.png"),
        plots.calibration(
            contest.test, [predict(item, contest.test.inputs) for item in networks], out / "city-hours.png"
        ),
    ]
    return part


def loss_verdicts(found: Sequence[Rung]) -> list[Verdict]:
    """Our loss against the oracle's and each peer's; and whether anybody knew what nobody can."""
    loss = {rung.name: rung.mean_min for rung in found}
    verdicts = [goals.CITY_ORACLE.judge(loss[OURS] / loss[ORACLE], f"oracle {loss[ORACLE]:.4f} min")]
    if TREES in loss:
        note = f"regrown on all rows {loss[OURS] / loss[REGROWN]:.4f}"
        verdicts.append(goals.CITY_LIGHTGBM.judge(loss[OURS] / loss[TREES], note))
    verdicts.append(goals.CITY_HEURISTIC.judge(loss[OURS] / min(loss[BY_KM], loss[BY_PAIR])))
    least = min((name for name in loss if name != ORACLE), key=loss.__getitem__)
    verdicts.append(goals.CITY_LEAK.judge(loss[least] / loss[ORACLE], f"least: {least}"))
    return verdicts


def weather_verdict(
    contest: Contest, networks: Sequence[DurationNetwork], seeds: Sequence[int], step: Steps
) -> Verdict:
    """What missing weather costs a model that has known it, over one that never did; mean over seeds."""
    blind, took = contest.hidden(WEATHER), contest.test.duration_min
    ratios = []
    for seed, network in zip(seeds, networks, strict=True):
        step(f"ours without weather, seed {seed}")
        never, _ = rivals.ours(blind, seed)
        lost, least = (
            pinball_min(predict(item, without(contest.test, WEATHER).inputs), took).mean() for item in (network, never)
        )
        ratios.append(float(lost / least))
    return goals.WITHOUT_WEATHER.judge(float(np.mean(ratios)), f"seeds: {ladder.spread(ratios, 4)}")


def probe_verdicts(contest: Contest, network: DurationNetwork) -> list[Verdict]:
    """Longer routes and the order of quantiles, asked of the network and of its ONNX file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export(network, path, probe(contest.test.take(slice(-2000, None)).inputs))
        asked = {"torch": partial(predict, network), "ONNX": partial(run, path)}
        verdicts = []
        for name, answer in asked.items():
            told = probes.probe(answer, contest.test.inputs, PROBES)
            note = f"{name}, {told.trips:,} pairs of routes, at most {max(told.worst, 0):.1e} shorter"
            verdicts += [goals.SHRUNK.judge(told.shrunk, note), goals.CROSSED.judge(told.crossed, f"{name}")]
    return verdicts

"""What a training and an answer cost: seconds and peak memory by rows, bytes of the bundle, microseconds a trip."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from math import ceil
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from contracts.bundle import OUTPUT, Evidence
from contracts.estimates import LARGEST_BATCH
from contracts.problems import TandemError
from contracts.requirements import load
from contracts.tables import model_inputs
from contracts.trips import MODEL_INPUTS
from data.city.reference import City
from data.city.times import ZONE
from data.history import LIVE_START, simulate
from data.settings import Settings
from data.snapshots import Cutter
from data.worker import city_zones
from model.settings import REFUSED
from serving.bundles import _session as serving_session
from tests.benchmarks import goals, ladder, plots
from tests.benchmarks.peak import weighed
from tests.benchmarks.report import Part, steps

SIZES = (100_000, 200_000, 1_000_000, 5_000_000)  # the second is what the limits speak of; the last has one seed
QUICK = (20_000, 40_000)
WEEKS = timedelta(weeks=8)  # of history that larger ones repeat
JITTER_S = 300
ROUNDS, RUNS = 20, 200  # timed runs of a graph: so many rounds, in each the median of so many
TIMES = ("requested_at", "booked_at", "picked_up_at", "ended_at", "promised_by")


class TrainingBroke(TandemError):
    """A training ended with an error instead of a bundle or a refusal."""


@dataclass(frozen=True)
class Trained:
    """One training in a process of its own: rows of its snapshot, seconds of fit and calibration as its evidence tells
    them, of the whole process, its highest resident memory, and the bytes of the bundle."""

    rows: int
    seed: int
    training_s: float
    whole_s: float
    peak_mb: float
    bundle_bytes: int


@dataclass(frozen=True)
class Answered:
    """Microseconds of one run of a graph on `rows` trips: median over rounds, the quickest and the slowest one."""

    rows: int
    median_us: float
    least_us: float
    most_us: float


def measure(out: Path, seeds: Sequence[int], console: Console, *, quick: bool) -> Part:
    """The costs; `quick` takes few rows."""
    sizes = QUICK if quick else SIZES
    plan = {rows: seeds[:1] if rows == sizes[-1] else seeds for rows in sizes}
    with console.status("simulating the city's past"):
        past = simulate(City(Settings().city_seed), LIVE_START - WEEKS, LIVE_START).filter(
            pl.col("outcome") == "delivered"
        )
    trained = []
    with steps(console, "cost", sum(map(len, plan.values())) + 1) as step, tempfile.TemporaryDirectory() as folder:
        for rows in sizes:
            snapshot = history(past, rows, Path(folder) / f"snapshot-{rows}")
            for seed in plan[rows]:
                step(f"training on {rows:,} rows, seed {seed}")
                trained.append(train(snapshot, Path(folder) / f"var-{rows}-{seed}", rows, seed))
            (snapshot / "trips.parquet").unlink()
        step("answers")
        answers = timed(_bundle(Path(folder) / f"var-{sizes[1]}-{seeds[0]}", "model.onnx")[0], past)
    part = _judged(trained, answers, sizes, out)
    part.figures["quick"] = quick
    return part


def history(past: pl.DataFrame, rows: int, place: Path) -> Path:
    """A snapshot below `place` of `rows` trips from `past` and copies of it, each some weeks earlier, jittered."""
    zones, rng = city_zones(Settings().city_seed), np.random.default_rng(0)
    copies = []
    for number in reversed(range(ceil(rows / past.height))):
        jitter = pl.Series("jitter", rng.integers(-JITTER_S, JITTER_S, past.height))
        moved = pl.duration(seconds=jitter) - number * WEEKS
        names = pl.concat_str(pl.col("trip_id"), pl.lit(f"-{number}"))
        copies.append(past.with_columns(names.alias("trip_id"), *(pl.col(name) + moved for name in TIMES)))
    made = Cutter(place, "city", ZONE.key, zones).cut(pl.concat(copies).sample(rows, seed=1))
    return place / made.digest


def train(snapshot: Path, var: Path, rows: int, seed: int) -> Trained:
    """A whole training as anybody starts it; one that the gate refuses is measured, too. Raises `TrainingBroke`."""
    asked = [sys.executable, "-m", "model.train", "--snapshot", str(snapshot), "--seed", str(seed)]
    log, began = var.parent / f"{var.name}.log", time.monotonic()
    status, peak_mb = weighed(asked, {"TANDEM_VAR": str(var)}, log)
    whole_s = time.monotonic() - began
    if status not in (0, REFUSED) or not (evidence := _bundle(var, "evidence.json")):
        raise TrainingBroke(f"training on {rows:,} rows ended with status {status}: {log.read_text()[-2000:]}")
    found = Evidence.model_validate_json(evidence[0].read_bytes())
    return Trained(rows, seed, found.training_s, whole_s, peak_mb, found.bundle_bytes)


def _bundle(var: Path, name: str) -> list[Path]:
    return [*var.glob(f"bundles/*/{name}"), *var.glob(f"candidates/*/{name}")]


def timed(onnx_file: Path, past: pl.DataFrame) -> list[Answered]:
    """A graph in serving's session, asked about one trip of `past` and about as many as a request may hold."""
    graph, answers = serving_session(onnx_file), []
    for rows in (1, LARGEST_BATCH):
        asked = model_inputs(past.sample(rows, seed=1), ZONE)
        feed = {item.name: asked[item.name].to_numpy().astype(item.dtype) for item in MODEL_INPUTS}
        rounds = []
        for _ in range(ROUNDS + 1):
            took = []
            for _ in range(RUNS):
                began = time.perf_counter()
                graph.run([OUTPUT], feed)
                took.append((time.perf_counter() - began) * 1e6)
            rounds.append(median(took))
        answers.append(Answered(rows, median(rounds[1:]), min(rounds[1:]), max(rounds[1:])))  # the first one warms up
    return answers


def _judged(trained: Sequence[Trained], answers: Sequence[Answered], sizes: Sequence[int], out: Path) -> Part:
    part, record = Part("cost"), load()
    part.figures |= {"trainings": [asdict(item) for item in trained], "answers": [asdict(item) for item in answers]}
    made = Table(
        "rows", "fit and calibration, s", "whole process, s", "peak memory, MB", "bundle, kB", title="training"
    )
    of_size = {rows: [item for item in trained if item.rows == rows] for rows in sizes}
    for rows, of in of_size.items():
        cells = [
            ladder.spread([getattr(item, name) for item in of], 1) for name in ("training_s", "whole_s", "peak_mb")
        ]
        made.add_row(f"{rows:,}", *cells, ladder.spread([item.bundle_bytes / 1e3 for item in of], 1))
    told = Table("trips at once", "median, µs", "quickest round", "slowest round", title="answers through onnxruntime")
    for item in answers:
        told.add_row(f"{item.rows}", f"{item.median_us:.1f}", f"{item.least_us:.1f}", f"{item.most_us:.1f}")
    part.tables += [made, told]
    judged, (fewer, most) = of_size[sizes[1]], sizes[-2:]
    a_row = {rows: float(np.mean([item.training_s / rows for item in of])) for rows, of in of_size.items()}
    part.verdicts = [
        goals.TRAINING_S.judge(max(item.training_s for item in judged), "slowest seed"),
        goals.TRAINING_MB.judge(max(item.peak_mb for item in judged), "highest seed, whole process"),
        goals.GROWTH.judge(a_row[most] / a_row[fewer], f"{most:,} rows against {fewer:,}"),
        goals.asked_by_record(record["bundle-size"]).judge(max(item.bundle_bytes for item in trained)),
        *(
            goal.judge(item.median_us, f"rounds {item.least_us:.1f} to {item.most_us:.1f}")
            for goal, item in zip((goals.ONE_TRIP_US, goals.BATCH_US), answers, strict=True)
        ),
    ]
    part.plots = [plots.costs(trained, out / "cost-rows.png")]
    return part

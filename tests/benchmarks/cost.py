"""What a training and an answer cost: seconds and peak memory by rows, bytes of the bundle, microseconds a trip."""

from __future__ import annotations

import json
import os
import subprocess
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
from contracts.snapshots import SnapshotMade
from contracts.tables import model_inputs
from contracts.trips import MODEL_INPUTS
from data.city.reference import City
from data.city.times import ZONE
from data.history import LIVE_START, simulate
from data.settings import Settings
from data.worker import city_zones
from model.settings import REFUSED
from serving.bundles import _session as serving_session
from tests.benchmarks import goals, ladder, plots
from tests.benchmarks.report import Part, Steps, steps

SIZES = (100_000, 200_000, 1_000_000, 5_000_000)
JUDGED, ONCE = 200_000, 5_000_000  # rows that the limits speak of; rows that are tried with one seed alone
WEEKS = timedelta(weeks=12)  # of history that larger ones repeat
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
    """The costs; `quick` takes a tenth of the rows."""
    share = 10 if quick else 1
    plan = [(rows, seed) for rows in SIZES for seed in (seeds[:1] if rows == ONCE else seeds)]
    with console.status("simulating the city's past"):
        past = simulate(City(Settings().city_seed), LIVE_START - WEEKS, LIVE_START).filter(
            pl.col("outcome") == "delivered"
        )
    trained, answers = [], []
    with steps(console, "cost", len(plan) + 1) as step, tempfile.TemporaryDirectory() as folder:
        for rows in SIZES:
            snapshot = history(past, rows // share, Path(folder) / f"snapshot-{rows}")
            for seed in (seed for wanted, seed in plan if wanted == rows):
                step(f"training on {rows // share:,} rows, seed {seed}")
                var = Path(folder) / f"var-{rows}-{seed}"
                trained.append(train(snapshot, var, rows // share, seed))
                if rows == JUDGED and not answers:
                    _timed(var, past, step, answers)
            (snapshot / "trips.parquet").unlink()
    return _judged(trained, answers, share, out)


def history(past: pl.DataFrame, rows: int, place: Path) -> Path:
    """A snapshot of the newest `rows` of `past` and of copies of it, each some weeks earlier, all times jittered."""
    zones, rng = city_zones(Settings().city_seed), np.random.default_rng(0)
    copies = []
    for number in reversed(range(ceil(rows / past.height))):
        jitter = pl.Series("jitter", rng.integers(-JITTER_S, JITTER_S, past.height))
        moved = pl.duration(seconds=jitter) - number * WEEKS
        names = pl.concat_str(pl.col("trip_id"), pl.lit(f"-{number}"))
        copies.append(
            past.with_columns(names.alias("trip_id"), *(pl.col(name) + moved for name in TIMES)).sort("booked_at")
        )
    trips = pl.concat(copies).tail(rows)
    place.mkdir()
    trips.write_parquet(place / "trips.parquet")
    (place / "zones.json").write_text(json.dumps([zone.model_dump() for zone in zones]))
    made = SnapshotMade(
        digest=f"made-up-{rows}",
        source="city",
        time_zone=ZONE.key,
        rows=rows,
        first_requested_at=trips["requested_at"].min(),
        last_requested_at=trips["requested_at"].max(),
        rows_since_change=rows,
        zone_groups={zone.zone: zone.group for zone in zones},
    )
    (place / "snapshot.json").write_text(made.model_dump_json())
    return place


def train(snapshot: Path, var: Path, rows: int, seed: int) -> Trained:
    """A whole training as anybody starts it; one that the gate refuses is measured, too. Raises `TrainingBroke`."""
    asked = [sys.executable, "-m", "model.train", "--snapshot", str(snapshot), "--seed", str(seed)]
    began = time.monotonic()
    with (var.parent / f"{var.name}.log").open("w+") as log:
        process = subprocess.Popen(asked, env=os.environ | {"TANDEM_VAR": str(var)}, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)  # the process's own peak, which Popen.wait would not tell
        process.returncode = os.waitstatus_to_exitcode(status)
        whole_s = time.monotonic() - began
        log.seek(0)
        told = log.read()
    if process.returncode not in (0, REFUSED) or not (evidence := _bundle(var, "evidence.json")):
        raise TrainingBroke(f"training on {rows:,} rows ended with status {process.returncode}: {told[-2000:]}")
    found = Evidence.model_validate_json(evidence[0].read_bytes())
    peak_mb = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return Trained(rows, seed, found.training_s, whole_s, peak_mb, found.bundle_bytes)


def _bundle(var: Path, name: str) -> list[Path]:
    return [*var.glob(f"bundles/*/{name}"), *var.glob(f"candidates/*/{name}")]


def _timed(var: Path, past: pl.DataFrame, step: Steps, answers: list[Answered]) -> None:
    step("answers")
    graph = serving_session(_bundle(var, "model.onnx")[0])
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


def _judged(trained: Sequence[Trained], answers: Sequence[Answered], share: int, out: Path) -> Part:
    part, record = Part("cost"), load()
    part.figures |= {"trainings": [asdict(item) for item in trained], "answers": [asdict(item) for item in answers]}
    part.figures["quick"] = share > 1
    made = Table(
        "rows", "fit and calibration, s", "whole process, s", "peak memory, MB", "bundle, kB", title="training"
    )
    for rows in SIZES:
        of = [item for item in trained if item.rows == rows // share]
        cells = [
            ladder.spread([getattr(item, name) for item in of], 1) for name in ("training_s", "whole_s", "peak_mb")
        ]
        made.add_row(f"{rows // share:,}", *cells, ladder.spread([item.bundle_bytes / 1e3 for item in of], 1))
    told = Table("trips at once", "median, µs", "quickest round", "slowest round", title="answers through onnxruntime")
    for item in answers:
        told.add_row(f"{item.rows}", f"{item.median_us:.1f}", f"{item.least_us:.1f}", f"{item.most_us:.1f}")
    part.tables += [made, told]
    mean = {rows: float(np.mean([item.training_s for item in trained if item.rows == rows // share])) for rows in SIZES}
    judged = [item for item in trained if item.rows == JUDGED // share]
    growth = (mean[5_000_000] / 5) / mean[1_000_000]
    part.verdicts = [
        goals.TRAINING_S.judge(max(item.training_s for item in judged), "slowest seed"),
        goals.TRAINING_MB.judge(max(item.peak_mb for item in judged), "highest seed, whole process"),
        goals.GROWTH.judge(growth),
        goals.asked_by_record(record["bundle-size"]).judge(max(item.bundle_bytes for item in trained)),
        *(
            goal.judge(item.median_us, f"rounds {item.least_us:.1f} to {item.most_us:.1f}")
            for goal, item in zip((goals.ONE_TRIP_US, goals.BATCH_US), answers, strict=True)
        ),
    ]
    part.plots = [plots.costs(trained, out / "cost-rows.png")]
    return part

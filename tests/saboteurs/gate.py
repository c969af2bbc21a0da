"""Checks of the gate: real trainings of a small city's snapshot, in processes of their own."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import TypeAdapter

from contracts import requirements
from contracts.bundle import BundleRefused, BundleReleased, GateResult
from contracts.measurements import Measurement
from tests.model import small_city
from tests.model.conftest import CHANGE, DAYS
from tests.saboteurs.faults import Saboteur, measured, spoiler

KINDS = ("gate",)
RECORD = requirements.load()
ROWS = 16_000  # so that each zone group has enough held-out trips to be judged
RESULT = TypeAdapter(BundleReleased | BundleRefused)
GROUP = small_city.GROUPS[0]


Process = subprocess.Popen[bytes]
Hold = Callable[[Process, Path], None]  # meets the training's process, and its log


def no_hold(_process: Process, _log: Path) -> None:
    """Leave the training alone."""


@dataclass
class Training:
    """A snapshot to train afresh on, and the rows since a change for a correction; `hold` meets the fresh training."""

    table: pl.DataFrame = field(default_factory=lambda: small_city.trips(ROWS, DAYS, seed=2))
    since: pl.DataFrame = field(
        default_factory=lambda: small_city.trips(1090, 0.8, seed=7, start=CHANGE, bridge_factor=1.45)
    )
    group_name: str = GROUP
    rows_quarantined: int = 20
    hold: Hold = no_hold

    def change(self, where: pl.Expr, factor: float, share: float = 1.0) -> None:
        """Trips where this holds, or a share of them, last `factor` times as long."""
        lucky = pl.Series("lucky", np.random.default_rng(5).random(self.table.height) < share)
        self.table = (
            self.table.with_columns(lucky)
            .with_columns(
                pl.when(where & pl.col("lucky"))
                .then(pl.col("duration_min") * factor)
                .otherwise("duration_min")
                .alias("duration_min")
            )
            .drop("lucky")
        )

    @property
    def newest(self) -> pl.Expr:
        """The held-out window of the newest trips."""
        return pl.col("requested_at") >= self.table["requested_at"].sort()[-round(0.25 * self.table.height)]


def of_the_group() -> pl.Expr:
    """Trips picked up in the zone group that saboteurs single out."""
    return pl.col("pickup_zone").is_in([zone.zone for zone in small_city.ZONES if zone.group == GROUP])


def drifted_window(training: Training) -> None:
    """In the newest weeks everything takes a twentieth longer, after the model was calibrated."""
    training.change(training.newest, 1.05)


def quick_tail(training: Training) -> None:
    """In the newest weeks every tenth trip is over in no time."""
    training.change(training.newest, 0.3, share=0.1)


def biased_zone_group(training: Training) -> None:
    """In the newest weeks one zone group's trips take an eighth longer, all others a little less."""
    training.change(training.newest & of_the_group(), 1.13)
    training.change(training.newest & ~of_the_group(), 0.97)


def quick_zone_group(training: Training) -> None:
    """In the newest weeks one zone group's trips are often over in no time."""
    training.change(training.newest & of_the_group(), 0.3, share=0.18)


def shuffled_labels(training: Training) -> None:
    """Every trip has another trip's duration."""
    shuffled = training.table["duration_min"].shuffle(seed=3)
    training.table = training.table.with_columns(shuffled)


def all_is_weather(training: Training) -> None:
    """The city becomes one where rain decides nearly everything."""
    wet = (1 + 0.5 * pl.col("rain_mm_h").fill_null(0.0)).clip(1, 8)
    training.table = training.table.with_columns(pl.col("duration_min") * wet)


def stopped_training(training: Training) -> None:
    """The training process is held up until its time is over."""

    def hold(process: Process, log: Path) -> None:
        while process.poll() is None and "training on" not in log.read_text():
            time.sleep(0.02)
        process.send_signal(signal.SIGSTOP)
        time.sleep(RECORD["training-time"].ceiling)
        process.send_signal(signal.SIGCONT)

    training.hold = hold


def endless_group_name(training: Training) -> None:
    """A zone group's name has become a whole document."""
    training.group_name = "Harbour, " * 80_000


def thin_snapshot(training: Training) -> None:
    """Data delivers one trip in five."""
    training.table = training.table.filter(np.random.default_rng(4).random(training.table.height) < 0.2)


def forgotten_zone_group(training: Training) -> None:
    """Hardly a trip from one zone group reaches the snapshot."""
    seldom = pl.Series(np.random.default_rng(4).random(training.table.height) < 0.03)
    training.table = training.table.filter(~of_the_group() | seldom)


def short_memory(training: Training) -> None:
    """Data has forgotten all but the newest two weeks, busy ones."""
    newest = training.table["requested_at"].max() - timedelta(days=14)  # type: ignore[operator]
    training.table = training.table.filter(pl.col("requested_at") > newest)


def refused_by_the_thousand(training: Training) -> None:
    """Intake has refused a tenth of the rows."""
    training.rows_quarantined = training.table.height // 9


def rain_helps_bikes(training: Training) -> None:
    """Bikes ride in the slipstream of the rain."""
    training.change((pl.col("vehicle") == "bike") & (pl.col("rain_mm_h") > 0.1), 0.7)


def early_snapshot(training: Training) -> None:
    """The snapshot is cut when only half the outcomes asked for are known."""
    training.since = training.since.head(500)


EVERYWHERE = frozenset({"coverage-band", "group-coverage-p90", "group-coverage-band"})
SABOTEURS: dict[str, Saboteur[Training]] = {
    "drifted-window": Saboteur("coverage-p90", drifted_window, EVERYWHERE),
    "quick-tail": Saboteur("coverage-band", quick_tail, frozenset({"group-coverage-band", "loss-against-heuristic"})),
    "biased-zone-group": Saboteur("group-coverage-p90", biased_zone_group, frozenset({"group-coverage-band"})),
    "quick-zone-group": Saboteur("group-coverage-band", quick_zone_group, frozenset({"coverage-band"})),
    "shuffled-labels": Saboteur("loss-against-heuristic", shuffled_labels, frozenset({"behaviour-failures"})),
    "all-is-weather": Saboteur("loss-without-weather", all_is_weather),
    "stopped-training": Saboteur("training-time", stopped_training, outlasts_a_limit=True),
    "endless-group-name": Saboteur("bundle-size", endless_group_name),
    "rain-helps-bikes": Saboteur("behaviour-failures", rain_helps_bikes),
    "short-memory": Saboteur("history-weeks", short_memory),
    "refused-by-the-thousand": Saboteur("snapshot-quarantine", refused_by_the_thousand),
    "thin-snapshot": Saboteur("rows-per-week", thin_snapshot),
    "forgotten-zone-group": Saboteur("group-rows-per-week", forgotten_zone_group),
    "early-snapshot": Saboteur("retrain-outcomes", early_snapshot),
}


def profile(saboteur: str | None) -> list[Measurement]:
    """Train afresh, and correct an honest champion, side by side; the gate's verdicts on both."""
    training = Training()
    spoiler(SABOTEURS, saboteur)(training)
    champion = _champion()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as side_by_side:
        fresh = side_by_side.submit(_train, Path(folder), training)
        corrected = side_by_side.submit(_correct, champion, Path(folder) / "corrected", training.since)
        gate = [item for item in fresh.result() if item.requirement != "retrain-outcomes"]
        gate += [item for item in corrected.result() if item.requirement == "retrain-outcomes"]
    return measured(RECORD, "gate", ((item.requirement, item.measured, item.passed, item.note[:60]) for item in gate))


@cache
def _champion() -> Path:
    """A var with an honest champion, for corrections to start from."""
    var = Path(tempfile.mkdtemp(prefix="tandem-champion-"))
    atexit.register(shutil.rmtree, var, ignore_errors=True)
    _train(var, Training())
    return var


def _train(var: Path, training: Training) -> list[GateResult]:
    named = {group: group for group in small_city.GROUPS} | {GROUP: training.group_name}
    zones = [zone.model_copy(update={"group": named[zone.group]}) for zone in small_city.ZONES]
    refused = training.rows_quarantined
    made = small_city.write_snapshot(var / "snapshots", training.table, zones=zones, rows_quarantined=refused)
    return _run(var, ["--snapshot", str(var / "snapshots" / made.digest)], training.hold)


def _correct(champion: Path, var: Path, since: pl.DataFrame) -> list[GateResult]:
    shutil.copytree(champion, var)
    made = small_city.write_snapshot(var / "snapshots", pl.concat([Training().table, since]), CHANGE)
    (version,) = (path.name for path in (var / "bundles").iterdir())
    how = ["--parent", version, "--change-at", CHANGE.isoformat()]
    return _run(var, ["--snapshot", str(var / "snapshots" / made.digest), *how])


def _run(var: Path, arguments: list[str], hold: Hold = no_hold) -> list[GateResult]:
    """`python -m model.train` until it has told its result; the gate's table."""
    told, log = var / "result.json", var / "training.log"
    told.unlink(missing_ok=True)  # the copied champion has one of its own
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "model.train", *arguments, "--result", str(told)],
            env=os.environ | {"TANDEM_VAR": str(var)},
            stdout=output,
            stderr=output,
        )
    try:
        hold(process, log)
        while process.poll() is None and not told.is_file():
            time.sleep(0.05)
    finally:
        process.kill()  # what it does after its result is MLflow's
        process.wait()
    if not told.is_file():
        raise RuntimeError(f"the training told no result; it said:\n{log.read_text()[-3000:]}")
    result = RESULT.validate_json(told.read_bytes())
    return result.gate if isinstance(result, BundleRefused) else result.evidence.gate

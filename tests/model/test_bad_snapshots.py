"""Snapshots that nobody should train on, and trainings that go wrong: a clear word, and earlier bundles untouched."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from chassis.clock import Clock
from contracts.bundle import BundleRefused, BundleReleased, Evidence, verify
from model import evaluate
from model.fit import TrainingDiverged, fit
from model.parallel import CPU
from model.settings import REFUSED
from model.train import main
from tests.model import small_city
from tests.model.conftest import DAYS

Spoil = Callable[[pl.DataFrame], pl.DataFrame]
ONE_GROUP = [zone.zone for zone in small_city.ZONES if zone.group == small_city.GROUPS[0]]


@pytest.fixture
def var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A var of its own, with a bundle of before."""
    monkeypatch.setenv("TANDEM_VAR", str(tmp_path))
    (tmp_path / "bundles" / "v1-before").mkdir(parents=True)
    return tmp_path


def refusal(var: Path, table: pl.DataFrame, breaks: Callable[[Path], object] = lambda _: None) -> str:
    """Why a training on this table was refused; it must have left everything else alone."""
    made = small_city.write_snapshot(var / "snapshots", table)
    breaks(var / "snapshots" / made.digest)
    told = var / "result.json"
    status = main(["--snapshot", str(var / "snapshots" / made.digest), "--decision", "d-1", "--result", str(told)])
    result = BundleRefused.model_validate_json(told.read_bytes())
    assert status == REFUSED
    assert result.decision_id == "d-1"
    assert [path.name for path in (var / "bundles").iterdir()] == ["v1-before"]
    assert not (var / "candidates").exists()
    return "; ".join(result.reasons)


TABLE = small_city.trips(6000, DAYS, seed=3)


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda table: table.head(40), "history-weeks"),
        (lambda table: table.filter(pl.col("requested_at").dt.date() == small_city.START.date()), "history-weeks"),
        (lambda table: table.with_columns(pickup_zone=pl.lit(ONE_GROUP[0])), "group-rows-per-week"),
        (lambda table: pl.concat([table, table.head(300)]), "are the same as another"),
        (lambda table: table.with_columns(duration_min=pl.lit(None, pl.Float64)), "rows-per-week"),
    ],
    ids=["tiny", "single day", "single zone", "duplicated", "nothing delivered"],
)  # fmt: skip
def test_too_little_or_the_wrong_data_is_refused_before_training(var: Path, spoil: Spoil, word: str):
    assert word in refusal(var, spoil(TABLE))


def test_trips_from_the_future_are_refused_by_the_citys_clock(var: Path):
    before_the_end = small_city.START + timedelta(days=DAYS / 2)
    Clock(time_zone="Europe/Berlin", city_start=before_the_end, wall_start=time.time(), speed=1).save(
        var / "clock.json"
    )

    assert "a clock is wrong" in refusal(var, TABLE)


def emptied(folder: Path) -> None:
    """The file has its columns and no row."""
    TABLE.clear().write_parquet(folder / "trips.parquet")


def in_miles(folder: Path) -> None:
    """Somebody has mended the rows, under the name of those that were sealed."""
    TABLE.with_columns(distance_km=pl.col("distance_km") / 1.609).write_parquet(folder / "trips.parquet")


@pytest.mark.parametrize(
    ("breaks", "word"),
    [
        (emptied, "now holds what is named"),
        (in_miles, "now holds what is named"),
        (lambda folder: (folder / "trips.parquet").unlink(), "have data cut it again"),
        (lambda folder: (folder / "zones.json").unlink(), "zones.json"),
        (lambda folder: (folder / "snapshot.json").write_text("{}"), "have data cut it again"),
        (lambda folder: os.truncate(folder / "trips.parquet", 5000), "have data cut it again"),
        (lambda folder: pl.DataFrame({"a": [1]}).write_parquet(folder / "trips.parquet"), "requested_at"),
        (shutil.rmtree, "snapshot.json"),
    ],
    ids=["empty", "other rows", "no trips", "no zones", "no description", "cut off", "foreign", "gone"],
)
def test_a_broken_snapshot_is_refused_with_its_file(var: Path, breaks: Callable[[Path], object], word: str):
    assert word in refusal(var, TABLE, breaks)


@pytest.mark.parametrize(("rank", "told"), [(0, REFUSED), (1, 0)])
def test_of_a_team_one_process_tells_of_a_refusal(var: Path, monkeypatch: pytest.MonkeyPatch, rank: int, told: int):
    monkeypatch.setattr("model.train.place", lambda _: nullcontext(replace(CPU, rank=rank, world=2)))
    made = small_city.write_snapshot(var / "snapshots", TABLE.head(40))

    assert main(["--snapshot", str(var / "snapshots" / made.digest), "--result", str(var / "result.json")]) == told
    assert (var / "result.json").exists() == (rank == 0)


@pytest.mark.parametrize(
    ("command", "option"), [(main, "--change-at"), (evaluate.main, "--before")], ids=["train", "evaluate"]
)
def test_a_time_without_its_offset_is_refused_at_once(command: Callable[[list[str]], object], option: str, capsys):
    with pytest.raises(SystemExit) as ended:
        command([option, "2026-06-02T13:00", "--snapshot", "any", "--bundle", "any", "--heuristic-from", "any"])

    assert ended.value.code == 2
    assert "needs an offset" in capsys.readouterr().err


def test_a_loss_that_is_no_number_ends_the_training(trained):
    trips = trained.windows.train
    took = np.where(np.arange(len(trips)) == len(trips) // 2, np.nan, trips.duration_min)
    with pytest.raises(TrainingDiverged, match="the loss is nan at step"):
        fit(replace(trips, duration_min=took), trained.snapshot.zones, 1, lambda _: None)


def a_training(var: Path, table: pl.DataFrame, *launcher: str, **popen: object) -> subprocess.Popen[bytes]:
    """`python -m model.train` in a process of its own."""
    made = small_city.write_snapshot(var / "snapshots", table)
    command = [sys.executable, "-u", *launcher, "-m", "model.train", "--snapshot", str(var / "snapshots" / made.digest)]
    log = (var / "training.log").open("w")
    environment = os.environ | {"TANDEM_VAR": str(var), "COLUMNS": "200"}
    return subprocess.Popen(
        [*command, "--result", str(var / "result.json")], env=environment, stdout=log, stderr=log, **popen
    )


@pytest.mark.slow
def test_a_killed_training_leaves_nothing_loadable_and_can_be_run_again(var: Path, trained):
    first = a_training(var, trained.table)
    deadline = time.monotonic() + 60
    while "training on" not in (var / "training.log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert [path.name for path in (var / "bundles").iterdir()] == ["v1-before"]

    assert a_training(var, trained.table).wait() == 0
    released = BundleReleased.model_validate_json((var / "result.json").read_bytes())
    verify(var / "bundles" / released.version, released.checksums_sha256)


@pytest.mark.slow
def test_a_disk_that_fills_is_a_refusal_that_says_so(var: Path, trained):
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # less than the graph needs

    process = a_training(var, trained.table, preexec_fn=little_room)

    assert process.wait() == REFUSED
    assert "could not be read or written" in (var / "training.log").read_text()
    assert [path.name for path in (var / "bundles").iterdir()] == ["v1-before"]


@pytest.mark.slow
def test_weather_that_is_never_known_can_be_trained_on(var: Path, trained):
    unknown = {name: pl.lit(None, pl.Float64) for name in ("rain_mm_h", "temperature_c")}
    assert a_training(var, trained.table.with_columns(**unknown)).wait() == 0, (var / "training.log").read_text()
    released = BundleReleased.model_validate_json((var / "result.json").read_bytes())

    assert list(released.evidence.slices["weather"]) == ["unknown"]
    assert not any("rain" in item.name for item in released.evidence.behaviour)


TEAM = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.mark.slow
def test_processes_under_torchrun_hold_the_same_weights(tmp_path: Path):
    subprocess.run([sys.executable, *TEAM, "-m", "tests.model.team", str(tmp_path)], check=True)
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))

    assert torch.equal(one, other)


@pytest.mark.slow
def test_two_processes_under_torchrun_train_one_network(var: Path, trained):
    a_training(var, trained.table, *TEAM).wait()
    # What the gate makes of so small a city is no matter here.
    sealed = [*(var / "bundles").glob("v2-*"), *(var / "candidates").glob("v2-*")]

    assert len(sealed) == 1, (var / "training.log").read_text()
    evidence = Evidence.model_validate_json((sealed[0] / "evidence.json").read_bytes())
    assert evidence.overall.pinball_min < 1.03 * trained.release.evidence.overall.pinball_min

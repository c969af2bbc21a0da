"""The rebuild drill: same ingredients, same bytes; and what was changed, lost or made up is caught."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from contracts.bundle import (
    GOLDEN_TOLERANCE_MIN,
    REBUILD_TOLERANCE,
    Evidence,
    Lineage,
    Manifest,
    verify,
    write_checksums,
)
from model.card import card
from model.lineage import machine
from model.parallel import CPU
from model.rebuild import Difference, Ingredient, difference, ingredients, judge, main, sound_snapshot
from model.snapshot import ChangedSnapshot
from model.workshop import CannotRebuild, Workshop, code_of
from tests.model import small_city
from tests.model.conftest import CHANGE

ROOT = Path(__file__).parents[2]
PATIENCE_S = 150
SAME, OTHER = Ingredient("torch", "2", "2"), Ingredient("numpy", "1", "2")


@pytest.mark.parametrize(
    ("same_bytes", "off_share", "found", "passed", "said"),
    [
        (True, 0.0, [SAME], True, "same bytes"),
        (True, 0.0, [SAME, OTHER], True, "same bytes"),
        (False, 0.0, [SAME], False, "though nothing differs"),
        (False, REBUILD_TOLERANCE, [SAME, OTHER], True, "as numpy differ"),
        (False, 1.01 * REBUILD_TOLERANCE, [SAME, OTHER], False, "as numpy differ"),
        (False, float("nan"), [SAME, OTHER], False, "nan"),
    ],
)
def test_the_same_ingredients_must_give_the_same_bytes_others_the_same_answers(
    same_bytes, off_share, found, passed, said
):
    verdict = judge(same_bytes, Difference(1.0, off_share), found)
    assert verdict.passed is passed
    assert said in verdict.words


def test_a_difference_is_measured_on_the_golden_trips(trained, tmp_path):
    graph, manifest = trained.folder / "model.onnx", trained.release.manifest
    assert difference(trained.folder, manifest, graph).largest_min < GOLDEN_TOLERANCE_MIN

    copy = shutil.copytree(trained.folder, tmp_path / "slower")
    golden = json.loads((copy / "golden.json").read_text())
    for trip in golden:
        trip["quantiles"] = {name: minutes * 1.25 for name, minutes in trip["quantiles"].items()}
    (copy / "golden.json").write_text(json.dumps(golden))
    off = difference(copy, manifest, graph)
    assert off.mean_share == pytest.approx(0.2, abs=1e-3)
    assert off.largest_min == pytest.approx(max(trip["quantiles"]["p90_min"] for trip in golden) / 5, rel=1e-3)


def test_what_differs_is_named(trained):
    lineage = trained.release.manifest.lineage
    assert all(item.same for item in ingredients(lineage, lineage.code_revision)[1:])
    assert lineage.machine == machine(CPU.device)

    libraries = lineage.libraries | {"numpy": "1.0", "gone": "3"}
    other = lineage.model_copy(update={"machine": "a Cray", "libraries": libraries, "code_revision": "abc+changes"})
    found = ingredients(other, "abc+changes")  # the same words, and yet nobody knows whether the same code
    assert {item.name for item in found if not item.same} == {"code", "machine", "numpy", "gone"}


def test_a_snapshot_that_is_gone_or_changed_is_not_trained_on(tmp_path):
    table = small_city.trips(300, 7, seed=3)
    made = small_city.write_snapshot(tmp_path, table)
    folder = sound_snapshot(tmp_path, made.digest)
    assert folder == tmp_path / made.digest

    with pytest.raises(CannotRebuild, match=r"not in .*: restore it from the archive"):
        sound_snapshot(tmp_path, "0" * 64)
    table.with_columns(pl.col("duration_min") * 1.001).write_parquet(folder / "trips.parquet")
    with pytest.raises(ChangedSnapshot, match="now holds what is named"):
        sound_snapshot(tmp_path, made.digest)
    table.write_parquet(folder / "trips.parquet")
    sound_snapshot(tmp_path, made.digest)
    zones = (folder / "zones.json").read_text()
    (folder / "zones.json").write_text(zones.replace("Mills", "Hills"))
    with pytest.raises(ChangedSnapshot, match="now holds what is named"):
        sound_snapshot(tmp_path, made.digest)


@dataclass(frozen=True)
class Checkout:
    """A repository of its own with what trains, and a `var` beside it."""

    root: Path

    @property
    def code(self) -> Path:
        return self.root / "code"

    @property
    def var(self) -> Path:
        return self.root / "var"

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", "-C", str(self.code), *who, *arguments], check=True, capture_output=True, text=True
        ).stdout

    def commit(self, words: str) -> str:
        self.git("add", "--all")
        self.git("commit", "-q", "-m", words)
        return self.git("rev-parse", "HEAD").strip()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=self.code, env=self.env, check=False, capture_output=True, text=True
        )

    @property
    def env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
        return kept | {"PYTHONPATH": str(self.code), "TANDEM_VAR": str(self.var)}

    def train(self, *arguments: str) -> Path:
        """The folder of the bundle that a training releases."""
        told = self.root / "result.json"
        told.unlink(missing_ok=True)
        command = [sys.executable, "-m", "model.train", "--result", str(told), *arguments]
        process = subprocess.Popen(command, cwd=self.code, env=self.env)
        deadline = time.monotonic() + PATIENCE_S
        while process.poll() is None and not told.is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()  # what it does after its result is MLflow's
        process.wait()
        return self.var / "bundles" / json.loads(told.read_text())["version"]

    def drill(self, bundle: Path) -> tuple[subprocess.CompletedProcess[str], dict]:
        """What `python -m model.rebuild` says, and the record that it leaves."""
        reports = self.root / "reports"
        said = self.run("-m", "model.rebuild", "--bundle", bundle.name, "--reports", str(reports))
        record = reports / f"rebuild-{bundle.name}.json"
        return said, json.loads(record.read_text()) if record.is_file() else {}


@pytest.fixture(scope="module")
def checkout(trained, tmp_path_factory):
    place = Checkout(tmp_path_factory.mktemp("drill"))
    for team in ("model", "contracts", "chassis"):
        shutil.copytree(ROOT / team, place.code / team, ignore=shutil.ignore_patterns("__pycache__"))
    (place.code / ".gitignore").write_text("__pycache__/\n")
    place.git("init", "-q")
    place.commit("the code that trains")
    shutil.copytree(trained.settings.snapshots, place.var / "snapshots")
    return place


def test_the_code_of_a_revision_is_there_for_as_long_as_it_is_needed(checkout):
    then = checkout.git("rev-parse", "HEAD").strip()
    (checkout.code / "model" / "later.py").write_text("")
    checkout.commit("later")

    with code_of(then, checkout.code) as place:
        assert (place / "model" / "train.py").is_file()
        assert not (place / "model" / "later.py").exists()
    assert not place.exists()
    assert len(checkout.git("worktree", "list").splitlines()) == 1
    with code_of(f"{then}+changes", checkout.code) as today:
        assert today == checkout.code
    with pytest.raises(CannotRebuild, match=r"not to be had .*: fetch it first"), code_of("f" * 40, checkout.code):
        pass


def test_the_module_that_runs_is_the_revisions(checkout, tmp_path):
    lineage = Lineage(code_revision="r", snapshot_digest="d", seed=1, libraries={}, threads=1)
    assert Workshop(checkout.code, tmp_path, lineage).running_code() == (checkout.code / "model/__init__.py").resolve()
    (tmp_path / "empty").mkdir()
    with pytest.raises(CannotRebuild, match="would run, not the code in"):
        Workshop(tmp_path / "empty", tmp_path, lineage).running_code()


def with_lineage(bundle: Path, version: str, **changes: object) -> Path:
    """A copy of a bundle under another version, whose lineage says something else; its card and seal agree with it."""
    copy = shutil.copytree(bundle, bundle.with_name(version))
    manifest = Manifest.model_validate_json((copy / "bundle.json").read_bytes())
    lineage = manifest.lineage.model_copy(update=changes)
    manifest = manifest.model_copy(update={"version": version, "lineage": lineage})
    evidence = Evidence.model_validate_json((copy / "evidence.json").read_bytes())
    (copy / "bundle.json").write_text(manifest.model_dump_json())
    (copy / "card.md").write_text(card(manifest, evidence))
    write_checksums(copy)
    verify(copy)
    return copy


def files(folder: Path) -> dict[str, int]:
    """Every file below a folder and when it was written."""
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def bundle(trained, checkout):
    """Trained by a clean commit, which a later one left behind: today the network learns next to nothing."""
    folder = checkout.train("--snapshot", str(checkout.var / "snapshots" / trained.snapshot.made.digest))
    fit = checkout.code / "model" / "fit.py"
    assert "PEAK_RATE, DECAY = 1.4e-2" in fit.read_text()
    fit.write_text(fit.read_text().replace("PEAK_RATE, DECAY = 1.4e-2", "PEAK_RATE, DECAY = 1.4e-5"))
    checkout.commit("another learning rate")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_bundle_is_rebuilt_byte_for_byte_by_the_code_that_made_it(checkout, bundle):
    before = files(checkout.var)
    said, record = checkout.drill(bundle)

    assert said.returncode == 0, said.stdout + said.stderr
    assert "same bytes" in said.stdout
    assert "tandem-rebuild-" in said.stdout  # the file that ran
    assert record["same_bytes"] is True
    assert record["difference"]["largest_min"] <= GOLDEN_TOLERANCE_MIN
    assert all(item["then"] == item["now"] for item in record["ingredients"])
    assert files(checkout.var) == before
    assert len(checkout.git("worktree", "list").splitlines()) == 1
    assert checkout.git("status", "--porcelain") == ""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_todays_code_is_other_code_and_its_answers_are_not_the_bundles(checkout, bundle):
    said, record = checkout.drill(with_lineage(bundle, "v2-changed", code_revision="0" * 40 + "+changes"))

    assert said.returncode == 1, said.stdout + said.stderr
    assert "only the tolerance is promised" in said.stdout
    assert record["difference"]["mean_share"] > REBUILD_TOLERANCE
    assert "as code differ" in record["verdict"]["words"]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_seed_that_is_not_the_one_that_trained_is_caught(checkout, bundle):
    said, record = checkout.drill(with_lineage(bundle, "v3-seeded", seed=2))

    assert said.returncode == 1, said.stdout + said.stderr
    assert "other bytes, though nothing differs" in record["verdict"]["words"]
    assert record["difference"]["largest_min"] > GOLDEN_TOLERANCE_MIN


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_correction_is_rebuilt_from_the_champion_it_was_given(trained, checkout, bundle):
    new = small_city.trips(1090, 0.8, seed=7, start=CHANGE, bridge_factor=1.45)
    made = small_city.write_snapshot(checkout.var / "snapshots", pl.concat([trained.table, new]), CHANGE, "d-1")
    how = ["--parent", bundle.name, "--change-at", CHANGE.isoformat(), "--decision", "d-1"]
    corrected = checkout.train("--snapshot", str(checkout.var / "snapshots" / made.digest), *how)
    assert verify(corrected).lineage.parent_version == bundle.name

    said, _ = checkout.drill(corrected)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "same bytes" in said.stdout

    weights = checkout.var / "model" / "weights" / f"{bundle.name}.pt"
    weights.rename(weights.with_suffix(".lost"))
    said, _ = checkout.drill(corrected)
    weights.with_suffix(".lost").rename(weights)
    assert said.returncode == 2
    assert "restore it" in " ".join(said.stdout.split())


@pytest.fixture
def place(trained, tmp_path, monkeypatch):
    """A live var with the trained bundle and its snapshot, to spoil."""
    for name in ("bundles", "snapshots"):
        shutil.copytree(trained.settings.var / name, tmp_path / name)
    monkeypatch.setenv("TANDEM_VAR", str(tmp_path))
    return tmp_path


def drilled(trained, place: Path, capsys) -> str:
    assert main(["--bundle", trained.release.version, "--reports", str(place / "reports")]) == 2
    assert not (place / "reports").exists()
    return " ".join(capsys.readouterr().out.split())


def test_a_lost_snapshot_ends_the_drill_before_any_training(trained, place, capsys):
    shutil.rmtree(place / "snapshots")
    assert "restore it from the archive" in drilled(trained, place, capsys)


def test_a_changed_snapshot_ends_the_drill_before_any_training(trained, place, capsys):
    file = place / "snapshots" / trained.snapshot.made.digest / "trips.parquet"
    pl.read_parquet(file).with_columns(distance_km=pl.col("distance_km") * 1.01).write_parquet(file)
    assert "now holds what is named" in drilled(trained, place, capsys)


def test_a_broken_seal_ends_the_drill_before_any_training(trained, place, capsys):
    with (place / "bundles" / trained.release.version / "model.onnx").open("ab") as graph:
        graph.write(b"more")
    assert "checksum differs" in drilled(trained, place, capsys)


def test_an_edited_card_ends_the_drill_before_any_training_though_sealed_anew(trained, place, capsys):
    folder = place / "bundles" / trained.release.version
    (folder / "card.md").write_text((folder / "card.md").read_text().replace("not a guarantee", "a guarantee"))
    write_checksums(folder)
    assert "never edit it" in drilled(trained, place, capsys)


def test_a_lineage_from_before_the_drill_says_so(trained, place, capsys):
    with_lineage(place / "bundles" / trained.release.version, "v9-old", threads=None)
    assert main(["--bundle", "v9-old", "--reports", str(place / "reports")]) == 2
    assert "names no threads" in " ".join(capsys.readouterr().out.split())

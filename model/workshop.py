"""Where a bundle is made again: the code of its revision, in a process and a `var` of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from contracts.bundle import Lineage
from contracts.problems import TandemError
from model.lineage import CHANGED, UNKNOWN
from model.settings import Settings

LOOK_EVERY_S = 0.1


class CannotRebuild(TandemError):
    """Something that the bundle was made from is missing or changed; the text says what, and where to get it."""


def is_a_commit(revision: str) -> bool:
    """Whether a lineage's revision names a commit that holds all the code that trained."""
    return revision != UNKNOWN and not revision.endswith(CHANGED)


@contextmanager
def code_of(revision: str, repository: Path) -> Iterator[Path]:
    """A folder with the code of a revision, for as long as it is needed; the running code where no commit holds what
    trained. Raises `CannotRebuild`."""
    if not is_a_commit(revision):
        yield repository
        return
    git = ("git", "-C", str(repository), "worktree")
    with tempfile.TemporaryDirectory(prefix="tandem-rebuild-") as folder:
        place = str(Path(folder).resolve() / "code")
        added = subprocess.run(
            [*git, "add", "--quiet", "--detach", place, revision], check=False, capture_output=True, text=True
        )
        if added.returncode != 0:
            raise CannotRebuild(f"code revision {revision} is not to be had ({added.stderr.strip()}): fetch it first")
        try:
            yield Path(place)
        finally:
            subprocess.run([*git, "remove", "--force", place], check=True)


@dataclass(frozen=True)
class Workshop:
    """Where a bundle is made again: the code that does it, and a `var` of its own."""

    code: Path
    var: Path
    lineage: Lineage

    def provide(self, settings: Settings) -> None:
        """Bring what the training was given, the champion's bundle and weights. Raises `CannotRebuild`."""
        champion = self.lineage.champion_version
        if champion is None:
            return
        bundle, weights = settings.bundles / champion, settings.weights / f"{champion}.pt"
        for path in (bundle, weights):
            if not path.exists():
                raise CannotRebuild(f"champion {champion}, which the training was given, is not at {path}: restore it")
        shutil.copytree(bundle, self.var / "bundles" / champion)
        (self.var / "model" / "weights").mkdir(parents=True)
        shutil.copy(weights, self.var / "model" / "weights")

    def running_code(self) -> Path:
        """The file of the module `model` that runs here. Raises `CannotRebuild` where it is not the revision's."""
        ask = "import model, contracts, chassis; print(model.__file__, contracts.__file__, chassis.__file__, sep='\\n')"
        told = self._run("-c", ask).stdout.splitlines()
        files = [Path(line).resolve() for line in told]
        if strangers := [str(file) for file in files if not file.is_relative_to(self.code.resolve())]:
            raise CannotRebuild(f"{', '.join(strangers)} would run, not the code in {self.code}: see PYTHONPATH")
        return files[0]

    def fault_of_card(self, bundle: Path) -> str:
        """What is wrong with a bundle's card in the eyes of the code that made it; empty when nothing is."""
        return self._run("-m", "model.card", str(bundle), fail=False).stderr.strip()

    def train(self, snapshot: Path) -> Path:
        """Train as the bundle was trained; answers the ONNX file. Raises `CannotRebuild`."""
        told, lineage = self.var / "result.json", self.lineage
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(lineage.processes)]
        command = [sys.executable, *(torchrun if lineage.processes > 1 else []), "-m", "model.train"]
        command += ["--snapshot", str(snapshot), "--bundles", str(self.var / "bundles"), "--result", str(told)]
        command += ["--seed", str(lineage.seed)]
        command += ["--decision", lineage.decision_id] if lineage.decision_id else []
        command += ["--parent", lineage.champion_version] if lineage.champion_version else []
        command += ["--change-at", lineage.change_at.isoformat()] if lineage.change_at else []
        process = subprocess.Popen(command, cwd=self.code, env=self._environment())
        try:
            while process.poll() is None and not told.is_file():
                time.sleep(LOOK_EVERY_S)
        finally:
            process.terminate()  # what it does after its result is MLflow's
            process.wait()
        if not told.is_file():
            raise CannotRebuild(f"the training ended with status {process.returncode}; its own words stand above")
        return self._made(json.loads(told.read_bytes()))

    def _made(self, told: dict[str, object]) -> Path:
        """The ONNX file of a result: released, or refused by a gate that judges this machine or this day's limits."""
        if "version" in told:
            return self.var / "bundles" / str(told["version"]) / "model.onnx"
        candidates = list((self.var / "candidates").glob("v*/model.onnx"))
        if not candidates:
            raise CannotRebuild(f"the training was refused: {told['reasons']}")
        return candidates[0]

    def _run(self, *arguments: str, fail: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.code,
            env=self._environment(),
            check=fail,
            capture_output=True,
            text=True,
        )

    def _environment(self) -> dict[str, str]:
        """This process's, but for Tandem's own settings: nothing of the live `var` is written."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
        device = self.lineage.device if torch.cuda.is_available() else "cpu"
        return kept | {
            "PYTHONPATH": str(self.code),
            "TANDEM_VAR": str(self.var),
            "TANDEM_MODEL_THREADS": str(self.lineage.threads),
            "TANDEM_MODEL_DEVICE": device,
        }

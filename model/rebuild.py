"""The rebuild drill:  python -m model.rebuild --bundle v3-1a2b3c4d   (make rebuild BUNDLE=v3-1a2b3c4d)

Trains a released bundle again from its lineage: the code of its revision, its snapshot, its seed. Where revision,
libraries and machine are what they were, the ONNX file must have the same bytes; elsewhere the bundle's golden trips
must get the same answers within a tolerance in the mean. Its card is rendered anew, too. Nothing in `var` is written; a
record is left in `reports/`. Exit status 0: rebuilt; 1: not the same bundle; 2: it cannot be rebuilt, with what is
missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from contracts.bundle import REBUILD_TOLERANCE, GoldenTrip, Lineage, Manifest, digest, verify
from contracts.problems import TandemError, plain_words
from model.bundle import arrays
from model.export import run
from model.lineage import code_revision, libraries, machine
from model.settings import Settings
from model.snapshot import check_content
from model.workshop import CannotRebuild, Workshop, code_of, is_a_commit

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ingredient:
    """What a training rests on, when the bundle was made and now."""

    name: str
    then: str
    now: str

    @property
    def same(self) -> bool:
        """Whether it is what it was."""
        return self.then == self.now


@dataclass(frozen=True)
class Difference:
    """How a graph's answers to a bundle's golden trips differ from those recorded: the largest difference in minutes,
    and the mean one as a share of the quantile."""

    largest_min: float
    mean_share: float

    def __str__(self) -> str:
        return f"answers differ by {self.mean_share:.2%} in the mean, by {self.largest_min:.3g} min at most"


@dataclass(frozen=True)
class Verdict:
    """How a drill ended."""

    passed: bool
    words: str


def judge(same_bytes: bool, off: Difference, ingredients: Sequence[Ingredient]) -> Verdict:
    """Same ingredients must give the same bytes, others the same answers within `REBUILD_TOLERANCE` in the mean.

    Where sums are added in another order (another processor, another number of threads) a training takes another
    course, and single answers end as far apart as with another seed; what holds elsewhere is the mean.
    """
    changed = [item.name for item in ingredients if not item.same]
    if same_bytes:
        return Verdict(True, "same bytes")
    if not changed:
        return Verdict(False, f"other bytes, though nothing differs; {off}")
    words = f"{off}; tolerance {REBUILD_TOLERANCE:.0%} in the mean, as {', '.join(changed)} differ"
    return Verdict(off.mean_share <= REBUILD_TOLERANCE, words)


def ingredients(lineage: Lineage, code: str) -> list[Ingredient]:
    """Code, machine and libraries then and now; `code` is the revision that trains now."""
    device = torch.device("cuda" if lineage.device == "cuda" and torch.cuda.is_available() else "cpu")
    found, now = [Ingredient("code", lineage.code_revision, code)], libraries()
    if not is_a_commit(lineage.code_revision):  # then even equal words may mean others
        found = [Ingredient("code", lineage.code_revision, f"{code}, today's")]
    found.append(Ingredient("machine", lineage.machine or "not told", machine(device)))
    names = sorted(lineage.libraries.keys() | now.keys())
    return found + [Ingredient(name, lineage.libraries.get(name, "not told"), now.get(name, "none")) for name in names]


def sound_snapshot(snapshots: Path, name: str) -> Path:
    """The folder of a snapshot whose content still has its name. Raises `CannotRebuild` or `ChangedSnapshot`."""
    folder = snapshots / name
    if not folder.is_dir():
        raise CannotRebuild(f"snapshot {name} is not in {snapshots}: restore it from the archive")
    check_content(folder, name)
    return folder


def difference(bundle: Path, manifest: Manifest, onnx_file: Path) -> Difference:
    """How a graph's answers to the bundle's golden trips differ from those recorded."""
    golden = [GoldenTrip.model_validate(item) for item in json.loads((bundle / "golden.json").read_text())]
    got = run(onnx_file, arrays([item.trip for item in golden], ZoneInfo(manifest.time_zone)))
    said = np.array([[item.quantiles.p10_min, item.quantiles.p50_min, item.quantiles.p90_min] for item in golden])
    off = np.abs(got - said)
    return Difference(float(off.max()), float((off / said).mean()))


@dataclass(frozen=True)
class Drill:
    """A rebuilt bundle beside the released one."""

    bundle: str
    ingredients: list[Ingredient]
    same_bytes: bool
    difference: Difference
    verdict: Verdict


def rebuild(version: str, settings: Settings, console: Console) -> Drill:
    """Rebuild a released bundle. Raises `CannotRebuild`, `ChangedSnapshot` or `BundleError`."""
    bundle = settings.bundles.absolute() / version
    manifest = verify(bundle)
    lineage = manifest.lineage
    if lineage.threads is None:
        raise CannotRebuild(f"{version}: its lineage is older than the drill and names no threads: train anew")
    console.print(f"{version}: the seal holds; checking snapshot {lineage.snapshot_digest[:12]}")
    snapshot = sound_snapshot(settings.snapshots.absolute(), lineage.snapshot_digest)
    with tempfile.TemporaryDirectory(prefix="tandem-var-") as var, code_of(lineage.code_revision, REPOSITORY) as code:
        if code == REPOSITORY:
            console.print(
                f"no commit holds {lineage.code_revision}: today's code trains, only the tolerance is promised"
            )
        workshop = Workshop(code, Path(var).resolve(), lineage)
        workshop.provide(settings)
        found = ingredients(lineage, lineage.code_revision if code != REPOSITORY else code_revision())
        console.print(f"training with {workshop.running_code()}")
        if edited := workshop.fault_of_card(bundle):
            raise CannotRebuild(edited)
        made = workshop.train(snapshot)
        same, off = digest(made) == digest(bundle / "model.onnx"), difference(bundle, manifest, made)
    return Drill(version, found, same, off, judge(same, off, found))


def table(drill: Drill) -> Table:
    """What the bundle was made from, then and now."""
    made = Table("", "then", "now", "", title=f"rebuild of {drill.bundle}")
    for item in drill.ingredients:
        made.add_row(item.name, item.then, item.now, "" if item.same else "[yellow]differs[/]")
    return made


@plain_words()
def main(arguments: Sequence[str] | None = None) -> int:
    """Drill from the command line."""
    settings, console = Settings(), Console(width=None if sys.stdout.isatty() else 160)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True, help="version of a released bundle")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="where the record goes")
    args = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        drill = rebuild(args.bundle, settings, console)
    except TandemError as error:
        console.print(f"[red]cannot be rebuilt:[/] {error}", soft_wrap=True)
        return 2
    verdict, took = drill.verdict, time.monotonic() - began
    console.print(table(drill))
    console.print(f"[{'green' if verdict.passed else 'red'}]{verdict.words}[/] ({took:.0f} s)", soft_wrap=True)
    record = asdict(drill) | {"at": datetime.now(UTC).isoformat(), "took_s": round(took, 1)}
    args.reports.mkdir(parents=True, exist_ok=True)
    (args.reports / f"rebuild-{args.bundle}.json").write_text(json.dumps(record, indent=1))
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())

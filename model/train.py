"""Train trip-duration quantiles and seal a bundle:  python -m model.train --snapshot DIR --bundles DIR

Exit status 0: a bundle was released; 3: refused, with reasons; 1: an error. `--result FILE` gets the event's body,
in one step and before MLflow hears of the run.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from chassis.clock import Clock, real_time
from contracts import measurements, requirements
from contracts.bundle import BundleRefused, BundleReleased, Evidence, GateResult, Manifest
from contracts.measurements import Measurement
from contracts.problems import TandemError
from contracts.trips import fingerprint
from model import gate
from model.bundle import golden_trips, seal
from model.candidate import Candidate, NotEnoughTruth, propose
from model.datasheet import data_sheet
from model.evaluation import by_group, measure, pinball_min
from model.export import export, probe
from model.fit import WEATHER
from model.lineage import lineage
from model.network import predict
from model.releases import released
from model.settings import REFUSED, Settings
from model.snapshot import Snapshot, read
from model.tracking import track
from model.weights import keep, load_champion


def train(
    snapshot: Snapshot, bundles: Path, settings: Settings, parent: str | None, seed: int, console: Console
) -> tuple[BundleReleased | BundleRefused, Callable[[], None]]:
    """Snapshot in, sealed bundle out, or the gate's reasons why there is none; and what tells MLflow of the run."""
    torch.set_num_threads(settings.model_threads)
    record, decision = requirements.load(), snapshot.made.decision_id
    champion = load_champion(parent, bundles, settings.weights)
    clock = Clock.load(settings.clock_file) if settings.clock_file.is_file() else real_time()
    console.print(f"training on {len(snapshot.trips):,} delivered trips")
    began = time.monotonic()
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("training", total=1)
        candidate = propose(snapshot, champion, record, seed, lambda share: progress.update(bar, completed=share))
    training_s = time.monotonic() - began
    console.print(f"{candidate.how}: pinball {candidate.loss_min:.3f} min on {len(candidate.test):,} held-out trips")

    with tempfile.TemporaryDirectory() as workshop:
        onnx_file = Path(workshop) / "model.onnx"
        difference = export(candidate.network, onnx_file, probe(snapshot.trips.take(slice(-2000, None)).inputs))
        zone = ZoneInfo(snapshot.made.time_zone)
        golden = golden_trips(snapshot.trips, onnx_file, zone)

        def manifest(version: str) -> Manifest:
            return Manifest(
                version=version,
                contract_fingerprint=fingerprint(),
                time_zone=snapshot.made.time_zone,
                scope=candidate.scope,
                lineage=lineage(snapshot.made, seed, settings.model_threads, parent, candidate.corrects),
                trained_at=clock.now(),
                above_p90_reference=candidate.above,
                below_p10_reference=candidate.below,
            )

        def evidence(bundle_bytes: int) -> Evidence:
            found = evaluate(candidate, training_s, bundle_bytes, difference)
            measured = gate.Measured(
                found.overall,
                found.zone_groups,
                blind_ratio(candidate),
                snapshot.weekly_rows(),
                training_s,
                bundle_bytes,
                candidate.since_change,
                candidate.how,
            )
            verdicts = gate.judge(measured, record)
            return found.model_copy(update={"gate": verdicts, "data_sheet": data_sheet(snapshot)})

        waiting_room = bundles.parent / "candidates"  # what the gate refuses stays here, for people to look at
        folder, found = seal(waiting_room, bundles, onnx_file, golden, manifest, evidence)
    show(found.gate, console)
    keep_measured(found.gate, settings.measured)
    why = gate.reasons(found.gate, record)
    if why:
        refused = BundleRefused(decision_id=decision, reasons=why, gate=found.gate)
        return refused, partial(track, settings.mlflow_uri, snapshot, candidate, found, folder, released=False)
    keep(candidate.network, settings.weights / f"{folder.name}.pt")
    sealed = folder.rename(bundles / folder.name)
    tell_mlflow = partial(track, settings.mlflow_uri, snapshot, candidate, found, sealed, released=True)
    return released(sealed), tell_mlflow


def evaluate(candidate: Candidate, training_s: float, bundle_bytes: int, difference: float) -> Evidence:
    """What was measured on the held-out trips; the gate's verdicts come later."""
    test, answers = candidate.test, (candidate.quantiles_min, candidate.heuristic_min, candidate.test.duration_min)
    first, last = test.requested_at.min(), test.requested_at.max()
    return Evidence(
        test_rows=len(test),
        test_from=first,
        test_to=last,
        overall=measure(*answers),
        zone_groups=by_group(test.group, *answers),
        training_s=training_s,
        bundle_bytes=bundle_bytes,
        onnx_matches_torch_min=difference,
        gate=[],
    )


def blind_ratio(candidate: Candidate) -> float | None:
    """Loss on the held-out trips without rain and temperature, over the loss with them; None for a correction."""
    if candidate.corrects is not None:
        return None
    test = candidate.test
    blinded = test.inputs | {name: np.full_like(test.inputs[name], np.nan) for name in WEATHER}
    blind, seeing = (
        pinball_min(predict(candidate.network, inputs), test.duration_min).mean() for inputs in (blinded, test.inputs)
    )
    return float(blind / seeing)


def keep_measured(verdicts: Sequence[GateResult], folder: Path) -> None:
    """Leave the gate's verdicts where every check of requirements leaves its own."""
    found = (Measurement.of(item.requirement, "gate", item.measured, item.passed, item.note) for item in verdicts)
    measurements.keep(found, folder)


def show(verdicts: Sequence[GateResult], console: Console) -> None:
    """Print the gate's table."""
    table = Table("requirement", "limit", "measured", "verdict", "note", title="gate")
    for item in verdicts:
        colour = "green" if item.passed else "red"
        verdict = f"[{colour}]{'passed' if item.passed else 'FAILED'}[/]"
        table.add_row(item.requirement, item.limit, f"{item.measured:.4g}", verdict, item.note)
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one snapshot from the command line."""
    settings, console = Settings(), Console(width=None if sys.stdout.isatty() else 160)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshot", type=Path, required=True, help="folder of the snapshot")
    parser.add_argument("--bundles", type=Path, default=settings.bundles, help="where bundles lie")
    parser.add_argument("--parent", help="version of the champion that a correction starts from")
    parser.add_argument("--decision", help="id of the decision that asked for this training")
    parser.add_argument("--change-at", type=datetime.fromisoformat, help="correct for a change since this instant")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--result", type=Path, help="where to write the event's body")
    parser.add_argument(
        "--leash", action="store_true", help="end when standard input closes, as a killed worker's does"
    )
    args = parser.parse_args(arguments)
    if args.leash:
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
    tell_mlflow = None
    try:
        # A snapshot is named by its rows alone: what it is trained for is the asking decision's.
        snapshot = read(args.snapshot).asked_by(args.decision, args.change_at)
        result, tell_mlflow = train(snapshot, args.bundles, settings, args.parent, args.seed, console)
    except NotEnoughTruth as error:
        keep_measured([error.verdict], settings.measured)
        result = BundleRefused(decision_id=args.decision, reasons=[str(error)], gate=[error.verdict])
    except TandemError as error:
        result = BundleRefused(decision_id=args.decision, reasons=[str(error)])
    if args.result:
        part = args.result.with_suffix(".part")
        part.write_text(result.model_dump_json())
        part.replace(args.result)
    if tell_mlflow:
        tell_mlflow()
    if isinstance(result, BundleRefused):
        console.print("[red]refused:[/] " + "; ".join(result.reasons))
        return REFUSED
    console.print(f"released {result.version} in {args.bundles}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

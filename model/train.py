"""Train trip-duration quantiles and seal a bundle:  python -m model.train --snapshot DIR --bundles DIR

Exit status 0: a bundle was released; 3: refused, with reasons; 1: an error. `--result FILE` gets the event's body,
in one step and before MLflow hears of the run. Under torchrun several processes train one network (see
`model/parallel.py`).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import torch
from rich.console import Console
from rich.progress import Progress

from chassis.clock import Clock, real_time
from contracts import requirements
from contracts.bundle import BundleRefused, BundleReleased, Evidence, Manifest
from contracts.problems import TandemError, plain_words
from contracts.trips import fingerprint, instant_of
from model import gate, peer, verdicts
from model.bundle import golden_trips, seal, typical_trip
from model.candidate import NotEnoughTruth, propose
from model.datasheet import data_sheet
from model.evidence import gather
from model.export import export, probe
from model.lineage import lineage
from model.network import predict
from model.parallel import CPU, Place, place
from model.releases import released
from model.settings import REFUSED, Settings
from model.snapshot import Snapshot, check_content, read
from model.tracking import track
from model.weights import keep, load_champion

Outcome = BundleReleased | BundleRefused
NEWEST = slice(-2000, None)  # trips that try the exported graph


def train(
    snapshot: Snapshot,
    bundles: Path,
    settings: Settings,
    parent: str | None,
    seed: int,
    console: Console,
    here: Place = CPU,
) -> tuple[Outcome | None, Callable[[], None]]:
    """Snapshot in, sealed bundle out, or the gate's reasons why there is none; and what tells MLflow of the run. Under
    torchrun only the process of rank 0 has an outcome."""
    torch.set_num_threads(settings.model_threads)
    record, decision, zone = requirements.load(), snapshot.made.decision_id, ZoneInfo(snapshot.made.time_zone)
    clock = Clock.load(settings.clock_file) if settings.clock_file.is_file() else None
    snapshot.check(clock.now() if clock else None)
    sufficient = gate.sufficiency(snapshot.made, snapshot.weekly_rows(), record)
    if why := gate.reasons(sufficient, record):
        verdicts.show(sufficient, console)
        verdicts.keep(sufficient, settings.measured)
        return BundleRefused(decision_id=decision, reasons=why, gate=sufficient), lambda: None
    champion = load_champion(parent, bundles, settings.weights)
    console.print(f"training on {len(snapshot.trips):,} delivered trips")
    began = time.monotonic()
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("training", total=1)
        candidate = propose(snapshot, champion, record, seed, lambda share: progress.update(bar, completed=share), here)
    training_s = time.monotonic() - began
    if here.rank > 0:
        return None, lambda: None
    console.print(f"{candidate.how}: pinball {candidate.loss_min:.3f} min on {len(candidate.test):,} held-out trips")

    with tempfile.TemporaryDirectory() as workshop:
        onnx_file = Path(workshop) / "model.onnx"
        difference = export(candidate.network, onnx_file, probe(snapshot.trips.take(NEWEST).inputs))
        rivals = {"champion": predict(champion.network, candidate.test.inputs)} if champion else {}
        if settings.model_peer:
            rivals["LightGBM"] = peer.quantiles_min(candidate.past, candidate.test, seed, settings.model_threads)
        found = gather(candidate, rivals, onnx_file, zone, training_s, difference)

        def manifest(version: str) -> Manifest:
            return Manifest(
                version=version,
                contract_fingerprint=fingerprint(),
                time_zone=snapshot.made.time_zone,
                scope=candidate.scope,
                lineage=lineage(snapshot.made, seed, here, settings.model_threads, parent, candidate.corrects),
                trained_at=(clock or real_time()).now(),
                above_p90_reference=candidate.above,
                below_p10_reference=candidate.below,
                typical=typical_trip(candidate.test),
            )

        def evidence(bundle_bytes: int) -> Evidence:
            told = {"bundle_bytes": bundle_bytes, "data_sheet": data_sheet(snapshot)}
            whole = found.evidence.model_copy(update=told)
            judged = gate.judge(whole, found.blind_ratio, candidate.since_change, candidate.how, record)
            return whole.model_copy(update={"gate": [*sufficient, *judged]})

        waiting_room = bundles.parent / "candidates"  # what the gate refuses stays here, for people to look at
        golden = golden_trips(snapshot.trips, onnx_file, zone)
        folder, told = seal(waiting_room, bundles, onnx_file, golden, manifest, evidence)
    verdicts.show(told.gate, console)
    verdicts.keep(told.gate, settings.measured)
    if why := gate.reasons(told.gate, record):
        refused = BundleRefused(decision_id=decision, reasons=why, gate=told.gate)
        return refused, partial(track, settings.mlflow_uri, snapshot, candidate, told, folder, released=False)
    keep(candidate.network, settings.weights / f"{folder.name}.pt")
    sealed = folder.rename(bundles / folder.name)
    tell_mlflow = partial(track, settings.mlflow_uri, snapshot, candidate, told, sealed, released=True)
    return released(sealed), tell_mlflow


@plain_words()
def main(arguments: Sequence[str] | None = None) -> int:
    """Train one snapshot from the command line."""
    settings, console = Settings(), Console(width=None if sys.stdout.isatty() else 160)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshot", type=Path, required=True, help="folder of the snapshot")
    parser.add_argument("--bundles", type=Path, default=settings.bundles, help="where bundles lie")
    parser.add_argument("--parent", help="version of the champion that a correction starts from")
    parser.add_argument("--decision", help="id of the decision that asked for this training")
    parser.add_argument("--change-at", type=instant_of, help="correct for a change since this instant")
    parser.add_argument("--rows-quarantined", type=int, help="rows that intake had refused when the decision asked")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--result", type=Path, help="where to write the event's body")
    parser.add_argument(
        "--leash", action="store_true", help="end when standard input closes, as a killed worker's does"
    )
    args = parser.parse_args(arguments)
    if args.leash:
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
    with place(settings.model_device) as here:
        result, tell_mlflow = _ended(args, settings, console, here)
    if isinstance(result, BundleRefused):
        console.print("[red]refused:[/] " + "; ".join(result.reasons))
    if here.rank > 0 or result is None:
        return 0
    if args.result:
        part = args.result.with_suffix(".part")
        part.write_text(result.model_dump_json())
        part.replace(args.result)
    tell_mlflow()
    if isinstance(result, BundleRefused):
        return REFUSED
    console.print(f"released {result.version} in {args.bundles}")
    return 0


def _ended(
    args: argparse.Namespace, settings: Settings, console: Console, here: Place
) -> tuple[Outcome | None, Callable[[], None]]:
    """How a training ended, whatever went wrong, and what tells MLflow of the run."""
    try:
        # A snapshot is named by its rows alone: what it is trained for is the asking decision's.
        snapshot = read(args.snapshot).asked_by(args.decision, args.change_at, args.rows_quarantined)
        check_content(args.snapshot, snapshot.made.digest)
        return train(snapshot, args.bundles, settings, args.parent, args.seed, console, here)
    except NotEnoughTruth as error:
        verdicts.keep([error.verdict], settings.measured)
        refused = BundleRefused(decision_id=args.decision, reasons=[str(error)], gate=[error.verdict])
    except TandemError as error:
        refused = BundleRefused(decision_id=args.decision, reasons=[str(error)])
    except OSError as error:
        wrong = f"{error.filename or args.bundles}: {error.strerror or error}"
        reason = f"a file could not be read or written: {wrong}; see to space and permissions, then train again"
        refused = BundleRefused(decision_id=args.decision, reasons=[reason])
    return refused, lambda: None


if __name__ == "__main__":
    sys.exit(main())

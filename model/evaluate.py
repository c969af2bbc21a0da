"""Evaluate a bundle on another snapshot:  python -m model.evaluate --bundle DIR --snapshot DIR --heuristic-from DIR

Prints pinball loss at .1, .5 and .9 and coverage, beside the heuristics by distance and by zone pair, both fitted
on the snapshot that the bundle was trained on; for all trips of less than a day, and for those of plausible length.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from contracts.bundle import BundleError, Manifest, verify
from contracts.problems import plain_words
from contracts.trips import instant_of
from model.evaluation import misses, pinball_min
from model.export import run
from model.heuristic import BY_DISTANCE, BY_ZONE_PAIR, Heuristic
from model.snapshot import Snapshot, Trips, in_utc, read

DAY_MIN = 24 * 60
PLAUSIBLE_MIN = (1.0, 120.0)  # what is shorter or longer on New York's meters is mostly a mistake


def answers(trips: Trips, bundle: Path, past: Snapshot) -> dict[str, np.ndarray]:
    """Quantiles in minutes, shape (n, 3), of the bundle and of both heuristics."""
    return {
        f"bundle {bundle.name}": run(bundle / "model.onnx", trips.inputs),
        "heuristic: distance, time, vehicle": Heuristic.fit(past.trips, BY_DISTANCE).predict(trips),
        "heuristic: zone pair, time": Heuristic.fit(past.trips, BY_ZONE_PAIR).predict(trips),
    }


def table(title: str, quantiles: dict[str, np.ndarray], duration_min: np.ndarray) -> Table:
    """One line each: pinball loss in seconds by level and its mean, the mean in minutes, and coverage."""
    made = Table("", "p10, s", "p50, s", "p90, s", "mean, s", "mean, min", "p90 covers", "band covers", title=title)
    for name, found in quantiles.items():
        loss, (late, early) = pinball_min(found, duration_min), misses(found, duration_min)
        seconds = [f"{60 * value:.1f}" for value in (*loss, loss.mean())]
        coverage = [f"{1 - late.mean():.3f}", f"{1 - late.mean() - early.mean():.3f}"]
        made.add_row(name, *seconds, f"{loss.mean():.3f}", *coverage)
    return made


def trained_on(past: Snapshot, manifest: Manifest) -> None:
    """Raises `BundleError` unless `past` is the snapshot that the bundle was trained on."""
    if past.made.digest != manifest.lineage.snapshot_digest:
        raise BundleError(
            f"{manifest.version} was trained on snapshot {manifest.lineage.snapshot_digest[:12]}, --heuristic-from is "
            f"{past.made.digest[:12]}: heuristic and bundle must have seen the same past"
        )


@plain_words()
def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--snapshot", type=Path, required=True, help="folder of the snapshot to evaluate on")
    parser.add_argument("--heuristic-from", type=Path, required=True, help="folder of the bundle's training snapshot")
    parser.add_argument("--before", type=instant_of, help="leave out trips asked for from this instant on")
    args = parser.parse_args(arguments)
    console, manifest, past = Console(width=130), verify(args.bundle), read(args.heuristic_from)
    trained_on(past, manifest)
    trips = read(args.snapshot).trips
    if args.before:
        trips = trips.take(trips.requested_at < in_utc(args.before))
    known = np.isin(trips.inputs["pickup_zone"], manifest.scope.zones)
    known &= np.isin(trips.inputs["dropoff_zone"], manifest.scope.zones)
    console.print(f"{len(trips):,} delivered trips; {(~known).sum():,} with a zone out of scope are left out")
    trips = trips.take(known & (trips.duration_min < DAY_MIN))
    quantiles, took = answers(trips, args.bundle, past), trips.duration_min
    console.print(table(f"all {len(trips):,} trips of less than a day", quantiles, took))
    kept = (took >= PLAUSIBLE_MIN[0]) & (took <= PLAUSIBLE_MIN[1])
    chosen = {name: found[kept] for name, found in quantiles.items()}
    console.print(table(f"{kept.sum():,} trips of 1 to 120 minutes", chosen, took[kept]))
    console.print("Filters on metered miles and speed are not applied: a snapshot holds planned routes only.")


if __name__ == "__main__":
    main()

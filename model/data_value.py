"""What is each source of data worth?  python -m model.data_value [--snapshot DIR] [--minutes 5]

Trains without one group of inputs after the other, with the same seeds and steps, and tells what that costs on the same
held-out trips: minutes of pinball loss, and percent of it with a 95% interval by resampled days. What is left may stand
in for what is gone (zones know distances), so this is what one source adds to all others, not what it carries alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from contracts.bundle import Bounds
from contracts.estimates import REASON_GROUPS
from contracts.problems import TandemError, plain_words
from contracts.trips import MODEL_INPUTS, TripRequest, columns
from model.candidate import afresh
from model.evaluation import Bootstrap, trip_pinball_min
from model.settings import Settings
from model.shelf import newest
from model.snapshot import Inputs, Snapshot, read
from model.trials import bar

SOURCES = {name.replace("_", " "): inputs for name, inputs in REASON_GROUPS.items()}  # what would be lost together
SOURCES["weather and city pace"] = (*REASON_GROUPS["weather"], *REASON_GROUPS["city_pace"])  # all that comes from feeds
SEEDS = 3  # trainings without each source, while there is time
UNKNOWN_ZONE = 0  # no zone's id: it reaches the encoder's unknown slot
CANNOT = 2  # exit status


@dataclass(frozen=True)
class Worth:
    """What the loss on held-out trips is without a source, in minutes, and how many times the loss with all of them,
    with its 95% interval; means over `seeds` trainings, whose own ratios reach from `least` to `most`."""

    source: str
    inputs: tuple[str, ...]
    loss_min: float
    more_min: float
    ratio: float
    bounds: Bounds
    seeds: int
    least: float
    most: float


def without(inputs: Inputs, names: Sequence[str]) -> Inputs:
    """The inputs with some of them telling nothing: missing where that is allowed, an unknown zone, else the same value
    for every trip."""
    nullable = {item.name for item in MODEL_INPUTS if item.nullable}
    constant = {
        name: np.nan if name in nullable else UNKNOWN_ZONE if name.endswith("_zone") else np.median(inputs[name])
        for name in names
    }
    return inputs | {name: np.full_like(inputs[name], value) for name, value in constant.items()}


def losses(
    snapshot: Snapshot,
    sources: Mapping[str, Sequence[str]],
    minutes: float,
    console: Console,
    now: Callable[[], float] = time.monotonic,
) -> tuple[Bootstrap, dict[str, list[np.ndarray]]]:
    """Pinball loss in minutes by held-out trip, shape (n,), of one training for each seed, without each source and, by
    the name "", with all; and what resamples those trips.

    A first round over all sources always ends; another seed starts when its round fits into `minutes`.
    """
    began, found = now(), {name: list[np.ndarray]() for name in ("", *sources)}
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=SEEDS * len(found))
        for seed in range(1, SEEDS + 1):
            if seed > 1 and (now() - began) * seed / (seed - 1) > 60 * minutes:
                break
            for number, (name, kept) in enumerate(found.items(), (seed - 1) * len(found)):
                progress.update(task, description=f"without {name}, seed {seed}" if name else f"all, seed {seed}")
                trips = replace(snapshot.trips, inputs=without(snapshot.trips.inputs, sources.get(name, ())))
                candidate = afresh(replace(snapshot, trips=trips), seed, bar(progress, task, number))
                kept.append(trip_pinball_min(candidate.quantiles_min, candidate.test.duration_min).mean(1))
    return Bootstrap(candidate.test.requested_at), found


def worth(
    sources: Mapping[str, Sequence[str]], sure: Bootstrap, found: Mapping[str, Sequence[np.ndarray]]
) -> list[Worth]:
    """What each source is worth, the dearest first; `found` as `losses` gives it."""
    whole, told = np.mean(found[""], axis=0), []
    for name, inputs in sources.items():
        lost = np.mean(found[name], axis=0)
        ratio, bounds = sure.ratio(lost, whole)
        own = [float(one.mean() / other.mean()) for one, other in zip(found[name], found[""], strict=True)]
        more_min = float(lost.mean() - whole.mean())
        told.append(
            Worth(name, tuple(inputs), float(lost.mean()), more_min, ratio, bounds, len(own), min(own), max(own))
        )
    return sorted(told, key=lambda item: -item.ratio)


def owners(inputs: Sequence[str]) -> tuple[list[str], list[str]]:
    """The contract's columns behind some model inputs, and the teams that own them."""
    found = {name: column for name, column in columns(TripRequest).items() if column.model_input in inputs}
    return list(found), sorted({column.owner for column in found.values()})


def table(found: Sequence[Worth], whole_min: float, held_out: int) -> Table:
    """One line for each source."""
    title = f"loss with all inputs {whole_min:.3f} min on {held_out:,} held-out trips, {found[0].seeds} trainings each"
    made = Table("without", "columns", "owner", "loss, min", "minutes more", "worse by", "95%", "by seed", title=title)
    for item in found:
        names, teams = owners(item.inputs)
        made.add_row(
            item.source, ", ".join(names), ", ".join(teams), f"{item.loss_min:.3f}", f"{item.more_min:+.3f}",
            f"{item.ratio - 1:+.1%}", _span(*item.bounds), _span(item.least, item.most),
        )  # fmt: skip
    return made


def _span(low: float, high: float) -> str:
    return f"{low - 1:+.1%} to {high - 1:+.1%}"


def picture(found: Sequence[Worth], whole_min: float) -> Figure:
    """What each source is worth, in percent of the loss, with its 95% interval."""
    figure = Figure(figsize=(9, 1.4 + 0.5 * len(found)), layout="constrained")
    axes = figure.subplots()
    names = [f"{item.source} ({', '.join(owners(item.inputs)[1])})" for item in found]
    percent = np.array([100 * (item.ratio - 1) for item in found])
    low, high = 100 * (np.array([item.bounds for item in found]).T - 1)
    reach = np.maximum([percent - low, high - percent], 0)
    axes.barh(names, percent, xerr=reach, color="#0072b2", ecolor="#666666", capsize=3)
    for place, (item, end) in enumerate(zip(found, np.maximum(high, 0), strict=True)):
        axes.annotate(f"{item.more_min:+.3f} min", (end, place), (6, 0), textcoords="offset points", va="center")
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.axvline(0, color="#666666", lw=0.8)
    axes.set_title(f"What a source is worth: {whole_min:.3f} min of loss with all", loc="left")
    axes.set_xlabel("more pinball loss without it, percent (bars: 95% by resampled days)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def weigh(settings: Settings, args: argparse.Namespace, console: Console) -> None:
    """Train without each source, tell what it costs, and leave the picture."""
    snapshot = read(args.snapshot or newest(settings.snapshots))
    console.print(f"snapshot {snapshot.made.digest[:12]}, {len(snapshot.trips):,} trips")
    sure, found = losses(snapshot, SOURCES, args.minutes, console)
    told, whole = worth(SOURCES, sure, found), np.mean(found[""], axis=0)
    console.print(table(told, float(whole.mean()), len(whole)))
    args.out.mkdir(parents=True, exist_ok=True)
    picture(told, float(whole.mean())).savefig(args.out / "data-value.png", dpi=120)
    console.print(f"picture {args.out / 'data-value.png'}")


@plain_words()
def main(arguments: Sequence[str] | None = None) -> int:
    """Weigh the sources from the command line."""
    settings, console = Settings(), Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--snapshot", type=Path, help="its folder (default: the newest in var/snapshots)")
    parser.add_argument("--minutes", type=float, default=5.0, help="start no further round that would end later")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="where the picture goes")
    args = parser.parse_args(arguments)
    torch.set_num_threads(settings.model_threads)
    try:
        weigh(settings, args, console)
    except TandemError as error:
        console.print(f"[red]✗[/] {error}", soft_wrap=True)
        return CANNOT
    except OSError as error:
        console.print(f"[red]✗[/] {error.filename}: {error.strerror}: see to space and permissions", soft_wrap=True)
        return CANNOT
    return 0


if __name__ == "__main__":
    sys.exit(main())

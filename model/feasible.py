"""Could the model keep this limit?  python -m model.feasible --requirement ID [--limit X] [--snapshot DIR]

Trains on growing shares of a snapshot's training rows until the time is over, always judged on the same held-out
trips, and answers achievable, unlikely or out of reach (`forecasts.py` says by which rule): a table, a picture and a
record in `var/feasible/`. `--review` holds the records against the trainings that came later. Exit status 2: the
question cannot be answered, with the reason.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from contracts import requirements
from contracts.problems import TandemError, plain_words
from contracts.requirements import Requirement
from model.forecasts import REACH, Forecast, asked, forecast, keep, kept
from model.hindsight import Hindsight, hindsight, trainings
from model.settings import Settings
from model.shelf import newest
from model.snapshot import read
from model.trials import trials

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"  # apart for colour-blind eyes (Okabe and Ito)
CANNOT = 2  # exit status


def table(found: Forecast) -> Table:
    """One line for each size of data."""
    made = Table("training rows", "trainings", found.metric, "least", "most", "loss, min", "heuristic's", "seconds")
    made.title = f"{found.held_out_rows:,} held-out trips of {found.blocks} {found.block}s"
    for rows, group in groupby(sorted(found.trials, key=lambda item: (item.rows, item.seed)), lambda item: item.rows):
        same = list(group)
        values = [item.measured for item in same]
        rest = zip(*((item.loss_min, item.heuristic_loss_min, item.training_s) for item in same), strict=True)
        figures = [f"{value:.4f}" for value in (np.mean(values), min(values), max(values))]
        means = [f"{np.mean(value):.{digits}f}" for value, digits in zip(rest, (3, 3, 1), strict=True)]
        made.add_row(f"{rows:,}", str(len(same)), *figures, *means)
    return made


def words(found: Forecast, requirement: Requirement) -> Iterator[str]:
    """The answer in sentences."""
    low, high = found.today
    yield f"{requirement.id}: {requirement.limit} is [bold]{found.verdict}[/] (sure to {found.sure:.0%})"
    yield (
        f"On {found.rows:,} training rows {found.metric} is {found.measured:.4g}; one more training on as many would "
        f"measure {low:.4g} to {high:.4g} (95%)."
    )
    if found.asymptote is not None:
        loss, heuristic = (f"{a:.3f} + {b:.3g} * rows**{exponent:.2f} min" for a, b, exponent in found.curves)
        low, high = found.asymptote
        yield f"Loss {loss}; the heuristic's {heuristic}."
        yield f"With ever more rows {found.metric} comes to {low:.4g} to {high:.4g} (95%)."
    yield _rows_needed(found)


def _rows_needed(found: Forecast) -> str:
    if found.rows_at_limit is None:
        return "Coverage is calibrated on rows of its own: more training rows do not move it, more days steady it."
    low, middle, high = (_round(rows) for rows in found.rows_at_limit)
    if found.asymptote is None:
        return f"It grows with the rows: up to {middle} training rows it keeps the limit (95%: {low} to {high})."
    most = found.rows_at_limit[-1]
    if most is not None and most <= found.rows:
        return f"The rows at hand suffice: {high} training rows would do."
    weekly = found.weekly_rows * found.rows / found.trips
    return (
        f"To keep the limit takes {middle} training rows (95%: {low} to {high}) where there are {found.rows:,}; a week "
        f"brings some {weekly:,.0f} more."
    )


def _round(rows: float | None) -> str:
    return "endless" if rows is None else f"{float(f'{rows:.2g}'):,.0f}"


def offer(found: Forecast, requirement: Requirement, record: Path) -> str:
    """The line with which an entry of `requirements.toml` cites the record among its offers."""
    low, high = found.today
    measured = f"{found.measured:.3g} ({low:.3g} to {high:.3g}) on {found.rows:,} training rows"
    return f'"{requirement.owner}: {requirement.limit} is {found.verdict}: {measured}; record {record.stem}"'


def picture(found: Forecast) -> Figure:
    """The learning curve with its interval, the limit asked for, today's rows and those within reach."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    rows = [item.rows for item in found.expected]
    low, high = zip(*(item.bounds for item in found.expected), strict=True)
    axes.fill_between(rows, low, high, color=BLUE, alpha=0.15, lw=0, label="one later training, 95%")
    axes.plot(rows, [item.middle for item in found.expected], color=BLUE, label="curve")
    axes.plot(
        [item.rows for item in found.trials], [item.measured for item in found.trials], "o", color=BLUE, ms=5, mew=0,
        alpha=0.7, label="trainings",
    )  # fmt: skip
    for number, limit in enumerate(limit for limit in (found.at_least, found.at_most) if limit is not None):
        axes.axhline(limit, color=ORANGE, ls="--", lw=1.2, label=None if number else "limit asked for")
    for at, told in ((found.rows, "today"), (REACH * found.rows, f"{REACH} times today's rows")):
        axes.axvline(at, color=GREY, lw=0.8, ls=":")
        axes.text(at, 0.02, f" {told}", color=GREY, transform=axes.get_xaxis_transform())
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_title(f"{found.requirement}: {found.verdict}", loc="left")
    axes.set_xlabel("training rows")
    axes.set_ylabel(f"{found.metric}, {found.unit}, on {found.held_out_rows:,} held-out trips")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def answer(settings: Settings, args: argparse.Namespace, console: Console) -> None:
    """Ask, train, judge, and leave the record with its picture."""
    record = requirements.load()
    requirement = asked(record, args.requirement, args.limit)
    snapshot = read(args.snapshot or newest(settings.snapshots))
    console.print(f"snapshot {snapshot.made.digest[:12]}, {len(snapshot.trips):,} trips: {args.minutes:g} minutes")
    found = forecast(requirement, trials(snapshot, requirement, record, args.minutes, console), snapshot, args.minutes)
    limit = "" if args.limit is None else f"-limit-{args.limit.replace(':', '-to-')}"
    file = forecasts(settings) / f"{requirement.id}-{snapshot.made.digest[:12]}{limit}.json"
    keep(found, file)
    picture(found).savefig(file.with_suffix(".png"), dpi=120)
    console.print(table(found))
    for line in words(found, requirement):
        console.print(line, soft_wrap=True)
    console.print(f"record {file}, picture {file.with_suffix('.png').name}; its line among the requirement's offers:")
    console.print(f"    {offer(found, requirement, file)},", soft_wrap=True)


def forecasts(settings: Settings) -> Path:
    """Where the records lie."""
    return settings.var / "feasible"


def review(settings: Settings, console: Console) -> None:
    """Hold every record against the trainings on more rows."""
    answers = kept(forecasts(settings))
    if not answers:
        console.print(f"no forecast in {forecasts(settings)} yet: make feasible REQ=<id> makes one")
        return
    places = (settings.bundles, settings.bundles.parent / "candidates")
    done, left_out = trainings(places, settings.snapshots)
    found = list(hindsight(answers, done, requirements.load().policy.group_outcomes))
    for line in left_out:
        console.print(f"left out {line}")
    if found:
        console.print(seen_later(found, answers))
        inside = sum(item.inside for item in found)
        console.print(f"{inside} of {len(found)} inside their 95% interval ({inside / len(found):.0%})")
    else:
        largest = max((item.rows for item in done), default=0)
        console.print(
            f"nothing to hold the {len(answers)} forecasts against yet: they speak of more than "
            f"{min(item.rows for item in answers.values()):,} training rows, the largest training had {largest:,}; "
            "train on a larger snapshot"
        )


def seen_later(found: Sequence[Hindsight], answers: Mapping[str, Forecast]) -> Table:
    """One line for each forecast and later training."""
    made = Table("forecast", "verdict", "training", "rows", "expected", "95% interval", "measured", "inside", "code")
    for item in found:
        low, high = item.expected.bounds
        made.add_row(
            item.forecast, answers[item.forecast].verdict, item.training.name, f"{item.training.rows:,}",
            f"{item.expected.middle:.4g}", f"{low:.4g} to {high:.4g}", f"{item.measured:.4g}",
            "[green]yes[/]" if item.inside else "[red]no[/]", "same" if item.same_code else "another",
        )  # fmt: skip
    return made


@plain_words()
def main(arguments: Sequence[str] | None = None) -> int:
    """Answer from the command line."""
    settings, console = Settings(), Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    question = parser.add_mutually_exclusive_group(required=True)
    question.add_argument("--requirement", help="its id in contracts/requirements.toml")
    question.add_argument("--review", action="store_true", help="hold earlier answers against later trainings")
    parser.add_argument("--limit", help="another limit than the agreed one: 0.8, or 0.88:0.92 where it has two ends")
    parser.add_argument("--snapshot", type=Path, help="its folder (default: the newest in var/snapshots)")
    parser.add_argument("--minutes", type=float, default=5.0, help="start no training that would end later")
    args = parser.parse_args(arguments)
    torch.set_num_threads(settings.model_threads)
    try:
        if args.review:
            review(settings, console)
        else:
            answer(settings, args, console)
    except TandemError as error:
        console.print(f"[red]✗[/] {error}", soft_wrap=True)
        return CANNOT
    except OSError as error:
        console.print(f"[red]✗[/] {error.filename}: {error.strerror}: see to space and permissions", soft_wrap=True)
        return CANNOT
    return 0


if __name__ == "__main__":
    sys.exit(main())

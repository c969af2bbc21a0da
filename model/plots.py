"""Pictures of a training: loss curve, reliability, slices, ladder, promise levels. Each is a figure of its own and
draws the limits that the requirement record states."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from contracts.bundle import Evidence, PromiseLevel, Slice
from contracts.requirements import Requirement, Requirements
from contracts.trips import LEVELS
from model.candidate import Candidate
from model.evaluation import Bootstrap

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#666666"  # apart for colour-blind eyes (Okabe and Ito)
TENTHS = 10
Coverage = Literal["coverage_p90", "coverage_band"]
TOLD: dict[Coverage, str] = {"coverage_p90": "share within p90", "coverage_band": "share from p10 to p90"}


def figures(candidate: Candidate, evidence: Evidence, record: Requirements) -> Iterator[tuple[str, Figure]]:
    """Every picture that this training gives, by name. A correction has no loss curve."""
    if candidate.curve:
        yield "loss-curve", loss_curve(candidate.curve)
    yield "reliability", reliability(candidate, record)
    yield "slices", slices(evidence, record)
    if evidence.ladder:
        yield "ladder", ladder(evidence)
    if evidence.promise_levels:
        yield "promise-levels", promise_levels(evidence.promise_levels, record["late-promises"])


def loss_curve(curve: Sequence[float]) -> Figure:
    """Training loss in minutes, one figure for each lap."""
    figure, axes = _empty("Training loss", f"lap (one in {len(curve)} of all steps)", "pinball loss, min")
    axes.plot(range(1, len(curve) + 1), curve, color=BLUE, marker="o", markersize=4)
    axes.annotate(f"{curve[-1]:.3f} min", (len(curve), curve[-1]), (0, 10), textcoords="offset points", ha="right")
    axes.set_xlim(0.5, len(curve) + 0.5)
    return figure


@dataclass(frozen=True)
class Reliability:
    """Of the trips in one tenth by how unsure their estimate was (p90 over p10): the share that took no longer than
    each level's quantile, with its 95% interval."""

    spread: float
    share: list[float]
    bounds: list[tuple[float, float]]


def reliabilities(candidate: Candidate) -> list[Reliability]:
    """One for each tenth of the held-out trips, the surest estimates first (reliability diagram by sharpness: Gneiting,
    Balabdaoui and Raftery 2007). Intervals are drawn by blocks of time."""
    quantiles, took = candidate.quantiles_min, candidate.test.duration_min
    spread, sure = quantiles[:, 2] / quantiles[:, 0], Bootstrap(candidate.test.requested_at)
    tenth = np.searchsorted(np.quantile(spread, np.arange(1, TENTHS) / TENTHS), spread)
    found = []
    for number in np.unique(tenth):
        here = (tenth == number).astype(float)
        shares, bounds = zip(
            *(sure.share(here * (took <= quantiles[:, column]), here) for column in range(len(LEVELS))), strict=True
        )
        found.append(Reliability(float(np.median(spread[tenth == number])), list(shares), list(bounds)))
    return found


def reliability(candidate: Candidate, record: Requirements) -> Figure:
    """Are the quantiles as right where the estimate is sure of itself as where it is not?"""
    figure, axes = _empty(
        f"Reliability on {len(candidate.test):,} held-out trips",
        "p90 over p10: tenths of the trips, from the surest estimates to the least sure",
        "share of trips that took no longer",
    )
    limit, found = _limit(record, "coverage_p90"), reliabilities(candidate)
    axes.axhspan(limit.floor, limit.ceiling, color=ORANGE, alpha=0.15, lw=0)
    axes.text(
        0.02, limit.ceiling, f"{limit.id}, overall", color=ORANGE, va="bottom", transform=axes.get_yaxis_transform()
    )
    at = np.arange(1, len(found) + 1)
    for column, (level, colour) in enumerate(zip(LEVELS, (GREEN, BLUE, ORANGE), strict=True)):
        share = np.array([item.share[column] for item in found])
        low, high = np.array([item.bounds[column] for item in found]).T
        reach = np.maximum([share - low, high - share], 0)
        axes.axhline(level, color=colour, lw=0.8, ls="--")
        axes.errorbar(
            at, share, reach, color=colour, marker="o", markersize=4, lw=1, capsize=3, label=f"p{level * 100:g}"
        )
    axes.set_xticks(at, [f"{item.spread:.2f}" for item in found])
    axes.set_ylim(0, 1)
    axes.legend(title="bars: 95% interval", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def slices(evidence: Evidence, record: Requirements) -> Figure:
    """Coverage of every slice with its 95% interval, beside the limits."""
    rows = list(_rows(evidence))
    figure = Figure(figsize=(12, 1.6 + 0.27 * len(rows)), layout="constrained")
    figure.suptitle(f"Coverage on {evidence.test_rows:,} held-out trips, 95% intervals")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (metric, told) in zip(panels, TOLD.items(), strict=True):
        _forest(axes, rows, metric)
        axes.set_xlabel(told)
        overall, group = _limit(record, metric), record[f"group-{_limit(record, metric).id}"]
        axes.axvspan(overall.floor, overall.ceiling, color=ORANGE, alpha=0.15, lw=0, label=f"limit {overall.id}")
        for number, end in enumerate((group.floor, group.ceiling)):
            axes.axvline(end, color=GREY, lw=0.8, ls="--", label=None if number else f"limit {group.id}")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    return figure


def _forest(axes: Axes, rows: list[tuple[str, Slice]], metric: Coverage) -> None:
    for place, (_, found) in enumerate(rows):
        share = getattr(found, metric)
        low, high = found.bounds.get(metric, (share, share))
        axes.plot([low, high], [place, place], color=BLUE, lw=1.5)
        axes.plot(share, place, color=BLUE, marker="o", markersize=5)
    axes.set_yticks(range(len(rows)), [f"{name}  ({found.rows:,})" for name, found in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def ladder(evidence: Evidence) -> Figure:
    """Loss of each model on the same held-out trips, the least first."""
    steps = sorted(evidence.ladder.items(), key=lambda step: step[1])
    figure, axes = _empty(f"The ladder on {evidence.test_rows:,} held-out trips", "pinball loss, min", "")
    figure.set_size_inches(9, 1.6 + 0.5 * len(steps))
    names, losses = [name for name, _ in steps], [loss for _, loss in steps]
    bars = axes.barh(names, losses, color=[ORANGE if name == "candidate" else GREY for name in names])
    axes.bar_label(bars, [f"{loss:.3f}" for loss in losses], padding=4)
    axes.set_xlim(0, 1.12 * max(losses))
    axes.grid(visible=False, axis="y")
    axes.invert_yaxis()
    return figure


def promise_levels(levels: Sequence[PromiseLevel], limit: Requirement) -> Figure:
    """Late promises against promised minutes; p90 itself, which is promised today, is marked."""
    figure, axes = _empty("What a promise costs, held-out trips", "promised minutes, mean", "share of promises late")
    ordered = sorted(levels, key=lambda level: level.promised_min)
    axes.plot([level.promised_min for level in ordered], [level.late_share for level in ordered], color=BLUE)
    today = min(levels, key=lambda level: abs(level.stretch - 1))
    axes.plot(today.promised_min, today.late_share, color=ORANGE, marker="o", markersize=8)
    told = f"p90: {today.promised_min:.1f} min, {today.late_share:.1%} late"
    axes.annotate(told, (today.promised_min, today.late_share), (9, 0), textcoords="offset points", color=ORANGE)
    axes.axhline(limit.ceiling, color=GREY, ls="--", lw=0.8)
    axes.text(
        0.98,
        limit.ceiling,
        f"limit {limit.id}",
        color=GREY,
        ha="right",
        va="bottom",
        transform=axes.get_yaxis_transform(),
    )
    axes.set_ylim(bottom=0)
    return figure


def _rows(evidence: Evidence) -> Iterator[tuple[str, Slice]]:
    """Every slice by a name that says what it is a slice of."""
    yield "all", evidence.overall
    kinds: Iterable[tuple[str, dict[str, Slice]]] = [("zone group", evidence.zone_groups), *evidence.slices.items()]
    for kind, found in kinds:
        for name, item in found.items():
            yield f"{kind}: {name}", item


def _limit(record: Requirements, metric: Coverage) -> Requirement:
    """The requirement on all trips' coverage."""
    return next(item for item in record.all() if item.metric == metric and item.quality == "coverage")


def _empty(title: str, across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes

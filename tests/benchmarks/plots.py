"""Plots of what was measured, as PNG files; each answers the path it wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from contracts.requirements import Requirements
from model.evaluation import misses
from model.snapshot import Trips
from tests.benchmarks.coverage import Groups
from tests.benchmarks.ladder import Rung

if TYPE_CHECKING:
    from tests.benchmarks.cost import Trained

OURS, OTHER, LIMIT = "#0b6e4f", "#8a97a6", "#f2c14e"


@contextmanager
def _figure(path: Path, width: float, height: float, count: int = 1) -> Iterator[Sequence[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    yield list(np.atleast_1d(figure.subplots(1, count)))
    figure.savefig(path, dpi=130)


def rungs(found: Sequence[Rung], title: str, path: Path, unit_in_min: float = 1.0) -> Path:
    """A bar for each rival's mean loss, with the range over seeds."""
    with _figure(path, 8, 0.5 + 0.45 * len(found)) as (axes,):
        place = np.arange(len(found))
        means = np.array([rung.mean_min for rung in found]) / unit_in_min
        seeds = [[item.mean_min / unit_in_min for item in rung.seeds] for rung in found]
        ends = np.array([[min(losses), max(losses)] for losses in seeds])
        colours = [OURS if rung.name.startswith("ours") else OTHER for rung in found]
        axes.barh(place, means, color=colours, xerr=np.abs(ends.T - means), ecolor="black")
        for at, mean, high in zip(place, means, ends[:, 1], strict=True):
            axes.text(high + means.max() * 0.01, at, f"{mean:.4g}", va="center", fontsize=9)
        axes.set_yticks(place, [rung.name for rung in found])
        axes.set_xlim(0, means.max() * 1.12)
        axes.invert_yaxis()
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    return path


def groups(found: Groups, record: Requirements, path: Path) -> Path:
    """Coverage by zone group with simultaneous intervals, over the band that the requirement allows."""
    with _figure(path, 9, 3.6, len(found)) as panels:
        for axes, (name, by_group) in zip(panels, found.items(), strict=True):
            place = np.arange(len(by_group))
            share = np.array([item.share for item in by_group.values()])
            ends = np.array([[item.low, item.high] for item in by_group.values()]).reshape(-1, 2)
            axes.axhspan(record[name].floor, record[name].ceiling, color=LIMIT, alpha=0.3, lw=0)
            axes.errorbar(place, share, np.abs(ends.T - share), fmt="o", color=OURS, capsize=4)
            axes.set_xticks(place, list(by_group), rotation=30, ha="right", fontsize=8)
            axes.set_title(f"{name}: {record[name].limit}", fontsize=10)
            axes.spines[["top", "right"]].set_visible(False)
    return path


def calibration(trips: Trips, answers: Sequence[np.ndarray], path: Path) -> Path:
    """Share of trips below each quantile, by hour of the day and by how long the model expects; a line each seed."""
    hour = trips.inputs["minute_of_week"] // 60 % 24
    with _figure(path, 9, 3.4, 2) as (by_hour, by_length):
        for quantiles in answers:
            tenth = np.searchsorted(np.quantile(quantiles[:, 1], np.arange(0.1, 1, 0.1)), quantiles[:, 1])
            late, early = misses(quantiles, trips.duration_min)
            below = (early, trips.duration_min <= quantiles[:, 1], ~late)
            for axes, label, ticks in ((by_hour, hour, 24), (by_length, tenth, 10)):
                for hit in below:
                    counts = np.maximum(np.bincount(label, minlength=ticks), 1)
                    axes.plot(np.arange(ticks), np.bincount(label, hit, ticks) / counts, ".-", color=OURS, lw=0.8)
        for axes, name in ((by_hour, "hour of the day"), (by_length, "tenth of expected duration")):
            for level in (0.1, 0.5, 0.9):
                axes.axhline(level, color=LIMIT, lw=2, zorder=0)
            axes.set_ylim(0, 1)
            axes.set_xlabel(name)
            axes.set_ylabel("share of trips below p10, p50, p90")
            axes.spines[["top", "right"]].set_visible(False)
    return path


def months(found: Mapping[str, Mapping[str, Mapping[str, float]]], path: Path) -> Path:
    """Loss and coverage of the band month by month, a line for each rival."""
    with _figure(path, 9, 3.4, 2) as panels:
        for axes, (key, title) in zip(
            panels, {"pinball_s": "pinball loss, s", "coverage_band": "p10 to p90 covers"}.items(), strict=True
        ):
            for (name, by_month), style in zip(found.items(), ("-", "--", ":"), strict=False):
                colour = OURS if name.startswith("ours") else OTHER
                axes.plot(list(by_month), [item[key] for item in by_month.values()], style, color=colour, label=name)
            axes.set_title(title, fontsize=10)
            axes.tick_params(axis="x", rotation=45)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].legend(fontsize=8)
        panels[1].axhline(0.8, color=LIMIT, lw=2, zorder=0)
    return path


def costs(trained: Sequence[Trained], path: Path) -> Path:
    """Seconds and peak memory of trainings by rows, both axes logarithmic, beside a linear growth from a million."""
    rows = np.array([item.rows for item in trained])
    with _figure(path, 9, 3.4, 2) as panels:
        for axes, name, title in zip(
            panels, ("training_s", "peak_mb"), ("fit and calibration, s", "peak memory of the process, MB"), strict=True
        ):
            values = np.array([getattr(item, name) for item in trained])
            axes.loglog(rows, values, "o", color=OURS)
            axes.set_title(title, fontsize=10)
            axes.set_xlabel("rows of the snapshot")
            axes.spines[["top", "right"]].set_visible(False)
        sizes = np.unique(rows)
        start = np.mean([item.training_s for item in trained if item.rows == sizes[-2]])
        panels[0].plot(sizes, start * sizes / sizes[-2], "--", color=OTHER, label="linear")
        panels[0].legend(fontsize=8)
    return path

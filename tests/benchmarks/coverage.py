"""Coverage overall, and by zone group with intervals that hold for all groups at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from contracts.requirements import Requirements
from model.evaluation import Bootstrap, misses
from model.snapshot import Trips
from tests.benchmarks import goals
from tests.benchmarks.goals import Verdict
from tests.benchmarks.ladder import Rung

P90, BAND = "group-coverage-p90", "group-coverage-band"  # the requirements that hold the limits


@dataclass(frozen=True)
class Covered:
    """Share of a group's trips within a quantile or a band, and its 95% interval."""

    rows: int
    share: float
    low: float
    high: float


Groups = Mapping[str, Mapping[str, Covered]]  # by requirement and zone group


def days(trips: Trips) -> int:
    """On how many days the trips were asked for (UTC)."""
    return len(np.unique(trips.requested_at.astype("datetime64[D]")))


def verdicts(trips: Trips, rung: Rung) -> list[Verdict]:
    """How far coverage of these test trips is off with the worst seed."""
    few = len(trips) < goals.LEAST_TEST_TRIPS or days(trips) < goals.LEAST_TEST_DAYS
    void = f"not enough truth: {len(trips):,} trips over {days(trips)} days" if few else ""
    p90 = max((item.coverage_p90 for item in rung.seeds), key=lambda share: abs(share - 0.9))
    band = max((item.coverage_band for item in rung.seeds), key=lambda share: abs(share - 0.8))
    return [
        goals.COVERAGE_P90.judge(abs(p90 - 0.9), f"worst seed covers {p90:.4f}", void),
        goals.COVERAGE_BAND.judge(abs(band - 0.8), f"worst seed covers {band:.4f}", void),
    ]


def group_verdict(groups: Sequence[Groups], record: Requirements) -> Verdict:
    """The groups outside, with the seed that has most of them."""
    lost = max((outside(item, record) for item in groups), key=len)
    none = "" if groups[0][P90] else "not enough truth in any zone group"
    return goals.GROUPS_OUTSIDE.judge(len(lost), ", ".join(lost), none)


def by_group(trips: Trips, quantiles_min: np.ndarray, least: float) -> Groups:
    """Coverage of p90 and of the band by zone group of the pickup; groups of fewer than `least` trips are left out.

    Days are drawn with replacement; the intervals hold for all groups at once.
    """
    group, sure = trips.group, Bootstrap(trips.requested_at)
    names, counts = np.unique(group, return_counts=True)
    known = names[counts >= least]
    late, early = misses(quantiles_min, trips.duration_min)
    found: dict[str, dict[str, Covered]] = {}
    for requirement, hit in {P90: ~late, BAND: ~late & ~early}.items():
        found[requirement] = {}
        for name in known.tolist():
            here = group == name
            share, (low, high) = sure.share(hit & here, here, len(known))
            found[requirement][name] = Covered(int(here.sum()), share, low, high)
    return found


def outside(found: Groups, record: Requirements) -> list[str]:
    """The groups whose whole interval lies outside their limits, each with the requirement it breaks."""
    return [
        f"{group} ({name})"
        for name, groups in found.items()
        for group, covered in groups.items()
        if record[name].fails_for_sure(covered.low, covered.high)
    ]


def table(title: str, found: Groups, record: Requirements) -> Table:
    """One line a group."""
    made = Table("zone group", "trips", *(f"{name}: {record[name].limit}" for name in found), title=title)
    lost = outside(found, record)
    for group in found[P90]:
        cells = [
            f"{item[group].share:.3f} [{item[group].low:.3f}, {item[group].high:.3f}]".replace("[", "\\[")
            + " OUTSIDE" * (f"{group} ({name})" in lost)
            for name, item in found.items()
        ]
        made.add_row(group, f"{found[P90][group].rows:,}", *cells)
    return made

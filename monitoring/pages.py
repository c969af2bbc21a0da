"""What the pages and the JSON show, read from the stored ticks and from what the quiet feeds told."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from contracts.bundle import BundleReleased
from contracts.measurements import Measurement
from contracts.requirements import Requirement, Requirements
from monitoring.charts import Chart, chart
from monitoring.closings import serving_at
from monitoring.evidence import Evidence
from monitoring.ledger import TICKS, facts
from monitoring.policy import Verdict
from monitoring.promises import Promises, promises
from monitoring.standing import Line, standing
from monitoring.ticks import EVIDENCE, VERDICT

Parts = Sequence[dict[str, float]]


@dataclass(frozen=True, slots=True)
class View:
    """Where monitoring stands after its newest tick."""

    evidence: Evidence
    verdict: Verdict
    digest: str
    lines: tuple[Line, ...]


def newest_view(tx: Connection, record: Requirements, stalest_s: float = 0.0) -> View | None:
    """The newest tick, or None before the first. `stalest_s` as `standing` wants it."""
    for tick in ticks(tx, 1):
        evidence, verdict = EVIDENCE.validate_json(tick["evidence"]), VERDICT.validate_json(tick["verdict"])
        return View(evidence, verdict, tick["digest"], standing(evidence, record, stalest_s))
    return None


def ticks(tx: Connection, limit: int, announced: bool = False) -> Sequence[RowMapping]:
    """The newest ticks, newest first; with `announced` only those that changed the decision."""
    columns = [column for column in TICKS.c if column.name != "closing"]  # large, and only a replay wants it
    query = select(*columns).order_by(TICKS.c.cohort.desc()).limit(limit)
    return tx.execute(query.where(TICKS.c.decision_id.is_not(None)) if announced else query).mappings().all()


def announced(tx: Connection, limit: int) -> list[dict[str, Any]]:
    """The newest changes of decision, newest first, verdicts included."""
    return [dict(row) | {"verdict": VERDICT.validate_json(row["verdict"])} for row in ticks(tx, limit, announced=True)]


@dataclass(frozen=True, slots=True)
class Agreed:
    """One requirement on its page: how it stands live, what its checks last left, and which of them never did."""

    requirement: Requirement
    live: Line | None
    offline: tuple[Measurement, ...]
    never: tuple[str, ...]


def agreed(record: Requirements, lines: Sequence[Line], left: Sequence[Measurement]) -> list[Agreed]:
    """Every requirement of the record, live figures beside offline ones."""
    live = {line.requirement.id: line for line in lines}
    rows = []
    for requirement in record.all():
        offline = tuple(item for item in left if item.requirement == requirement.id and item.check != "monitor")
        known = {item.check for item in offline} | ({"monitor"} if requirement.id in live else set())
        never = tuple(check for check in requirement.checked_by if check not in known)
        rows.append(Agreed(requirement, live.get(requirement.id), offline, never))
    return rows


def promises_at(tx: Connection, now: datetime, record: Requirements) -> Promises:
    """The promise levels to choose from at an instant. Raises `NoReleaseYet`, `NoLevels`."""
    releases = [release for _, _, release in facts(tx, BundleReleased, "bundle.released", now)]
    return promises(releases, serving_at(tx, now).champion, record["late-promises"])


def as_json(line: Line) -> dict[str, Any]:
    """One requirement's line for machines."""
    requirement = line.requirement
    return {
        **requirement.model_dump(include={"id", "statement", "owner", "population"}),
        "limit": requirement.limit,
        "measured": None if math.isnan(line.measured) else line.measured,
        "of": line.of,
        "verdict": line.colour,
        "note": line.note,
    }


def charts(rows: Sequence[RowMapping], record: Requirements) -> list[Chart]:
    """Quality over time from ticks, newest first."""
    rows = list(reversed(rows))
    figures = [json.loads(row["figures"]) for row in rows]
    marks = {place: (row["kind"], row["decision_id"]) for place, row in enumerate(rows) if row["decision_id"]}
    stretch = record.policy.closing_min // record.policy.cohort_min  # a cohort alone is too few trips to read

    def rolling(parts: Parts, top: str) -> list[float]:
        """Sum of `top` over sum of `of`, at each tick over the cohorts before it."""
        values = []
        for place in range(len(parts)):
            near = parts[max(0, place + 1 - stretch) : place + 1]
            of = sum(part.get("of", 0) for part in near)
            values.append(sum(part.get(top, 0) for part in near) / of if of else math.nan)
        return values

    def parts(role: str, group: str = "") -> Parts:
        return [tick["versions"].get(tick[role], {}).get(group, {}) for tick in figures]

    def covered(group: str = "") -> list[float]:
        return [1 - missed for missed in rolling(parts("champion", group), "above")]

    groups = sorted({group for tick in figures for held in tick["versions"].values() for group in held} - {""})
    promises = [{"of": tick["promises"], "late": tick["late"]} for tick in figures]
    losses = {role: rolling(parts(role), "loss_min") for role in ("champion", "challenger")}
    overall, grouped, late = (record[name] for name in ("coverage-p90", "group-coverage-p90", "late-promises"))
    by_group = {group: covered(group) for group in groups}
    return [
        chart("p90 coverage, all trips", {"champion": covered()}, marks, overall.at_least, overall.at_most),
        chart("p90 coverage by zone group", by_group, marks, grouped.at_least, grouped.at_most),
        chart("share of late promises", {"all trips": rolling(promises, "late")}, marks, ceiling=late.at_most),
        chart("pinball loss in minutes", losses, marks),
    ]

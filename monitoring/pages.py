"""What the pages and the JSON show, read from the stored ticks."""

from __future__ import annotations

import json
import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from contracts.requirements import Requirements
from monitoring.charts import Chart, chart
from monitoring.evidence import Evidence
from monitoring.ledger import TICKS
from monitoring.policy import Verdict
from monitoring.standing import Line, standing
from monitoring.ticks import EVIDENCE, VERDICT

SHOWN_TICKS = 192  # two city days


@dataclass(frozen=True, slots=True)
class View:
    """Where monitoring stands after its newest tick."""

    evidence: Evidence
    verdict: Verdict
    digest: str
    lines: tuple[Line, ...]


def newest_view(tx: Connection, record: Requirements, stalest_s: float = 0.0) -> View | None:
    """The newest tick, or None before the first."""
    for tick in ticks(tx, 1):
        evidence, verdict = EVIDENCE.validate_json(tick["evidence"]), VERDICT.validate_json(tick["verdict"])
        return View(evidence, verdict, tick["digest"], standing(evidence, record, stalest_s))
    return None


def ticks(tx: Connection, limit: int) -> Sequence[RowMapping]:
    """The newest ticks, newest first."""
    return tx.execute(select(TICKS).order_by(TICKS.c.cohort.desc()).limit(limit)).mappings().all()


def announced(tx: Connection, limit: int) -> list[dict[str, Any]]:
    """The newest changes of decision, newest first, with their verdicts."""
    changes = select(TICKS).where(TICKS.c.decision_id.is_not(None)).order_by(TICKS.c.cohort.desc()).limit(limit)
    return [dict(row) | {"verdict": VERDICT.validate_json(row["verdict"])} for row in tx.execute(changes).mappings()]


def lines_as_json(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Requirement lines for readers: id, limit, measured, population, colour."""
    return [
        {
            "id": line.requirement.id,
            "statement": line.requirement.statement,
            "owner": line.requirement.owner,
            "limit": line.requirement.limit,
            "population": line.requirement.population,
            "measured": None if math.isnan(line.measured) else line.measured,
            "of": line.of,
            "verdict": line.colour,
            "note": line.note,
        }
        for line in lines
    ]


def charts(rows: Sequence[RowMapping], record: Requirements) -> list[Chart]:
    """Quality over time from ticks, newest first: each point looks back over as many cohorts as closing waits for."""
    rows = list(reversed(rows))
    figures = [json.loads(row["figures"]) for row in rows]
    marks = {place: (row["kind"], row["decision_id"]) for place, row in enumerate(rows) if row["decision_id"]}
    stretch = record.policy.closing_min // record.policy.cohort_min

    def part(tick: dict[str, Any], role: str, group: str) -> dict[str, float]:
        found: dict[str, float] = tick["versions"].get(tick[role] or "", {}).get(group, {})
        return found

    def rolling(parts: Sequence[dict[str, float]], top: str, bottom: str) -> list[float]:
        window: deque[dict[str, float]] = deque(maxlen=stretch)
        values = []
        for one in parts:
            window.append(one)
            total: Counter[str] = Counter()
            for counts in window:
                total.update({name: counts.get(name, 0) for name in (top, bottom)})
            values.append(total[top] / total[bottom] if total[bottom] else math.nan)
        return values

    def covered(group: str) -> list[float]:
        return [1 - missed for missed in rolling([part(tick, "champion", group) for tick in figures], "above", "of")]

    groups = sorted({group for tick in figures for groups in tick["versions"].values() for group in groups} - {""})
    losses = {
        role: rolling([part(tick, role, "") for tick in figures], "loss_min", "of")
        for role in ("champion", "challenger")
    }
    overall, by_group, late = record["coverage-p90"], record["group-coverage-p90"], record["late-promises"]
    return [
        chart(
            "p90 coverage of the champion, all trips",
            {"all trips": covered("")},
            (overall.at_least, overall.at_most),
            marks,
        ),
        chart(
            "p90 coverage of the champion by zone group",
            {group: covered(group) for group in groups},
            (by_group.at_least, by_group.at_most),
            marks,
        ),
        chart(
            "share of late promises",
            {"all trips": rolling(figures, "late", "promises")},
            (late.at_least, late.at_most),
            marks,
        ),
        chart("pinball loss in minutes", losses, (None, None), marks),
    ]


def status_as_json(view: View, freshness: dict[str, float]) -> dict[str, Any]:
    """The newest tick for machines."""
    return {
        "evidence": EVIDENCE.dump_python(view.evidence, mode="json"),
        "evidence_digest": view.digest,
        "verdict": asdict(view.verdict),
        "feed_lag_s": {feed: round(age, 3) for feed, age in freshness.items()},
    }

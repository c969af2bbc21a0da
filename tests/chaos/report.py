"""What each fault did to customers, as a table for people and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.chaos.customers import Customers, Probes

OUT = Path("reports") / "chaos.json"
SECONDS = ("longest pause, s", "slowest answer, s", "slowest probe, s")
ESTIMATES = ("answered, lost", "recorded, unheard")


@dataclass(frozen=True)
class Row:
    """One fault: how many customers saw what, the longest time in seconds in which nobody got an estimate, the slowest
    answer of all in seconds, and that of a liveness probe where they were sent, how many estimates somebody got that
    the feed does not have exactly once, and how many it has that nobody got."""

    fault: str
    saw: Mapping[str, int]
    longest_pause_s: float
    slowest_s: float
    slowest_probe_s: float | None
    lost: int
    unheard: int


def judged(fault: str, customers: Customers, feed: Sequence[Mapping[str, Any]], probes: Probes | None = None) -> Row:
    """What customers saw, held against the estimates feed from its first event on, whose ids must have no gap."""
    assert [int(event["id"]) for event in feed] == list(range(1, len(feed) + 1))
    recorded = Counter(event["data"]["estimate_id"] for event in feed)
    answered = Counter(customers.answered())
    return Row(
        fault,
        dict(customers.saw()),
        customers.longest_pause_s(),
        max(it.took_s for it in customers.heard),
        None if probes is None else probes.slowest_s(),
        lost=sum(recorded[it] != 1 or times != 1 for it, times in answered.items()),
        unheard=len(recorded - answered),
    )


def written(rows: Sequence[Row], out: Path = OUT) -> str:
    """Write the rows to a file; the table."""
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    table = Table("fault", "customers saw", *SECONDS, *ESTIMATES, title="chaos")
    for row in rows:
        saw = ", ".join(f"{count:,} × {outcome}" for outcome, count in sorted(row.saw.items()))
        times = [row.longest_pause_s, row.slowest_s, row.slowest_probe_s]
        shown = ["" if seconds is None else f"{seconds:.2f}" for seconds in times]
        table.add_row(row.fault, saw, *shown, str(row.lost), str(row.unheard))
    text = StringIO()
    Console(file=text, width=140).print(table)
    return text.getvalue()

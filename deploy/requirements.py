"""How the requirements stand:  python -m deploy.requirements [--complete]

Prints each with its limit and what its checks last measured (`var/measured/`). Exit status 1 when one is missed, a date
has passed, or, with `--complete`, a check has never left a verdict.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from contracts.measurements import Measurement, kept
from contracts.problems import plain_words
from contracts.requirements import CheckKind, Requirement, Requirements, load
from deploy.settings import DeploySettings

INCIDENT = "make run, then make incident NAME=bridge-closed"
RUNS: dict[CheckKind, str] = {
    "gate": "make run or make prove",
    "load test": "make loadtest",
    "monitor": "make run",
    "policy": INCIDENT,
    "intake": "make run",
    "system test": "make prove",
    "browser test": "make prove",
}
BY_A_CHANGE = {"outcomes_since_change"}  # metrics that no run has without an incident


def untraced(record: Requirements, measured: Sequence[Measurement]) -> list[str]:
    """Checks that never left a verdict, and verdicts that no requirement asks for."""
    asked = {(item.id, check) for item in record.all() for check in item.checked_by}
    left = {(item.requirement, item.check) for item in measured}
    never = [
        f"{name}: its {check} has never left a verdict: {_how_to_run(record[name], check)}"
        for name, check in sorted(asked - left)
    ]
    return never + [f"a {check} judged {name}, which does not ask for it" for name, check in sorted(left - asked)]


def _how_to_run(requirement: Requirement, check: CheckKind) -> str:
    return INCIDENT if requirement.metric in BY_A_CHANGE else RUNS[check]


def newest_commit() -> date:
    """The date by which agreements are judged, so that an old clone's tests stay green; today where git knows none."""
    asked = ["git", "-C", str(Path(__file__).parent), "log", "-1", "--format=%cs"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        told = ""
    return date.fromisoformat(told) if told else datetime.now(UTC).date()


def show(record: Requirements, measured: Sequence[Measurement], console: Console) -> None:
    """One line for each requirement and check."""
    table = Table(Column("requirement", no_wrap=True), "owner", "limit", "measured", "when", "by which check", "")
    last = {(item.requirement, item.check): item for item in measured}
    for requirement in record.all():
        for check in requirement.checked_by:
            name = requirement.id if check == requirement.checked_by[0] else ""
            found = last.get((requirement.id, check))
            if found is None:
                table.add_row(name, requirement.owner, requirement.limit, "–", "–", check, "[yellow]never measured[/]")
                continue
            mark = "[green]kept[/]" if found.passed else "[red]MISSED[/]"
            when, value = f"{found.at:%d %b %H:%M}", _shown(found.value)
            table.add_row(name, requirement.owner, requirement.limit, value, when, check, mark)
    console.print(table)
    for waiver in record.waiver:
        console.print(f"waived until {waiver.expires}: {waiver.quality} (owner {waiver.owner}): {waiver.reason}")


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.4g}"


@plain_words()
def main() -> int:
    """Print the table and judge it."""
    record, settings = load(), DeploySettings()
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    measured = kept(settings.measured)
    show(record, measured, console)
    faults = [
        f"{record[item.requirement].missed(item.value)} ({item.note})"
        for item in measured
        if not item.passed and item.requirement in {known.id for known in record.all()}
    ]
    faults += record.overdue(newest_commit())
    late = [line for line in record.overdue(datetime.now(UTC).date()) if line not in faults]
    (faults if os.environ.get("TANDEM_STRICT_DATES") == "1" else []).extend(late)
    notes = untraced(record, measured)
    if "--complete" in sys.argv[1:]:
        faults += notes
    for line in faults:
        console.print(f"[red]✗[/] {line}")
    for line in [*notes, *late]:
        if line not in faults:
            console.print(f"[yellow]![/] {line}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

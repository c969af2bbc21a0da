"""The gate's verdicts as people and other checks get them: a table, and what lies in `var/measured`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from contracts import measurements
from contracts.bundle import GateResult
from contracts.measurements import Measurement


def keep(verdicts: Sequence[GateResult], folder: Path) -> None:
    """Leave the verdicts where every check of requirements leaves its own."""
    found = (Measurement.of(item.requirement, "gate", item.measured, item.passed, item.note) for item in verdicts)
    measurements.keep(found, folder)


def show(verdicts: Sequence[GateResult], console: Console) -> None:
    """Print the gate's table."""
    table = Table("requirement", "limit", "measured", "verdict", "note", title="gate")
    for item in verdicts:
        colour = "green" if item.passed else "red"
        verdict = f"[{colour}]{'passed' if item.passed else 'FAILED'}[/]"
        table.add_row(item.requirement, item.limit, f"{item.measured:.4g}", verdict, item.note)
    console.print(table)

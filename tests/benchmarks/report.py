"""What a benchmark leaves behind: tables and verdicts on the screen, figures in results.json."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from model.lineage import code_revision, libraries
from tests.benchmarks.goals import Verdict

RESULTS = "results.json"
COLOURS = {"passed": "green", "failed": "red", "void": "yellow"}


@dataclass
class Part:
    """What one part of the benchmark measured. `figures` go to results.json, `plots` lie beside it."""

    name: str
    figures: dict[str, Any] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: list[Path] = field(default_factory=list)


class Steps:
    """Tells what is being done, by a bar on a terminal and by lines elsewhere."""

    def __init__(self, console: Console, progress: Progress, title: str, total: int) -> None:
        self.console, self.progress, self.title, self.began = console, progress, title, time.monotonic()
        self.task = progress.add_task(title, total=total)
        self.first = True

    def __call__(self, what: str) -> None:
        """One step begins; the one before it is done."""
        self.progress.update(self.task, description=f"{self.title}: {what}", advance=0 if self.first else 1)
        self.first = False
        if not self.console.is_terminal:
            self.console.print(f"{self.title}, {time.monotonic() - self.began:5.0f} s: {what}", highlight=False)


@contextmanager
def steps(console: Console, title: str, total: int) -> Iterator[Steps]:
    """A bar of so many steps."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Steps(console, progress, title, total)


def show(part: Part, console: Console) -> None:
    """Print a part's tables, then its verdicts."""
    for item in part.tables:
        console.print(item)
    console.print(verdict_table(f"verdicts: {part.name}", part.verdicts))
    for plot in part.plots:
        console.print(f"plot: {plot}", highlight=False, soft_wrap=True)


def verdict_table(title: str, verdicts: Sequence[Verdict]) -> Table:
    """One line a verdict."""
    made = Table("goal", "limit", "measured", "verdict", "note", title=title)
    for item in verdicts:
        colour = COLOURS[item.state]
        made.add_row(item.goal, item.limit, f"{item.measured:,.4g}", f"[{colour}]{item.state}[/]", item.note)
    return made


def keep(part: Part, command: str, out: Path) -> None:
    """Write a part's figures into results.json, in one step, beside those of other parts."""
    path = out / RESULTS
    kept = json.loads(path.read_text()) if path.is_file() else {}
    kept[part.name] = {
        "command": command,
        "revision": code_revision(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "processors": os.cpu_count(),
        "libraries": libraries(),
        "verdicts": [asdict(item) for item in part.verdicts],
        "plots": [plot.name for plot in part.plots],
        **part.figures,
    }
    half = path.with_suffix(".part")
    half.write_text(json.dumps(kept, indent=1))
    half.replace(path)

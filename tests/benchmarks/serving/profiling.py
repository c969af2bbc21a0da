"""Where a request's time goes: the running worker's functions under load, by thread."""

from __future__ import annotations

import pstats
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.report import Part
from tests.benchmarks.serving import questions
from tests.benchmarks.serving.bench import Bench, table
from tests.benchmarks.serving.bursts import closed
from tests.benchmarks.serving.candidate import a_place, serving

CONNECTIONS = 16
ROWS = 14  # of each thread
LEAST_SHARE = 0.02  # of all work: threads below it are left out
LEAST_CALLS = 0.03  # a request: what is called more seldom belongs to the start
# Whose own time is no work of ours: uvloop, whose functions cProfile does not see, counts under asyncio's `run`.
WAITS = ("runners.py", "run_until_complete", "time.sleep", "'acquire' of", "'get' of '_queue", "'poll' of")
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Row:
    """A function: calls, seconds in itself, seconds with what it calls."""

    name: str
    calls: int
    own_s: float
    whole_s: float

    @property
    def waits(self) -> bool:
        """Whether its own time is not work of ours."""
        return any(name in self.name for name in WAITS)


def measure(bench: Bench) -> Part:
    """Champion alone, a closed loop; functions by the time spent in themselves."""
    folder = bench.folder / "profile"
    var, manifest = a_place(folder, bench.bundle)
    asked = questions.estimates(questions.trips(manifest, questions.VARIANTS))
    command = (sys.executable, "-m", "tests.benchmarks.serving.profiled", str(folder))
    with serving(var, manifest, bench.cores, command) as found:
        heard = bench.generator.send(closed(found.port, asked, CONNECTIONS, bench.plan.profile_s))
    rows = {file.stem: read(file) for file in sorted(folder.glob("*.prof"))}
    return told(rows, len(heard.status))


def told(rows: Mapping[str, Sequence[Row]], requests: int) -> Part:
    """A table for each thread that works, functions by their own time."""
    part = Part("profile")
    works = {
        thread: [row for row in of if not row.waits and row.calls >= LEAST_CALLS * requests]
        for thread, of in rows.items()
    }
    work_s = {thread: sum(row.own_s for row in of) for thread, of in works.items()}
    for thread in sorted(works, key=lambda thread: -work_s[thread]):
        if work_s[thread] < LEAST_SHARE * sum(work_s.values()):
            continue
        waited_s = sum(row.own_s for row in rows[thread] if row.waits)
        made = table(
            f"{thread}: {work_s[thread] / requests * 1e6:,.0f} µs of work a request, under cProfile, "
            f"{waited_s / requests * 1e6:,.0f} µs in the event loop or waiting; {requests:,} requests",
            "function", "calls a request", "own µs a request", "share of its work", "with callees, µs a request",
        )  # fmt: skip
        for row in sorted(works[thread], key=lambda row: -row.own_s)[:ROWS]:
            us = [f"{seconds / requests * 1e6:.1f}" for seconds in (row.own_s, row.whole_s)]
            made.add_row(row.name, f"{row.calls / requests:.2f}", us[0], f"{row.own_s / work_s[thread]:.0%}", us[1])
        part.tables.append(made)
    part.figures |= {"requests": requests, "functions": {
        thread: [vars(row) for row in sorted(of, key=lambda row: -row.own_s)[:50]] for thread, of in rows.items()
    }}  # fmt: skip
    return part


def read(file: Path) -> list[Row]:
    """The functions of one thread's profile."""
    found = pstats.Stats(str(file)).stats
    return [Row(_shown(*place), calls, own_s, whole_s) for place, (_, calls, own_s, whole_s, _) in found.items()]


def _shown(path: str, line: int, name: str) -> str:
    """A function as people look for it: module and name."""
    if path == "~":
        return name
    place = Path(path)
    if place.is_relative_to(ROOT) and "site-packages" not in place.parts:
        return f"{place.relative_to(ROOT)}:{line} {name}"
    return f"{'/'.join(place.parts[-2:])}:{line} {name}"

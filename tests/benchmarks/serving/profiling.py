"""Where a request's time goes: the running worker's functions under load, by thread."""

from __future__ import annotations

import pstats
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.report import Part
from tests.benchmarks.serving import questions
from tests.benchmarks.serving.bench import Bench, table
from tests.benchmarks.serving.bursts import closed
from tests.benchmarks.serving.candidate import a_place, serving

CONNECTIONS = 16
ROWS = 14  # of each thread
LEAST_SHARE = 0.02  # of all time: threads below it are left out
ROOT = str(Path(__file__).parents[3])


@dataclass(frozen=True)
class Row:
    """A function: calls, seconds in itself, seconds with what it calls."""

    name: str
    calls: int
    own_s: float
    whole_s: float


def measure(bench: Bench) -> Part:
    """Champion alone, a closed loop; functions by the time spent in themselves."""
    folder = bench.folder / "profile"
    var, manifest = a_place(folder, bench.bundle)
    asked = questions.estimates(questions.trips(manifest, questions.VARIANTS))
    command = ("-m", "tests.benchmarks.serving.profiled", str(folder))
    with serving(var, manifest, bench.cores, command) as found:
        heard = bench.generator.send(closed(found.port, asked, CONNECTIONS, bench.plan.profile_s))
    requests = len(heard.status)
    rows = {file.stem: read(file) for file in sorted(folder.glob("*.prof"))}
    total_s = sum(row.own_s for of in rows.values() for row in of)

    part = Part("profile")
    for thread, of in rows.items():
        thread_s = sum(row.own_s for row in of)
        if thread_s < LEAST_SHARE * total_s:
            continue
        made = table(
            f"thread {thread}, {thread_s / requests * 1e6:,.0f} µs a request, waiting included; {requests:,} requests",
            "function", "calls a request", "own µs a request", "own share", "with callees, µs a request",
        )  # fmt: skip
        for row in sorted(of, key=lambda row: -row.own_s)[:ROWS]:
            each = [f"{row.calls / requests:.2f}", f"{row.own_s / requests * 1e6:.1f}", f"{row.own_s / thread_s:.0%}"]
            made.add_row(row.name, *each, f"{row.whole_s / requests * 1e6:.1f}")
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
    short = path.removeprefix(f"{ROOT}/").rpartition("site-packages/")[2]
    return f"{short}:{line} {name}"

"""Hold serving against its goals, bare uvicorn and its peers:  python -m tests.benchmarks.serving [--part tail]

`--quick` measures for moments: it shows that everything runs, and its verdicts mean little. A machine that does other
work, or has fewer than two cores, makes verdicts on speed worthless. Exit status 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from tests.benchmarks.report import Part, keep, show
from tests.benchmarks.serving import batch, observability, overload, profiling, rivals, size, tail, throughput
from tests.benchmarks.serving.bench import QUICK, Bench, Plan, table
from tests.benchmarks.serving.bursts import Cores, Generator
from tests.benchmarks.serving.candidate import real_bundle

WIDE = 400  # characters of a Markdown line
OUT = Path("reports") / "benchmark-serving"
KEPT = Path("var") / "benchmarks"  # the trained bundle and the peers' environments
PARTS: dict[str, Callable[[Bench], Part]] = {
    "throughput": throughput.measure,
    "peers": rivals.measure,
    "tail": tail.measure,
    "size": size.measure,
    "batch": batch.measure,
    "observability": observability.measure,
    "overload": overload.measure,
    "profile": profiling.measure,
}


def write(part: Part, file: Path) -> None:
    """A part's tables and verdicts as Markdown, however narrow the terminal is."""
    judged = table("verdicts", "goal", "limit", "measured", "verdict", "note")
    for item in part.verdicts:
        judged.add_row(item.goal, item.limit, f"{item.measured:,.4g}", item.state, item.note)
    with file.open("w") as text:
        console = Console(file=text, width=WIDE)
        for found in (*part.tables, judged):
            console.print(found, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 when every goal is met or void."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.serving", description=__doc__)
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--quick", action="store_true", help="moments instead of minutes")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers end with us
    console = Console(width=None if sys.stdout.isatty() else 200)
    asked.out.mkdir(parents=True, exist_ok=True)
    cores = Cores.here()
    if cores.note:
        console.print(f"[yellow]{cores.note}[/]: verdicts on speed are void")
    with console.status("a bundle of the real network's size"):
        bundle = real_bundle(KEPT / "serving")
    missed = 0
    for name in PARTS if asked.part == "all" else [asked.part]:
        with tempfile.TemporaryDirectory() as folder, Generator(cores) as generator:
            plan = QUICK if asked.quick else Plan()
            part = PARTS[name](Bench(plan, cores, bundle, Path(folder), KEPT, console, generator))
        part.figures |= {"quick": asked.quick, "pinned": vars(cores)}
        show(part, console)
        command = f"python -m tests.benchmarks.serving --part {name}{' --quick' * asked.quick}"
        console.print(f"all this by: {command}", highlight=False)
        keep(part, command, asked.out)
        write(part, asked.out / f"{name}.md")
        missed += sum(item.state == "failed" for item in part.verdicts)
    console.print(
        f"figures: {asked.out / 'results.json'}, tables for docs/results.md beside it; {missed} goals missed",
        highlight=False,
        soft_wrap=True,
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

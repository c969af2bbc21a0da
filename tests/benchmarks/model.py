"""Hold the model against limits and peers, all measured in one run:  python -m tests.benchmarks.model [--part city]

`--quick` takes a tenth of the rows and one seed: it shows that everything runs, and its verdicts mean little. `--alone`
leaves LightGBM and the searches out, for tuning our own side. Exit status 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.benchmarks import city, cost, new_york
from tests.benchmarks.report import Part, keep, show

OUT = Path("reports") / "benchmark-model"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 when every goal is met or void."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.model", description=__doc__)
    parser.add_argument("--part", choices=["city", "new-york", "cost", "all"], default="all")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, one seed")
    parser.add_argument("--alone", action="store_true", help="without LightGBM and the searches")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(arguments)
    seeds = range(1, 2 if asked.quick else asked.seeds + 1)
    console = Console(width=None if sys.stdout.isatty() else 160)
    asked.out.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Callable[[], Part]] = {
        "city": partial(city.measure, asked.out, seeds, console, quick=asked.quick, alone=asked.alone),
        "new-york": partial(new_york.measure, asked.out, seeds, console, quick=asked.quick, alone=asked.alone),
        "cost": partial(cost.measure, asked.out, seeds, console, quick=asked.quick),
    }
    options = " --quick" * asked.quick + " --alone" * asked.alone + f" --seeds {asked.seeds}" * (not asked.quick)
    missed = 0
    for name in parts if asked.part == "all" else [asked.part]:
        try:
            part = parts[name]()
        except new_york.NoRecords as reason:
            console.print(f"[yellow]skipped[/] {name}: {reason}", highlight=False)
            continue
        show(part, console)
        command = f"python -m tests.benchmarks.model --part {name}{options}"
        console.print(f"all this by: {command}", highlight=False)
        keep(part, command, asked.out)
        missed += sum(item.state == "failed" for item in part.verdicts)
    console.print(f"figures: {asked.out / 'results.json'}; {missed} goals missed", highlight=False, soft_wrap=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

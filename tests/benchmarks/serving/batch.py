"""Many trips in one request against one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contracts.estimates import LARGEST_BATCH
from tests.benchmarks.report import Part, steps
from tests.benchmarks.serving import goals, questions
from tests.benchmarks.serving.bench import Bench, table
from tests.benchmarks.serving.bursts import Answers, Spread, alternate
from tests.benchmarks.serving.candidate import champion_alone

BATCHES = 8  # different ones
BATCH, SINGLE, CROWD = (
    f"{LARGEST_BATCH} at once, 1 connection",
    "one by one, 1 connection",
    "one by one, 16 connections",
)


def measure(bench: Bench) -> Part:
    """Bursts of each kind in turn against one server."""
    with (
        champion_alone(bench.folder / "batch", bench.bundle, bench.cores) as serving,
        steps(bench.console, "batch", 1) as step,
    ):
        few = questions.estimates(questions.trips(serving.manifest, questions.VARIANTS))
        many = questions.estimates(questions.trips(serving.manifest, BATCHES * LARGEST_BATCH, seed=2), LARGEST_BATCH)
        step("bursts")
        bursts = {
            BATCH: bench.closed(serving.port, many, 1),
            SINGLE: bench.closed(serving.port, few, 1),
            CROWD: bench.closed(serving.port, few, 16),
        }
        return judged(bench, alternate(bench.generator, bursts, bench.plan.rounds))


def judged(bench: Bench, heard: Mapping[str, Sequence[Answers]]) -> Part:
    """Trips a second and ratios of neighbouring bursts. One caller with many trips is what the goal speaks of."""
    part = Part("batch")
    trips = {name: LARGEST_BATCH if name == BATCH else 1 for name in heard}
    rate = {name: [item.rate(*bench.counted) * trips[name] for item in answers] for name, answers in heard.items()}
    ratio = {name: Spread.of_ratios(rate[BATCH], rate[name]) for name in heard}
    made = table("batches", "asked", "trips/s", f"{LARGEST_BATCH} at once over it (quartiles)", "p50, ms", "p99, ms")
    for name, answers in heard.items():
        ms = [f"{Spread.of([item.ms(percent) for item in answers]).median:.2f}" for percent in (50, 99)]
        made.add_row(name, f"{Spread.of(rate[name]).median:,.0f}", ratio[name].text(".1f"), *ms)
    part.tables.append(made)
    part.figures |= rate
    part.verdicts = [
        bench.judge(goals.BATCH, ratio[SINGLE].median, f"{ratio[SINGLE].text('.1f')} over one connection"),
        goals.NOT_ANSWERED.judge(sum(item.failures for answers in heard.values() for item in answers)),
    ]
    return part

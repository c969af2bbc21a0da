"""Many trips in one request against one by one."""

from __future__ import annotations

from contracts.estimates import LARGEST_BATCH
from tests.benchmarks.report import Part, steps
from tests.benchmarks.serving import goals, questions
from tests.benchmarks.serving.bench import Bench, table
from tests.benchmarks.serving.bursts import Spread, alternate
from tests.benchmarks.serving.candidate import champion_alone

CALLERS = (1, 16)  # the first is judged: one caller who has many trips
BATCHES = 8  # different ones
SINGLE, BATCH = "one by one", f"{LARGEST_BATCH} at once"


def measure(bench: Bench) -> Part:
    """Bursts of both kinds in turn against one server."""
    part = Part("batch")
    part.tables.append(
        table("trips/s", "connections", SINGLE, BATCH, "ratio (quartiles)", "p50 of a batch, ms", "p99 of a batch, ms")
    )
    ratio, failures = {}, 0
    with (
        champion_alone(bench.folder / "batch", bench.bundle, bench.cores) as serving,
        steps(bench.console, "batch", len(CALLERS)) as step,
    ):
        few = questions.estimates(questions.trips(serving.manifest, questions.VARIANTS))
        many = questions.estimates(questions.trips(serving.manifest, BATCHES * LARGEST_BATCH, seed=2), LARGEST_BATCH)
        for connections in CALLERS:
            step(f"{connections} connections")
            asked = {SINGLE: few, BATCH: many}
            bursts = {name: bench.closed(serving.port, them, connections) for name, them in asked.items()}
            heard = alternate(bench.generator, bursts, bench.plan.rounds)
            rate = {name: [item.rate(*bench.counted) for item in answers] for name, answers in heard.items()}
            rate[BATCH] = [item * LARGEST_BATCH for item in rate[BATCH]]
            ratio[connections] = Spread.of_ratios(rate[BATCH], rate[SINGLE])
            failures += sum(item.failures for answers in heard.values() for item in answers)
            part.tables[0].add_row(
                str(connections), *(f"{Spread.of(rate[name]).median:,.0f}" for name in (SINGLE, BATCH)),
                ratio[connections].text(".1f"), *(f"{Spread.of([it.ms(at) for it in heard[BATCH]]).median:.1f}"
                                                  for at in (50, 99)),
            )  # fmt: skip
            part.figures[str(connections)] = rate
    note = f"{ratio[CALLERS[0]].text('.1f')} over one connection, {ratio[CALLERS[1]].text('.1f')} over {CALLERS[1]}"
    part.verdicts = [
        bench.judge(goals.BATCH, ratio[CALLERS[0]].median, note),
        goals.NOT_ANSWERED.judge(failures),
    ]
    return part

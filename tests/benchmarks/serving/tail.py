"""How late the late answers are, at constant arrivals: champion alone, with a shadow, while champions are swapped."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from tests.benchmarks.goals import Verdict
from tests.benchmarks.report import Part, steps
from tests.benchmarks.serving import goals, questions
from tests.benchmarks.serving.bench import Bench, table
from tests.benchmarks.serving.bursts import Answers, Spread, on_core, together
from tests.benchmarks.serving.candidate import Candidate, champion_alone, with_shadow
from tests.benchmarks.serving.generator import Burst, Stage

RATE = 1000.0  # arrivals a second
CONNECTIONS = 128  # more than are ever busy, else arrivals would wait for each other
WARM_S = 0.3
ALONE, SHADOW, SWAPS = "champion alone", "with shadow", "during swaps"
Heard = Mapping[str, Sequence[Answers]]  # by what serves: an entry a round


def measure(bench: Bench) -> Part:
    """Rounds of open loop. Outside swaps the third server has a previous champion in shadow: the second one's load."""
    heard: dict[str, list[Answers]] = {ALONE: [], SHADOW: [], SWAPS: []}
    memory_mb, swapped = [], 0
    with ExitStack() as up, steps(bench.console, "tail", bench.plan.tail_rounds) as step:
        alone = up.enter_context(champion_alone(bench.folder / "tail-alone", bench.bundle, bench.cores))
        shadow = up.enter_context(with_shadow(bench.folder / "tail-shadow", bench.bundle, bench.cores))
        swaps = up.enter_context(champion_alone(bench.folder / "tail-swaps", bench.bundle, bench.cores))
        asked = questions.estimates(questions.trips(alone.manifest, questions.VARIANTS))
        for number in range(bench.plan.tail_rounds):
            step(f"round {number + 1}")
            for name, server in ((ALONE, alone), (SHADOW, shadow), (SWAPS, swaps)):
                stages = [Stage(WARM_S + bench.plan.tail_s, RATE)]
                bench.generator.begin(Burst(server.port, asked, CONNECTIONS, stages))
                if name == SWAPS:
                    swapped = swap_often(bench, server, swapped)
                heard[name].append(bench.generator.end().due_within(WARM_S, float("inf")))
            memory_mb.append(swaps.server.memory_mb())
    return judged(bench, heard, memory_mb, swapped)


def swap_often(bench: Bench, serving: Candidate, done: int) -> int:
    """The swaps of one round, evenly over it; answers how many there have been in all."""
    began, every_s = time.monotonic() + WARM_S, bench.plan.tail_s / bench.plan.swaps
    with on_core(bench.cores.client):  # not where it would take time from what is measured
        for number in range(bench.plan.swaps):
            time.sleep(max(0.0, began + (number + 0.5) * every_s - time.monotonic()))
            serving.swap(done + number)
    return done + bench.plan.swaps


def judged(bench: Bench, heard: Heard, memory_mb: Sequence[float], swaps: int) -> Part:
    """Percentiles of all rounds together, ratios round by round, verdicts."""
    part = Part("tail")
    part.tables.append(
        table(f"latency in ms at {RATE:,.0f} requests/s, open loop, from when each was due", "serving", "requests",
              "p50", "p95", "p99", "p99.9", "most", "not answered", "sent late")
    )  # fmt: skip
    whole = {name: together(answers) for name, answers in heard.items()}
    for name, answers in whole.items():
        shown = [f"{answers.ms(percent):.2f}" for percent in (50, 95, 99, 99.9, 100)]
        counts = [str(answers.failures), f"{answers.late / len(answers.status):.2%}"]
        part.tables[0].add_row(name, f"{len(answers.status):,}", *shown, *counts)
        part.figures[name] = {
            "p99_ms_by_round": [item.ms(99) for item in heard[name]],
            "ms": {str(percent): answers.ms(percent) for percent in (50, 95, 99, 99.9, 100)},
            "sent_late": answers.late,
        }
    part.figures |= {"memory_mb_by_round": list(memory_mb), "swaps": swaps}
    part.verdicts = verdicts(bench, heard, whole, memory_mb, swaps)
    return part


def verdicts(
    bench: Bench, heard: Heard, whole: Mapping[str, Answers], memory_mb: Sequence[float], swaps: int
) -> list[Verdict]:
    """On p99 alone, what a shadow and swaps add to it, memory after the swaps, and that nobody was refused."""
    p99 = {name: [item.ms(99) for item in answers] for name, answers in heard.items()}
    shadow, swapping = Spread.of_ratios(p99[SHADOW], p99[ALONE]), Spread.of_ratios(p99[SWAPS], p99[SHADOW])
    grown = f"{memory_mb[0]:.1f} MB after {swaps // len(memory_mb)} swaps, {memory_mb[-1]:.1f} after {swaps}"
    return [
        bench.judge(goals.TAIL_P99_MS, whole[ALONE].ms(99), f"with shadow {whole[SHADOW].ms(99):.2f}"),
        bench.judge(goals.SHADOW_P99, shadow.median, shadow.text()),
        bench.judge(goals.SWAP_P99, swapping.median, f"{swapping.text()}, over that with shadow"),
        goals.SWAP_MEMORY.judge(memory_mb[-1] / memory_mb[0], grown),
        goals.NOT_ANSWERED.judge(sum(item.failures for item in whole.values())),
    ]

"""How many estimates a second, as a share of bare uvicorn's answers: champion alone, and with a shadow challenger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from tests.benchmarks.goals import Verdict
from tests.benchmarks.report import Part, steps
from tests.benchmarks.serving import goals, questions
from tests.benchmarks.serving.bench import CONNECTIONS, Bench, bare, table
from tests.benchmarks.serving.bursts import Answers, Spread, alternate
from tests.benchmarks.serving.candidate import champion_alone, with_shadow

BARE, ALONE, SHADOW = "bare uvicorn", "serving", "serving with shadow"
Heard = Mapping[int, Mapping[str, Sequence[Answers]]]  # by connections, then by server: an entry a round


def measure(bench: Bench) -> Part:
    """All three servers up, bursts in turn."""
    heard = {}
    with ExitStack() as up, steps(bench.console, "throughput", len(CONNECTIONS)) as step:
        alone = up.enter_context(champion_alone(bench.folder / "alone", bench.bundle, bench.cores))
        shadow = up.enter_context(with_shadow(bench.folder / "shadow", bench.bundle, bench.cores))
        asked = questions.estimates(questions.trips(alone.manifest, questions.VARIANTS))
        reference = up.enter_context(bare(bench, len(alone.answer)))
        ports = {BARE: reference.port, ALONE: alone.port, SHADOW: shadow.port}
        for connections in CONNECTIONS:
            step(f"{connections} connections")
            bursts = {name: bench.closed(port, asked, connections) for name, port in ports.items()}
            heard[connections] = alternate(bench.generator, bursts, bench.plan.rounds)
    return judged(bench, heard)


def judged(bench: Bench, heard: Heard) -> Part:
    """Rates, paired ratios, verdicts."""
    part = Part("throughput")
    part.tables.append(
        table("requests/s, median; ratios of neighbouring bursts, median (quartiles)", "connections", BARE, ALONE,
              SHADOW, "share of bare", "with shadow, share of bare", "shadow over alone", "p99, ms", "generator busy")
    )  # fmt: skip
    share, shadow_cost, busy, failures = {}, {}, {}, 0
    for connections, by_server in heard.items():
        rate = {name: [item.rate(*bench.counted) for item in answers] for name, answers in by_server.items()}
        share[connections] = Spread.of_ratios(rate[ALONE], rate[BARE])
        with_shadow_share = Spread.of_ratios(rate[SHADOW], rate[BARE])
        shadow_cost[connections] = Spread.of_ratios(rate[SHADOW], rate[ALONE])
        busy[connections] = max(item.busy for item in by_server[BARE])
        failures += sum(item.failures for answers in by_server.values() for item in answers)
        p99 = Spread.of([item.ms(99) for item in by_server[ALONE]])
        part.tables[0].add_row(
            str(connections), *(f"{Spread.of(rate[name]).median:,.0f}" for name in (BARE, ALONE, SHADOW)),
            share[connections].text(), with_shadow_share.text(), shadow_cost[connections].text(), p99.text(".1f"),
            f"{busy[connections]:.0%}",
        )  # fmt: skip
        part.figures[str(connections)] = {"rates": rate, "p99_ms": p99.median, "generator_busy": busy[connections]}
    part.verdicts = verdicts(bench, share, shadow_cost, busy, failures)
    return part


def verdicts(
    bench: Bench, share: Mapping[int, Spread], shadow: Mapping[int, Spread], busy: Mapping[int, float], failures: int
) -> list[Verdict]:
    """By connections: the share of bare uvicorn, what a shadow leaves of it, and how busy the generator was."""
    worst = min(shadow, key=lambda connections: shadow[connections].median)
    found = [goals.GENERATOR_BUSY.judge(max(busy.values())), goals.NOT_ANSWERED.judge(failures)]
    for connections, goal in goals.SHARE.items():
        too_slow = goals.GENERATOR_BUSY.judge(busy[connections]).state == "failed"
        void = "the generator had no time to spare: bare uvicorn may be quicker" if too_slow else ""
        found.append(bench.judge(goal, share[connections].median, share[connections].text(), void))
    found.append(bench.judge(goals.SHADOW_THROUGHPUT, shadow[worst].median, f"{shadow[worst].text()} at {worst}"))
    return found

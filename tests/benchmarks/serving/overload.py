"""Three times as much as serving can answer: what is still answered, how late, what the others are told, and after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from contracts.requirements import load
from tests.benchmarks.goals import Verdict, asked_by_record
from tests.benchmarks.report import Part, steps
from tests.benchmarks.serving import goals, questions
from tests.benchmarks.serving.bench import Bench, table
from tests.benchmarks.serving.bursts import Answers
from tests.benchmarks.serving.candidate import champion_alone
from tests.benchmarks.serving.generator import Burst, Stage

CONNECTIONS = 1500  # so many may wait at once: more than serving lets wait
TIMES = 3.0
CALM, CALM_S, AFTER_S = 0.5, 2.0, 4.0  # load before and after, as a share of capacity, and for how long
BIN_S = 0.1
ENOUGH = 0.98  # of the arrivals in a bin, answered in time: recovered
PATIENCE_S = 0.0  # an arrival that finds all connections busy goes away


@dataclass(frozen=True)
class Load:
    """Capacity in requests/s and when, in seconds, the overload began and ended."""

    capacity: float
    begins_s: float
    ends_s: float


def measure(bench: Bench) -> Part:
    """Capacity by a closed loop before and after; between them calm, overload, calm at constant arrivals."""
    within_ms = load()["estimate-latency-p99"].ceiling
    with (
        champion_alone(bench.folder / "overload", bench.bundle, bench.cores) as serving,
        steps(bench.console, "overload", 3) as step,
    ):
        asked = questions.estimates(questions.trips(serving.manifest, questions.VARIANTS))
        step("capacity")
        before = bench.generator.send(bench.closed(serving.port, asked, 64)).rate(*bench.counted)
        step(f"{TIMES:g} times {before:,.0f} requests/s")
        load_of = Load(before, CALM_S, CALM_S + bench.plan.overload_s)
        stages = [
            Stage(CALM_S, CALM * before), Stage(bench.plan.overload_s, TIMES * before), Stage(AFTER_S, CALM * before)
        ]  # fmt: skip
        heard = bench.generator.send(Burst(serving.port, asked, CONNECTIONS, stages, PATIENCE_S))
        step("capacity again")
        after = bench.generator.send(bench.closed(serving.port, asked, 64)).rate(*bench.counted)
    return judged(bench, heard, Load((before + after) / 2, load_of.begins_s, load_of.ends_s), before, within_ms)


def judged(bench: Bench, heard: Answers, load_of: Load, asked_of: float, within_ms: float) -> Part:
    """What came of it. `asked_of` is the capacity in requests/s that the arrivals were made of."""
    during = heard.due_within(load_of.begins_s, load_of.ends_s)
    calm = heard.due_within(0.2, load_of.begins_s)
    lasted = load_of.ends_s - load_of.begins_s
    sent, refused = len(during.status), int((during.status == 503).sum())
    goodput = heard.rate(load_of.begins_s, load_of.ends_s)
    all_refused = int((heard.status == 503).sum())
    told = heard.retry_after / all_refused if all_refused else 1.0
    recovery = recovery_s(heard, load_of.ends_s, CALM * asked_of, within_ms / 1000)
    arrivals = round(lasted * TIMES * asked_of)
    late = heard.late / (arrivals + (CALM_S + AFTER_S) * CALM * asked_of)
    otherwise = int((~np.isin(heard.status, (200, 503))).sum()) + heard.lost

    part = Part("overload")
    made = table(f"{TIMES:g} times capacity for {lasted:g} s", "what", "measured")
    for name, value in {
        "capacity before and after, requests/s": f"{load_of.capacity:,.0f}",
        "arrivals/s": f"{arrivals / lasted:,.0f}",
        "of them sent": f"{sent / arrivals:.0%}",
        "estimates/s": f"{goodput:,.0f}",
        "503s, of those answered": f"{refused / max(sent, 1):.0%}",
        "p99 of estimates before, ms": f"{calm.of_status(200).ms(99):.1f}",
        "p99 of estimates during, ms": f"{during.of_status(200).ms(99):.1f}",
        "p99 of 503s, ms": f"{during.of_status(503).ms(99):.1f}",
        "answered otherwise, or not at all": str(otherwise),
    }.items():
        made.add_row(name, value)
    part.tables.append(made)
    part.figures |= {
        "capacity": load_of.capacity, "arrivals_per_s": arrivals / lasted, "goodput": goodput, "sent": sent,
        "refused": refused, "p99_ms": during.of_status(200).ms(99), "recovery_s": recovery, "late": late,
        "otherwise": otherwise,
    }  # fmt: skip
    part.verdicts = verdicts(
        bench, goodput / load_of.capacity, during.of_status(200).ms(99), told, recovery, late, otherwise
    )
    return part


def verdicts(
    bench: Bench, goodput: float, p99_ms: float, told: float, recovery: float, late: float, otherwise: int
) -> list[Verdict]:
    """`goodput` over capacity, `told` the share of 503s with Retry-After, `late` that of arrivals sent
    late; `otherwise` counts what was neither an estimate nor a 503."""
    too_late = goals.GENERATOR_LATE.judge(late).state == "failed"
    void = "the generator could not send so much" if too_late else ""
    return [
        bench.judge(goals.GENERATOR_LATE, late),
        bench.judge(goals.GOODPUT, goodput, void=void),
        bench.judge(asked_by_record(load()["estimate-latency-p99"]), p99_ms, "of estimates under overload", void),
        goals.RETRY_AFTER.judge(told),
        bench.judge(goals.RECOVERY_S, recovery, void=void),
        goals.NOT_ANSWERED.judge(otherwise, "503s not counted"),
    ]


def recovery_s(heard: Answers, ends_s: float, rate: float, within_s: float) -> float:
    """Seconds from the end of the overload until nearly all arrivals, `rate` of them a second, get an estimate in time
    and go on to."""
    good = heard.of_status(200)
    in_time = good.due_s[good.latency_s <= within_s]
    edges = np.arange(ends_s, ends_s + AFTER_S + BIN_S / 2, BIN_S)
    share = np.histogram(in_time, edges)[0] / (rate * BIN_S)
    (bad,) = np.nonzero(share < ENOUGH)
    return float(edges[bad[-1] + 1] - ends_s) if len(bad) else 0.0

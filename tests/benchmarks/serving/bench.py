"""What every part of the benchmark works with: how much to measure, on which cores, with which bundle, where."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from tests.benchmarks.goals import Goal, Verdict
from tests.benchmarks.serving import questions
from tests.benchmarks.serving.bursts import Burst, Cores, Generator, closed
from tests.benchmarks.serving.processes import Server, started
from tests.servers import free_port

CONNECTIONS = (1, 16, 64)


@dataclass(frozen=True)
class Plan:
    """How much is measured; seconds, unless said otherwise. Of each burst the first `warm_s` don't count."""

    rounds: int = 7  # of alternating bursts
    burst_s: float = 2.0
    warm_s: float = 0.3
    tail_rounds: int = 5
    tail_s: float = 4.0  # of open loop in each round
    swaps: int = 10  # in each round
    starts: int = 5
    overload_s: float = 5.0
    profile_s: float = 8.0
    calls: int = 20_000  # of what is timed in process


QUICK = Plan(2, 0.4, 0.1, 2, 1.0, 2, 2, 1.0, 2.0, 2_000)


@dataclass(frozen=True)
class Bench:
    """`folder` is for what servers leave behind, `keep` for what the next run can use again."""

    plan: Plan
    cores: Cores
    bundle: Path
    folder: Path
    keep: Path
    console: Console
    generator: Generator

    def closed(self, port: int, requests: list[str], connections: int) -> Burst:
        """A closed loop of the plan's length."""
        return closed(port, requests, connections, self.plan.warm_s + self.plan.burst_s)

    @property
    def counted(self) -> tuple[float, float]:
        """From when to when, in seconds since a burst began, answers count."""
        return self.plan.warm_s, self.plan.warm_s + self.plan.burst_s

    def judge(self, goal: Goal, measured: float, note: str = "", void: str = "") -> Verdict:
        """A verdict on speed, void where the cores are not as they must be."""
        return goal.judge(measured, note, void or self.cores.note)


@contextmanager
def bare(bench: Bench, answer_bytes: int) -> Iterator[Server]:
    """The reference, answering as many bytes as an estimate has."""
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.serving.bare", "--port", str(port), "--bytes", str(answer_bytes)]
    first = questions.post("/v1/estimates", "{}")
    with started("bare uvicorn", command, port, first, bench.folder / "bare.log", bench.cores.server, os.environ) as up:
        yield up


def table(title: str, *columns: str) -> Table:
    """A table that reads as Markdown when it is printed."""
    made = Table(title=title, box=box.MARKDOWN, title_justify="left")
    for name in columns:
        made.add_column(name, no_wrap=True)
    return made


def least(values: Sequence[float]) -> float:
    """The smallest; not a number where there is none."""
    return min(values, default=float("nan"))

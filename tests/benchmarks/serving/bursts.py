"""Sending bursts and reading what came of them: rates, percentiles, and ratios of bursts that alternate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np

from contracts.problems import TandemError
from tests.benchmarks.serving.generator import BURST, HEARD, Burst, Heard, Stage

Numbers = np.ndarray[Any, Any]
ROWS = ("due_s", "latency_s", "status")
COUNTS = ("late", "waited", "given_up", "lost", "retry_after")


class BurstFailed(TandemError):
    """A burst measured nothing: the generator could not send it or could not read the answers."""


@dataclass(frozen=True)
class Cores:
    """The core that each server gets, and the generator's; None where this system pins nothing. `note` says what is
    wrong with that: verdicts on speed are void then."""

    server: int | None
    client: int | None
    note: str = ""

    @classmethod
    def here(cls) -> Self:
        """The first core that this process may use for servers, the last one for the generator."""
        if not hasattr(os, "sched_setaffinity"):
            return cls(None, None, "this system pins no process to a core")
        mine = sorted(os.sched_getaffinity(0))
        return cls(mine[0], mine[-1], "server and generator share one core" if len(mine) == 1 else "")


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """What is started here runs on that core, and whatever it starts; None leaves everything as it is."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Answers:
    """What came of a burst, or of a part of it: an entry an answer in `due_s`, `latency_s` and `status`. The counts
    are the whole burst's, as `generator.Heard` tells them."""

    due_s: Numbers
    latency_s: Numbers
    status: Numbers
    late: int = 0
    waited: int = 0
    given_up: int = 0
    lost: int = 0
    retry_after: int = 0
    busy: float = 0.0

    @classmethod
    def of(cls, heard: Heard) -> Self:
        """As arrays. Raises `BurstFailed` if the burst had a fault."""
        if heard.fault:
            raise BurstFailed(heard.fault)
        told = {name: value for name, value in vars(heard).items() if name != "fault"}
        for name in ROWS:
            told[name] = np.array(told[name], dtype=int if name == "status" else float)
        return cls(**told)

    def due_within(self, start_s: float, end_s: float) -> Answers:
        """Those whose request was due in that time."""
        return self._where((start_s <= self.due_s) & (self.due_s < end_s))

    def of_status(self, status: int) -> Answers:
        """Those of that status; 200 are estimates."""
        return self._where(self.status == status)

    def rate(self, start_s: float, end_s: float) -> float:
        """Estimates that came back in that time, in requests a second."""
        came_s = self.due_s + self.latency_s
        return float(((self.status == 200) & (start_s <= came_s) & (came_s < end_s)).sum() / (end_s - start_s))

    def ms(self, percent: float) -> float:
        """A percentile of latency in ms; not a number without answers."""
        return float(np.percentile(self.latency_s, percent) * 1000) if len(self.latency_s) else float("nan")

    @property
    def failures(self) -> int:
        """Requests of the whole burst that got no estimate; for a part of it, of that part and all that were lost."""
        return int((self.status != 200).sum()) + self.lost + self.given_up

    def _where(self, kept: Numbers) -> Answers:
        return Answers(**(vars(self) | {name: getattr(self, name)[kept] for name in ROWS}))


def together(parts: Sequence[Answers]) -> Answers:
    """The answers of several bursts as one, counts added; `busy` is the mean."""
    rows = {name: np.concatenate([getattr(item, name) for item in parts]) for name in ROWS}
    counts = {name: sum(getattr(item, name) for item in parts) for name in COUNTS}
    return Answers(**rows, **counts, busy=float(np.mean([item.busy for item in parts])))


class Generator:
    """The generator's process, on a core of its own."""

    def __init__(self, cores: Cores) -> None:
        self.cores = cores

    def __enter__(self) -> Self:
        self._folder = TemporaryDirectory()
        command = [sys.executable, "-m", "tests.benchmarks.serving.generator", self._folder.name]
        with on_core(self.cores.client):
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()  # closes its input, upon which it ends
        self._folder.cleanup()

    def begin(self, burst: Burst) -> None:
        """Start a burst and return at once; `end` tells what came of it."""
        (Path(self._folder.name) / BURST).write_text(json.dumps(asdict(burst)))
        self.process.stdin.write("send\n")
        self.process.stdin.flush()

    def end(self) -> Answers:
        """Wait for the burst under way. Raises `BurstFailed`."""
        if not self.process.stdout.readline():
            raise BurstFailed(f"the generator ended with status {self.process.wait()}; see its words above")
        return Answers.of(Heard(**json.loads((Path(self._folder.name) / HEARD).read_text())))

    def send(self, burst: Burst) -> Answers:
        """A whole burst. Raises `BurstFailed`."""
        self.begin(burst)
        return self.end()


def closed(port: int, requests: list[str], connections: int, seconds: float) -> Burst:
    """A closed loop."""
    return Burst(port, requests, connections, [Stage(seconds)])


def alternate(generator: Generator, bursts: Mapping[str, Burst], rounds: int) -> dict[str, list[Answers]]:
    """Each burst once a round, every round beginning with another, so that a machine whose speed drifts is fair."""
    names = list(bursts)
    heard: dict[str, list[Answers]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            heard[name].append(generator.send(bursts[name]))
    return heard


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Of some values."""
        low, middle, high = np.percentile(values, [25, 50, 75])
        return cls(float(middle), float(low), float(high))

    @classmethod
    def of_ratios(cls, over: Sequence[float], under: Sequence[float]) -> Self:
        """Of the ratios of values measured in the same round."""
        return cls.of([one / other for one, other in zip(over, under, strict=True)])

    def text(self, form: str = ".2f") -> str:
        """For a table."""
        return f"{self.median:{form}} ({self.low:{form}} to {self.high:{form}})"

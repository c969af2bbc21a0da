"""The estimates desk: whom to let in, and how long to wait for the engine."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chassis.problems import ProblemError
from contracts.trips import TripRequest
from serving.answers import unavailable
from serving.caller import Caller
from serving.engine import Engine, Outcome, Question
from serving.metrics import Metrics

COUNT_EVERY_S = 0.25  # for the metric of how many wait
LOOK_S = 0.01  # by how much somebody may be kept longer than told


@dataclass
class EstimateDesk:
    """Lets trips in and waits for their estimates. `waiting`, in trips, is changed by the event loop's thread alone.

    Nobody is let in who would wait longer than `longest_wait_s`, or longer than the caller has time, by what trips took
    of late; nobody is kept longer than `longest_answer_s`.
    """

    engine: Engine
    most_waiting: int
    longest_wait_s: float
    longest_answer_s: float
    metrics: Metrics
    waiting: int = 0
    _inside: dict[Question, float] = field(default_factory=dict)  # with the seconds for which each may be kept
    _looking: bool = False

    async def answer(
        self, trips: Sequence[TripRequest], with_reasons: bool, caller: Caller, timeout_ms: int | None = None
    ) -> str:
        """An `EstimatesAnswer` as JSON, its estimates in the feed already. Raises `ProblemError`, a 503 that says why
        there is none."""
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.ask(trips, with_reasons, caller, timeout_ms, answered.set_result)
        outcome = await asyncio.shield(answered)  # told even if nobody waits any longer
        if isinstance(outcome, ProblemError):
            raise outcome
        return outcome

    def ask(
        self,
        trips: Sequence[TripRequest],
        with_reasons: bool,
        caller: Caller,
        timeout_ms: int | None,
        tell: Callable[[Outcome], None],
    ) -> None:
        """The same for who can't wait: `tell` is called with the answer or the problem, once. Raises `ProblemError`
        where trips are not let in."""
        patience_s = self.longest_answer_s if timeout_ms is None else min(timeout_ms / 1000, self.longest_answer_s)
        self._admit(len(trips), patience_s)

        def told(outcome: Outcome) -> None:
            del self._inside[question]
            self.waiting -= len(trips)
            tell(outcome)

        question = Question(trips, with_reasons, caller, time.monotonic() + patience_s, told)
        self._inside[question] = patience_s
        self.waiting += len(trips)
        self.engine.ask(question)
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def count(self, stop: threading.Event) -> None:
        """Tell how many wait, now and then until stopped: for each request it would cost as much as to read it."""
        while not stop.wait(COUNT_EVERY_S):
            self.metrics.waiting.set(self.waiting)

    def _admit(self, trips: int, patience_s: float) -> None:
        if self.waiting == 0:
            return  # however slow the last batch was, somebody must find out whether it still is
        if self.waiting + trips > self.most_waiting:
            raise unavailable("queue-full", f"{self.waiting} trips wait already, at most {self.most_waiting} may", 1)
        wait_s = self.waiting * self.engine.seconds_per_trip
        if wait_s > min(patience_s, self.longest_wait_s):
            raise unavailable("queue-full", f"{self.waiting} trips wait already, for some {wait_s * 1000:.0f} ms", 1)

    def _look(self) -> None:
        """Tell whose time is over, again and again while anybody is inside: a timer for each costs more than this."""
        now = time.monotonic()
        for question, patience_s in [it for it in self._inside.items() if it[0].until <= now]:
            question.answer(unavailable("too-late", f"no answer within {patience_s:g} s", 1))
        self._looking = bool(self._inside)
        if self._looking:
            asyncio.get_running_loop().call_later(LOOK_S, self._look)

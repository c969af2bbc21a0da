"""The engine: answers all who wait as one batch. It asks the bundles, records what they said, then answers.

It works in the event loop's own thread, once the requests that came together have been read: the busier the service,
the larger its batches, and nobody waits for a batch to fill. A thread of its own would cost each batch more than the
graph does (docs/decisions/0011). So nothing here may take long: runs of a graph are ended after their limit, a bundle
that ran into it is left alone for a while, and a database that is locked or elsewhere is waited for in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from chassis.clock import Clock
from chassis.feed_writer import FeedUnwritable, FeedWriter
from chassis.problems import ProblemError
from contracts.estimates import LARGEST_BATCH, Explanation
from contracts.trips import TripRequest
from serving.answers import Answers, misbehaviour, unavailable
from serving.bundles import Batch, LoadedBundle, Said, Unexplained
from serving.caller import Caller
from serving.conductor import Conductor, Fleet
from serving.metrics import Metrics
from serving.rollout import Role

log = logging.getLogger(__name__)
NEWEST_WEIGHS = 0.1  # in the running mean of the seconds that a trip takes
COMPUTED = 0.1  # of its limit, and it was the bundle that took so long: a sound one computes for far less
MOMENT_S = 0.01  # for which the event loop waits for the database's lock; for longer ones a thread does
READ_AND_WRITTEN = 2.0  # times as long as in its batch a trip takes with the reading of its request and the writing
LONGEST_TRIP_S = 0.005  # a batch that was held up says nothing of the next ones
Outcome = str | ProblemError  # an `EstimatesAnswer` as JSON, or why there is none


@dataclass(slots=True, eq=False)
class Question:
    """One request on its way through the engine. Nobody waits for it after `until`, a `time.monotonic()`."""

    trips: Sequence[TripRequest]
    with_reasons: bool
    caller: Caller
    until: float
    tell: Callable[[Outcome], None] | None

    def answer(self, outcome: Outcome) -> None:
        """Tell the caller, unless it has been told something already."""
        tell, self.tell = self.tell, None  # who tells may know the question: a cycle would be left to the collector
        if tell is not None:
            try:
                tell(outcome)
            except Exception:  # those who are told after it must not suffer
                log.exception("a fault of ours: request %s could not be answered", self.caller.request_id)


class Patience:
    """How long a role's bundle may take. One that took longer is not asked again for a while, so that it can't keep
    everybody waiting again and again; but not one that was itself kept waiting, by a machine with other work."""

    def __init__(self, limit_s: float, pause_s: float) -> None:
        self.limit_s, self.pause_s = limit_s, pause_s
        self._version, self._not_before = "", 0.0

    def ask(self, bundle: LoadedBundle, batch: Batch) -> list[Said]:
        """What the bundle says, or for each trip the reason why it was not asked."""
        if self._rests(bundle):
            return [Said("misbehaved", reason=self._why_not())] * len(batch.trips)
        began, computed = time.monotonic(), time.thread_time()
        said = bundle.answer(batch, self.limit_s)
        self._note(bundle, began, computed)
        return said

    def explain(self, bundle: LoadedBundle, trips: Sequence[TripRequest]) -> list[Explanation] | None:
        """Explanations as the bundle gives them. Raises `Unexplained`, too where it was not asked."""
        if self._rests(bundle):
            raise Unexplained(f"bundle {bundle.version} can't be explained: {self._why_not()}")
        began, computed = time.monotonic(), time.thread_time()
        try:
            return bundle.explain(trips, self.limit_s)
        finally:
            self._note(bundle, began, computed)

    def _rests(self, bundle: LoadedBundle) -> bool:
        return bundle.version == self._version and time.monotonic() < self._not_before

    def _why_not(self) -> str:
        return f"not asked: took over {self.limit_s:g} s just now"

    def _note(self, bundle: LoadedBundle, began: float, computed: float) -> None:
        took_s, computed_s = time.monotonic() - began, time.thread_time() - computed
        if took_s > self.limit_s and computed_s > COMPUTED * self.limit_s:
            self._version, self._not_before = bundle.version, time.monotonic() + self.pause_s


@dataclass
class Engine:
    """Answers questions in the order in which they came, all in the event loop's thread. Use it from one loop only."""

    conductor: Conductor
    feed: FeedWriter
    clock: Clock
    metrics: Metrics
    patience: Patience
    shadow: Patience  # with the bundle that nobody is shown
    reasons: Patience  # with explanations, for all who asked for them at once
    seconds_per_trip: float = 0.0  # running mean
    _waiting: list[Question] = field(default_factory=list)
    _working: bool = False
    _writer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "feed"))

    def ask(self, question: Question) -> None:
        """Take a question in; it is told its answer, or a problem, in a moment."""
        self._waiting.append(question)
        if not self._working:
            self._working = True
            asyncio.get_running_loop().call_soon(self._work)  # those that came with it are read before

    def _work(self) -> None:
        """Answer one batch, then go on while anybody waits."""
        began, batch = time.monotonic(), self._gather()
        try:
            outcomes, records = self._answer(batch, began)
        except Exception:
            log.exception("a fault of ours: %d requests get no answer, the next ones will", len(batch))
            fault = ProblemError(500, "fault", "this is our fault, not yours: see serving's log")
            outcomes, records = dict.fromkeys(batch, fault), []
        if not records or (self.feed.local and self.feed.seize(MOMENT_S)):
            self._told(outcomes, self._record(records), began)
            return
        loop = asyncio.get_running_loop()
        recorded = loop.run_in_executor(self._writer, self._record, records)
        recorded.add_done_callback(lambda done: self._told(outcomes, done.result(), began))

    def _told(self, outcomes: dict[Question, Outcome], unrecorded: ProblemError | None, began: float) -> None:
        for question, outcome in outcomes.items():
            question.answer(outcome if unrecorded is None or isinstance(outcome, ProblemError) else unrecorded)
        trips = sum(len(question.trips) for question in outcomes)
        sample = min(READ_AND_WRITTEN * (time.monotonic() - began) / trips, LONGEST_TRIP_S)
        self.seconds_per_trip += NEWEST_WEIGHS * (sample - self.seconds_per_trip)
        self._working = bool(self._waiting)
        if self._working:
            asyncio.get_running_loop().call_soon(self._work)

    def _gather(self) -> list[Question]:
        """Who has waited longest, up to the contract's largest batch."""
        trips = 0
        for count, question in enumerate(self._waiting):
            trips += len(question.trips)
            if trips > LARGEST_BATCH:
                batch, self._waiting = self._waiting[:count], self._waiting[count:]
                return batch
        batch, self._waiting = self._waiting, []
        return batch

    def _answer(self, batch: Sequence[Question], now: float) -> tuple[dict[Question, Outcome], list[tuple[str, str]]]:
        """What becomes of each question, an answer or a problem, and what the feed must hold before it is told. One
        fleet answers all."""
        fleet = self.conductor.fleet
        outcomes: dict[Question, Outcome] = {
            it: unavailable("too-late", "the caller's time was over before its turn came", 1)
            for it in batch
            if it.until <= now
        }
        asked = [it for it in batch if it not in outcomes]
        if "champion" not in fleet.bundles:
            missing = unavailable("no-champion", "no bundle serves yet: wait for the first release, see /v1/rollout", 5)
            return outcomes | dict.fromkeys(asked, missing), []
        if not asked:
            return outcomes, []
        trips, records = [trip for it in asked for trip in it.trips], []
        said = self._hear(fleet, asked, Batch(trips))
        answers, end, places = Answers(fleet, trips, said), 0, {}
        for question in asked:
            start, end = end, end + len(question.trips)
            places[question] = range(start, end)
        to_explain = [at for question, mine in places.items() if question.with_reasons for at in mine]
        why = self._why(fleet, answers, to_explain) if to_explain else {}
        for question, mine in places.items():
            words = said["champion"][mine.start : mine.stop]
            problem = misbehaviour(fleet.bundles["champion"].version, question.trips, words)
            if problem is not None:
                outcomes[question] = problem
                continue
            outcomes[question], told = answers.of(mine, why, question.caller)
            records += told
        return outcomes, records

    def _hear(self, fleet: Fleet, asked: Sequence[Question], batch: Batch) -> dict[Role, list[Said]]:
        """What each bundle that serves says, trip by trip."""
        said: dict[Role, list[Said]] = {"champion": self._champion(fleet.bundles["champion"], asked, batch)}
        other: Role = "challenger" if "challenger" in fleet.bundles else "previous"
        if fleet.rollout.mode == "canary":  # who is shown it is shown it each time, so that it is always asked
            said[other] = self.patience.ask(fleet.bundles[other], batch)
        elif other in fleet.bundles:
            said[other] = self.shadow.ask(fleet.bundles[other], batch)
        for role, words in said.items():
            statuses = [it.status for it in words]
            for status in set(statuses):
                self.metrics.said(role, status).inc(statuses.count(status))
        return said

    def _champion(self, bundle: LoadedBundle, asked: Sequence[Question], batch: Batch) -> list[Said]:
        said = self.patience.ask(bundle, batch)
        if len(asked) > 1 and any(words.status == "misbehaved" for words in said):
            # One caller's trip on which the graph throws must not cost the others their answers.
            return [words for question in asked for words in self.patience.ask(bundle, Batch(question.trips))]
        return said

    def _record(self, records: Sequence[tuple[str, str]]) -> ProblemError | None:
        """Commit to the feed. What could not be recorded must not be answered."""
        if not records:
            return None
        try:
            self.feed.append("estimate.answered", self.clock.now(), records)
        except Exception as error:
            expected = isinstance(error, FeedUnwritable)
            log.error("%d estimates not recorded, callers get a 503: %s", len(records), error, exc_info=not expected)
            return unavailable("not-recorded", "the estimates feed cannot be written now: see serving's log", 5)
        return None

    def _why(self, fleet: Fleet, answers: Answers, places: Sequence[int]) -> dict[int, Explanation]:
        """Explanations by the bundles that are shown, by place, where there is something to explain: one run of each
        bundle's graph for all."""
        why: dict[int, Explanation] = {}
        for role in {answers.roles[at] for at in places}:
            mine = [at for at in places if answers.roles[at] == role and answers.said[role][at].minutes is not None]
            why |= zip(mine, self._explain(fleet.bundles[role], [answers.trips[at] for at in mine]), strict=False)
        return why

    def _explain(self, bundle: LoadedBundle, trips: Sequence[TripRequest]) -> Sequence[Explanation]:
        """An explanation per trip, or none at all: what the bundle can't explain is counted, and costs nobody an
        estimate."""
        if not trips:
            return []
        found: Sequence[Explanation] | None = None
        try:
            found = self.reasons.explain(bundle, trips)
            status = "no_typical_trip" if found is None else "explained"
        except Unexplained as error:
            log.error("%s; its estimates are answered without explanations", error)
            status = "misbehaved"
        self.metrics.explanations.labels(status).inc(len(trips))
        return found or []

"""The engine: one thread that answers all who wait as one batch. It asks the bundles, records, commits, then answers.

While a batch is worked on, the next requests gather: the busier the service, the larger its batches, and nobody waits
for a batch to fill. The event loop waits neither for a graph nor for the database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from queue import Empty, SimpleQueue
from threading import Event as Flag

from chassis.clock import Clock
from chassis.feed_store import FeedStore, FeedUnwritable, FeedWriter
from chassis.problems import ProblemError
from contracts.estimates import LARGEST_BATCH, Explanation
from contracts.trips import TripRequest
from serving.answers import Heard, misbehaviour, put_together, shown, unavailable
from serving.bundles import LoadedBundle, Said, Unexplained
from serving.caller import Caller
from serving.conductor import Conductor, Fleet
from serving.metrics import Metrics
from serving.rollout import Role

log = logging.getLogger(__name__)
LOOK_AT_STOP_S = 0.2
NEWEST_WEIGHS = 0.1  # in the running mean of the seconds that a trip takes
LONGEST_TRIP_S = 0.01  # a batch that was held up says nothing of the next ones
Outcome = str | ProblemError  # an `EstimatesAnswer` as JSON, or why there is none


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One request on its way through the engine. Nobody waits for it after `until`, a `time.monotonic()`; `answered`
    belongs to the caller's event loop."""

    trips: Sequence[TripRequest]
    with_reasons: bool
    caller: Caller
    until: float
    answered: asyncio.Future[str]

    def tell(self, outcome: Outcome) -> None:
        """Answer, in the caller's event loop, unless the caller has been told something already."""
        if self.answered.done():
            return
        if isinstance(outcome, ProblemError):
            self.answered.set_exception(outcome)
        else:
            self.answered.set_result(outcome)


class Shadow:
    """Asks the bundle that nobody is shown. One that takes longer than its budget is left alone for a while."""

    def __init__(self, budget_s: float, pause_s: float) -> None:
        self.budget_s, self.pause_s = budget_s, pause_s
        self._not_before = 0.0

    def ask(self, bundle: LoadedBundle, trips: Sequence[TripRequest]) -> list[Said]:
        """What the bundle says, or for each trip the reason why it was not asked."""
        began = time.monotonic()
        if began < self._not_before:
            return [Said("misbehaved", reason=f"not asked: took over {self.budget_s:g} s just now")] * len(trips)
        said = bundle.answer(trips, self.budget_s)
        if time.monotonic() - began > self.budget_s:
            self._not_before = time.monotonic() + self.pause_s
        return said


@dataclass
class Engine:
    """Answers questions in the order in which they came."""

    conductor: Conductor
    store: FeedStore
    clock: Clock
    metrics: Metrics
    shadow: Shadow
    longest_run_s: float
    seconds_per_trip: float = 0.0  # running mean
    _busy_since: float | None = None
    _questions: SimpleQueue[Question] = field(default_factory=SimpleQueue)

    def ask(self, question: Question) -> None:
        """Take a question in; it is told its answer or a problem in its own event loop."""
        self._questions.put(question)

    def busy_s(self) -> float:
        """Seconds for which the batch in work has been worked on, 0 when there is none."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def run(self, stop: Flag) -> None:
        """The engine's thread: answer until told to stop and nobody waits."""
        with closing(FeedWriter(self.store)) as feed:
            while not (stop.is_set() and self._questions.empty()):
                batch = self._gather()
                if batch:
                    self._busy_since = time.monotonic()
                    outcomes = self._answer(feed, batch)
                    self._learn(sum(len(question.trips) for question in batch))
                    self._busy_since = None
                    batch[0].answered.get_loop().call_soon_threadsafe(_tell, outcomes)

    def _gather(self) -> list[Question]:
        """All who wait, up to the contract's largest batch, as soon as anybody does."""
        try:
            batch = [self._questions.get(timeout=LOOK_AT_STOP_S)]
        except Empty:
            return []
        trips = len(batch[0].trips)
        while trips < LARGEST_BATCH and not self._questions.empty():  # nobody else takes from it
            batch.append(self._questions.get())
            trips += len(batch[-1].trips)
        return batch

    def _learn(self, trips: int) -> None:
        sample = min(self.busy_s() / trips, LONGEST_TRIP_S)
        self.seconds_per_trip += NEWEST_WEIGHS * (sample - self.seconds_per_trip)

    def _answer(self, feed: FeedWriter, batch: Sequence[Question]) -> dict[Question, Outcome]:
        """What becomes of each question: its answer, which is in the feed, or a problem. One fleet answers all."""
        fleet, now = self.conductor.fleet, time.monotonic()
        outcomes: dict[Question, Outcome] = {
            it: unavailable("too-late", "the caller's time was over before its turn came", 1)
            for it in batch
            if it.until <= now
        }
        asked = [it for it in batch if it not in outcomes]
        if "champion" not in fleet.bundles:
            missing = unavailable("no-champion", "no bundle serves yet: wait for the first release, see /v1/rollout", 5)
            return outcomes | dict.fromkeys(asked, missing)
        records: list[tuple[str, str]] = []
        heard = iter(self._hear(fleet, asked))
        for question in asked:
            words = list(islice(heard, len(question.trips)))
            problem = misbehaviour(fleet.bundles["champion"].version, question.trips, words)
            if problem is None:
                why = self._why(fleet, question, words)
                outcomes[question], told = put_together(fleet, question.trips, words, why, question.caller)
                records += told
            else:
                outcomes[question] = problem
        unrecorded = self._record(feed, records)
        if unrecorded is None:
            return outcomes
        return {it: told if isinstance(told, ProblemError) else unrecorded for it, told in outcomes.items()}

    def _hear(self, fleet: Fleet, asked: Sequence[Question]) -> Iterator[Heard]:
        """What the bundles that serve say, trip by trip."""
        trips = [trip for question in asked for trip in question.trips]
        if not trips:
            return
        said: dict[Role, list[Said]] = {"champion": self._champion(fleet.bundles["champion"], asked, trips)}
        other: Role = "challenger" if "challenger" in fleet.bundles else "previous"
        if fleet.rollout.mode == "canary":  # who is shown it is shown it each time, so that it is always asked
            said[other] = fleet.bundles[other].answer(trips, self.longest_run_s)
        elif other in fleet.bundles:
            said[other] = self.shadow.ask(fleet.bundles[other], trips)
        for role, words in said.items():
            for status, count in Counter(it.status for it in words).items():
                self.metrics.estimates.labels(role, status).inc(count)
        for heard in zip(*said.values(), strict=True):
            yield dict(zip(said, heard, strict=True))

    def _champion(self, bundle: LoadedBundle, asked: Sequence[Question], trips: Sequence[TripRequest]) -> list[Said]:
        said = bundle.answer(trips, self.longest_run_s)
        if len(asked) > 1 and any(words.status == "misbehaved" for words in said):
            # One caller's trip on which the graph throws must not cost the others their answers.
            return [words for question in asked for words in bundle.answer(question.trips, self.longest_run_s)]
        return said

    def _record(self, feed: FeedWriter, records: Sequence[tuple[str, str]]) -> ProblemError | None:
        """Commit to the feed. What could not be recorded must not be answered."""
        if not records:
            return None
        try:
            feed.append("estimate.answered", self.clock.now(), records)
        except FeedUnwritable as error:
            log.error("%d estimates could not be recorded; their callers get a 503: %s", len(records), error)
            return unavailable("not-recorded", "the estimates feed cannot be written now: see serving's log", 5)
        return None

    def _why(self, fleet: Fleet, question: Question, heard: Sequence[Heard]) -> list[Explanation | None]:
        """Explanations by the bundles that are shown, where they are asked for and there is something to explain."""
        why: list[Explanation | None] = [None] * len(question.trips)
        if question.with_reasons:
            roles = [shown(fleet, trip.trip_id, words) for trip, words in zip(question.trips, heard, strict=True)]
            for role in dict.fromkeys(roles):
                places = [at for at, it in enumerate(roles) if it == role and heard[at][role].quantiles is not None]
                found = self._explain(fleet.bundles[role], [question.trips[at] for at in places])
                for at, explanation in zip(places, found, strict=True):
                    why[at] = explanation
        return why

    def _explain(self, bundle: LoadedBundle, trips: Sequence[TripRequest]) -> Sequence[Explanation | None]:
        """An explanation per trip, or None: what the bundle can't explain is counted, and costs nobody an estimate."""
        if not trips:
            return []
        found: Sequence[Explanation] | None = None
        try:
            found = bundle.explain(trips, self.longest_run_s)
            status = "no_typical_trip" if found is None else "explained"
        except Unexplained as error:
            log.error("%s; its estimates are answered without explanations", error)
            status = "misbehaved"
        self.metrics.explanations.labels(status).inc(len(trips))
        return [None] * len(trips) if found is None else found


def _tell(outcomes: Mapping[Question, Outcome]) -> None:
    for question, outcome in outcomes.items():
        question.tell(outcome)

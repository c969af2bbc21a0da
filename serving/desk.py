"""The estimates desk: ask the bundles, record what they said, answer."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from chassis.clock import Clock
from chassis.feed_store import Draft
from chassis.problems import ProblemError
from contracts.estimates import Estimate, EstimateAnswered, Explanation, ModelAnswer
from contracts.trips import TripRequest
from serving.bundles import LoadedBundle, Said, Unexplained
from serving.conductor import Conductor, Fleet
from serving.journal import Journal
from serving.metrics import Metrics
from serving.rollout import Role, in_canary

log = logging.getLogger(__name__)


class Shadow:
    """Asks the bundle that nobody is shown, in a thread of its own, and waits no longer than the budget."""

    def __init__(self, budget_s: float) -> None:
        self.budget_s = budget_s
        self._thread = ThreadPoolExecutor(1, "shadow")
        self._late: Future[list[Said]] | None = None

    async def ask(self, bundle: LoadedBundle, trips: Sequence[TripRequest]) -> list[Said]:
        """What the bundle says, or for each trip the reason why it said nothing in time."""
        if self._late is not None and not self._late.done():
            return [Said("misbehaved", reason="still busy with an earlier request")] * len(trips)
        asked = self._thread.submit(bundle.answer, trips)
        done, _ = await asyncio.wait({asyncio.wrap_future(asked)}, timeout=self.budget_s)
        if done:
            return asked.result()
        self._late = asked
        return [Said("misbehaved", reason=f"no answer within {self.budget_s:g} s")] * len(trips)


@dataclass
class EstimateDesk:
    """Answers trips. Its counter of waiting trips is touched by the event loop's thread alone."""

    conductor: Conductor
    journal: Journal
    shadow: Shadow
    clock: Clock
    metrics: Metrics
    most_waiting: int
    waiting: int = 0

    async def answer(self, trips: Sequence[TripRequest], with_reasons: bool = False) -> list[Estimate]:
        """One estimate per trip, in order, each in the feed before it is answered; else a 503 that says why."""
        if self.waiting + len(trips) > self.most_waiting:
            raise _unavailable("queue-full", f"{self.waiting} trips wait already, at most {self.most_waiting} may", 1)
        self.waiting += len(trips)
        fleet = self.conductor.fleet
        try:
            estimates = await self._answer(fleet, trips)
            return self._explained(fleet, trips, estimates) if with_reasons else estimates
        finally:
            self.waiting -= len(trips)

    async def _answer(self, fleet: Fleet, trips: Sequence[TripRequest]) -> list[Estimate]:
        if "champion" not in fleet.bundles:
            raise _unavailable("no-champion", "no bundle serves yet: wait for the first release, see /v1/rollout", 5)
        said: dict[Role, list[Said]] = {"champion": fleet.bundles["champion"].answer(trips)}
        self._count("champion", said["champion"])
        for trip, words in zip(trips, said["champion"], strict=True):
            if words.status == "misbehaved":
                detail = f"bundle {fleet.rollout.champion} on trip {trip.trip_id}: {words.reason}; roll it back"
                raise _unavailable("bundle-misbehaves", detail, 30)
        other: Role = "challenger" if "challenger" in fleet.bundles else "previous"
        if other in fleet.bundles:
            said[other] = await self.shadow.ask(fleet.bundles[other], trips)
            self._count(other, said[other])
        estimates, records = put_together(fleet, trips, said)
        now = self.clock.now()
        await self.journal.write([Draft("estimate.answered", now, it.trip.trip_id, it) for it in records])
        return estimates

    def _explained(self, fleet: Fleet, trips: Sequence[TripRequest], estimates: Sequence[Estimate]) -> list[Estimate]:
        """The estimates with explanations by the bundles that were shown, where there is something to explain."""
        told = list(estimates)
        for bundle in fleet.bundles.values():
            estimated = ((place, it) for place, it in enumerate(estimates) if it.quantiles is not None)
            places = [place for place, it in estimated if it.bundle_version == bundle.version]
            for place, explanation in zip(places, self._explain(bundle, [trips[it] for it in places]), strict=True):
                told[place] = told[place].model_copy(update={"explanation": explanation})
        return told

    def _explain(self, bundle: LoadedBundle, trips: Sequence[TripRequest]) -> Sequence[Explanation | None]:
        """An explanation per trip, or None: what the bundle can't explain is counted, and costs nobody an estimate."""
        if not trips:
            return []
        found: Sequence[Explanation] | None = None
        try:
            found = bundle.explain(trips)
            status = "no_typical_trip" if found is None else "explained"
        except Unexplained as error:
            log.error("%s; its estimates are answered without explanations", error)
            status = "misbehaved"
        self.metrics.explanations.labels(status).inc(len(trips))
        return [None] * len(trips) if found is None else found

    def _count(self, role: Role, said: Sequence[Said]) -> None:
        for status, trips in Counter(words.status for words in said).items():
            self.metrics.estimates.labels(role, status).inc(trips)


def put_together(
    fleet: Fleet, trips: Sequence[TripRequest], said: Mapping[Role, Sequence[Said]]
) -> tuple[list[Estimate], list[EstimateAnswered]]:
    """What callers get and what the feed tells of it, one of each per trip.

    A canary trip is shown the challenger's quantiles; where it has none, the champion's answer as everybody else.
    """
    rollout, estimates, records = fleet.rollout, [], []
    for place, trip in enumerate(trips):
        heard = {role: words[place] for role, words in said.items()}
        canary = rollout.mode == "canary" and in_canary(trip.trip_id, rollout.canary_share)
        shown: Role = "challenger" if canary and heard["challenger"].quantiles is not None else "champion"
        estimate = Estimate(
            estimate_id=uuid.uuid4().hex,
            trip_id=trip.trip_id,
            bundle_version=fleet.bundles[shown].version,
            status="out_of_scope" if heard[shown].quantiles is None else "estimated",
            quantiles=heard[shown].quantiles,
            reason=heard[shown].reason,
        )
        answers = [
            ModelAnswer(
                role=role, bundle_version=fleet.bundles[role].version, quantiles=words.quantiles, reason=words.reason
            )
            for role, words in heard.items()
        ]
        estimates.append(estimate)
        records.append(
            EstimateAnswered(
                estimate_id=estimate.estimate_id, trip=trip, shown=estimate.bundle_version, answers=answers
            )
        )
    return estimates, records


def _unavailable(slug: str, detail: str, retry_after_s: float) -> ProblemError:
    """The request was good; another time or a fallback will do."""
    return ProblemError(503, slug, detail, retry_after_s=retry_after_s)

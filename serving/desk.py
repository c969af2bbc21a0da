"""The estimates desk: ask the bundles, record what they said, answer."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from chassis.feed_store import Draft
from contracts.clock import Clock
from contracts.estimates import Estimate, EstimateAnswered, ModelAnswer
from contracts.problems import TandemError
from contracts.trips import TripRequest
from serving.bundles import LoadedBundle, Said
from serving.conductor import Conductor, Fleet, Role
from serving.journal import Journal
from serving.metrics import Metrics
from serving.rollout import in_canary


class NoChampion(TandemError):
    """No bundle may answer customers yet."""


class QueueFull(TandemError):
    """More trips wait than can be answered soon."""


class BundleMisbehaves(TandemError):
    """The champion answered something that must not reach a customer."""


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


class EstimateDesk:
    """Answers trips. Its counter of waiting trips is touched by the event loop's thread alone."""

    def __init__(
        self,
        conductor: Conductor,
        journal: Journal,
        shadow: Shadow,
        clock: Clock,
        metrics: Metrics,
        most_waiting: int,
    ) -> None:
        self.conductor, self.journal, self.shadow = conductor, journal, shadow
        self.clock, self.metrics, self.most_waiting = clock, metrics, most_waiting
        self.waiting = 0
        metrics.waiting.set_function(lambda: self.waiting)

    async def answer(self, trips: Sequence[TripRequest]) -> list[Estimate]:
        """One estimate per trip, in order, each recorded in the feed before it is answered.

        Raises `NoChampion`, `QueueFull`, `BundleMisbehaves` or `NotRecorded`.
        """
        if self.waiting + len(trips) > self.most_waiting:
            raise QueueFull(f"{self.waiting} trips wait already, at most {self.most_waiting} may: try again shortly")
        self.waiting += len(trips)
        try:
            return await self._answer(self.conductor.fleet, trips)
        finally:
            self.waiting -= len(trips)

    async def _answer(self, fleet: Fleet, trips: Sequence[TripRequest]) -> list[Estimate]:
        champion = fleet.bundles.get("champion")
        if champion is None:
            raise NoChampion("no bundle serves yet: wait for the first release, see /v1/rollout")
        said: dict[Role, list[Said]] = {"champion": champion.answer(trips)}
        self._count("champion", said["champion"])
        for trip, words in zip(trips, said["champion"], strict=True):
            if words.status == "misbehaved":
                raise BundleMisbehaves(
                    f"bundle {champion.version} on trip {trip.trip_id}: {words.reason}; roll back and see its evidence"
                )
        if fleet.shadow is not None:
            role, bundle = fleet.shadow
            said[role] = await self.shadow.ask(bundle, trips)
            self._count(role, said[role])
        estimates, records = put_together(fleet, trips, said)
        now = self.clock.now()
        await self.journal.write([Draft("estimate.answered", now, it.trip.trip_id, it) for it in records])
        return estimates

    def _count(self, role: Role, said: Sequence[Said]) -> None:
        for status, trips in Counter(words.status for words in said).items():
            self.metrics.estimates.labels(role, status).inc(trips)


def put_together(
    fleet: Fleet, trips: Sequence[TripRequest], said: Mapping[Role, Sequence[Said]]
) -> tuple[list[Estimate], list[EstimateAnswered]]:
    """What callers get and what the feed tells of it, one of each per trip.

    A canary trip is shown the challenger's quantiles; where it has none, the champion's answer as everybody else.
    """
    estimates, records = [], []
    for place, trip in enumerate(trips):
        shown: Role = "champion"
        if fleet.rollout.mode == "canary" and in_canary(trip.trip_id, fleet.rollout.canary_share):
            shown = "challenger" if said["challenger"][place].quantiles is not None else "champion"
        words = said[shown][place]
        estimate = Estimate(
            estimate_id=uuid.uuid4().hex,
            trip_id=trip.trip_id,
            bundle_version=fleet.bundles[shown].version,
            status="estimated" if words.quantiles is not None else "out_of_scope",
            quantiles=words.quantiles,
            reason=words.reason,
        )
        answers = [
            ModelAnswer(
                role=role,
                bundle_version=fleet.bundles[role].version,
                quantiles=spoken[place].quantiles,
                reason=spoken[place].reason,
            )
            for role, spoken in said.items()
        ]
        records.append(
            EstimateAnswered(
                estimate_id=estimate.estimate_id, trip=trip, shown=estimate.bundle_version, answers=answers
            )
        )
        estimates.append(estimate)
    return estimates, records

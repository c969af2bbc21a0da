"""Recorded feeds for tests: a small city seen only through the events that the other teams would publish.

Trips last a lognormal time around what zone and distance say; a champion that knew the city before any incident
answers each quote, a challenger may answer beside it. Events carry city time and appear when the test says so.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import NormalDist

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from sqlalchemy import MetaData, text

from chassis.databases import open_database
from chassis.feed_routes import feed_routes
from chassis.feed_store import Draft, FeedStore
from chassis.service import make_app
from contracts.bundle import BundleRefused, BundleReleased, Evidence, Lineage, Manifest, PromiseLevel, Scope, Slice
from contracts.estimates import EstimateAnswered, ModelAnswer, Quantiles, Rollout, RolloutChanged
from contracts.feeds import TripBooked, TripQuoted
from contracts.snapshots import BatchJudged, SnapshotMade
from contracts.trips import CompletedTrip, TripRequest
from tests.servers import running

LIVE = datetime(2026, 6, 1, 5, tzinfo=UTC)  # Monday 07:00 in the city
ZONES = {zone: ("harbour", "old town", "hills", "west")[zone % 4] for zone in range(1, 25)}
SPREAD = 0.35  # sd of log duration
Z90 = NormalDist().inv_cdf(0.9)
FEEDS = ("trips", "estimates", "rollout", "snapshots", "bundles")


def spread_around(median: float, width: float = SPREAD) -> Quantiles:
    return Quantiles(p10_min=median * math.exp(-width * Z90), p50_min=median, p90_min=median * math.exp(width * Z90))


@dataclass
class RecordedCity:
    """Draws events, hour by hour. The bridge closes and miles begin `at` hours after LIVE, where set."""

    seed: int = 1
    per_minute: float = 2.0
    bridge_closed_h: float = math.inf
    slowdown: float = 1.45
    miles_h: float = math.inf
    miles_end_h: float = math.inf
    lost_estimates: float = 0.0
    audit_share: float = 0.05
    longest_thought_min: float = 0.0  # customers book after up to so long; 0: all after a minute
    challenger: str | None = None
    challenger_from_h: float = math.inf
    challenger_knows_bridge: float = 1.0  # 1: all of the slowdown, 0: nothing of it
    challenger_noise: float = 0.0
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def events(self, hours: float) -> list[tuple[datetime, str, Draft]]:
        """Everything published in these first hours, in order of time."""
        drafts: list[tuple[datetime, str, Draft]] = []
        minute, number = 0.0, 0
        while (minute := minute + self.rng.expovariate(self.per_minute)) < hours * 60:
            number += 1
            drafts += self._trip(f"t{number}", LIVE + timedelta(minutes=minute))
        drafts.sort(key=lambda item: item[0])
        drafts += self._batches(drafts, hours)
        until = LIVE + timedelta(hours=hours)
        return sorted((item for item in drafts if item[0] <= until), key=lambda item: item[0])

    def _hours(self, at: datetime) -> float:
        return (at - LIVE) / timedelta(hours=1)

    def _trip(self, trip_id: str, at: datetime) -> Iterator[tuple[datetime, str, Draft]]:
        rng = self.rng
        pickup, dropoff = rng.randint(1, 24), rng.randint(1, 24)
        crosses = (pickup <= 20) != (dropoff <= 20)
        km = round(rng.lognormvariate(1.3, 0.5), 3)
        hours = self._hours(at)
        slow = self.slowdown if crosses and hours >= self.bridge_closed_h else 1.0
        in_miles = self.miles_h <= hours < self.miles_end_h
        shown_km = km / 1.609 if in_miles else km
        minutes = (6 + 3 * km) * slow * math.exp(SPREAD * rng.gauss(0, 1))
        champion = spread_around(6 + 3 * shown_km)
        request = TripRequest(
            trip_id=trip_id,
            requested_at=at,
            pickup_zone=pickup,
            dropoff_zone=dropoff,
            distance_km=shown_km,
            vehicle="bike",
        )
        answers = [ModelAnswer(role="champion", bundle_version="v1", quantiles=champion)]
        noise = math.exp(self.challenger_noise * rng.gauss(0, 1))
        if self.challenger is not None and hours >= self.challenger_from_h:
            rival = spread_around((6 + 3 * shown_km) * slow**self.challenger_knows_bridge * noise)
            answers.append(ModelAnswer(role="challenger", bundle_version=self.challenger, quantiles=rival))
        estimate_id, audit = f"e-{trip_id}", rng.random() < self.audit_share
        source = "fallback" if audit else "model"
        quote = TripQuoted(
            trip=request, source=source, shown=champion, estimate_id=estimate_id, bundle_version="v1",
            model_quantiles=champion, promised_min=champion.p90_min, price_eur=9.0, audit=audit,
            audit_share=self.audit_share,
        )  # fmt: skip
        if rng.random() >= self.lost_estimates:
            said = EstimateAnswered(estimate_id=estimate_id, trip=request, shown="v1", answers=answers)
            yield at, "estimates", Draft("estimate.answered", at, trip_id, said)
        yield at, "trips", Draft("trip.quoted", at, trip_id, quote)
        if rng.random() < 0.2:
            return  # the customer did not like the promise
        booked = at + timedelta(minutes=rng.uniform(0, self.longest_thought_min) if self.longest_thought_min else 1)
        promised = booked + timedelta(minutes=champion.p90_min)
        booking = TripBooked(trip_id=trip_id, booked_at=booked, promised_by=promised)
        yield booked, "trips", Draft("trip.booked", booked, trip_id, booking)
        outcome = rng.choices(("delivered", "cancelled", "lost"), (0.96, 0.03, 0.01))[0]
        ended = booked + timedelta(minutes=minutes)
        completed = CompletedTrip(
            **request.model_dump(), booked_at=booked, ended_at=ended, outcome=outcome,
            duration_min=(ended - booked) / timedelta(minutes=1) if outcome == "delivered" else None,
            source=source, estimate_id=estimate_id, bundle_version="v1", **champion.model_dump(), promised_by=promised,
            audit=audit,
        )  # fmt: skip
        yield ended, "trips", Draft(f"trip.{outcome}", ended, trip_id, completed)

    def _batches(
        self, drafts: list[tuple[datetime, str, Draft]], hours: float
    ) -> Iterator[tuple[datetime, str, Draft]]:
        """Data judges the trips that ended in each quarter of an hour; one with miles in it is refused whole."""
        judged: dict[int, list[CompletedTrip]] = defaultdict(list)
        for when, _, draft in drafts:
            if isinstance(draft.data, CompletedTrip):
                judged[math.ceil((when - LIVE) / timedelta(minutes=15))].append(draft.data)
        for quarter in range(1, int(hours * 4) + 1):
            at, ends = LIVE + timedelta(minutes=15 * quarter), judged[quarter]
            if ends:
                asked = sorted(trip.requested_at for trip in ends)
                bad = sum(self.miles_h <= self._hours(when) < self.miles_end_h for when in asked) > len(ends) * 0.3
                batch = BatchJudged(
                    batch_id=f"b{quarter}",
                    rows_accepted=0 if bad else len(ends), rows_quarantined=len(ends) if bad else 0,
                    reasons={"median_route_ratio": len(ends)} if bad else {},
                    detail="routes shorter than the crow flies" if bad else "",
                    first_requested_at=asked[0], last_requested_at=asked[-1], missing_share={"rain_mm_h": 0.0},
                )  # fmt: skip
                kind = "batch.quarantined" if bad else "batch.accepted"
                yield at, "snapshots", Draft(kind, at, batch.batch_id, batch)


def snapshot(at: datetime, decision_id: str | None = None) -> tuple[datetime, str, Draft]:
    made = SnapshotMade(
        digest="d" * 64, source="city", time_zone="Europe/Berlin", rows=1000,
        first_requested_at=at, last_requested_at=at,
        decision_id=decision_id, rows_since_change=1000, zone_groups=ZONES,
    )  # fmt: skip
    return at, "snapshots", Draft("snapshot.made", at, made.digest, made)


def promise_levels(median: float = 20) -> list[PromiseLevel]:
    """From half of the parcels late to one in a hundred, as trips with this median and the city's spread have it."""
    stretches = [step / 20 for step in range(37)]
    return [
        PromiseLevel(
            stretch=stretch,
            promised_min=median * math.exp(stretch * SPREAD * Z90),
            late_share=1 - NormalDist().cdf(stretch * Z90),
        )
        for stretch in stretches
    ]


def release(
    at: datetime, version: str, decision_id: str | None = None, levels: list[PromiseLevel] | None = None
) -> tuple[datetime, str, Draft]:
    """A released bundle, with promise levels of its own unless told which."""
    part = Slice(
        rows=5000, pinball_min=2.0, heuristic_pinball_min=3.0, coverage_p90=0.9, coverage_band=0.8, mean_p50_min=20
    )
    evidence = Evidence(
        test_rows=5000, test_from=at - timedelta(days=14), test_to=at, overall=part,
        zone_groups=dict.fromkeys(ZONES.values(), part),
        training_s=10, bundle_bytes=10, onnx_matches_torch_min=0, gate=[],
        promise_levels=promise_levels() if levels is None else levels,
    )  # fmt: skip
    lineage = Lineage(code_revision="r", snapshot_digest="d", seed=1, libraries={})
    manifest = Manifest(
        version=version, contract_fingerprint="f", time_zone="Europe/Berlin", lineage=lineage, trained_at=at,
        scope=Scope(zones=list(ZONES), vehicles=["bike"], min_distance_km=0.1, max_distance_km=90),
        above_p90_reference=[0.1] * 168, below_p10_reference=[0.1] * 168,
    )  # fmt: skip
    made = BundleReleased(
        version=version, checksums_sha256="c", decision_id=decision_id, manifest=manifest, evidence=evidence
    )
    return at, "bundles", Draft("bundle.released", at, version, made)


def refusal(at: datetime, decision_id: str, reason: str) -> tuple[datetime, str, Draft]:
    return (
        at,
        "bundles",
        Draft("bundle.refused", at, decision_id, BundleRefused(decision_id=decision_id, reasons=[reason])),
    )


def rollout(at: datetime, before: Rollout, after: Rollout) -> tuple[datetime, str, Draft]:
    change = RolloutChanged(before=before, after=after, cause="test", reason="test", at=at)
    return at, "rollout", Draft("rollout.changed", at, "rollout", change)


def with_champion(since: datetime = LIVE - timedelta(hours=3)) -> list[tuple[datetime, str, Draft]]:
    """A city that has been running: a snapshot, a released bundle, a champion."""
    return [snapshot(since), release(since, "v1"), rollout(since, Rollout(), Rollout(champion="v1"))]


def history(ends: int) -> list[tuple[datetime, str, Draft]]:
    """The ends of trips from before the live clock, shown the fallback's promise, as product imports them."""
    shown = spread_around(20)
    drafts = []
    for number in range(ends):
        ended = LIVE - timedelta(minutes=0.5 * (ends - number))
        booked = ended - timedelta(minutes=20)
        trip = CompletedTrip(
            trip_id=f"h{number}", requested_at=booked, pickup_zone=1, dropoff_zone=2, distance_km=4, vehicle="bike",
            booked_at=booked, ended_at=ended, outcome="delivered", duration_min=20, source="fallback",
            promised_by=booked + timedelta(minutes=35), **shown.model_dump(),
        )  # fmt: skip
        drafts.append((ended, "trips", Draft("trip.delivered", ended, trip.trip_id, trip)))
    return drafts


class Feeds:
    """All followed feeds behind one address; events appear up to the instant that the test asks for."""

    def __init__(self, path, events: list[tuple[datetime, str, Draft]]) -> None:
        metadata = MetaData()
        self.engine = open_database(f"sqlite:///{path}", metadata)
        with self.engine.begin() as tx:
            tx.execute(text("PRAGMA cache_size=-20000"))
        self.stores = {feed: FeedStore(self.engine, feed) for feed in FEEDS}
        self.waiting = [(at, order, feed, draft) for order, (at, feed, draft) in enumerate(events)]
        heapq.heapify(self.waiting)
        self.order = len(events)

    def add(self, *events: tuple[datetime, str, Draft]) -> None:
        for at, feed, draft in events:
            self.order += 1
            heapq.heappush(self.waiting, (at, self.order, feed, draft))

    def publish(self, until: datetime, frozen: frozenset[str] = frozenset()) -> None:
        """Make events up to an instant visible; a frozen feed publishes nothing and keeps what it has."""
        due: dict[str, list[Draft]] = {}
        kept = []
        while self.waiting and self.waiting[0][0] <= until:
            item = heapq.heappop(self.waiting)
            kept.append(item) if item[2] in frozen else due.setdefault(item[2], []).append(item[3])
        for item in kept:
            heapq.heappush(self.waiting, item)
        with self.engine.begin() as tx:
            for feed, drafts in due.items():
                self.stores[feed].append(tx, drafts)

    def app(self) -> FastAPI:
        app = make_app("recorded", CollectorRegistry(), ready=lambda: None)
        app.include_router(feed_routes(*self.stores.values()))
        return app

    @contextmanager
    def served(self) -> Iterator[str]:
        with running(self.app()) as url:
            yield url

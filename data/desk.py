"""Intake as it happens: events come in; verdicts, files and snapshots go out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import polars as pl
from prometheus_client import CollectorRegistry, Counter
from sqlalchemy import Connection

from chassis.clock import Clock
from chassis.feed_store import Draft
from chassis.sql import reading
from contracts import measurements
from contracts.decisions import Decision
from contracts.feeds import TRIP_ENDS, Event
from contracts.measurements import Measurement
from contracts.requirements import Requirements
from data.batch_rules import ZoneReference
from data.book import Book, Ended
from data.intake import Intake
from data.lake import Lake
from data.quarantine import Quarantine
from data.settings import Settings
from data.snapshots import Cutter, NothingToCut

log = logging.getLogger("data")
LARGEST_BATCH = 5000
ROWS_TO_LEARN_FROM = 1000  # the median detour of so many trips is known within a percent


@dataclass
class Desk:
    """What a batch and a decision pass through. Its handlers belong to followers of trips and decisions."""

    book: Book
    lake: Lake
    quarantine: Quarantine
    cutter: Cutter
    reference: ZoneReference
    settings: Settings
    clock: Clock
    record: Requirements
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.accepted = Counter("tandem_data_rows_accepted", "Trips accepted into the lake", registry=self.registry)
        self.refused = Counter(
            "tandem_data_rows_quarantined", "Trips quarantined, by the rule broken", ["rule"], registry=self.registry
        )

    def recover(self) -> None:
        """Remove files of batches whose verdict never committed: their events come again."""
        with reading(self.book.engine) as tx:
            committed = self.book.accepted(tx)
        self.lake.keep_only(committed)
        self.quarantine.keep_only(committed)

    def take(self, tx: Connection, events: Sequence[Event]) -> None:
        """Handler of the trips feed: ended trips wait for their batch; a full batch is judged at once."""
        ended = [(int(event.id), event.data) for event in events if event.type in TRIP_ENDS]
        waiting, _ = self.book.count_waiting(tx)
        if waiting + len(ended) >= LARGEST_BATCH:
            self._judge(tx, self.book.take_waiting(tx) + ended)
        elif ended:
            self.book.wait(tx, ended, self.clock.now().timestamp())

    def close_window(self) -> None:
        """Judge what waits, once the window of city time in which the first of it arrived is over."""
        with reading(self.book.engine) as tx:
            _, first = self.book.count_waiting(tx)
        window_s = 60 * self.record.policy.cohort_min  # a batch covers as much time as monitoring's cohorts
        if first is not None and first // window_s < self.clock.now().timestamp() // window_s:
            self.judge_waiting()

    def judge_waiting(self) -> None:
        """Judge what waits now."""
        with self.book.engine.begin() as tx:
            self._judge(tx, self.book.take_waiting(tx))

    def note(self, tx: Connection, events: Sequence[Event]) -> None:
        """Handler of the decisions feed: a retraining orders a snapshot."""
        for event in events:
            if event.type == "decision.made" and event.data.get("kind") == "retrain":
                self.book.order(tx, Decision.model_validate(event.data))

    def fulfil(self, drain_trips: Callable[[], object]) -> None:
        """Cut and publish the snapshots that were ordered. One that has no rows yet stays ordered."""
        with reading(self.book.engine) as tx:
            orders = self.book.open_orders(tx)
        for decision in orders:
            drain_trips()
            self.judge_waiting()
            closed = decision.at - timedelta(minutes=self.record.policy.closing_min)
            try:
                trips, refused = self.accepted_before(closed), self.rows_quarantined()
                made = self.cutter.cut(trips, decision.decision_id, decision.change_at, refused)
            except NothingToCut as error:
                log.warning("decision %s: %s; it stays ordered", decision.decision_id, error)
                continue
            with self.book.engine.begin() as tx:
                self.book.snapshots.append(tx, [Draft("snapshot.made", self.clock.now(), made.digest, made)])
                self.book.fulfilled(tx, decision.decision_id, made.digest)
            log.info("snapshot %s: %d rows for decision %s", made.digest[:12], made.rows, decision.decision_id)

    def accepted_before(self, instant: datetime | None) -> pl.DataFrame:
        """Accepted rows booked before an instant (None: all). Quick outcomes come first, so a cut through trips that
        may still be under way would make them look quicker than they are."""
        with reading(self.book.engine) as tx:
            batches = self.book.accepted(tx)
        trips = self.lake.read(batches)
        return trips if instant is None else trips.filter(pl.col("booked_at") < instant.astimezone(UTC))

    def rows_quarantined(self) -> int:
        """Rows refused so far."""
        with reading(self.book.engine) as tx:
            return self.book.quarantined(tx)

    def _judge(self, tx: Connection, ended: Sequence[Ended]) -> None:
        for start in range(0, len(ended), LARGEST_BATCH):
            self._judge_batch(tx, ended[start : start + LARGEST_BATCH])

    def _judge_batch(self, tx: Connection, ended: Sequence[Ended]) -> None:
        """Judge one batch and tell of it. Files come first: a crash before the commit leaves only files that no
        verdict speaks of, and `recover` removes them."""
        self._learn(tx)
        now, rows = self.clock.now(), [row for _, row in ended]
        batch_id = f"{ended[0][0]:09d}-{ended[-1][0]:09d}"
        limit = self.record["route-ratio"]
        intake = Intake(self.reference, limit, now)
        verdict = intake.judge(batch_id, rows, lambda trip_ids: self.book.known(tx, trip_ids))
        self.lake.write(batch_id, verdict.accepted)
        self.quarantine.write(batch_id, verdict.refused)
        judged = verdict.judged
        self.book.record(tx, judged, verdict.accepted["trip_id"].to_list())
        self.book.snapshots.append(tx, [Draft(verdict.event_type, now, batch_id, judged)])
        if verdict.ratio is not None:
            passed = limit.id not in judged.reasons
            measurements.keep(
                [Measurement.of(limit.id, "intake", verdict.ratio, passed, f"batch {batch_id}")], self.settings.measured
            )
        self.accepted.inc(judged.rows_accepted)
        for rule, count in judged.reasons.items():
            self.refused.labels(rule).inc(count)
        if judged.rows_quarantined:
            log.warning("batch %s: quarantined %s %s", batch_id, judged.reasons, judged.detail)

    def _learn(self, tx: Connection) -> None:
        """Learn the city's detour once, from the first accepted trips."""
        if self.reference.detour is None:
            accepted = self.book.accepted(tx)
            if sum(accepted.values()) >= ROWS_TO_LEARN_FROM:
                self.reference = self.reference.learn(self.lake.read(accepted))
                self.reference.save(self.settings.zone_reference)

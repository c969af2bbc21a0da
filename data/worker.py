"""The data service: takes trips in from product's feed, judges them in batches, cuts snapshots when told to retrain.

`python -m data.worker` follows the feeds trips and decisions and serves the feed snapshots.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Event as Flag
from typing import Any

import httpx
import polars as pl
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)

from chassis.databases import open_database, reading
from chassis.feed_routes import feed_routes
from chassis.feed_store import Draft, FeedStore, feed_tables
from chassis.followers import Follower, cursor_table
from chassis.service import listen, log_to_stderr, make_app
from contracts.clock import Clock
from contracts.decisions import Decision
from contracts.feeds import TRIP_ENDS, Event
from contracts.requirements import Requirements, load
from contracts.snapshots import SnapshotZone
from data.batch_rules import ZoneReference
from data.city.dice import Dice
from data.city.streets import Streets
from data.intake import Intake
from data.lake import Lake
from data.quarantine import Quarantine
from data.settings import Settings
from data.snapshots import Cutter, NothingToCut

log = logging.getLogger("data")
LARGEST_BATCH = 5000
ROWS_TO_LEARN_FROM = 1000  # the median detour of so many trips is known within a percent
PAUSE_S = 0.5  # wall seconds between two looks at the feeds when nothing waits there


class Book:
    """Data's own database: what waits, what was judged, which trips are in, which snapshots were asked for."""

    def __init__(self, url: str) -> None:
        metadata = MetaData()
        feed_tables(metadata)
        self.cursors = cursor_table(metadata)
        self.waiting = Table(
            "waiting",
            metadata,
            Column("event_id", BigInteger, primary_key=True),
            Column("arrived", Float, nullable=False),  # city time, seconds since the epoch
            Column("row", Text, nullable=False),
        )
        self.batches = Table(
            "batches",
            metadata,
            Column("batch_id", String(40), primary_key=True),
            Column("rows_accepted", Integer, nullable=False),
            Column("rows_quarantined", Integer, nullable=False),
        )
        self.trips = Table("trips", metadata, Column("trip_id", String(64), primary_key=True))
        self.orders = Table(
            "orders",
            metadata,
            Column("decision_id", String(200), primary_key=True),
            Column("decision", Text, nullable=False),
            Column("digest", String(64)),
        )
        self.engine: Engine = open_database(url, metadata)
        self.snapshots = FeedStore(self.engine, "snapshots", metadata)

    def accepted(self, tx: Connection) -> dict[str, int]:
        """Rows accepted, by batch."""
        query = select(self.batches.c.batch_id, self.batches.c.rows_accepted)
        return {row.batch_id: row.rows_accepted for row in tx.execute(query)}


@dataclass
class Desk:
    """Intake as it happens: events come in, verdicts, files and snapshots go out."""

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
        waiting = tx.execute(select(func.count()).select_from(self.book.waiting)).scalar_one()
        if waiting + len(ended) >= LARGEST_BATCH:
            self._judge(tx, self._waiting(tx) + ended)
        elif ended:
            arrived = self.clock.now().timestamp()
            rows = [{"event_id": number, "arrived": arrived, "row": json.dumps(row)} for number, row in ended]
            tx.execute(insert(self.book.waiting), rows)

    def close_window(self) -> None:
        """Judge what waits, once the window of city time in which the first of it arrived is over."""
        with reading(self.book.engine) as tx:
            first = tx.execute(select(func.min(self.book.waiting.c.arrived))).scalar()
        window_s = 60 * self.record.policy.cohort_min  # a batch covers as much time as monitoring's cohorts
        if first is not None and first // window_s < self.clock.now().timestamp() // window_s:
            self.judge_waiting()

    def judge_waiting(self) -> None:
        """Judge what waits now."""
        with self.book.engine.begin() as tx:
            self._judge(tx, self._waiting(tx))

    def note(self, tx: Connection, events: Sequence[Event]) -> None:
        """Handler of the decisions feed: a retraining orders a snapshot, once per decision."""
        for event in events:
            if event.type != "decision.made" or event.data.get("kind") != "retrain":
                continue
            decision = Decision.model_validate(event.data)
            known = select(self.book.orders.c.decision_id).where(self.book.orders.c.decision_id == decision.decision_id)
            if tx.execute(known).first() is None:
                row = {"decision_id": decision.decision_id, "decision": decision.model_dump_json()}
                tx.execute(insert(self.book.orders).values(row))

    def fulfil(self, drain_trips: Callable[[], object]) -> None:
        """Cut and publish the snapshots that were ordered. One that has no rows yet stays ordered."""
        orders = self.book.orders
        with reading(self.book.engine) as tx:
            open_orders = list(tx.execute(select(orders.c.decision).where(orders.c.digest.is_(None))).scalars())
        for text in open_orders:
            decision = Decision.model_validate_json(text)
            drain_trips()
            self.judge_waiting()
            closed = decision.at - timedelta(minutes=self.record.policy.closing_min)
            try:
                made = self.cutter.cut(self.accepted_before(closed), decision.decision_id, decision.change_at)
            except NothingToCut as error:
                log.warning("decision %s: %s; it stays ordered", decision.decision_id, error)
                continue
            with self.book.engine.begin() as tx:
                draft = Draft("snapshot.made", self.clock.now(), made.digest, made)
                self.book.snapshots.append(tx, [draft])
                mine = orders.c.decision_id == decision.decision_id
                tx.execute(update(orders).where(mine).values(digest=made.digest))
            log.info("snapshot %s: %d rows for decision %s", made.digest[:12], made.rows, decision.decision_id)

    def accepted_before(self, instant: datetime | None) -> pl.DataFrame:
        """Accepted rows asked for before an instant (None: all). Quick outcomes come first, so a cut through trips
        that may still be under way would make them look quicker than they are."""
        with reading(self.book.engine) as tx:
            batches = self.book.accepted(tx)
        trips = self.lake.read(batches)
        return trips if instant is None else trips.filter(pl.col("requested_at") < instant.astimezone(UTC))

    def _waiting(self, tx: Connection) -> list[tuple[int, dict[str, Any]]]:
        query = select(self.book.waiting.c.event_id, self.book.waiting.c.row).order_by(self.book.waiting.c.event_id)
        return [(number, json.loads(row)) for number, row in tx.execute(query)]

    def _judge(self, tx: Connection, ended: Sequence[tuple[int, dict[str, Any]]]) -> None:
        """Judge rows in batches and tell of each. Files come first: a crash before the commit leaves only files that
        no verdict speaks of, and `recover` removes them."""
        for start in range(0, len(ended), LARGEST_BATCH):
            self._judge_batch(tx, ended[start : start + LARGEST_BATCH])
        tx.execute(delete(self.book.waiting))

    def _judge_batch(self, tx: Connection, ended: Sequence[tuple[int, dict[str, Any]]]) -> None:
        self._learn(tx)
        book, now = self.book, self.clock.now()
        rows = [row for _, row in ended]
        ids = [row["trip_id"] for row in rows if isinstance(row.get("trip_id"), str)]
        known = set(tx.execute(select(book.trips.c.trip_id).where(book.trips.c.trip_id.in_(ids))).scalars())
        batch_id = f"{ended[0][0]:09d}-{ended[-1][0]:09d}"
        verdict = Intake(self.reference, self.record["route-ratio"], now).judge(batch_id, rows, known)
        self.lake.write(batch_id, verdict.accepted)
        self.quarantine.write(batch_id, verdict.refused)
        if verdict.accepted.height:
            tx.execute(insert(book.trips), verdict.accepted.select("trip_id").to_dicts())
        judged = verdict.judged
        counts = {"rows_accepted": judged.rows_accepted, "rows_quarantined": judged.rows_quarantined}
        tx.execute(insert(book.batches).values(batch_id=batch_id, **counts))
        book.snapshots.append(tx, [Draft(verdict.event_type, now, batch_id, judged)])
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


def city_zones(seed: int) -> list[SnapshotZone]:
    """Data's own record of the reference city's zones: not what the conditions feed says, whose sender may err."""
    zones = Streets(Dice(seed)).published().zones
    return [SnapshotZone(**zone.model_dump(include=set(SnapshotZone.model_fields))) for zone in zones]


def build(settings: Settings) -> Desk:
    """The desk over the city's lake and data's database."""
    clock, zones = Clock.load(settings.clock_file), city_zones(settings.city_seed)
    return Desk(
        Book(settings.database_url("data")),
        Lake(settings.lake),
        Quarantine(settings.quarantine),
        Cutter(settings.snapshots, "city", clock.time_zone, zones),
        ZoneReference(tuple(zones)).kept(settings.zone_reference),
        settings,
        clock,
        load(),
    )


class Worker:
    """Follows trips and decisions in one thread: a snapshot is cut when no batch is half done."""

    def __init__(self, desk: Desk) -> None:
        self.desk, book, settings = desk, desk.book, desk.settings
        self.trips = Follower(settings.url("product"), "trips", book.engine, book.cursors, desk.take)
        self.decisions = Follower(settings.url("monitoring"), "decisions", book.engine, book.cursors, desk.note)
        self.away: dict[str, str] = {"trips": "not asked yet"}

    def ready(self) -> str | None:
        """Why the service isn't ready: trips come in only through product."""
        return f"the trips feed is away: {self.away['trips']}" if "trips" in self.away else None

    def work(self, stop: Flag) -> None:
        """Follow until told to stop. A feed that is away is asked again; what it owes is done when it answers."""
        while not stop.is_set():
            self._asked("decisions", self.decisions.step)
            more = self._asked("trips", self._take_trips)
            self.desk.close_window()
            if not more or self.trips.caught_up:
                stop.wait(PAUSE_S)

    def _take_trips(self) -> int:
        taken = self.trips.step()
        self.desk.fulfil(self.trips.drain)
        return taken

    def _asked(self, feed: str, ask: Callable[[], object]) -> bool:
        """Ask a feed; whether it answered with anything. Logs when it goes and when it comes back."""
        try:
            answer = ask()
        except httpx.HTTPError as error:
            if self.away.get(feed) != str(error):
                log.warning("feed %s is away: %s", feed, error)
            self.away[feed] = str(error)
            return False
        if self.away.pop(feed, None) is not None:
            log.info("feed %s answers", feed)
        return bool(answer)


def service(worker: Worker) -> FastAPI:
    """The app: snapshots feed, health, metrics, with the worker beside it."""
    app = make_app("data", worker.desk.registry, worker.ready, {"intake": worker.work})
    app.include_router(feed_routes(worker.desk.book.snapshots))
    return app


def main() -> None:
    """Run the service."""
    log_to_stderr("data")
    settings = Settings()
    desk = build(settings)
    desk.recover()
    listen(service(Worker(desk)), settings.bind, settings.port("data"), "data")


if __name__ == "__main__":
    main()

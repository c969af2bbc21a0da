"""Data's own database: what waits, what was judged, which trips are in, which snapshots were asked for."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from chassis.databases import open_database
from chassis.feed_store import FeedStore
from contracts.decisions import Decision
from contracts.snapshots import BatchJudged

Ended = tuple[int, dict[str, Any]]  # event id and row of an ended trip


class Book:
    """Every write belongs to the caller's transaction."""

    def __init__(self, url: str) -> None:
        tables = sa.MetaData()
        self._waiting = sa.Table(
            "waiting",
            tables,
            sa.Column("event_id", sa.BigInteger, primary_key=True),
            sa.Column("arrived", sa.Float, nullable=False),  # city time, seconds since the epoch
            sa.Column("row", sa.Text, nullable=False),
        )
        self._batches = sa.Table(
            "batches",
            tables,
            sa.Column("batch_id", sa.String(40), primary_key=True),
            sa.Column("rows_accepted", sa.Integer, nullable=False),
            sa.Column("rows_quarantined", sa.Integer, nullable=False),
        )
        self._trips = sa.Table("trips", tables, sa.Column("trip_id", sa.String(64), primary_key=True))
        self._orders = sa.Table(
            "orders",
            tables,
            sa.Column("decision_id", sa.String(200), primary_key=True),
            sa.Column("decision", sa.Text, nullable=False),
            sa.Column("digest", sa.String(64)),
        )
        self.engine: sa.Engine = open_database(url, tables)
        self.snapshots = FeedStore(self.engine, "snapshots")

    def wait(self, tx: sa.Connection, ended: Sequence[Ended], arrived: float) -> None:
        """Keep trips for a batch to come."""
        rows = [{"event_id": number, "arrived": arrived, "row": json.dumps(row)} for number, row in ended]
        tx.execute(sa.insert(self._waiting), rows)

    def count_waiting(self, tx: sa.Connection) -> tuple[int, float | None]:
        """How many trips wait, and when the first of them arrived."""
        query = sa.select(sa.func.count(), sa.func.min(self._waiting.c.arrived)).select_from(self._waiting)
        count, first = tx.execute(query).one()
        return count, first

    def take_waiting(self, tx: sa.Connection) -> list[Ended]:
        """The trips that wait, in order of arrival; they wait no more."""
        query = sa.select(self._waiting.c.event_id, self._waiting.c.row).order_by(self._waiting.c.event_id)
        ended = [(number, json.loads(row)) for number, row in tx.execute(query)]
        tx.execute(sa.delete(self._waiting))
        return ended

    def known(self, tx: sa.Connection, trip_ids: Collection[str]) -> set[str]:
        """Which of these trips were accepted before."""
        query = sa.select(self._trips.c.trip_id).where(self._trips.c.trip_id.in_(trip_ids))
        return set(tx.execute(query).scalars())

    def record(self, tx: sa.Connection, judged: BatchJudged, accepted: Sequence[str]) -> None:
        """Write a verdict down, with the ids of the trips it accepted."""
        if accepted:
            tx.execute(sa.insert(self._trips), [{"trip_id": trip_id} for trip_id in accepted])
        counts = judged.model_dump(include={"batch_id", "rows_accepted", "rows_quarantined"})
        tx.execute(sa.insert(self._batches).values(counts))

    def accepted(self, tx: sa.Connection) -> dict[str, int]:
        """Rows accepted, by batch."""
        query = sa.select(self._batches.c.batch_id, self._batches.c.rows_accepted)
        return {row.batch_id: row.rows_accepted for row in tx.execute(query)}

    def quarantined(self, tx: sa.Connection) -> int:
        """Rows refused, of all batches."""
        query = sa.select(sa.func.coalesce(sa.func.sum(self._batches.c.rows_quarantined), 0))
        refused: int = tx.execute(query).scalar_one()
        return refused

    def order(self, tx: sa.Connection, decision: Decision) -> None:
        """A decision orders a snapshot, once."""
        mine = self._orders.c.decision_id == decision.decision_id
        if tx.execute(sa.select(self._orders).where(mine)).first() is None:
            row = {"decision_id": decision.decision_id, "decision": decision.model_dump_json()}
            tx.execute(sa.insert(self._orders).values(row))

    def open_orders(self, tx: sa.Connection) -> list[Decision]:
        """Decisions that wait for their snapshot."""
        query = sa.select(self._orders.c.decision).where(self._orders.c.digest.is_(None))
        return [Decision.model_validate_json(text) for text in tx.execute(query).scalars()]

    def fulfilled(self, tx: sa.Connection, decision_id: str, digest: str) -> None:
        """A decision has its snapshot."""
        mine = self._orders.c.decision_id == decision_id
        tx.execute(sa.update(self._orders).where(mine).values(digest=digest))

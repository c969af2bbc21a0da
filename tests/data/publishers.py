"""Stands where product and monitoring stand: real feeds over real sockets, filled by the test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy import MetaData

from chassis.databases import open_database
from chassis.feed_routes import feed_routes
from chassis.feed_store import Draft, FeedStore
from chassis.service import make_app
from contracts.decisions import Decision
from contracts.trips import CompletedTrip
from tests.servers import running


@dataclass(frozen=True)
class Publisher:
    """One feed, served at `url`."""

    url: str
    store: FeedStore

    def send_lines(self, lines: Sequence[str]) -> None:
        """Publish events as `data.history` writes them: line N starts with the id N."""
        head = '{"specversion":"1.0","id":"'
        with self.store.database.begin() as tx:
            tails = [line.removeprefix(head).lstrip("0123456789") for line in lines]
            self.store.append_encoded(tx, [(head, tail) for tail in tails])

    def send_rows(self, rows: Sequence[dict[str, Any]]) -> None:
        """Publish trip ends that no check of ours has seen."""
        drafts = [
            Draft("trip.delivered", row["ended_at"], row["trip_id"], CompletedTrip.model_construct(**row))
            for row in rows
        ]
        with self.store.database.begin() as tx:
            self.store.append(tx, drafts)

    def decide(self, *decisions: Decision) -> None:
        """Publish decisions."""
        with self.store.database.begin() as tx:
            self.store.append(tx, [Draft("decision.made", item.at, item.decision_id, item) for item in decisions])


@contextmanager
def publisher(folder: Path, feed: str) -> Iterator[Publisher]:
    """Serve one empty feed, kept in `folder`."""
    metadata = MetaData()
    store = FeedStore(open_database(f"sqlite:///{folder}/{feed}.db", metadata), feed)  # type: ignore[arg-type]
    app = make_app(feed, CollectorRegistry(), ready=lambda: None)
    app.include_router(feed_routes(store))
    with running(app) as url:
        yield Publisher(url, store)

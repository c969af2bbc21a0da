"""A monitor over recorded feeds whose clock the test moves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select

from chassis.databases import open_database
from chassis.sql import reading
from contracts import requirements
from contracts.decisions import Decision
from monitoring.announcer import Announcer
from monitoring.ledger import TABLES, TICKS
from monitoring.monitor import Monitor
from tests.monitoring.recorded import LIVE

RECORD = requirements.load()


@dataclass
class Hand:
    """A clock whose hand the test moves."""

    at: datetime = LIVE

    def now(self) -> datetime:
        return self.at


class Desk:
    """A monitor over recorded feeds, moved on by the test."""

    def __init__(self, url, feeds, database, record=RECORD, approval="none") -> None:
        self.url, self.feeds, self.database, self.record, self.approval = url, feeds, database, record, approval
        self.clock = Hand()
        self.restart()

    def restart(self) -> None:
        """A new process on the same database."""
        self.engine = open_database(self.database, TABLES)
        self.monitor = Monitor(
            self.engine, self.record, self.clock.now, lambda _team: self.url, Announcer(self.engine, self.approval)
        )

    def run(self, hours: float, step_min: float = 60, frozen=frozenset()) -> None:
        end = self.clock.at + timedelta(hours=hours)
        while self.clock.at < end:
            self.clock.at += timedelta(minutes=step_min)
            self.feeds.publish(self.clock.at, frozen)
            self.monitor.round()

    def ticks(self):
        with reading(self.engine) as tx:
            return tx.execute(select(TICKS).order_by(TICKS.c.cohort)).mappings().all()

    def decisions(self) -> list[Decision]:
        events = self.monitor.announcer.feed.read(0, 1000)
        return [Decision.model_validate(json.loads(event)["data"]) for event in events]

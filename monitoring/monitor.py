"""The monitor: follow the feeds, close cohorts, tick, and publish a decision when it changes."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, Engine, insert, select

from chassis.followers import FeedAway, Follower
from chassis.sql import reading
from contracts import measurements
from contracts.feeds import Event, FeedName
from contracts.measurements import Measurement
from contracts.requirements import Requirements
from monitoring import closings, ledger
from monitoring.announcer import Announcer
from monitoring.cohorts import Schedule, figures
from monitoring.evidence import Closing
from monitoring.ledger import TICKS
from monitoring.standing import standing
from monitoring.ticks import CLOSING, VERDICT, Tick, evaluate
from monitoring.watch import Watch

log = logging.getLogger(__name__)
FOLLOWED: tuple[tuple[FeedName, str, Callable[[Connection, Sequence[Event]], None]], ...] = (
    ("trips", "product", ledger.note_trips),
    ("estimates", "serving", ledger.note_estimates),
    ("rollout", "serving", ledger.note_facts),
    ("snapshots", "data", ledger.note_facts),
    ("bundles", "model", ledger.note_facts),
)
FEED_TIMEOUT_S = 5.0  # a feed that hangs must not hold the others up for longer


class Monitor:
    """Everything between the feeds we follow and the one we publish. `round` is to be called again and again."""

    def __init__(
        self,
        engine: Engine,
        record: Requirements,
        now: Callable[[], datetime],
        url_of: Callable[[str], str],
        announcer: Announcer,
        measured: Path | None = None,
    ) -> None:
        """`measured` is where verdicts on requirements are left, if anywhere."""
        self.engine, self.record, self.now, self.announcer = engine, record, now, announcer
        self.measured = measured
        policy = record.policy
        self.schedule = Schedule(timedelta(minutes=policy.cohort_min), timedelta(minutes=policy.closing_min))
        self.followers = [Follower(url_of(owner), feed, engine, note) for feed, owner, note in FOLLOWED]
        for follower in self.followers:
            follower.timeout_s = FEED_TIMEOUT_S
        self.watch = Watch(record, {})
        with reading(engine) as tx:
            self.watch.references = closings.references(tx, now())
            stored = tx.execute(select(TICKS.c.cohort, TICKS.c.closing).order_by(TICKS.c.cohort))
            self.newest: datetime | None = None
            for row in stored:
                self.watch.take_in(CLOSING.validate_json(row.closing))
                self.newest = ledger.instant(row.cohort)
        self.started = now()

    def run(self, stop: threading.Event, pause_s: float) -> None:
        """Rounds until `stop` is set."""
        while not stop.is_set():
            self.round()
            stop.wait(pause_s)

    def round(self) -> int:
        """Read all feeds up to now, then close every cohort that is due; answers how many.

        While a feed is away the clock may have passed what we know, so nothing closes, until the feed has been away for
        too long: from then on cohorts close without it and say so.
        """
        now = self.now()
        answered = [self._drain(follower) for follower in self.followers]
        if not all(answered) and not self._silent_s():
            return 0
        after = self.newest or self.schedule.newest_closed(self.started) - self.schedule.length
        due = list(self.schedule.due(after, now))
        for start in due:
            self._close(start)
        return len(due)

    def freshness(self) -> dict[str, float]:
        """Wall seconds since each feed last answered."""
        return {follower.feed: time.time() - follower.last_answer for follower in self.followers}

    def _drain(self, follower: Follower[Connection]) -> bool:
        try:
            follower.drain()
        except FeedAway as error:
            log.warning("feed %s is away: %s", follower.feed, error)
            return False
        return True

    def _silent_s(self) -> dict[str, float]:
        limit = self.record["feed-freshness"]
        return {feed: age for feed, age in self.freshness().items() if not limit.passes(age)}

    def _close(self, start: datetime) -> None:
        with self.engine.begin() as tx:
            closing = self._gather(tx, start)
            self.watch.references = closings.references(tx, closing.at)
            tick, serving = evaluate(self.watch, closing), closing.serving
            row = {
                "cohort": start.timestamp(),
                "at": closing.at.timestamp(),
                "closing": CLOSING.dump_json(closing).decode(),
                "evidence": tick.text,
                "verdict": VERDICT.dump_json(tick.verdict).decode(),
                "figures": json.dumps(
                    figures(closing.trips) | {"champion": serving.champion, "challenger": serving.challenger}
                ),
                "digest": tick.digest,
                "kind": tick.verdict.kind,
            }
            tx.execute(insert(TICKS), row | self.announcer.announce(tx, tick))
            ledger.forget_trips(tx, start, start + self.schedule.length, closing.at)
        self.newest = start
        if self.measured is not None:
            measurements.keep(self._verdicts(tick), self.measured)

    def _verdicts(self, tick: Tick) -> Iterator[Measurement]:
        """How the requirements stand after a tick; what a retraining that it orders rests on."""
        for line in standing(tick.evidence, self.record, max(self.freshness().values())):
            if line.colour != "not enough truth":
                yield Measurement.of(line.requirement.id, "monitor", line.measured, line.colour == "green", line.note)
        change_at = tick.verdict.change_at
        if tick.verdict.kind == "retrain" and change_at is not None:
            limit = self.record["retrain-outcomes"]
            known = sum(at >= change_at for at in self.watch.delivered)
            yield Measurement.of(limit.id, "policy", known, limit.passes(known), f"since {change_at:%Y-%m-%d %H:%M}")

    def _gather(self, tx: Connection, start: datetime) -> Closing:
        at = self.schedule.closes_at(start)
        silent = [f"feed {feed} has not answered for {age:.0f} s" for feed, age in self._silent_s().items()]
        newest = ledger.newest_event(tx)
        if newest < at - self.schedule.wait:
            silent.append(f"feed trips has told nothing new for {self.record.policy.closing_min} city minutes")
        # What looks open behind a feed that stands still may have ended long ago: judge as of what the feed has told.
        seen = at if newest >= at - self.schedule.length else newest
        return Closing(
            start=start,
            at=at,
            trips=closings.judged_trips(tx, start, start + self.schedule.length, seen),
            serving=closings.serving_at(tx, at),
            retrainings=closings.retrainings(tx, at),
            batches=closings.batches(tx, self.watch.batches.last_number, at),
            silent=tuple(silent),
            past_outcomes=ledger.past_outcomes(tx, at),
        )

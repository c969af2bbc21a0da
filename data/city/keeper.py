"""The city's heartbeat: it publishes map and readings as they fall due, and keeps the one clock."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from chassis.clock import Clock
from chassis.feed_store import Draft, FeedStore
from data.city.incidents import map_unit_km
from data.city.log import IncidentLog, published, set_published
from data.city.reference import City
from data.city.times import STEP_MIN, instant, minutes_at

BEAT_S = 0.5  # wall seconds between two notes of the clock


class Keeper:
    """Publishes conditions and writes the clock file; the only writer of both while the city runs."""

    def __init__(self, city: City, log: IncidentLog, feed: FeedStore, clock: Clock, clock_file: Path) -> None:
        self.city, self.log, self.feed, self.clock, self.clock_file = city, log, feed, clock, clock_file
        self.ready = False

    def run(self, stop: threading.Event) -> None:
        """Beat until `stop` is set: twice a wall second, and when a reading falls due."""
        while not stop.is_set():
            self.beat()
            next_step = instant((minutes_at(self.clock.now()) // STEP_MIN + 1) * STEP_MIN)
            stop.wait(min(BEAT_S, max(self.clock.wall_seconds_until(next_step), 0.02)))
        self.beat()

    def beat(self) -> None:
        """Publish what is due now and note the instant."""
        now = self.clock.now()
        self.publish(minutes_at(now))
        self.clock.seen_at(now).save(self.clock_file)
        self.ready = True

    def publish(self, now: float) -> None:
        """Publish the map where it changed and every reading since the last one, up to a time in minutes.

        A feed that is empty starts with the newest reading: what was before is history.
        """
        step = int(now // STEP_MIN)
        unit = repr(float(map_unit_km(self.log.started, np.array(now))))
        with self.feed.database.begin() as tx:
            if published(tx, "map unit") != unit:
                self.feed.append(
                    tx, [Draft("conditions.map", instant(now), "map", self.city.map_at(now, self.log.started))]
                )
                set_published(tx, "map unit", unit)
            last = int(published(tx, "step") or step - 1)
            readings = self.city.conditions(np.arange(last + 1, step + 1), self.log.started)
            if readings:
                self.feed.append(tx, [Draft("conditions.reading", seen.at, "city", seen) for seen in readings])
                set_published(tx, "step", str(step))

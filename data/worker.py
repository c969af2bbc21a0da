"""The data service: takes trips in from product's feed, judges them in batches, cuts snapshots when told to retrain.

`python -m data.worker` follows the feeds trips and decisions and serves the feed snapshots.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event as Flag

from fastapi import FastAPI

from chassis.clock import Clock
from chassis.feed_routes import feed_routes
from chassis.followers import FeedAway, Follower
from chassis.logs import write_logs
from chassis.service import listen, make_app
from contracts.problems import plain_words
from contracts.requirements import load
from contracts.snapshots import SnapshotZone
from data.batch_rules import ZoneReference
from data.book import Book
from data.city.dice import Dice
from data.city.streets import Streets
from data.desk import Desk
from data.lake import Lake
from data.quarantine import Quarantine
from data.settings import Settings
from data.snapshots import Cutter

log = logging.getLogger("data")
PAUSE_S = 0.5  # wall seconds between two looks at the feeds when nothing waits there


class Worker:
    """Follows trips and decisions in one thread: a snapshot is cut when no batch is half done."""

    def __init__(self, desk: Desk) -> None:
        self.desk, book, settings = desk, desk.book, desk.settings
        self.trips = Follower(settings.url("product"), "trips", book.engine, desk.take)
        self.decisions = Follower(settings.url("monitoring"), "decisions", book.engine, desk.note)
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

    def _asked(self, feed: str, ask: Callable[[], int]) -> bool:
        """Ask a feed; whether it answered with anything. Logs when it goes and when it comes back."""
        try:
            events = ask()
        except FeedAway as error:
            if self.away.get(feed) != str(error):
                log.warning("feed %s is away: %s", feed, error)
            self.away[feed] = str(error)
            return False
        if self.away.pop(feed, None) is not None:
            log.info("feed %s answers", feed)
        return events > 0


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


def service(worker: Worker) -> FastAPI:
    """The app: snapshots feed, health, metrics, with the worker beside it."""
    app = make_app("data", worker.desk.registry, worker.ready, {"intake": worker.work})
    app.include_router(feed_routes(worker.desk.book.snapshots))
    return app


@plain_words()
def main() -> None:
    """Run the service."""
    settings = Settings()
    write_logs("data", settings.log)
    desk = build(settings)
    desk.recover()
    listen(service(Worker(desk)), settings.bind, settings.port("data"), "data")


if __name__ == "__main__":
    main()

"""Conductors of several workers over one database, and what they keep from the estimates feed: nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from chassis.clock import Clock
from chassis.drivers import DriverDatabase
from chassis.feed_store import FeedStore
from chassis.feed_writer import FeedWriter
from contracts import requirements
from contracts.estimates import RolloutChanged, RolloutCommand
from contracts.feeds import Event, payload
from serving.conductor import Conductor, Seals
from serving.metrics import Metrics
from tests.bundles import make_bundle
from tests.serving.conftest import LIVE


@dataclass
class Bundles:
    """A store of bundles; `meanwhile` happens while it fetches one."""

    root: Path
    meanwhile: Callable[[], object] = field(default=lambda: None)

    def fetch(self, _version: str) -> Path:
        """As `Store`."""
        self.meanwhile()
        return self.root


@dataclass
class Workers:
    """What workers share."""

    folder: Path

    def __post_init__(self) -> None:
        database = DriverDatabase(f"sqlite:///{self.folder}/serving.db")
        self.rollout, self.estimates = (FeedStore(database, name) for name in ("rollout", "estimates"))
        self.bundles = Bundles(self.folder)
        self.clock = Clock(time_zone="Europe/Berlin", city_start=LIVE, wall_start=0, speed=1)
        for version in "123":
            make_bundle(self.folder, version)

    def conductor(self) -> Conductor:
        """One more worker's, started."""
        made = Conductor(
            self.rollout, Seals(self.rollout.database), self.bundles, self.clock, Metrics(requirements.load())
        )
        made.start()
        return made

    def changes(self) -> list[RolloutChanged]:
        """What the rollout feed tells."""
        return [payload(Event.model_validate_json(text)) for text in self.rollout.read(0, 100)]


def told(action: str, version: str | None = None) -> RolloutCommand:
    return RolloutCommand(action=action, version=version, reason="test")


@pytest.fixture
def workers(tmp_path) -> Workers:
    return Workers(tmp_path)


def test_estimates_are_recorded_while_a_bundle_is_loaded(workers):
    conductor, writer = workers.conductor(), FeedWriter(workers.estimates.database, "estimates", patience_s=0.1)
    workers.bundles.meanwhile = lambda: writer.append("estimate.answered", LIVE, [("trip", "{}")])
    for command in (told("challenge", "1"), told("challenge", "2")):
        conductor.command(command)
    assert workers.estimates.last_id() == 2


def test_a_worker_that_has_not_heard_yet_what_another_told_builds_on_it(workers):
    one, other = workers.conductor(), workers.conductor()
    one.command(told("challenge", "1"))
    one.command(told("challenge", "2"))
    assert other.command(told("promote")).rollout.champion == "2"
    assert one.command(told("challenge", "3")).rollout.champion == "2"

    changes = workers.changes()
    assert [change.after.champion for change in changes] == ["1", "1", "2", "2"]
    assert all(change.before == before.after for before, change in pairwise(changes))
    assert set(one.fleet.bundles) == {"champion", "challenger", "previous"}

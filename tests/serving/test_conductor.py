"""Conductors of several workers over one database, and what they keep from the estimates feed: nothing."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
from serving.bundles import BundleRefused
from serving.conductor import LOOK_AT_OTHERS_S, Conductor, RolloutFollower, Seals
from serving.metrics import Metrics
from serving.rollout import NotApplicable
from serving.store import Remote
from tests.bundles import make_bundle, released
from tests.servers import eventually
from tests.serving.conftest import LIVE


@dataclass
class Bundles:
    """A store of bundles; `meanwhile` happens while it fetches one."""

    root: Path
    meanwhile: Callable[[], object] = field(default=lambda: None)

    def fetch(self, _version: str, _seal: str | None = None) -> Path:
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


@contextmanager
def watching(*conductors: Conductor) -> Iterator[None]:
    """They follow what others change, as they do in a service."""
    stop = threading.Event()
    with ThreadPoolExecutor(len(conductors)) as threads:
        watches = [threads.submit(it.watch, stop) for it in conductors]
        try:
            yield
        finally:
            stop.set()
    assert [it.result() for it in watches] == [None] * len(conductors)


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


def test_a_command_that_does_not_fit_what_another_worker_told_leaves_the_rollout_in_force(workers):
    one, other = workers.conductor(), workers.conductor()
    one.command(told("challenge", "1"))
    one.command(told("challenge", "2"))
    other.command(told("drop"))
    one.command(told("challenge", "2"))
    one.command(told("promote"))
    with pytest.raises(NotApplicable):
        other.command(told("promote"))  # before it has looked
    with watching(other):
        eventually(lambda: other.fleet.rollout.champion == "2", "the other worker serves the champion", within_s=2)


def test_a_worker_that_loads_a_bundle_hears_of_a_roll_back_and_rolls_back(workers):
    one, other = workers.conductor(), workers.conductor()
    for command in (told("challenge", "1"), told("challenge", "2"), told("promote")):
        one.command(command)
    loads, loaded = threading.Event(), threading.Event()

    def slowly() -> None:
        loads.set()
        assert loaded.wait(10)

    with watching(one, other), ThreadPoolExecutor(1) as follower:
        eventually(lambda: other.fleet.rollout.champion == "2", "both serve 2")
        workers.bundles.meanwhile = slowly
        challenge = follower.submit(one.command, told("challenge", "3"))
        try:
            assert loads.wait(10)
            other.command(told("roll_back"))
            eventually(lambda: one.fleet.rollout.champion == "1", "the one that loads serves 1", within_s=1)
            began = time.monotonic()
            with pytest.raises(NotApplicable):
                one.command(told("roll_back"))  # answered, though there is none to roll back to
            assert time.monotonic() - began < 4 * LOOK_AT_OTHERS_S
        finally:
            loaded.set()
        assert challenge.result().rollout.challenger == "3"
    assert one.fleet.bundles.keys() == {"champion", "challenger"}


def test_only_the_bundle_that_was_released_serves_whatever_the_store_held_before(workers, tmp_path):
    shelf = tmp_path / "store"
    sound = make_bundle(shelf, "7")
    event = Event(
        id="1", source="/tandem/bundles", type="bundle.released", time=LIVE, subject="7",
        data=released(sound).model_dump(mode="json"),
    )  # fmt: skip
    sound.rename(tmp_path / "sound")
    make_bundle(shelf, "7", minutes_per_km=9.0).rename(tmp_path / "foreign")
    workers.bundles = Remote(f"file://{shelf}", tmp_path / "copies")
    conductor = workers.conductor()
    follower = RolloutFollower(conductor, "http://127.0.0.1:9", "bundles")

    shutil.copytree(tmp_path / "foreign", shelf / "7")
    follower.commit([event])
    with pytest.raises(BundleRefused, match="not the one"):
        conductor.command(told("challenge", "7"))
    shutil.rmtree(shelf / "7")
    shutil.copytree(tmp_path / "sound", shelf / "7")
    follower.commit([event])
    assert conductor.fleet.rollout.champion == "7"
    assert conductor.fleet.bundles["champion"].seal == released(shelf / "7").checksums_sha256

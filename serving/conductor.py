"""Who serves: the only writer of the rollout. It follows releases and decisions, loads bundles and swaps them in."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Literal

from pydantic import ValidationError
from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, insert, select

from chassis.databases import reading
from chassis.feed_store import Draft, FeedStore
from chassis.followers import EVENTS, Follower
from contracts.bundle import CHECKSUMS, BundleReleased, digest
from contracts.clock import Clock
from contracts.decisions import Decision
from contracts.estimates import BundleRejected, Rollout, RolloutChanged, RolloutCommand
from contracts.feeds import MOST_EVENTS, Event, FeedName, payload
from contracts.problems import TandemError
from serving.bundles import BundleRefused, LoadedBundle, load
from serving.metrics import Metrics
from serving.rollout import Entry, NotApplicable, apply, command_of, fold, versions, without

log = logging.getLogger(__name__)
Role = Literal["champion", "challenger", "previous"]


class NoBundlesFolder(TandemError):
    """The rollout names bundles and the folder that should hold them is not there."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """A rollout with its bundles in memory. It never changes: a request that began with one ends with it."""

    rollout: Rollout = field(default_factory=Rollout)
    bundles: Mapping[Role, LoadedBundle] = field(default_factory=dict)

    @property
    def shadow(self) -> tuple[Role, LoadedBundle] | None:
        """The bundle that answers beside the champion: the challenger, else the previous champion."""
        roles: tuple[Role, ...] = ("challenger", "previous")
        return next(((role, self.bundles[role]) for role in roles if role in self.bundles), None)


def seal_table(metadata: MetaData) -> Table:
    """The digest each bundle was released under, so that a later load can tell it from another of that name."""
    return Table(
        "seals",
        metadata,
        Column("version", String(64), primary_key=True),
        Column("checksums_sha256", String(64), nullable=False),
    )


class Conductor:
    """Keeps the rollout, as told by its feed, and the fleet that requests use.

    Changes run one at a time inside `changing()`: load first (slow, no lock on the database), then append to the feed
    in a transaction, then, once that has committed, put the new fleet in force by one assignment.
    """

    def __init__(
        self, engine: Engine, store: FeedStore, seals: Table, root: Path, clock: Clock, metrics: Metrics
    ) -> None:
        self.engine, self.store, self.seals, self.root = engine, store, seals, root
        self.clock, self.metrics = clock, metrics
        self.fleet = Fleet()
        self._lock = Lock()
        self._log: list[Entry] = []
        self._new: list[Entry] = []  # said in the transaction under way
        self._loaded: dict[str, LoadedBundle | BundleRefused] = {}

    def start(self) -> None:
        """Rebuild the rollout from its log and load its bundles. Raises `NoBundlesFolder`."""
        self._log = list(self._read_log())
        before = fold(self._log)
        if versions(before) and not self.root.is_dir():
            raise NoBundlesFolder(f"{self.root} is not there, but {versions(before)} shall serve: mount or restore it")
        with self.changing():
            for version in versions(before).values():
                self._load(version, self._seal(version))
            broken = {version: found for version, found in self._loaded.items() if isinstance(found, BundleRefused)}
            after = without(before, broken)
            with self.engine.begin() as tx:
                for version, refused in broken.items():
                    self._reject(tx, version, refused)
                if after != before:
                    self._change(tx, before, after, "start", f"could not be loaded again: {', '.join(broken)}")

    @contextmanager
    def changing(self) -> Iterator[None]:
        """One change of the rollout. What it said is in force after it, or forgotten if it raises."""
        with self._lock:
            self._new = []
            yield
            self._log += self._new
            rollout = fold(self._log)
            serving = versions(rollout)
            self._loaded = {version: self._loaded[version] for version in serving.values()}
            loaded = {role: self._loaded[version] for role, version in serving.items()}
            self.fleet = Fleet(rollout, {role: it for role, it in loaded.items() if isinstance(it, LoadedBundle)})
            self.metrics.show(rollout)

    def prepare(self, events: Sequence[Event]) -> None:
        """Load the bundles that events tell of: slow, and so before the transaction that handles them."""
        for event in events:
            if event.type == "bundle.released":
                version = _version(event)
                try:
                    self._load(version, BundleReleased.model_validate(event.data).checksums_sha256)
                except ValidationError as error:
                    fault = error.errors()[0]
                    text = f"{version}: released under another contract: {fault['loc']}: {fault['msg']}"
                    self._loaded[version] = BundleRefused("event", text)

    def handle(self, tx: Connection, events: Sequence[Event]) -> None:
        """Append to the rollout feed what events change. Seeing an event again changes nothing."""
        for event in events:
            try:
                if event.type == "bundle.released":
                    self._take(tx, _version(event), f"bundles:{event.id}")
                elif event.type == "decision.made":
                    self._obey(tx, event)
            except NotApplicable as error:
                self.metrics.ignored.labels(event.type).inc()
                log.warning("%s %s changes nothing: %s", event.type, event.id, error)

    def command(self, command: RolloutCommand) -> Fleet:
        """Do what a person asks. Raises `NotApplicable` or `BundleRefused`."""
        refused = None
        with self.changing():
            version = command.version
            found = self._load(version, self._seal(version)) if command.action == "challenge" and version else None
            with self.engine.begin() as tx:
                if version and isinstance(found, BundleRefused):
                    refused = found
                    self._reject(tx, version, found)
                else:
                    self._apply(tx, command, "control")
        if refused is not None:
            raise refused
        return self.fleet

    def _take(self, tx: Connection, version: str, cause: str) -> None:
        if any(isinstance(it, RolloutChanged) and version in versions(it.after).values() for it in self._told()):
            return  # redelivered
        found = self._loaded[version]
        if isinstance(found, BundleRefused):
            self._reject(tx, version, found)
        else:
            self._apply(tx, RolloutCommand(action="challenge", version=version, reason="released by model"), cause)

    def _obey(self, tx: Connection, event: Event) -> None:
        try:
            decision = payload(event)
        except ValidationError as error:
            raise NotApplicable(f"made under another contract: {error.errors()[0]['msg']}") from error
        assert isinstance(decision, Decision)  # noqa: S101  # payload() picks the class by the event's type
        command = command_of(decision)
        if command is None or any(
            isinstance(it, RolloutChanged) and it.cause == decision.decision_id for it in self._told()
        ):
            return  # not for us, or redelivered
        self._apply(tx, command, decision.decision_id)

    def _apply(self, tx: Connection, command: RolloutCommand, cause: str) -> None:
        before = fold(self._told())
        after = apply(before, command)
        if command.action == "challenge" and command.version and self._seal(command.version) is None:
            sealed = digest(self.root / command.version / CHECKSUMS)
            tx.execute(insert(self.seals).values(version=command.version, checksums_sha256=sealed))
        self._change(tx, before, after, cause, command.reason)

    def _change(self, tx: Connection, before: Rollout, after: Rollout, cause: str, reason: str) -> None:
        log.info("rollout: %s -> %s (%s: %s)", versions(before), versions(after), cause, reason)
        told = RolloutChanged(before=before, after=after, cause=cause, reason=reason, at=self.clock.now())
        self.store.append(tx, [Draft("rollout.changed", told.at, after.champion or "none", told)])
        self._new.append(told)

    def _reject(self, tx: Connection, version: str, refused: BundleRefused) -> None:
        log.error("bundle %s rejected (%s): %s", version, refused.stage, refused)
        self.metrics.rejected.labels(refused.stage).inc()
        told = BundleRejected(version=version, reason=str(refused), at=self.clock.now())
        if any(isinstance(it, BundleRejected) and it.reason == told.reason for it in self._told()):
            return  # said before: a process that starts again and again must not fill the feed
        self.store.append(tx, [Draft("bundle.rejected", told.at, version, told)])
        self._new.append(told)

    def _load(self, version: str, checksums_sha256: str | None) -> LoadedBundle | BundleRefused:
        found = self._loaded.get(version)
        if not isinstance(found, LoadedBundle):
            try:
                found = load(self.root, version, checksums_sha256)
            except BundleRefused as refused:
                found = refused
            self._loaded[version] = found
        return found

    def _seal(self, version: str) -> str | None:
        with reading(self.engine) as tx:
            mine = self.seals.c.version == version
            return tx.execute(select(self.seals.c.checksums_sha256).where(mine)).scalar()

    def _told(self) -> list[Entry]:
        return self._log + self._new

    def _read_log(self) -> Iterator[Entry]:
        after = 0
        while texts := self.store.read(after, MOST_EVENTS):
            for event in EVENTS.validate_json(f"[{','.join(texts)}]"):
                told = payload(event)
                assert isinstance(told, RolloutChanged | BundleRejected)  # noqa: S101  # the feed holds nothing else
                yield told
                after = int(event.id)


def _version(event: Event) -> str:
    return str(event.data.get("version", event.subject))


class RolloutFollower(Follower):
    """Follows a feed that changes the rollout."""

    def __init__(self, conductor: Conductor, base_url: str, feed: FeedName, cursors: Table) -> None:
        super().__init__(base_url, feed, conductor.engine, cursors, conductor.handle)
        self.conductor = conductor

    def commit(self, events: Sequence[Event]) -> None:
        """Load before the transaction, swap after it."""
        with self.conductor.changing():
            self.conductor.prepare(events)
            super().commit(events)

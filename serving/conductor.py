"""Who serves: the only writer of the rollout. It follows releases and decisions, loads bundles and swaps them in."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event as Flag
from threading import Lock
from typing import Any

from pydantic import ValidationError

from chassis.clock import Clock
from chassis.feed_store import Draft, FeedStore
from chassis.followers import EVENTS, Follower
from chassis.sql import Database, DatabaseAway, Transaction, create, marked, reading
from contracts.bundle import BundleReleased
from contracts.decisions import Decision
from contracts.estimates import BundleRejected, Rollout, RolloutChanged, RolloutCommand
from contracts.feeds import MOST_EVENTS, Event, FeedName, payload
from contracts.problems import TandemError
from contracts.trips import Wire
from serving.bundles import SEAL, VERSION, BundleRefused, LoadedBundle, load
from serving.metrics import Metrics
from serving.rollout import NotApplicable, Role, apply, command_of, fold, versions, without
from serving.store import Store
from serving.watchdog import Watch, giving_way

log = logging.getLogger(__name__)
LOOK_AT_OTHERS_S = 0.25


class StoreAway(TandemError):
    """The rollout names bundles and the store that should hold them does not answer."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """A rollout with its bundles in memory. It never changes: a request that began with one ends with it."""

    rollout: Rollout = field(default_factory=Rollout)
    bundles: Mapping[Role, LoadedBundle] = field(default_factory=dict)


class Seals:
    """The digest of each bundle's checksums as it was released or, where it never was, taken: another bundle of that
    name is refused later."""

    def __init__(self, database: Database[Any]) -> None:
        names = "version VARCHAR(64) PRIMARY KEY, seal VARCHAR(64) NOT NULL"
        create(database, f"CREATE TABLE IF NOT EXISTS seals ({names})")
        self._find = marked(database, "SELECT seal FROM seals WHERE version = ?")
        keep = "INSERT INTO seals (version, seal) VALUES (?, ?) ON CONFLICT"
        self._keep = marked(database, f"{keep} DO NOTHING")
        self._put = marked(database, f"{keep} (version) DO UPDATE SET seal = excluded.seal")

    def of(self, tx: Transaction, version: str) -> str | None:
        """A bundle's seal, None where it was never taken."""
        found = tx.exec_driver_sql(self._find, (version,)).fetchall()
        return found[0][0] if found else None

    def keep(self, tx: Transaction, version: str, seal: str) -> None:
        """Seal a bundle, unless it is sealed already."""
        tx.exec_driver_sql(self._keep, (version, seal))

    def put(self, tx: Transaction, version: str, seal: str) -> None:
        """Seal a bundle that has not served: what was released last under this name is the one."""
        tx.exec_driver_sql(self._put, (version, seal))


@dataclass
class Conductor:
    """Keeps the rollout, as told by its feed, and the fleet that requests use.

    Every worker has a conductor, and none leads. A change runs inside `changing()`: load first (slow, under no lock),
    then, under the feed's lock, read what other workers have told since, if anything, and append to it, then, once that
    has committed, put the new fleet in force by one assignment. On SQLite no estimate can be recorded under that lock,
    so that what it is held for must be short.
    """

    store: FeedStore
    seals: Seals
    bundles: Store
    clock: Clock
    metrics: Metrics
    fleet: Fleet = field(default_factory=Fleet)
    behind: str | None = None  # why this worker can't serve what the rollout says
    _watch: Watch = field(default_factory=Watch)
    _lock: Lock = field(default_factory=Lock)
    _log: list[Wire] = field(default_factory=list)  # ids are dense and nothing is trimmed: its length is the last id
    _in_force: int = 0  # how much of the log the fleet follows
    _new: list[Wire] = field(default_factory=list)  # said in the transaction under way
    _loaded: dict[str, LoadedBundle | BundleRefused] = field(default_factory=dict)

    def start(self) -> None:
        """Rebuild the rollout from its log and load its bundles. Raises `StoreAway`."""
        self._read_on()
        serving = versions(fold(self._log)).values()
        with self.changing(dict.fromkeys(serving)) as tx:
            before = fold(self._log)
            refused = {version: it for version, it in self._loaded.items() if isinstance(it, BundleRefused)}
            if away := [it for it in refused.values() if it.stage == "store"]:
                raise StoreAway(f"{versions(before)} shall serve: {away[0]}")
            for version, why in refused.items():
                self._reject(tx, version, why)
            after = without(before, refused)
            if after != before:
                self._change(tx, after, "start", f"could not be loaded again: {', '.join(refused)}")

    @contextmanager
    def changing(self, wanted: Mapping[str, str | None]) -> Iterator[Transaction]:
        """One change of the rollout, with the bundles it wants loaded, by version and, where it is known, seal. What
        it said is in force after it, or forgotten if it raises."""
        loaded = {version: self._load(version, seal) for version, seal in wanted.items()}
        with self._lock:
            self._loaded |= loaded
            self._new = []
            with self.store.database.begin() as tx:
                if self.store.lock(tx) > len(self._log):
                    self._read_on()
                yield tx
            self._log += self._new
            for told in self._new:
                if isinstance(told, RolloutChanged):
                    before, after = versions(told.before), versions(told.after)
                    log.info("rollout: %s -> %s (%s: %s)", before, after, told.cause, told.reason)
        self._put_in_force()

    def watch(self, stop: Flag) -> None:
        """Follow what other workers change, until told to stop."""
        while not stop.wait(LOOK_AT_OTHERS_S):
            try:
                if self.store.last_id() > self._in_force:
                    with self._lock:
                        self._read_on()
                    self._put_in_force()
            except DatabaseAway as error:
                log.warning("the rollout can't be read, what serves goes on: %s", error)

    def wanted(self, events: Sequence[Event]) -> dict[str, str | None]:
        """The bundles that events tell of, with their seals."""
        found: dict[str, str | None] = {}
        for event in events:
            if event.type == "bundle.released":
                with suppress(ValidationError):  # handled with its event
                    found[_version(event)] = BundleReleased.model_validate(event.data).checksums_sha256
        return found

    def handle(self, tx: Transaction, events: Sequence[Event]) -> None:
        """Append to the rollout feed what events change. Seeing an event again changes nothing."""
        for event in events:
            try:
                if event.type == "bundle.released":
                    self._take(tx, event)
                elif event.type == "decision.made":
                    self._obey(tx, event)
            except NotApplicable as error:
                self.metrics.ignored.labels(event.type).inc()
                log.warning("%s %s changes nothing: %s", event.type, event.id, error)

    def command(self, command: RolloutCommand) -> Fleet:
        """Do what a person asks. Raises `NotApplicable` or `BundleRefused`."""
        version, found = command.version or "", None
        wanted = {version: None} if command.action == "challenge" and version else {}
        with self.changing(wanted) as tx:
            if wanted and isinstance(found := self._loaded[version], BundleRefused):
                self._reject(tx, version, found)
            else:
                self._apply(tx, command, "control")
        if isinstance(found, BundleRefused):
            raise found
        return self.fleet

    def _take(self, tx: Transaction, event: Event) -> None:
        version = _version(event)
        if any(version in versions(change.after).values() for change in self._changes()):
            return  # redelivered
        seal, found = self.wanted([event]).get(version), self._loaded.get(version)
        if seal is None or found is None:
            found = BundleRefused("event", f"{version}: released under another contract: {event.data}")
        elif VERSION.fullmatch(version) and SEAL.fullmatch(seal):  # whatever else was refused, and fits no table
            self.seals.put(tx, version, seal)
        if isinstance(found, LoadedBundle) and found.seal != seal:
            found = BundleRefused("seal", f"{version}, seal: another bundle of this name was released after it")
        if isinstance(found, BundleRefused):
            self._reject(tx, version, found)
        else:
            told = RolloutCommand(action="challenge", version=version, reason="released by model")
            self._apply(tx, told, f"bundles:{event.id}")

    def _obey(self, tx: Transaction, event: Event) -> None:
        try:
            decision = Decision.model_validate(event.data)
        except ValidationError as error:
            raise NotApplicable(f"made under another contract: {error}") from error
        redelivered = any(change.cause == decision.decision_id for change in self._changes())
        command = command_of(decision)
        if command is not None and not redelivered:
            self._apply(tx, command, decision.decision_id)

    def _apply(self, tx: Transaction, command: RolloutCommand, cause: str) -> None:
        after = apply(fold(self._log + self._new), command)
        bundle = self._loaded.get(command.version or "")
        if isinstance(bundle, LoadedBundle):
            self.seals.keep(tx, bundle.version, bundle.seal)
        self._change(tx, after, cause, command.reason)

    def _change(self, tx: Transaction, after: Rollout, cause: str, reason: str) -> None:
        before = fold(self._log + self._new)
        told = RolloutChanged(before=before, after=after, cause=cause, reason=reason, at=self.clock.now())
        self._tell(tx, Draft("rollout.changed", told.at, after.champion or "none", told))

    def _reject(self, tx: Transaction, version: str, refused: BundleRefused) -> None:
        log.error("bundle %s rejected (%s): %s", version, refused.stage, refused)
        self.metrics.rejected.labels(refused.stage).inc()
        told = BundleRejected(version=version, reason=str(refused), at=self.clock.now())
        said = {(it.version, it.reason) for it in self._log + self._new if isinstance(it, BundleRejected)}
        if (version, told.reason) not in said:  # a process that starts again and again must not fill the feed
            self._tell(tx, Draft("bundle.rejected", told.at, version, told))

    def _tell(self, tx: Transaction, draft: Draft) -> None:
        self.store.append(tx, [draft])
        self._new.append(draft.data)

    def _load(self, version: str, seal: str | None = None) -> LoadedBundle | BundleRefused:
        found = self._loaded.get(version)
        if isinstance(found, LoadedBundle) and seal in (None, found.seal):
            return found
        if seal is None:
            with reading(self.store.database) as tx:
                seal = self.seals.of(tx, version)
        try:
            return giving_way(lambda: load(self.bundles.fetch(version, seal), version, seal, self._watch))
        except BundleRefused as refused:
            return refused

    def _changes(self) -> list[RolloutChanged]:
        return [told for told in self._log + self._new if isinstance(told, RolloutChanged)]

    def _read_on(self) -> None:
        """Take in what has been told since."""
        while texts := self.store.read(len(self._log), MOST_EVENTS):
            self._log += [payload(event) for event in EVENTS.validate_json(f"[{','.join(texts)}]")]

    def _put_in_force(self) -> None:
        """Serve what the log says, or go on with what serves now and say why: then `watch` tries again. Loads what
        others have told of with no lock held."""
        while True:
            told, rollout = len(self._log), fold(self._log)
            roles = versions(rollout)
            loaded = {version: self._load(version) for version in roles.values()}
            bundles = {role: it for role, version in roles.items() if isinstance(it := loaded[version], LoadedBundle)}
            missing = [str(it) for it in loaded.values() if isinstance(it, BundleRefused)]
            with self._lock:
                if len(self._log) > told:
                    continue
                self._loaded = loaded
                self.behind = f"this worker can't load what others serve: {'; '.join(missing)}" if missing else None
                if not missing:
                    self.fleet, self._in_force = Fleet(rollout, bundles), told
                return


def _version(event: Event) -> str:
    return str(event.data.get("version", event.subject))


class RolloutFollower(Follower[Transaction]):
    """Follows a feed that changes the rollout."""

    def __init__(self, conductor: Conductor, base_url: str, feed: FeedName) -> None:
        super().__init__(base_url, feed, conductor.store.database, conductor.handle)
        self.conductor = conductor

    def commit(self, events: Sequence[Event]) -> None:
        """Load before the transaction, swap after it."""
        with self.conductor.changing(self.conductor.wanted(events)) as tx:
            self.handle(tx, events)
            self.save(tx, int(events[-1].id))

"""The watch: folds closings, in order of their cohorts, into evidence.

The same closings give the same evidence, so a restart and a replay are both this fold run again from the first closing.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from datetime import datetime

from contracts.requirements import Requirements
from monitoring.cohorts import JudgedTrip
from monitoring.comparison import Comparison
from monitoring.coverage import Miss, Share, Tally, tally
from monitoring.detectors import SIDES, Detector, Reference, Side
from monitoring.evidence import NOTHING_YET, Batch, Closing, Evidence, Health, Held, Reading, Serving, Stretch
from monitoring.standing import faults


class Batches:
    """Batches in the order judged, with running sums, so that "since when" is a look-up and not a count."""

    def __init__(self, kept: int) -> None:
        self.newest: deque[Batch] = deque(maxlen=kept)
        self.refused: list[Batch] = []
        self.last_number = 0
        self._until: list[datetime] = []  # newest request seen up to each batch
        self._sums = [(0, 0)]  # rows quarantined, and rows, before each batch

    def add(self, batch: Batch) -> None:
        """One more verdict."""
        self.newest.append(batch)
        self.last_number = batch.number
        if batch.refused:
            self.refused.append(batch)
        if batch.last_requested_at is not None:
            bad, rows = self._sums[-1]
            self._until.append(max([batch.last_requested_at, *self._until[-1:]]))
            self._sums.append((bad + batch.quarantined, rows + batch.accepted + batch.quarantined))

    def since(self, instant: datetime) -> Share:
        """Share of rows quarantined in batches that reach `instant` or later."""
        (bad_before, rows_before), (bad, rows) = self._sums[bisect_left(self._until, instant)], self._sums[-1]
        return Share(bad - bad_before, rows - rows_before)


class Watch:
    """Give it closings one by one. `references` tells, by bundle version, which miss shares to expect.

    A restart needs the evidence of the newest closing only, so taking in and answering are two steps.
    """

    def __init__(self, record: Requirements, references: Mapping[str, Reference]) -> None:
        self.record, self.references = record, references
        self.clean = record.policy.clean_cohorts
        self.serving = Serving()
        self.detectors: dict[tuple[Side, str | None], Detector] = {}
        self.challenger: Comparison | None = None
        self.previous: Comparison | None = None
        self.delivered: list[datetime] = []  # request times, ascending
        self.batches = Batches(max(record[name].lookback for name in ("quarantine-share", "missing-share")))
        self.health, self.closing = Health(), NOTHING_YET
        self.held: dict[str, dict[str | None, deque[tuple[datetime, Miss]]]] = {}
        self.late: deque[bool] = deque(maxlen=record["late-promises"].lookback)
        self.joined: deque[bool] = deque(maxlen=record["outcome-join"].lookback)

    def take_in(self, closing: Closing) -> None:
        """Learn from one more closing."""
        self.closing = closing
        self._follow(closing.serving)
        for batch in closing.batches:
            self.batches.add(batch)
        joins = [
            trip.quantiles is not None for trip in closing.trips if trip.model_quoted and trip.outcome == "delivered"
        ]
        self.joined.extend(joins)
        newest = self._newest_batches("quarantine-share")
        bad, accepted = sum(batch.quarantined for batch in newest), sum(batch.accepted for batch in newest)
        self.health = Health(
            refused=tuple(batch for batch in closing.batches if batch.refused),
            quarantined=Share(bad, bad + accepted),
            joined=Share(sum(joins), len(joins)),
            silent=closing.silent,
        )
        self.clean = 0 if faults(self.health, self.record) else self.clean + 1
        believable = [trip for trip in closing.trips if not self._quarantined(trip)]
        for trip in believable:
            if trip.outcome == "delivered":
                insort(self.delivered, trip.requested_at)  # cohorts come in order of booking
        self.late.extend(trip.late for trip in believable if trip.late is not None)
        if self.clean >= self.record.policy.clean_cohorts:
            self._learn_from(believable)

    def evidence(self) -> Evidence:
        """What is known after the newest closing."""
        return Evidence(
            cohort=self.closing.start,
            at=self.closing.at,
            serving=self.serving,
            retrainings=self.closing.retrainings,
            health=self.health,
            clean_cohorts=self.clean,
            outcomes=self.closing.past_outcomes + len(self.delivered),
            watched=self.serving.champion in self.references,
            readings=tuple(self._reading(*key, detector) for key, detector in self.detectors.items()),
            held=self._champion_held(),
            late=Share(sum(self.late), len(self.late)),
            joined=Share(sum(self.joined), len(self.joined)),
            missing=self._missing(),
            challenger=self.challenger.standing() if self.challenger else None,
            previous=self.previous.standing() if self.previous else None,
        )

    def _follow(self, now: Serving) -> None:
        """A new champion gets fresh detectors, a new pair of bundles a fresh comparison."""
        before, self.serving = self.serving, now
        if (now.champion, now.champion_since) != (before.champion, before.champion_since):
            self.detectors = {}
        self.challenger = self._comparison(self.challenger, now.challenger, now.challenger_since)
        self.previous = self._comparison(self.previous, now.previous, now.champion_since)
        at_work = {now.champion, now.challenger, now.previous}
        self.held = {version: held for version, held in self.held.items() if version in at_work}

    def _comparison(self, running: Comparison | None, rival: str | None, since: datetime | None) -> Comparison | None:
        champion = self.serving.champion
        if champion is None or rival is None or since is None:
            return None
        if running and (running.incumbent, running.rival, running.since) == (champion, rival, since):
            return running
        policy = self.record.policy
        return Comparison(champion, rival, since, policy.loss_clip_min, policy.gain_clip_min)

    def _quarantined(self, trip: JudgedTrip) -> bool:
        return any(batch.refused and batch.holds(trip.requested_at) for batch in self.batches.refused)

    def _learn_from(self, trips: Sequence[JudgedTrip]) -> None:
        """Feed one cohort to everything that watches bundles."""
        for trip in trips:
            for version in trip.quantiles or ():
                if miss := trip.miss(version):
                    self._hold(version, trip, miss)
        for comparison in (self.challenger, self.previous):
            if comparison is not None:
                comparison.add(trips)
        champion = self.serving.champion
        if champion is not None and champion in self.references:
            judged = [(trip, miss) for trip in trips if (miss := trip.miss(champion))]
            for side in SIDES:
                self._detect(side, self.references[champion], judged)

    def _hold(self, version: str, trip: JudgedTrip, miss: Miss) -> None:
        windows = self.held.setdefault(version, {})
        for group in {None, trip.group}:
            wanted = self.record["group-coverage-p90" if group else "coverage-p90"].lookback
            windows.setdefault(group, deque(maxlen=wanted)).append((trip.requested_at, miss))

    def _detect(self, side: Side, reference: Reference, judged: Sequence[tuple[JudgedTrip, Miss]]) -> None:
        policy = self.record.policy
        for group in dict.fromkeys((None, *(trip.group for trip, _ in judged))):
            cohort = [
                (miss == SIDES[side], reference.allowed(side, group, trip.requested_at, policy.tolerance))
                for trip, miss in judged
                if group in (None, trip.group)
            ]
            if (side, group) not in self.detectors:
                self.detectors[side, group] = Detector(policy.trips_between_false_alarms)
            self.detectors[side, group].add(cohort, self.closing.start)

    def _reading(self, side: Side, group: str | None, detector: Detector) -> Reading:
        return Reading(side, group, detector.level, detector.peak, detector.trips, self._stretch(detector.began))

    def _stretch(self, since: datetime | None) -> Stretch | None:
        if since is None:
            return None
        outcomes = len(self.delivered) - bisect_left(self.delivered, since)
        return Stretch(since, outcomes, self.batches.since(since))

    def _champion_held(self) -> Held:
        windows = self.held.get(self.serving.champion or "", {})
        tallies = {group: tally([miss for _, miss in window]) for group, window in windows.items()}
        overall = windows.get(None)
        return Held(
            overall=tallies.get(None, Tally()),
            groups={group: counted for group, counted in sorted(tallies.items(), key=str) if group is not None},
            stretch=self._stretch(overall[0][0]) if overall else None,
        )

    def _newest_batches(self, requirement: str) -> list[Batch]:
        return list(self.batches.newest)[-self.record[requirement].lookback :]

    def _missing(self) -> dict[str, float]:
        """Share of missing values by column, over the rows of the newest batches."""
        rows: dict[str, float] = defaultdict(float)
        absent: dict[str, float] = defaultdict(float)
        for batch in self._newest_batches("missing-share"):
            for column, share in batch.missing.items():
                rows[column] += batch.accepted + batch.quarantined
                absent[column] += share * (batch.accepted + batch.quarantined)
        return {column: absent[column] / rows[column] for column in sorted(rows) if rows[column]}

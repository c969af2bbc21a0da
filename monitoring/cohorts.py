"""Cohorts: the trips booked in one stretch of city time, judged once, when nearly all of them have ended.

Quick outcomes come first, so trips read as they arrive look better than they are. A cohort waits, then judges all its
trips as they stood at one instant, open ones included. A trip runs from its booking, so that is what it is placed by:
who keeps a quote for hours before booking it is given as long to arrive as anybody (ADR 0012).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from contracts.trips import OUTCOMES, EstimateSource, Outcome, minutes_between
from monitoring.coverage import Miss, Quantiles, pinball

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PART = ("of", "above", "below", "loss_min")


@dataclass(frozen=True, slots=True)
class Schedule:
    """When cohorts begin and close, in city time."""

    length: timedelta
    wait: timedelta  # from a cohort's last possible booking until it closes

    def start_of(self, at: datetime) -> datetime:
        """Start of the cohort that a booking at `at` belongs to."""
        return at.astimezone(UTC) - (at - EPOCH) % self.length

    def closes_at(self, start: datetime) -> datetime:
        """When the cohort that starts at `start` closes."""
        return start + self.length + self.wait

    def newest_closed(self, now: datetime) -> datetime:
        """Start of the newest cohort closed by `now`."""
        return self.start_of(now - self.length - self.wait)

    def due(self, after: datetime, now: datetime) -> Iterator[datetime]:
        """Starts of the cohorts closed by `now` that follow the one starting at `after`, oldest first."""
        start = after + self.length
        while self.closes_at(start) <= now:
            yield start
            start += self.length


@dataclass(frozen=True, slots=True)
class JudgedTrip:
    """A booked trip as it stood when its cohort closed. `ended_at` is the closing itself where it was still open.

    `quantiles` holds each bundle's answer by version; it is None where no estimate was found.
    """

    trip_id: str
    group: str | None
    requested_at: datetime
    booked_at: datetime
    promised_by: datetime
    ended_at: datetime
    outcome: Outcome | Literal["open"]
    source: EstimateSource
    audit: bool
    model_quoted: bool
    quantiles: dict[str, Quantiles] | None

    @property
    def minutes(self) -> float:
        """From booking to the outcome, or so far."""
        return minutes_between(self.booked_at, self.ended_at)

    @property
    def late(self) -> bool | None:
        """Whether it broke its promise; None where nobody can tell yet, or the parcel was not delivered."""
        late = self.ended_at > self.promised_by
        return late if self.outcome == "delivered" or (self.outcome == "open" and late) else None

    def miss(self, version: str | None) -> Miss | None:
        """Where the duration fell in a bundle's quantiles; None where it gave none or nobody can tell.

        An open trip whose p90 has passed is above it already. Cancelled and lost trips have no duration.
        """
        quantiles = (self.quantiles or {}).get(version or "")
        if quantiles is None or self.outcome not in ("delivered", "open"):
            return None
        if self.minutes > quantiles.p90_min:
            return "above"
        if self.outcome == "open":
            return None
        return "below" if self.minutes < quantiles.p10_min else "inside"


def figures(trips: Iterable[JudgedTrip]) -> dict[str, Any]:
    """Counts of one cohort for charts and readers: sums, so that any stretch of cohorts adds up.

    `versions[version][group]` counts trips, misses and minutes of pinball loss; group "" is everybody.
    """
    trips = list(trips)
    versions: dict[str, dict[str, dict[str, float]]] = {}
    for trip in trips:
        for version, quantiles in (trip.quantiles or {}).items():
            if miss := trip.miss(version):
                for group in {"", trip.group or ""}:
                    part = versions.setdefault(version, {}).setdefault(group, dict.fromkeys(PART, 0.0))
                    for name, more in zip(PART, (1, miss == "above", miss == "below"), strict=False):
                        part[name] += more
                    part["loss_min"] += pinball(trip.minutes, quantiles)
    outcomes: Counter[str] = Counter(trip.outcome for trip in trips)
    judged = [trip.late for trip in trips if trip.late is not None]
    return {
        "booked": len(trips),
        **{outcome: outcomes[outcome] for outcome in (*OUTCOMES, "open")},
        "late": sum(judged),
        "promises": len(judged),
        "fallback": sum(trip.source == "fallback" for trip in trips),
        "audit": sum(trip.audit for trip in trips),
        "versions": versions,
    }

"""What the policy reads, and what it was made of: plain values that go to JSON and back unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from monitoring.cohorts import EPOCH, JudgedTrip
from monitoring.comparison import Duel
from monitoring.coverage import OF_NOTHING, Share, Tally
from monitoring.detectors import Side


@dataclass(frozen=True, slots=True)
class Serving:
    """Which bundles serve, and since when (city time)."""

    champion: str | None = None
    champion_since: datetime | None = None
    challenger: str | None = None
    challenger_since: datetime | None = None
    previous: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Data's verdict on one batch. `missing` is the share of missing values by column that the city owns."""

    number: int  # its place in data's feed
    batch_id: str
    accepted: int
    quarantined: int
    refused: bool  # quarantined whole
    detail: str
    first_requested_at: datetime | None
    last_requested_at: datetime | None
    missing: dict[str, float]

    def holds(self, requested_at: datetime) -> bool:
        """Whether a trip requested then may be among the batch's rows."""
        first, last = self.first_requested_at, self.last_requested_at
        return first is not None and last is not None and first <= requested_at <= last


@dataclass(frozen=True, slots=True)
class Retrainings:
    """What became of our `retrain` decisions. Times are those of the decisions, but `refused_at` of the refusal."""

    running: str | None = None
    running_since: datetime | None = None
    released: int = 0  # bundles, ever
    released_at: datetime | None = None
    refused_at: datetime | None = None
    refused_why: str = ""


@dataclass(frozen=True, slots=True)
class Closing:
    """All that was known when a cohort closed, as of that instant: with these every tick can be computed again."""

    start: datetime
    at: datetime  # when it closed
    trips: tuple[JudgedTrip, ...] = ()  # in order of booking
    serving: Serving = Serving()
    retrainings: Retrainings = Retrainings()
    batches: tuple[Batch, ...] = ()  # judged since the closing before
    silent: tuple[str, ...] = ()  # feeds without progress, in words
    past_outcomes: int = 0  # delivered trips known from history or too late for their cohort


NOTHING_YET = Closing(EPOCH, EPOCH)  # before the first cohort


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the data can be believed at all."""

    refused: tuple[Batch, ...] = ()  # whole batches, since the closing before
    quarantined: Share = OF_NOTHING  # of rows in the newest batches
    joined: Share = OF_NOTHING  # of this cohort's delivered, model-quoted trips
    silent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stretch:
    """City time since an instant: delivered outcomes of closed cohorts and rows quarantined, requested since then."""

    since: datetime
    outcomes: int
    quarantined: Share


@dataclass(frozen=True, slots=True)
class Reading:
    """One detector of the champion. `stretch` is the time since its run of evidence began."""

    side: Side
    group: str | None
    level: float
    peak: float  # in alarm from the policy's figure on
    trips: int
    stretch: Stretch | None


@dataclass(frozen=True, slots=True)
class Held:
    """How the champion's quantiles held on the newest trips, overall and by zone group."""

    overall: Tally
    groups: dict[str, Tally]
    stretch: Stretch | None  # the time these trips come from


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything one decision rests on."""

    cohort: datetime
    at: datetime
    serving: Serving
    retrainings: Retrainings
    health: Health
    clean_cohorts: int  # in a row, this one included
    outcomes: int  # delivered, ever
    watched: bool  # there is a champion and its reference is known
    readings: tuple[Reading, ...]
    held: Held
    late: Share  # of delivered trips and open ones past their promise
    joined: Share
    missing: dict[str, float]
    challenger: Duel | None
    previous: Duel | None

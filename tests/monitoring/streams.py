"""Streams of judged trips for tests of the pure parts."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from statistics import NormalDist
from zoneinfo import ZoneInfo

from monitoring.cohorts import JudgedTrip
from monitoring.coverage import Quantiles
from monitoring.detectors import Reference

NOON = datetime(2026, 6, 1, 10, tzinfo=UTC)
CITY = ZoneInfo("Europe/Berlin")
Z90 = NormalDist().inv_cdf(0.9)
SPREAD = 0.35  # sd of log duration


def quantiles(median: float = 20.0, spread: float = SPREAD) -> Quantiles:
    return Quantiles(median * math.exp(-spread * Z90), median, median * math.exp(spread * Z90))


def a_trip(minutes: float = 20.0, **changed) -> JudgedTrip:
    """Delivered after `minutes`, promised 40, quoted by champion v1."""
    start = changed.pop("requested_at", NOON)
    booked = changed.pop("booked_at", start)
    facts = {
        "trip_id": "t1",
        "group": "hills",
        "requested_at": start,
        "booked_at": booked,
        "promised_by": booked + timedelta(minutes=40),
        "ended_at": booked + timedelta(minutes=minutes),
        "outcome": "delivered",
        "source": "model",
        "audit": False,
        "model_quoted": True,
        "quantiles": {"v1": quantiles()},
    }
    return JudgedTrip(**facts | changed)


def hourly(above: float = 0.1, below: float = 0.1, extra=None) -> Reference:
    return Reference(CITY, {"above p90": [above] * 168, "below p10": [below] * 168}, extra or {})


def log_durations(
    trips: int, seed: int, crossing: float = 0.0, slowdown: float = 1.45, jams: float = 0.03
) -> Iterator[float]:
    """Log of duration over the model's median: lognormal, with jams of this sd that trips near in time share."""
    rng, shock = random.Random(seed), 0.0
    for _ in range(trips):
        shock = 0.95 * shock + rng.gauss(0, jams * math.sqrt(1 - 0.95**2))
        yield (
            rng.gauss(0, math.sqrt(SPREAD**2 - jams**2))
            + shock
            + (math.log(slowdown) if rng.random() < crossing else 0.0)
        )

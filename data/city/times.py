"""City time as numbers: minutes since the epoch, five-minute steps, minutes of the local week."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from contracts.problems import TandemError
from contracts.trips import minutes_between

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ZONE = ZoneInfo("Europe/Berlin")
EPOCH = datetime(2025, 1, 6, tzinfo=UTC)  # a Monday; the city has no earlier past
STEP_MIN = 5
WEEK_MIN = 7 * 24 * 60
WEEK_STEPS = WEEK_MIN // STEP_MIN


class BeforeTheCity(TandemError):
    """Somebody asks about a time before the city's epoch."""

    def __init__(self, minutes: float) -> None:
        asked = EPOCH + timedelta(minutes=minutes)
        super().__init__(f"{asked.isoformat()} lies before the city's first instant, {EPOCH.isoformat()}: ask later")


def minutes_at(at: datetime) -> float:
    """Minutes from the epoch to an instant."""
    return minutes_between(EPOCH, at)


def instant(minutes: float) -> datetime:
    """The instant so many minutes after the epoch, to the second, on the city's clock."""
    return (EPOCH + timedelta(seconds=round(minutes * 60))).astimezone(ZONE)


def steps_at(minutes: Any) -> Ints:
    """The five-minute step that each time falls into. Raises `BeforeTheCity`."""
    steps: Ints = np.floor_divide(minutes, STEP_MIN).astype(np.int64)
    if steps.size and steps.min() < 0:
        raise BeforeTheCity(float(np.min(minutes)))
    return steps


def week_minutes(minutes: Any) -> Ints:
    """Minutes since Monday 00:00 on the city's wall clock, for times in minutes since the epoch."""
    whole = np.floor(minutes).astype(np.int64)
    hours, where = np.unique(whole // 60, return_inverse=True)  # the clock changes at whole hours of UTC
    shifts = [(EPOCH + timedelta(hours=int(hour))).astimezone(ZONE).utcoffset() for hour in hours]
    ahead = np.array([shift / timedelta(minutes=1) for shift in shifts if shift is not None], dtype=np.int64)
    return np.asarray((whole + ahead[where.reshape(whole.shape)]) % WEEK_MIN, dtype=np.int64)

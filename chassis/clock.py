"""The one clock: city time as a straight line through wall time, kept in `var/clock.json` and read by every process.

Event times are city time. Latency, timeouts and freshness are wall time and never come from here.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Self
from zoneinfo import ZoneInfo

from pydantic import Field

from contracts.problems import TandemError
from contracts.trips import Instant, Wire


class NoClock(TandemError):
    """There is no clock file where one was expected."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"no clock at {path}: start Tandem with `make run`, which writes it")


class Clock(Wire):
    """City time runs `speed` times as fast as the wall clock, from `city_start` at wall second `wall_start`.

    `seen` is the last city instant that the keeper of the clock wrote down; a warm start resumes there.

    >>> clock = Clock(time_zone="Europe/Berlin", city_start="2026-06-01T08:00+02:00", wall_start=100.0, speed=60)
    >>> clock.at(101.5).isoformat()
    '2026-06-01T08:01:30+02:00'
    """

    time_zone: str
    city_start: Instant
    wall_start: float
    speed: Annotated[float, Field(gt=0, le=100_000)]
    seen: Instant | None = None

    def at(self, wall: float) -> datetime:
        """City time at a wall-clock second (as `time.time()` counts), in the city's zone."""
        return self.city_start + timedelta(seconds=(wall - self.wall_start) * self.speed)

    def now(self) -> datetime:
        """City time now."""
        return self.at(time.time())

    def wall_seconds_until(self, city: datetime) -> float:
        """Wall seconds from now until a city instant; negative when it has passed."""
        return (city - self.now()).total_seconds() / self.speed

    @property
    def zone(self) -> ZoneInfo:
        """The city's time zone."""
        return ZoneInfo(self.time_zone)

    def resumed(self, wall: float, speed: float) -> Self:
        """The clock of a warm start: it goes on from the last instant seen, at `speed`."""
        return self.model_copy(
            update={
                "city_start": self.seen or self.city_start,
                "wall_start": wall,
                "speed": speed,
            }
        )

    def seen_at(self, city: datetime) -> Self:
        """The same clock, remembering `city` as the last instant."""
        return self.model_copy(update={"seen": city})

    def save(self, path: Path) -> None:
        """Write the clock in one step: a reader sees the old file or the new one, never half of one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(self.model_dump_json(indent=1))
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the clock. Raises `NoClock` when the file is missing."""
        if not path.is_file():
            raise NoClock(path)
        clock = cls.model_validate_json(path.read_text())
        local = clock.city_start.astimezone(ZoneInfo(clock.time_zone))
        return clock.model_copy(update={"city_start": local})


def real_time(time_zone: str = "UTC") -> Clock:
    """The clock of a real deployment: city time is wall time."""
    now = time.time()
    return Clock(
        time_zone=time_zone,
        city_start=datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(time_zone)),
        wall_start=now,
        speed=1,
    )

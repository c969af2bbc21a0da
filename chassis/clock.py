"""The one clock: city time as a straight line through wall time, kept in `var/clock.json` and read by every process.

Event times are city time. Latency, timeouts and freshness are wall time and never come from here.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Self
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError

from contracts.problems import TandemError
from contracts.trips import Instant, Wire


class NoClock(TandemError):
    """There is no clock file where one was expected, or none that could be read."""


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
        """City time at a wall-clock second (as `time.time()` counts).

        Its offset is fixed, the one that the city's zone has then: with times that carry a zone Python reckons by the
        wall, so that a sum or a difference across a change of clocks is an hour wrong.
        """
        instant = self.city_start.astimezone(UTC) + timedelta(seconds=(wall - self.wall_start) * self.speed)
        local = instant.astimezone(self.zone)
        return local.replace(tzinfo=timezone(local.utcoffset() or timedelta()))

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
        changed = {"city_start": self.seen or self.city_start, "wall_start": wall, "speed": speed}
        return self.model_validate(dict(self) | changed)

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
        """Read the clock. Raises `NoClock` when the file is missing or holds none."""
        if not path.is_file():
            raise NoClock(f"no clock at {path}: start Tandem with `make run`, which writes it")
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, it['loc'])) or 'file'}: {it['msg']}" for it in error.errors())
            raise NoClock(
                f"{path} is no clock ({faults}): restore it, or forget all state with `make clean`"
            ) from error


def real_time(time_zone: str = "UTC") -> Clock:
    """The clock of a real deployment: city time is wall time."""
    now = time.time()
    return Clock(
        time_zone=time_zone,
        city_start=datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(time_zone)),
        wall_start=now,
        speed=1,
    )

"""Incidents: small files that say what changes in the city, and for how long, once somebody starts them."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, ValidationError

from contracts.problems import TandemError
from contracts.trips import Wire
from data.city.dice import Dice, Keys
from data.city.times import Bools, Floats

FOLDER = Path(__file__).parents[1] / "incidents"


class UnknownIncident(TandemError):
    """There is no incident file of that name."""


class BadIncident(TandemError):
    """An incident file cannot be read."""


class Changes(Wire):
    """What an incident changes; a field left out changes nothing."""

    crossing_slower: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] | None = None
    map_unit_km: Annotated[float, Field(gt=0)] = 1.0
    weather_down: bool = False


class Incident(Wire):
    """One incident file. Its window opens `starts_after_min` city minutes after it is started."""

    name: Annotated[str, Field(pattern=r"^[a-z-]{1,40}$")]
    statement: str
    starts_after_min: Annotated[float, Field(ge=0)] = 0
    lasts_min: Annotated[float, Field(gt=0)] = 1440
    changes: Changes


def load(name: str, folder: Path = FOLDER) -> Incident:
    """Read an incident by name. Raises `UnknownIncident` or `BadIncident`."""
    known = sorted(path.stem for path in folder.glob("*.toml"))
    if name not in known:
        raise UnknownIncident(f"no incident {name!r}: there are {', '.join(known)}")
    try:
        incident = Incident.model_validate(tomllib.loads((folder / f"{name}.toml").read_text()))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise BadIncident(f"{name}.toml: {error}: mend the file") from error
    if incident.name != name:
        raise BadIncident(f"{name}.toml calls itself {incident.name!r}: give file and name the same word")
    return incident


@dataclass(frozen=True, slots=True)
class Started:
    """An incident that somebody started; `asked` is when, in minutes since the city's epoch."""

    incident: Incident
    asked: float

    @property
    def start(self) -> float:
        """When its window opens."""
        return self.asked + self.incident.starts_after_min

    @property
    def end(self) -> float:
        """When its window closes."""
        return self.start + self.incident.lasts_min

    def covers(self, at: Floats) -> Bools:
        """Whether each time lies in its window."""
        return np.asarray((at >= self.start) & (at < self.end))


def slowdown(incidents: Sequence[Started], dice: Dice, key: Keys, crossing: Bools, booked: Floats) -> Floats:
    """How many times as long each trip takes, by its key, whether it crosses the river, and its booking (shapes that
    broadcast to that of `key`)."""
    factor = np.ones(key.shape)
    for started in incidents:
        if started.incident.changes.crossing_slower is not None:
            low, high = started.incident.changes.crossing_slower
            slow = low + (high - low) * dice.uniforms(key, started.incident.name)
            factor = np.where(crossing & started.covers(booked), factor * slow, factor)
    return factor


def map_unit_km(incidents: Sequence[Started], at: Floats) -> Floats:
    """Unit of the published routes at each time."""
    unit = np.ones(np.shape(at))
    for started in incidents:
        unit = np.where(started.covers(at), unit * started.incident.changes.map_unit_km, unit)
    return unit


def weather_down(incidents: Sequence[Started], at: Floats) -> Bools:
    """Whether an incident silences the weather stations at each time."""
    down = np.zeros(np.shape(at), dtype=bool)
    for started in incidents:
        down |= started.covers(at) & started.incident.changes.weather_down
    return down

"""What comes over the whole city: latent congestion, weather, and the readings the city publishes of them.

The climate is stationary, without seasons: a long calm run stays calm, so that only incidents are changes.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np

from data.city.dice import Dice
from data.city.times import STEP_MIN, WEEK_MIN, WEEK_STEPS, Floats, Ints, week_minutes

SENSOR_AGE_STEPS = 2  # a pace reading is ten minutes old
SENSOR_NOISE = 0.05  # standard deviation of its log
OUTAGE_STEPS, OUTAGE_SHARE = 6, 0.015  # calm has short outages too: a model must have met missing values


@dataclass
class Wander:
    """A stationary AR(1) on the five-minute grid: standard deviation `sd`, memory of `memory_h` hours.

    Values are made in whole weeks from the epoch on and kept, so none depends on when or in which order it is asked.
    """

    dice: Dice
    name: str
    sd: float
    memory_h: float
    _values: Floats = field(default_factory=lambda: np.empty(0))
    _growing: threading.Lock = field(default_factory=threading.Lock)

    @property
    def kept(self) -> float:
        """Correlation between neighbouring steps."""
        return float(np.exp(-STEP_MIN / (60 * self.memory_h)))

    def covariance(self, steps: int) -> float:
        """Covariance of two values so many steps apart."""
        return self.sd**2 * self.kept**steps

    def at(self, steps: Ints) -> Floats:
        """Values at some steps."""
        if steps.size and int(steps.max()) >= len(self._values):
            self._grow(int(steps.max()) + 1)
        return np.asarray(self._values[steps])

    def _grow(self, length: int) -> None:
        with self._growing:
            start = len(self._values)
            if start >= length:
                return
            end = -(-length // WEEK_STEPS) * WEEK_STEPS
            shocks = self.sd * self.dice.normals(np.arange(start, end), self.name)
            kept, fresh = self.kept, float(np.sqrt(1 - self.kept**2))
            value = float(self._values[-1]) if start else float(shocks[0]) * (1 - fresh) / kept
            grown = []
            for shock in shocks.tolist():
                value = kept * value + fresh * shock
                grown.append(value)
            self._values = np.concatenate([self._values, grown])


def rain_mm_h(cloud: Floats) -> Floats:
    """Rain under clouds of a standard normal thickness: one hour in nine is wet, and cloudbursts are rare."""
    return np.round(5.0 * np.maximum(cloud - 1.2, 0.0) ** 1.3, 1)


def temperature_c(front: Floats, week_minute: Ints) -> Floats:
    """Air temperature: the front that lies over the city, and the time of day."""
    return np.asarray(np.round(14 + front - 5 * np.cos(2 * np.pi * (week_minute / 1440 - 4 / 24)), 1))


@dataclass(frozen=True)
class Readings:
    """Columns of a trip that the city publishes; NaN where a source is down. Shape (n,) each."""

    rain_mm_h: Floats
    temperature_c: Floats
    city_pace: Floats


class Climate:
    """Congestion and weather at any five-minute step since the epoch."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.jam = Wander(dice, "jam", sd=0.17, memory_h=1.5)
        self.day = Wander(dice, "day", sd=0.15, memory_h=20)
        self.cloud = Wander(dice, "cloud", sd=1.0, memory_h=3)
        self.front = Wander(dice, "front", sd=5.0, memory_h=40)

    def latent(self, steps: Ints) -> Floats:
        """Log of congestion beyond what the time of week explains: hours of jams on a slower day-to-day part."""
        return self.jam.at(steps) + self.day.at(steps)

    def latent_covariance(self, steps: int) -> float:
        """Covariance of the latent part with itself so many steps later."""
        return self.jam.covariance(steps) + self.day.covariance(steps)

    def weather(self, steps: Ints) -> tuple[Floats, Floats]:
        """True rain in mm/h and temperature in degC."""
        return rain_mm_h(self.cloud.at(steps)), temperature_c(self.front.at(steps), week_minutes(steps * STEP_MIN))

    def readings(self, steps: Ints) -> Readings:
        """What stations and sensors say at some steps, calm outages included."""
        rain, temperature = self.weather(steps)
        seen = steps - SENSOR_AGE_STEPS
        noise = SENSOR_NOISE * self.dice.normals(steps, "sensor")
        pace = np.round(usual_pace(week_minutes(seen * STEP_MIN)) * np.exp(self.latent(seen) + noise), 3)
        no_weather, no_pace = self._down(steps, "stations"), self._down(steps, "sensors")
        return Readings(
            rain_mm_h=np.where(no_weather, np.nan, rain),
            temperature_c=np.where(no_weather, np.nan, temperature),
            city_pace=np.where(no_pace, np.nan, pace),
        )

    def _down(self, steps: Ints, source: str) -> Floats:
        return np.asarray(self.dice.uniforms(steps // OUTAGE_STEPS, f"{source} down") < OUTAGE_SHARE)


Peaks = tuple[tuple[float, float, float], ...]  # hour of day, width in hours, height


@dataclass(frozen=True)
class Week:
    """Something that comes and goes with the time of the week, as a sum of daily peaks."""

    workdays: Peaks
    weekends: Peaks

    def at(self, week_minute: Ints) -> Floats:
        """Its height at minutes of the week."""
        hour, workday = week_minute % 1440 / 60, week_minute % WEEK_MIN < 5 * 1440
        total = np.zeros(np.shape(week_minute))
        for days, peaks in ((workday, self.workdays), (~workday, self.weekends)):
            for peak, width, height in peaks:
                away = np.abs(hour - peak)
                total += days * height * np.exp(-0.5 * (np.minimum(away, 24 - away) / width) ** 2)
        return total


JAMS = Week(workdays=((8.2, 1.0, 1.0), (13, 2.5, 0.35), (17.6, 1.4, 1.0)), weekends=((14.5, 3.0, 0.55),))
SHORTAGE = Week(
    ((12.3, 0.9, 0.7), (18.6, 1.3, 1.0), (3, 2.5, 0.4)), ((12.8, 1.2, 0.5), (19.2, 1.5, 0.9), (4, 2.5, 0.4))
)
FELT = (0.15, 0.6, 0.9)  # how much of a jam lanes, avenues and bridges feel


def road_pace(week_minute: Ints) -> Floats:
    """Usual travel time over free flow on lanes, avenues and bridges at a time of week, shape (3, n)."""
    busy = JAMS.at(week_minute)
    return np.stack([1 + felt * busy for felt in FELT])


def usual_pace(week_minute: Ints) -> Floats:
    """What the sensors read at a time of week when the latent congestion is nil: they stand on avenues and bridges."""
    return np.asarray(np.array([0.2, 0.6, 0.2]) @ road_pace(week_minute))


def shortage(week_minute: Ints) -> Floats:
    """How much longer couriers take to come at a time of week: too few at the peaks and in the night."""
    return 1 + SHORTAGE.at(week_minute)

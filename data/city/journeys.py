"""How long a trip takes: one formula for truth, the customers' patience and the oracle.

A duration is the wait for a courier, the ride and the handover at both doors, plus a snag now and then. Trips do not
queue behind each other: shortage, jams and weather are functions of time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from data.city.climate import road_pace, shortage
from data.city.dice import Dice, Keys
from data.city.streets import Streets
from data.city.times import Floats, Ints

MIDWAY_MIN = 10  # a trip meets the roads as they are so long after its booking
SNAG_SHARE, SNAG_MIN, SNAG_TAIL, LONGEST_SNAG_MIN = 0.05, 7.0, 2.2, 300.0


@dataclass(frozen=True)
class Vehicle:
    """How a vehicle moves and what slows it."""

    kmh: tuple[float, float, float]  # free flow on lanes, avenues and bridges
    wait_min: float  # usual wait for a courier at full supply
    jam: float  # power of the road's pace that it feels
    rain: float  # slower by this share in a downpour
    chill: float  # slower by this share per degree below 6 or above 26
    hill: float  # minutes per metre of climb
    load: float  # slower by this share per kg


# Order of contracts.trips.VEHICLES: bike, scooter, van, car.
FLEET = (
    Vehicle((15, 17, 16), 6.0, 0.12, 0.35, 0.015, 0.060, 0.030),
    Vehicle((21, 27, 26), 6.5, 0.45, 0.28, 0.010, 0.012, 0.012),
    Vehicle((16, 25, 26), 9.0, 1.00, 0.10, 0.0, 0.006, 0.002),
    Vehicle((18, 28, 29), 7.5, 0.95, 0.12, 0.0, 0.0, 0.001),
)


def _of_fleet(name: str) -> Floats:
    return np.array([getattr(vehicle, name) for vehicle in FLEET])


KMH, WAIT, JAM, RAIN, CHILL, HILL, LOAD = (
    _of_fleet(name) for name in ("kmh", "wait_min", "jam", "rain", "chill", "hill", "load")
)


@dataclass(frozen=True)
class Luck:
    """A trip's own chance: standard normals, and a uniform for snags. Arrays of any one shape."""

    wait: Floats
    ride: Floats
    door: Floats
    snag: Floats

    @classmethod
    def of(cls, dice: Dice, key: Keys) -> Luck:
        """The luck of trips by key: always the same for the same trip."""
        wait, ride, door = (dice.normals(key, purpose) for purpose in ("wait", "ride", "door"))
        return cls(wait, ride, door, dice.uniforms(key, "snag"))

    @classmethod
    def usual(cls) -> Luck:
        """A trip on which nothing special happens."""
        nil = np.zeros(1)
        return cls(nil, nil, nil, np.ones(1))


@dataclass(frozen=True)
class Roads:
    """What a trip meets: latent congestion (log), rain in mm/h, temperature in degC, its own mass in kg."""

    latent: Any
    rain_mm_h: Any
    temperature_c: Any
    mass_kg: Any


@dataclass(frozen=True)
class Plan:
    """What is known of trips before chance has its say. Shape (n,) or (n, 1) each, minutes where not said otherwise."""

    vehicle: Ints
    wait: Floats
    ride: Floats  # without latent congestion, weather and load
    climb: Floats
    door_pickup: Floats
    door_dropoff: Floats

    @classmethod
    def of(cls, streets: Streets, week_minute: Ints, pickup: Ints, dropoff: Ints, vehicle: Ints) -> Plan:
        """Plans of trips booked at minutes of the local week between zone indices."""
        pace = road_pace(week_minute + MIDWAY_MIN)
        hours = streets.road_km[:, pickup, dropoff] / KMH[vehicle].T * pace ** JAM[vehicle]
        return cls(
            vehicle,
            wait=WAIT[vehicle] * shortage(week_minute) * streets.remoteness[pickup],
            ride=60 * hours.sum(axis=0),
            climb=HILL[vehicle] * streets.climb_m[pickup, dropoff],
            door_pickup=streets.handover_min[pickup],
            door_dropoff=streets.handover_min[dropoff],
        )

    def column(self) -> Plan:
        """The same plans as columns, shape (n, 1), to meet many draws each."""
        return Plan(*(getattr(self, name)[:, None] for name in self.__dataclass_fields__))


def minutes(plan: Plan, roads: Roads, luck: Luck) -> tuple[Floats, Floats]:
    """Minutes from booking to pickup, and to the end, of each trip."""
    wet = 1 - np.exp(-roads.rain_mm_h / 2.0)
    vehicle = plan.vehicle
    harsh = np.maximum(6 - roads.temperature_c, 0) + np.maximum(roads.temperature_c - 26, 0)
    slower = (1 + RAIN[vehicle] * wet) * (1 + CHILL[vehicle] * harsh) * (1 + LOAD[vehicle] * roads.mass_kg)
    ride = (plan.ride * np.exp(JAM[vehicle] * roads.latent) + plan.climb) * slower * np.exp(0.13 * luck.ride)
    wait = plan.wait * (1 + 0.35 * wet) * np.exp(0.38 * luck.wait)
    door = np.exp(0.35 * luck.door)
    caught = luck.snag < SNAG_SHARE
    snag = np.where(caught, SNAG_MIN * np.minimum(luck.snag / SNAG_SHARE, 1) ** (-1 / SNAG_TAIL), 0.0)
    pickup = wait + plan.door_pickup * door
    return pickup, pickup + ride + plan.door_dropoff * door + np.minimum(snag, LONGEST_SNAG_MIN)

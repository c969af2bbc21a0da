"""Who wants what sent where, and when: the wishes of the city's customers, minute by minute."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data.city.climate import Week
from data.city.dice import Dice, Keys
from data.city.streets import Streets
from data.city.times import Floats, Ints, steps_at, week_minutes

MOST_A_MINUTE = 24
AT_NIGHT = 0.43  # wishes a city minute, at any time
WISHES = Week(
    ((9.5, 1.7, 2.2), (12.5, 1.6, 2.85), (15.5, 1.8, 1.9), (18.5, 1.8, 4.1), (21, 1.2, 0.95)),
    ((12.5, 2.4, 3.25), (18.8, 2.2, 4.4)),
)
# Weight of the groups as places of pickup: by day shops and offices, in the evening homes and restaurants.
BY_DAY = np.array([1.3, 1.0, 0.6, 1.1, 2.2, 1.5, 0.5])
BY_EVENING = np.array([0.8, 1.3, 1.2, 0.7, 1.9, 1.1, 1.0])
AS_DROPOFF = np.array([0.9, 1.2, 1.1, 0.8, 1.5, 1.1, 1.0])
HOME_BANK = 1.1  # how much likelier a dropoff is on the pickup's own bank, beyond what distance explains
# Utility of a vehicle: at 0 km, and per km. Order of contracts.trips.VEHICLES.
TASTE = np.array([[1.5, -0.32], [0.6, 0.0], [-1.0, 0.06], [0.0, 0.06]])
PARCEL_KG = np.array([1.5, 2.5, 14.0, 5.0])  # median by vehicle
PARCEL_SPREAD = 0.7
MASS_UNSAID = 0.15


def parcel_mass(vehicle: Ints, luck: Floats) -> Floats:
    """Mass in kg by vehicle, from a standard normal."""
    return np.clip(np.round(PARCEL_KG[vehicle] * np.exp(PARCEL_SPREAD * luck), 1), 0.1, 60)


@dataclass(frozen=True)
class Trips:
    """Trips wished for or booked, shape (n,) each: key, time of it in minutes, zone and vehicle indices, kg (NaN:
    unsaid)."""

    key: Keys
    at: Floats
    pickup: Ints
    dropoff: Ints
    vehicle: Ints
    parcel_kg: Floats


def _pick(shares: Floats, luck: Floats) -> Ints:
    """One index per row of `shares`, shape (n, choices), at the place where `luck` falls."""
    steps = np.cumsum(shares, axis=-1)
    return np.asarray((luck[:, None] * steps[:, -1:] > steps).sum(axis=-1), dtype=np.int64)


@dataclass(frozen=True)
class Demand:
    """The customers, made from the seed."""

    dice: Dice
    streets: Streets

    @cached_property
    def pickups(self) -> Floats:
        """Weight of each zone as a pickup by day and in the evening, shape (2, zones)."""
        zones = np.exp(0.35 * self.dice.normals(np.arange(self.streets.count), "pickups"))
        return np.stack([BY_DAY[self.streets.group] * zones, BY_EVENING[self.streets.group] * zones])

    @cached_property
    def dropoffs(self) -> Floats:
        """Weight of each zone as a dropoff by pickup, shape (zones, zones): near ones, and on the same bank."""
        zones = AS_DROPOFF[self.streets.group] * np.exp(
            0.3 * self.dice.normals(np.arange(self.streets.count), "dropoffs")
        )
        return zones * np.exp(-self.streets.route_km / 4.5) * np.where(self.streets.crossing, 1.0, HOME_BANK)

    def during(self, after: float, until: float) -> Trips:
        """Wishes with `after < at <= until`, in minutes since the epoch."""
        steps_at(np.array([after]))  # refuses a time before the city
        minutes = np.arange(np.floor(after) - 1, np.floor(until) + 1).astype(np.int64)
        number = self._counts(minutes)
        start = np.repeat(minutes, number)
        turn = np.arange(len(start)) - np.repeat(np.cumsum(number) - number, number)
        key = (start * MOST_A_MINUTE + turn).astype(np.uint64)
        second = np.ceil(60 * self.dice.uniforms(key, "second"))
        at = start + second / 60
        order = np.lexsort((turn, second, start))
        order = order[(at[order] > after) & (at[order] <= until)]
        return self._made(key[order], at[order])

    def _counts(self, minutes: Ints) -> Ints:
        """Poisson numbers of wishes, by the inverse of the distribution function."""
        mean = AT_NIGHT + WISHES.at(week_minutes(minutes))
        left = self.dice.uniforms(minutes, "wishes")
        number, share = np.zeros(len(minutes), dtype=np.int64), np.exp(-mean)
        for count in range(1, MOST_A_MINUTE):
            left = left - share
            number += left > 0
            share = share * mean / count
        return number

    def _made(self, key: Keys, at: Floats) -> Trips:
        hour = week_minutes(at) % 1440 / 60
        evening = (1 / (1 + np.exp(-(hour - 17.5) * 1.5)))[:, None]
        pickup = _pick((1 - evening) * self.pickups[0] + evening * self.pickups[1], self.dice.uniforms(key, "pickup"))
        dropoff = _pick(self.dropoffs[pickup], self.dice.uniforms(key, "dropoff"))
        km = self.streets.route_km[pickup, dropoff][:, None]
        vehicle = _pick(np.exp(TASTE[:, 0] + TASTE[:, 1] * km), self.dice.uniforms(key, "vehicle"))
        mass = parcel_mass(vehicle, self.dice.normals(key, "mass"))
        unsaid = self.dice.uniforms(key, "mass unsaid") < MASS_UNSAID
        return Trips(key, at, pickup, dropoff, vehicle, np.where(unsaid, np.nan, mass))

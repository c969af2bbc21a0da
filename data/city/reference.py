"""The reference city as a whole: wishes, readings and the truth about trips, all pure functions of seed and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contracts.conditions import CityMap, Conditions, TruthAnswer, TruthRequest, Wish
from contracts.trips import OUTCOMES, VEHICLES
from data.city.climate import Climate, Readings
from data.city.demand import Demand, Trips, parcel_mass
from data.city.dice import Dice, keys_of
from data.city.incidents import Started, map_unit_km, slowdown, weather_down
from data.city.journeys import MIDWAY_MIN, Luck, Plan, Roads, minutes
from data.city.streets import Streets
from data.city.times import STEP_MIN, Floats, Ints, instant, minutes_at, steps_at, week_minutes

CANCELLED_SHARE, LOST_SHARE = 0.02, 0.003
LOST_AFTER = 2.0  # a parcel counts as lost after so many times its trip's minutes
PATIENCE, PATIENCE_SPREAD = 1.53, 0.30  # a customer waits so many times the usual minutes, give or take
USUAL = Roads(latent=0.0, rain_mm_h=0.0, temperature_c=15.0, mass_kg=3.0)
CANCELLED = OUTCOMES.index("cancelled")


@dataclass(frozen=True)
class Truth:
    """How booked trips go, shape (n,) each: minutes since the epoch, to the second, NaN where there was no pickup; and
    an index into `contracts.trips.OUTCOMES`."""

    picked_up: Floats
    ended: Floats
    outcome: Ints


def _or_none(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)


class City:
    """One code for history and live. `incidents` are those that somebody started."""

    def __init__(self, seed: int) -> None:
        self.dice = Dice(seed)
        self.streets = Streets(self.dice)
        self.climate = Climate(self.dice)
        self.demand = Demand(self.dice, self.streets)

    def truth(self, trips: Trips, incidents: Sequence[Started] = ()) -> Truth:
        """How trips go. A trip's answer depends on itself alone, never on what else is asked."""
        plan = Plan.of(self.streets, week_minutes(trips.at), trips.pickup, trips.dropoff, trips.vehicle)
        rain, temperature = self.climate.weather(steps_at(trips.at))
        unsaid = parcel_mass(trips.vehicle, self.dice.normals(trips.key, "unsaid mass"))
        roads = Roads(
            latent=self.climate.latent(steps_at(trips.at + MIDWAY_MIN)),
            rain_mm_h=rain,
            temperature_c=temperature,
            mass_kg=np.where(np.isnan(trips.parcel_kg), unsaid, trips.parcel_kg),
        )
        pickup, whole = minutes(plan, roads, Luck.of(self.dice, trips.key))
        crossing = self.streets.crossing[trips.pickup, trips.dropoff]
        slower = slowdown(incidents, self.dice, trips.key, crossing, trips.at)
        pickup, whole = pickup * slower, whole * slower
        fate = self.dice.uniforms(trips.key, "fate")
        outcome = np.digitize(fate, (1 - CANCELLED_SHARE - LOST_SHARE, 1 - LOST_SHARE))  # delivered, cancelled, lost
        cancelled_after = 0.05 + pickup * (1 - LOST_SHARE - fate) / CANCELLED_SHARE
        ended = trips.at + np.choose(outcome, (whole, cancelled_after, whole * LOST_AFTER))
        picked_up = np.where(outcome == CANCELLED, np.nan, trips.at + pickup)
        return Truth(np.round(picked_up * 60) / 60, np.round(ended * 60) / 60, outcome)

    def answer(self, asked: TruthRequest, incidents: Sequence[Started] = ()) -> TruthAnswer:
        """The truth about one trip, for the courier who carries it."""
        trip = asked.trip
        ends = self.streets.index(np.array([trip.pickup_zone, trip.dropoff_zone]))
        mass = np.nan if trip.parcel_kg is None else trip.parcel_kg
        booked = Trips(
            keys_of([trip.trip_id]),
            np.array([minutes_at(asked.booked_at)]),
            ends[:1],
            ends[1:],
            np.array([VEHICLES.index(trip.vehicle)]),
            np.array([mass]),
        )
        truth = self.truth(booked, incidents)
        picked_up = _or_none(truth.picked_up[0])
        return TruthAnswer(
            trip_id=trip.trip_id,
            picked_up_at=None if picked_up is None else instant(picked_up),
            ended_at=instant(float(truth.ended[0])),
            outcome=OUTCOMES[truth.outcome[0]],
        )

    def readings(self, steps: Ints, incidents: Sequence[Started] = ()) -> Readings:
        """What the city publishes at some five-minute steps; NaN where a source is down."""
        seen = self.climate.readings(steps)
        down = weather_down(incidents, np.asarray(steps * float(STEP_MIN)))
        rain, temperature = (np.where(down, np.nan, values) for values in (seen.rain_mm_h, seen.temperature_c))
        return Readings(rain, temperature, seen.city_pace)

    def conditions(self, steps: Ints, incidents: Sequence[Started] = ()) -> list[Conditions]:
        """The same readings as the conditions feed carries them."""
        seen = self.readings(steps, incidents)
        return [
            Conditions(
                at=instant(float(steps[row] * STEP_MIN)),
                rain_mm_h=_or_none(seen.rain_mm_h[row]),
                temperature_c=_or_none(seen.temperature_c[row]),
                city_pace=_or_none(seen.city_pace[row]),
            )
            for row in range(len(steps))
        ]

    def map_at(self, at: float, incidents: Sequence[Started] = ()) -> CityMap:
        """The map as published at a time."""
        return self.streets.published(float(map_unit_km(incidents, np.array(at))))

    def patience(self, wishes: Trips) -> Floats:
        """Minutes each customer would accept: the usual minutes of such a trip times a temper of their own."""
        plan = Plan.of(self.streets, week_minutes(wishes.at), wishes.pickup, wishes.dropoff, wishes.vehicle)
        _, typical = minutes(plan, USUAL, Luck.usual())
        temper = np.exp(PATIENCE_SPREAD * self.dice.normals(wishes.key, "temper"))
        return np.round(PATIENCE * typical * temper, 2)

    def wishes(self, after: float, until: float) -> list[Wish]:
        """Customers about to ask for a quote, `after < at <= until`, in minutes since the epoch."""
        found = self.demand.during(after, until)
        patience = self.patience(found)
        return [
            Wish(
                at=instant(float(found.at[row])),
                pickup_zone=int(found.pickup[row]) + 1,
                dropoff_zone=int(found.dropoff[row]) + 1,
                vehicle=VEHICLES[found.vehicle[row]],
                parcel_kg=_or_none(found.parcel_kg[row]),
                patience_min=float(patience[row]),
            )
            for row in range(len(found.key))
        ]

"""The oracle: the quantiles given exactly the model's columns, all that nobody can see integrated out.

It knows the city's formulas but no trip's own luck and no latent state: of the congestion it knows the Gaussian
posterior given the pace reading. No model that sees the same columns can have less expected pinball loss. It answers
tables by trip id, for benchmarks only: nothing of it may reach the lake.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from contracts.trips import LEVELS, VEHICLES
from data.city.climate import SENSOR_AGE_STEPS, SENSOR_NOISE, Climate, rain_mm_h, temperature_c, usual_pace
from data.city.demand import parcel_mass
from data.city.incidents import Started, slowdown
from data.city.journeys import MIDWAY_MIN, Luck, Plan, Roads, minutes
from data.city.reference import City
from data.city.times import EPOCH, STEP_MIN, Floats, Ints, week_minutes

DRAWS = 999  # so that the 100th, 500th and 900th of them are unbiased for the three levels
CHUNK = 2000  # trips at a time: a few hundred MB


def quantiles(city: City, trips: pl.DataFrame, incidents: Sequence[Started] = (), draws: int = DRAWS) -> pl.DataFrame:
    """p10, p50 and p90 in minutes by trip id, for rows with the columns of a `TripRequest`.

    `incidents` makes an oracle that knows of them and whether a trip is asked for within their window; the time of a
    trip is otherwise seen as its minute of the week, as by the model. `draws` + 1 must be a multiple of 10.
    """
    parts = []
    for number, part in enumerate(trips.iter_slices(CHUNK)):
        rng = np.random.default_rng([city.dice.seed, number])
        parts.append(_chunk(city, part, incidents, rng, draws))
    table = pl.DataFrame(np.concatenate(parts), schema=["p10_min", "p50_min", "p90_min"])
    return table.insert_column(0, trips["trip_id"])


def _chunk(
    city: City, trips: pl.DataFrame, incidents: Sequence[Started], rng: np.random.Generator, draws: int
) -> Floats:
    at = (trips["requested_at"] - EPOCH).dt.total_microseconds().to_numpy() / 60e6
    week_minute = week_minutes(at)
    pickup, dropoff = (city.streets.index(trips[name].to_numpy()) for name in ("pickup_zone", "dropoff_zone"))
    vehicle = trips["vehicle"].replace_strict(list(VEHICLES), range(len(VEHICLES)), return_dtype=pl.Int64).to_numpy()
    rain, temperature, pace, mass = (
        trips[name].fill_null(float("nan")).to_numpy()[:, None]
        for name in ("rain_mm_h", "temperature_c", "city_pace", "parcel_kg")
    )
    plan = Plan.of(city.streets, week_minute, pickup, dropoff, vehicle)

    def chance() -> Floats:
        return rng.standard_normal((len(trips), draws))

    mean, spread = latent_posterior(city.climate, week_minute, pace[:, 0])
    roads = Roads(
        latent=mean[:, None] + spread[:, None] * chance(),
        rain_mm_h=_known(rain, lambda: rain_mm_h(chance())),
        temperature_c=_known(
            temperature, lambda: temperature_c(city.climate.front.sd * chance(), week_minute[:, None])
        ),
        mass_kg=_known(mass, lambda: parcel_mass(vehicle[:, None], chance())),
    )
    luck = Luck(chance(), chance(), chance(), rng.random((len(trips), draws)))
    _, whole = minutes(plan.column(), roads, luck)
    crossing = city.streets.crossing[pickup, dropoff]
    if incidents:
        key = rng.integers(2**63, size=whole.shape).astype(np.uint64)
        whole = whole * slowdown(incidents, city.dice, key, crossing[:, None], at[:, None])
    places = [round(level * (draws + 1)) - 1 for level in LEVELS]
    return np.asarray(np.partition(whole, places, axis=1)[:, places])


def _known(column: Floats, drawn: Callable[[], Floats]) -> Floats:
    """A column, shape (n, 1), with draws where it is missing."""
    missing = np.isnan(column)
    return np.where(missing, drawn(), column) if missing.any() else column


def latent_posterior(climate: Climate, week_minute: Ints, pace: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the latent congestion that a trip meets, given the pace reading (NaN: none)."""
    variance, noise = climate.latent_covariance(0), SENSOR_NOISE**2
    reading_step = week_minute // STEP_MIN - SENSOR_AGE_STEPS
    lag = SENSOR_AGE_STEPS + (week_minute + MIDWAY_MIN) // STEP_MIN - week_minute // STEP_MIN
    together = np.vectorize(climate.latent_covariance)(lag)
    seen = np.log(pace / usual_pace(reading_step * STEP_MIN))
    weight = together / (variance + noise)
    blind = np.isnan(pace)
    mean = np.where(blind, 0.0, weight * seen)
    return mean, np.sqrt(np.where(blind, variance, variance - weight * together))

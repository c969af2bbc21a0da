"""The oracle: nobody who sees the model's columns can do better, and its quantiles are what they say.

Coverage is judged against a standard error that counts days, not trips: the trips of one day share its congestion.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from contracts import tables
from contracts.trips import LEVELS
from data import oracle
from data.city import incidents
from data.city.incidents import Started
from data.city.reference import City
from data.city.times import ZONE, minutes_at
from data.history import ESTIMATE, LIVE_START, simulate

START = LIVE_START - timedelta(weeks=8)
NULLABLE = ("parcel_kg", "rain_mm_h", "temperature_c", "city_pace")
DRAWS = 199


@pytest.fixture(scope="module")
def city() -> City:
    return City(20260601)


@pytest.fixture(scope="module")
def trips(city) -> pl.DataFrame:
    """20,000 delivered trips of eight weeks."""
    return simulate(city, START, LIVE_START).filter(pl.col("outcome") == "delivered").sample(20_000, seed=1)


@pytest.fixture(scope="module")
def best(city, trips) -> np.ndarray:
    return asked(city, trips)


def asked(city: City, trips: pl.DataFrame, *args: object) -> np.ndarray:
    """The oracle's quantiles, shape (n, 3)."""
    return oracle.quantiles(city, trips, *args, draws=DRAWS).select(ESTIMATE).to_numpy()


def pinball(trips: pl.DataFrame, quantiles: np.ndarray) -> float:
    over = trips["duration_min"].to_numpy()[:, None] - quantiles
    return float(np.maximum(np.array(LEVELS) * over, (np.array(LEVELS) - 1) * over).mean())


def assert_calibrated(trips: pl.DataFrame, quantiles: np.ndarray) -> None:
    """Coverage of each level within three standard errors, clustered by day."""
    day = trips["requested_at"].dt.convert_time_zone(ZONE.key).dt.ordinal_day().to_numpy()
    below = trips["duration_min"].to_numpy()[:, None] <= quantiles
    for level, hit in zip(LEVELS, below.T, strict=True):
        error = np.bincount(day, weights=hit - level)
        spread = np.sqrt((error**2).sum()) / len(hit)
        assert spread < 0.015
        assert abs(hit.mean() - level) < 3 * spread, (level, hit.mean(), spread)


def in_hindsight(trips: pl.DataFrame, *keys: str) -> np.ndarray:
    """The best table there can be for these cells: empirical quantiles of the very trips it is judged on."""
    levels = [
        pl.col("duration_min").quantile(level).over(keys).alias(name)
        for level, name in zip(LEVELS, ESTIMATE, strict=True)
    ]
    return trips.with_columns(levels).select(ESTIMATE).to_numpy()


def without(trips: pl.DataFrame, *columns: str) -> pl.DataFrame:
    return trips.with_columns(pl.lit(None, pl.Float64).alias(column) for column in columns)


@pytest.mark.slow
def test_its_coverage_is_what_it_says(trips, best):
    assert_calibrated(trips, best)
    assert (np.diff(best, axis=1) > 0).all()


def test_its_loss_is_clearly_below_any_simple_table_even_one_made_in_hindsight(trips, best):
    celled = trips.with_columns(
        band=pl.col("distance_km") // 1.0,
        hour=tables.minute_of_week("requested_at", ZONE) // 180,
        pair=pl.col("pickup_zone") * 1000 + pl.col("dropoff_zone"),
    )
    loss = pinball(trips, best)

    assert pinball(trips, trips.select(ESTIMATE).to_numpy()) > 1.15 * loss
    for keys in (["vehicle", "band"], ["vehicle", "hour"], ["vehicle", "pickup_zone"]):
        assert pinball(trips, in_hindsight(celled, *keys)) > 1.15 * loss, keys


@pytest.mark.slow
@pytest.mark.parametrize("missing", [("city_pace",), ("rain_mm_h", "temperature_c"), NULLABLE])
def test_with_nulls_it_is_still_calibrated_but_knows_less(city, trips, best, missing):
    blind = without(trips, *missing)
    answers = asked(city, blind)

    assert_calibrated(trips, answers)
    assert 1.01 < pinball(trips, answers) / pinball(trips, best) < 1.15


@pytest.mark.slow
def test_a_sabotaged_latent_posterior_shows(city, trips, best, monkeypatch):
    """Red on purpose: the checks above can fail."""
    honest = oracle.latent_posterior

    def sure(*args: object) -> tuple[np.ndarray, np.ndarray]:
        mean, _ = honest(*args)
        return mean, np.zeros_like(mean)

    def upside_down(*args: object) -> tuple[np.ndarray, np.ndarray]:
        mean, spread = honest(*args)
        return -mean, spread

    monkeypatch.setattr(oracle, "latent_posterior", sure)
    with pytest.raises(AssertionError):
        assert_calibrated(trips, asked(city, without(trips, "city_pace")))
    monkeypatch.setattr(oracle, "latent_posterior", upside_down)
    assert pinball(trips, asked(city, trips)) > 1.1 * pinball(trips, best)


def test_no_nudge_of_its_answers_lowers_the_loss(trips, best):
    for nudge in (0.97, 1.03):
        for level in range(3):
            nudged = best.copy()
            nudged[:, level] *= nudge
            assert pinball(trips, nudged) > pinball(trips, best)


def test_it_sees_the_model_s_columns_and_nothing_else(city, trips):
    """What the model may not see moves nothing; each column it may see moves something."""
    few = trips.head(200)
    same = asked(city, few)

    def moved(**columns: pl.Expr) -> bool:
        return not np.array_equal(asked(city, few.with_columns(**columns)), same)

    weeks_later = pl.col("requested_at") + pl.duration(weeks=3)
    assert not moved(requested_at=weeks_later, duration_min=pl.lit(1.0), ended_at=weeks_later, p90_min=pl.lit(5.0))
    assert moved(requested_at=pl.col("requested_at") + pl.duration(hours=5))
    for column in ("pickup_zone", "dropoff_zone"):
        assert moved(**{column: pl.col(column) % 60 + 1})
    assert moved(vehicle=pl.col("vehicle").replace({"bike": "car", "car": "bike"}))
    for column in NULLABLE:
        assert moved(**{column: pl.col(column) + 1})


def test_it_may_know_of_an_incident(city):
    closed = [Started(incidents.load("bridge-closed"), minutes_at(LIVE_START - timedelta(days=4)))]
    trips = simulate(city, LIVE_START - timedelta(days=4), LIVE_START, closed)
    trips = trips.filter(pl.col("outcome") == "delivered").sample(4000, seed=1)
    crossing = city.streets.crossing[trips["pickup_zone"] - 1, trips["dropoff_zone"] - 1]
    took = trips["duration_min"].to_numpy()
    knowing, unaware = asked(city, trips, closed), asked(city, trips)

    assert 0.86 < (took <= knowing[:, 2])[crossing].mean() < 0.94
    assert (took <= unaware[:, 2])[crossing].mean() < 0.6
    np.testing.assert_allclose(knowing[~crossing], unaware[~crossing])


def test_it_answers_by_trip_id_whatever_the_order(city, trips):
    table = oracle.quantiles(city, trips.head(50), draws=99)

    assert table.columns == ["trip_id", *ESTIMATE]
    assert table["trip_id"].to_list() == trips["trip_id"].head(50).to_list()

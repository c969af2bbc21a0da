"""The reference city: its map, its people, its climate, and truth that depends on nothing but seed, time and trip."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest

from contracts.conditions import TruthRequest
from contracts.trips import VEHICLES, TripRequest, minute_of_week
from data.city.climate import Wander
from data.city.demand import Trips
from data.city.dice import Dice, keys_of
from data.city.journeys import Luck, Plan, Roads, minutes
from data.city.reference import USUAL, City
from data.city.streets import UnknownZone
from data.city.times import EPOCH, WEEK_MIN, ZONE, BeforeTheCity, instant, minutes_at, steps_at, week_minutes

MONDAY = minutes_at(datetime(2026, 6, 1, tzinfo=ZONE))
SEED = 7


@pytest.fixture(scope="module")
def city() -> City:
    return City(SEED)


@pytest.fixture(scope="module")
def week(city) -> Trips:
    """A week of wishes."""
    return city.demand.during(MONDAY, MONDAY + WEEK_MIN)


def asked(trip_id: str, at: datetime, pickup: int = 5, dropoff: int = 50, kg: float | None = None) -> TruthRequest:
    trip = TripRequest(
        trip_id=trip_id,
        requested_at=at,
        pickup_zone=pickup,
        dropoff_zone=dropoff,
        distance_km=4,
        vehicle="car",
        parcel_kg=kg,
    )
    return TruthRequest(trip=trip, booked_at=at)


# The map


def test_the_map_has_some_60_zones_in_named_groups_on_two_banks(city):
    drawn = city.map_at(MONDAY)

    assert 55 <= len(drawn.zones) <= 65
    assert [zone.zone for zone in drawn.zones] == list(range(1, len(drawn.zones) + 1))
    assert 5 <= len({zone.group for zone in drawn.zones}) <= 8
    assert {zone.bank for zone in drawn.zones} == {"north", "south"}
    assert all(len(zone.outline) == 6 for zone in drawn.zones)
    for group in {zone.group for zone in drawn.zones}:
        assert len({zone.bank for zone in drawn.zones if zone.group == group}) == 1


def test_routes_stand_in_a_steady_ratio_to_distances_but_the_river_costs_a_detour(city):
    streets = city.streets
    east, north, _ = streets.lattice
    apart = np.hypot(east[:, None] - east, north[:, None] - north)
    others = ~np.eye(streets.count, dtype=bool)
    ratio = np.divide(streets.route_km, apart, where=others, out=np.ones_like(apart))

    assert (streets.route_km >= 0.5).all()
    np.testing.assert_array_equal(streets.route_km, streets.route_km.T)
    same_bank = ratio[others & ~streets.crossing]
    assert 1.1 < same_bank.min() < same_bank.max() < 1.5
    assert np.median(ratio[streets.crossing]) > np.median(same_bank)
    assert np.allclose(streets.road_km.sum(axis=0), streets.route_km)
    assert (streets.road_km >= 0).all()


def test_thirty_trips_tell_kilometres_from_miles(city, week):
    """What data's intake leans on: the median of route over distance of any 30 trips in a row."""
    east, north, _ = city.streets.lattice
    away = np.hypot(east[week.pickup] - east[week.dropoff], north[week.pickup] - north[week.dropoff])
    ratio = (city.streets.route_km[week.pickup, week.dropoff] / np.where(away > 0, away, np.nan)).copy()
    batches = ratio[: len(ratio) // 30 * 30].reshape(-1, 30)
    medians = np.nanmedian(batches, axis=1)

    assert medians.max() / medians.min() < 1.25
    assert medians.max() / 1.609 < 0.75 * medians.min()


# Demand


def test_customers_wish_about_as_much_as_promised_and_a_fair_share_crosses_the_river(city, week):
    hour = week_minutes(week.at) % 1440 // 60

    assert 2.1 < len(week.at) / WEEK_MIN < 2.9
    assert np.bincount(hour)[18] > 5 * np.bincount(hour)[3]
    assert 0.20 < city.streets.crossing[week.pickup, week.dropoff].mean() < 0.35
    km = city.streets.route_km[week.pickup, week.dropoff]
    assert km[week.vehicle == VEHICLES.index("bike")].mean() < km[week.vehicle == VEHICLES.index("van")].mean() - 1
    assert (np.bincount(week.vehicle) > 0.05 * len(week.at)).all()
    assert 0.10 < np.isnan(week.parcel_kg).mean() < 0.20
    assert (np.diff(week.at) >= 0).all()


def test_wishes_are_the_same_however_the_time_is_cut(city):
    cuts = MONDAY + np.array([0, 0.4, 7, 60.123, 61, 200, 300.5, 600])
    whole = city.wishes(cuts[0], cuts[-1])
    parts = [wish for start, end in pairwise(cuts) for wish in city.wishes(start, end)]

    assert len(whole) > 500
    assert parts == whole
    assert City(SEED).wishes(cuts[2], cuts[3]) == city.wishes(cuts[2], cuts[3])
    assert City(SEED + 1).wishes(cuts[0], cuts[-1]) != whole


# Time and chance


def test_week_minutes_agree_with_the_contract_across_changes_of_the_clock():
    spring, autumn = datetime(2026, 3, 29, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    times = [start + timedelta(minutes=7.5 * step) for start in (spring, autumn) for step in range(20)]

    got = week_minutes(np.array([minutes_at(at) for at in times]))

    assert got.tolist() == [minute_of_week(at, ZONE) for at in times]


def test_before_the_epoch_there_is_no_city():
    with pytest.raises(BeforeTheCity, match="2025-01-05"):
        steps_at(np.array([10.0, minutes_at(EPOCH - timedelta(hours=1))]))


def test_chance_is_uniform_normal_and_independent_between_purposes_and_keys():
    dice, keys = Dice(1), np.arange(200_000)
    even, other, bell = dice.uniforms(keys, "a"), dice.uniforms(keys, "b"), dice.normals(keys, "c")

    assert np.abs(np.histogram(even, 20, (0, 1))[0] / 10_000 - 1).max() < 0.05
    assert abs(bell.mean()) < 0.01
    assert abs(bell.std() - 1) < 0.01
    assert abs((np.abs(bell) > 1.96).mean() - 0.05) < 0.003
    for left, right in ((even, other), (even, bell), (even[1:], even[:-1]), (bell[1:], bell[:-1])):
        assert abs(np.corrcoef(left, right)[0, 1]) < 0.01
    assert not np.array_equal(even, Dice(2).uniforms(keys, "a"))


def test_a_wander_has_the_spread_and_memory_it_claims():
    wander = Wander(Dice(3), "test", sd=0.2, memory_h=1.5)
    values = wander.at(np.arange(200_000))

    assert values.std() == pytest.approx(0.2, rel=0.03)
    for lag in (1, 6, 18):
        assert np.mean(values[lag:] * values[:-lag]) == pytest.approx(wander.covariance(lag), abs=0.002)


def test_climate_does_not_depend_on_when_or_in_which_order_it_is_asked():
    late_first, early_first = City(SEED).climate, City(SEED).climate
    early, late = MONDAY, MONDAY + 60 * WEEK_MIN
    late_first.readings(steps_at(np.array([late])))
    early_first.readings(steps_at(np.array([early])))
    weeks = np.arange(0, 2 * WEEK_MIN, 5)  # past the seams between what was made early and what was made later

    for steps in (steps_at(early + weeks), steps_at(late + weeks)):
        np.testing.assert_array_equal(late_first.latent(steps), early_first.latent(steps))
        for column, values in vars(late_first.readings(steps)).items():
            np.testing.assert_array_equal(values, vars(early_first.readings(steps))[column])


# Climate


def test_rain_comes_in_spells_and_readings_fail_now_and_then(city):
    steps = steps_at(MONDAY + 5 * np.arange(20_000))
    rain, temperature = city.climate.weather(steps)
    seen = city.readings(steps)
    wet = rain > 0

    assert 0.05 < wet.mean() < 0.2
    assert wet[1:][wet[:-1]].mean() > 0.8
    assert -15 < temperature.min() < temperature.max() < 40
    assert 0 < np.isnan(seen.rain_mm_h).mean() < 0.04
    assert 0 < np.isnan(seen.city_pace).mean() < 0.04
    assert np.nanmin(seen.city_pace) > 0.2
    assert np.nanmax(seen.city_pace) < 8


def test_pace_tells_of_the_latent_congestion_ten_minutes_ago(city):
    steps = steps_at(MONDAY + 5 * np.arange(20_000))
    nights = week_minutes(steps * 5) % 1440 < 180  # when nothing but the latent part moves the roads
    told = np.log(city.climate.readings(steps).city_pace)

    def correlation(age: int) -> float:
        known = nights & ~np.isnan(told)
        return float(np.corrcoef(told[known], city.climate.latent(steps - age)[known])[0, 1])

    assert correlation(2) > 0.95
    assert correlation(2) > max(correlation(1), correlation(3)) > correlation(30)


# Journeys


def typical(vehicle: str, **changes: float) -> float:
    """Minutes of one usual trip over 5 km or so, on Tuesday at 10:00 where nothing else is said."""
    city, kind = City(SEED), np.array([VEHICLES.index(vehicle)])
    minute = int(changes.pop("week_minute", 1440 + 600))
    plan = Plan.of(city.streets, np.array([minute]), np.array([3]), np.array([14]), kind)
    return float(minutes(plan, replace(USUAL, **changes), Luck.usual())[1][0])


def test_vehicles_react_differently_to_rain_jams_cold_load_and_peaks():
    def slower(vehicle: str, **changes: float) -> float:
        return typical(vehicle, **changes) / typical(vehicle)

    assert slower("bike", rain_mm_h=4.0) > slower("car", rain_mm_h=4.0) > 1.02
    assert slower("car", latent=0.3) > slower("scooter", latent=0.3) > slower("bike", latent=0.3) > 1
    assert slower("bike", temperature_c=-2.0) > 1.02
    assert slower("van", temperature_c=-2.0) == 1
    assert slower("bike", mass_kg=15.0) > slower("van", mass_kg=15.0)
    evening = 1440 + 18 * 60
    assert slower("car", week_minute=evening) > slower("bike", week_minute=evening) > 1.1


def test_hills_slow_bikes_uphill_only(city):
    low, high = int(np.argmin(city.streets.climb_m.max(axis=0))), int(np.argmax(city.streets.climb_m.max(axis=0)))
    up, down = (np.array([low]), np.array([high])), (np.array([high]), np.array([low]))
    plans = [Plan.of(city.streets, np.array([600]), *ends, np.array([0])) for ends in (up, down)]

    assert plans[0].climb > 3
    assert plans[1].climb == 0


def test_durations_are_tens_of_minutes_with_a_heavy_tail(city, week):
    truth = city.truth(week)
    whole = (truth.ended - week.at)[truth.outcome == 0]

    assert 15 < np.quantile(whole, 0.05) < np.quantile(whole, 0.95) < 75
    assert whole.min() > 3
    assert whole.max() > 3 * np.median(whole)
    assert 0.015 < (truth.outcome == 1).mean() < 0.025
    assert 0.001 < (truth.outcome == 2).mean() < 0.006
    assert np.isnan(truth.picked_up[truth.outcome == 1]).all()
    assert (truth.picked_up[truth.outcome != 1] > week.at[truth.outcome != 1]).all()
    assert (truth.ended > np.nan_to_num(truth.picked_up, nan=0)).all()


# Truth


def test_the_truth_of_a_trip_is_the_same_in_any_batch(city, week):
    trips = Trips(*(getattr(week, name)[:500] for name in week.__dataclass_fields__))
    alone = Trips(*(getattr(week, name)[123:124] for name in week.__dataclass_fields__))

    assert city.truth(trips).ended[123] == city.truth(alone).ended[0] == City(SEED).truth(alone).ended[0]
    assert len(np.unique(city.truth(trips).ended - trips.at)) > 450


def test_a_courier_hears_the_same_again_and_another_trip_fares_otherwise(city):
    at = instant(MONDAY + 600)
    first = city.answer(asked("a", at))

    assert city.answer(asked("a", at)) == City(SEED).answer(asked("a", at)) == first
    assert len({city.answer(asked(str(number), at)).ended_at for number in range(20)}) > 15
    assert first.ended_at > at


def test_the_answer_is_the_table_truth(city):
    at = instant(MONDAY + 600)
    one = asked("some-trip", at, kg=3.0)
    ends = np.array([4]), np.array([49])
    row = Trips(keys_of(["some-trip"]), np.array([MONDAY + 600]), *ends, np.array([3]), np.array([3.0]))

    assert city.answer(one).ended_at == instant(float(city.truth(row).ended[0]))


def test_truth_ignores_the_columns_that_a_producer_can_get_wrong(city):
    """The requested distance, weather and pace are what somebody wrote down; the city knows better."""
    one = asked("a", instant(MONDAY + 600))
    other = one.model_copy(update={"trip": one.trip.model_copy(update={"distance_km": 99.0, "rain_mm_h": 50.0})})
    heavier = one.model_copy(update={"trip": one.trip.model_copy(update={"parcel_kg": 60.0})})

    assert city.answer(other) == city.answer(one)
    assert city.answer(heavier) != city.answer(one)


def test_an_unknown_zone_is_named(city):
    with pytest.raises(UnknownZone, match=r"zone 61 .* 1 to 60"):
        city.answer(asked("a", instant(MONDAY), dropoff=61))


def test_patience_looks_at_the_columns_and_never_at_the_trip_s_luck(city, week):
    patience = city.patience(week)
    plan = Plan.of(city.streets, week_minutes(week.at), week.pickup, week.dropoff, week.vehicle)
    usual = minutes(plan, USUAL, Luck.usual())[1]
    luck = minutes(plan, USUAL, Luck.of(city.dice, week.key))[1] / usual
    storm = minutes(plan, Roads(1.0, 9.0, 0.0, 3.0), Luck.usual())[1]

    assert np.corrcoef(np.log(patience), np.log(usual))[0, 1] > 0.5
    assert abs(np.corrcoef(patience / usual, luck)[0, 1]) < 0.03
    assert (storm > usual).all()

"""The benchmark itself: its ladder is in order, it sees a leak, its verdicts and intervals can go either way."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from contracts.requirements import load
from model.snapshot import Trips
from tests.benchmarks import city, coverage, goals, new_york, probes, rivals
from tests.benchmarks.contest import Contest
from tests.benchmarks.goals import Goal
from tests.benchmarks.ladder import Rung, measured
from tests.benchmarks.peak import weighed
from tests.benchmarks.report import steps

NOTHING = np.datetime64("2026-05-01T00:00", "us")


def states(verdicts: list[goals.Verdict]) -> dict[str, str]:
    return {item.goal: item.state for item in verdicts}


@pytest.fixture(scope="module")
def small() -> tuple[Contest, pl.DataFrame]:
    return city.reference_city(20_000, 5_000)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_ladder_is_in_order(small):
    with steps(Console(), "small city", 1) as step:
        found, _, _ = city.rungs(*small, seeds=[1], search=1, step=step)
    loss = {rung.name: rung.mean_min for rung in found}

    assert loss[city.ORACLE] < loss[city.OURS] < min(loss[city.BY_KM], loss[city.BY_PAIR])
    assert loss[city.ORACLE] < loss[city.TREES] < min(loss[city.BY_KM], loss[city.BY_PAIR])
    assert states(city.loss_verdicts(found))[goals.CITY_LEAK.statement] == "passed"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_who_sees_the_label_beats_the_oracle_and_is_called_a_leak(small):
    contest, table = small
    told = replace(contest, train=leaking(contest.train), test=leaking(contest.test))
    with steps(Console(), "small city", 1) as step:
        honest, _, _ = city.rungs(contest, table, seeds=[1], search=0, step=step)
    trees = rivals.trees(told, 1, [rivals.FIRST_TREES] * 3)
    leak = Rung("who sees the label", [measured(trees.predict(told.test), told.test.duration_min)])

    assert leak.mean_min < 0.5 * {rung.name: rung for rung in honest}[city.ORACLE].mean_min
    assert states(city.loss_verdicts([*honest, leak]))[goals.CITY_LEAK.statement] == "failed"


def leaking(trips: Trips) -> Trips:
    return replace(trips, inputs=trips.inputs | {"parcel_kg": trips.duration_min.astype("float32")})


@pytest.mark.parametrize(
    ("measured", "state"), [(0.9, "failed"), (1.0, "passed"), (1.5, "passed"), (2.1, "failed"), (math.nan, "failed")]
)
def test_a_goal_judges_from_both_sides(measured, state):
    goal = Goal("something", "min", at_least=1, at_most=2)
    assert goal.judge(measured).state == state
    assert goal.limit == "at least 1 and at most 2 min"
    assert goal.judge(measured, void="too few").state == "void"


def rung(name: str, seconds: float) -> Rung:
    """Loses just so many seconds at each level."""
    loss = np.full(3, seconds / 60)
    return Rung(name, [replace(measured(np.ones((1, 3)), np.ones(1)), loss_min=loss)])


@pytest.mark.parametrize(
    ("ours", "trees", "expected"),
    [
        (67.0, 70.0, {goals.NY_LIGHTGBM: "passed", goals.NY_LEAK: "passed", goals.NY_LOSS: "passed"}),
        (69.5, 70.0, {goals.NY_LIGHTGBM: "failed", goals.NY_LEAK: "passed", goals.NY_LOSS: "failed"}),
        (67.0, 72.0, {goals.NY_LIGHTGBM: "void", goals.NY_LEAK: "passed", goals.NY_LIGHTGBM_SOUND: "failed"}),
        (60.0, 70.0, {goals.NY_LIGHTGBM: "passed", goals.NY_LEAK: "failed"}),
    ],
)
def test_new_york_is_void_with_a_careless_peer_and_red_when_too_good_to_be_true(ours, trees, expected):
    losses = dict.fromkeys((new_york.TREES, new_york.REGROWN, new_york.GIVEN), trees)
    losses |= {new_york.OURS: ours, new_york.BY_PAIR: 86.0}
    said = states(new_york.loss_verdicts([rung(name, loss) for name, loss in losses.items()]))
    assert {goal: said[goal.statement] for goal in expected} == expected


def test_new_york_filters_by_time_miles_and_speed():
    table = pl.DataFrame(
        {
            "requested_at": [datetime(2020, 2, 1, tzinfo=UTC)] * 5 + [datetime(2020, 3, 1, 5, tzinfo=UTC)],
            "duration_min": [10.0, 0.5, 130.0, 10.0, 1441.0, 10.0],
            "miles": [2.0, 0.2, 2.0, 30.0, 2.0, None],
        }
    )
    rows = new_york.kinds(table)

    assert rows.filtered.tolist() == [True, False, False, False, False, False]
    assert rows.sane.tolist() == [True, True, True, True, False, True]
    assert rows.early.tolist() == [True] * 5 + [False]
    assert rows.month.tolist() == ["2020-01"] + ["2020-01"] * 4 + ["2020-03"]  # New York's clock, five hours behind


def of_groups(shares: dict[str, float], days: int, a_day: int) -> tuple[Trips, np.ndarray]:
    """Trips of some zone groups, and quantiles whose p90 covers each group's share of them."""
    rng, size = np.random.default_rng(3), days * a_day
    zone = rng.integers(len(shares), size=size)
    at = NOTHING + np.sort(rng.integers(days * 24 * 60, size=size)) * np.timedelta64(60, "s")
    took = np.where(rng.random(size) < np.array(list(shares.values()))[zone], 15.0, 30.0)
    trips = Trips(at, {"pickup_zone": zone}, took, dict(enumerate(shares)))
    return trips, np.tile([10.0, 15.0, 20.0], (size, 1))


def test_a_zone_group_is_outside_when_its_whole_interval_is_and_left_out_when_small():
    record = load()
    trips, quantiles = of_groups({"north": 0.9, "south": 0.8}, days=20, a_day=300)
    found = coverage.by_group(trips, quantiles, least=400)

    assert coverage.outside(found, record)[:1] == ["south (group-coverage-p90)"]
    assert "north (group-coverage-p90)" not in coverage.outside(found, record)
    north = found[coverage.P90]["north"]
    assert 0.88 < north.low < north.share < north.high < 0.92
    assert coverage.by_group(trips, quantiles, least=10_000) == {coverage.P90: {}, coverage.BAND: {}}
    assert coverage.group_verdict([found], record).state == "failed"


def test_coverage_is_void_on_few_trips_and_judged_on_many():
    for days, state in ((13, "void"), (20, "passed")):
        trips, quantiles = of_groups({"north": 0.9}, days, a_day=1000)
        p90, band = coverage.verdicts(trips, Rung("ours", [measured(quantiles, trips.duration_min)]))
        assert (p90.state, band.state) == (state, "void" if days == 13 else "failed")


def test_probes_find_what_shrinks_and_what_crosses():
    rng = np.random.default_rng(0)
    like = {
        "minute_of_week": rng.integers(10_080, size=50), "pickup_zone": rng.integers(1, 9, size=50),
        "dropoff_zone": rng.integers(1, 9, size=50), "distance_km": np.ones(50, "float32"),
        "vehicle": np.zeros(50, int),
    } | {name: np.ones(50, "float32") for name in ("parcel_kg", "rain_mm_h", "temperature_c", "city_pace")}  # fmt: skip

    def sound(inputs):
        return np.outer(inputs["distance_km"], [1, 2, 3])

    told = probes.probe(sound, like, 1000)
    assert (told.trips, told.shrunk, told.crossed) == (1000, 0, 0)
    assert probes.probe(lambda inputs: 1000 - sound(inputs), like, 1000).shrunk > 2500
    assert probes.probe(lambda inputs: sound(inputs)[:, ::-1], like, 1000).crossed == 4000


def test_a_process_is_weighed_alone_and_ends_as_it_ended(tmp_path: Path):
    """This process, with torch and more in it, is larger by far than the one it has weighed."""
    status, small = weighed([sys.executable, "-c", "print('heard'); raise SystemExit(3)"], {}, tmp_path / "log")
    assert (status, (tmp_path / "log").read_text()) == (3, "heard\n")
    assert small < 60

    _, large = weighed(
        [sys.executable, "-c", "import os; x = b'x' * int(os.environ['SIZE'])"], {"SIZE": "200000000"}, tmp_path / "log"
    )
    assert 200 < large < 260

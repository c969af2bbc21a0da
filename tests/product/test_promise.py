"""The promise policy, and that it knows no framework."""

from __future__ import annotations

import ast
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import product.promise
from product.promise import TARIFFS, compensation_eur, promise

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def imports_of(path: str) -> set[str]:
    """Top-level names a module imports."""
    found = set()
    for node in ast.walk(ast.parse(Path(path).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found.add(str(node.module).split(".")[0])
    return found


def test_the_promise_policy_knows_no_framework():
    assert imports_of(product.promise.__file__) <= sys.stdlib_module_names
    assert not imports_of(__file__) <= sys.stdlib_module_names  # the check does see foreign imports


@pytest.mark.parametrize(("p90", "minutes"), [(30.0, 30), (30.01, 31), (0.2, 1)])
def test_we_promise_the_p90_in_whole_minutes_never_less(p90, minutes):
    made = promise(p50_min=0.1, p90_min=p90, vehicle="bike", distance_km=3)

    assert made.minutes == minutes
    assert made.by(NOON) == NOON + timedelta(minutes=minutes)


def test_the_price_grows_with_distance_time_weight_and_vehicle():
    def price(p50=20.0, vehicle="bike", km=5.0, kg=None):
        return promise(p50, 40, vehicle, km, kg).price_eur

    assert price() == price(kg=20) < min(price(km=6), price(p50=25), price(kg=20.1))
    assert price() < price(vehicle="scooter") < price(vehicle="car") < price(vehicle="van")
    assert set(TARIFFS) == {"bike", "scooter", "car", "van"}


def test_the_price_does_not_depend_on_how_unsure_we_are():
    assert promise(20, 30, "bike", 5).price_eur == promise(20, 90, "bike", 5).price_eur


@pytest.mark.parametrize(("late", "back"), [(-5, 0), (0, 0), (0.1, 0.5), (1, 0.5), (3.5, 2.0), (19.5, 10), (900, 10)])
def test_each_late_minute_begun_pays_a_share_back_up_to_the_price(late, back):
    assert compensation_eur(price_eur=10, late_min=late) == back

"""Shares, intervals and pinball loss."""

from __future__ import annotations

import ast
import doctest
import math
import random
import sys
from pathlib import Path

import pytest

from monitoring import coverage
from monitoring.coverage import OF_NOTHING, Quantiles, Share, pinball, tally

PURE = ("coverage", "detectors", "comparison", "cohorts", "evidence", "standing", "policy", "watch")


def test_examples_in_docstrings_hold():
    assert doctest.testmod(coverage).failed == 0
    assert doctest.testmod(coverage).attempted >= 2


@pytest.mark.parametrize("module", PURE)
def test_the_pure_parts_know_no_framework(module):
    tree = ast.parse(Path(coverage.__file__).with_name(f"{module}.py").read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    outside = {name for name in names if name.split(".")[0] not in sys.stdlib_module_names}
    allowed = {"contracts.decisions", "contracts.requirements", "contracts.trips", "contracts.problems"}
    assert outside <= allowed | {f"monitoring.{pure}" for pure in PURE}


def test_wilsons_interval_covers_the_truth_as_often_as_it_says():
    rng = random.Random(1)
    inside = 0
    for _ in range(2_000):
        low, high = Share(sum(rng.random() < 0.9 for _ in range(60)), 60).interval(0.05)
        inside += low <= 0.9 <= high
    assert 0.93 <= inside / 2_000 <= 0.975


def test_of_nothing_anything_may_be_true():
    assert OF_NOTHING.interval(0.05) == (0.0, 1.0)
    assert math.isnan(OF_NOTHING.value)


def test_pinball_is_least_at_the_true_quantiles():
    rng = random.Random(2)
    durations = [rng.gauss(20, 5) for _ in range(4_000)]
    z = 1.2816 * 5

    def loss(shift: float) -> float:
        return sum(pinball(minutes, Quantiles(20 - z + shift, 20 + shift, 20 + z + shift)) for minutes in durations)

    assert loss(0) < min(loss(-2), loss(2))


def test_a_tally_counts_each_side():
    counted = tally(["above", "inside", "inside", "below"])
    assert (counted.p90.value, counted.band.value) == (0.75, 0.5)
    assert counted.and_one("above").p90 == Share(3, 5)

"""Charts: what is measured is drawn, and gaps stay gaps."""

from __future__ import annotations

import math

from monitoring.charts import HEIGHT, WIDTH, chart

NAN = math.nan


def path_of(values: list[float]) -> str:
    [(_, path, _)] = chart("coverage", {"p90": values}, {}).curves
    return path


def test_a_point_without_neighbours_is_a_dash():
    middle = f"{WIDTH / 2} {HEIGHT / 2}"
    assert path_of([0.9]) == path_of([NAN, 0.9, NAN]) == f"M{middle}m-3 0h6"


def test_a_gap_parts_a_curve_in_two():
    path = path_of([0.8, 0.9, NAN, 0.7, 0.8])
    assert [part.count("L") for part in path.split("M")[1:]] == [1, 1]
    assert "h" not in path


def test_nothing_measured_draws_nothing():
    [(_, path, newest)] = chart("coverage", {"p90": [NAN, NAN]}, {}).curves
    assert path == ""
    assert math.isnan(newest)

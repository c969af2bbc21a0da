"""Charts as plain SVG coordinates: no script and no library, readable on a phone and on paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 200
CURVE_WIDTH, CURVE_HEIGHT = 480, 260  # narrower, so that its words stay large on a phone


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over the same ticks, oldest first, with the limits they are held to and the decisions taken."""

    title: str
    curves: list[tuple[str, str, float]]  # name, SVG path with gaps where nothing was measured, newest value
    band: tuple[float, float] | None  # y of the upper and of the lower limit
    scale: list[tuple[float, str]]  # y and its label
    marks: list[tuple[float, str, str]]  # x, kind and id of a decision


def chart(
    title: str,
    series: Mapping[str, Sequence[float]],
    marks: Mapping[int, tuple[str, str]],
    floor: float | None = None,
    ceiling: float | None = None,
) -> Chart:
    """Lay out a chart. Series hold one value per tick, NaN for none; `marks` names kind and id by tick."""
    values = [value for one in series.values() for value in one if not math.isnan(value)]
    values = [*values, *(limit for limit in (floor, ceiling) if limit is not None)] or [0.0, 1.0]
    margin = (max(values) - min(values)) * 0.08 or 0.05
    low, high = min(values) - margin, max(values) + margin
    ticks = max((len(one) for one in series.values()), default=0)

    def x(place: int) -> float:
        return round(WIDTH * (place + 0.5) / max(ticks, 1), 1)

    def y(value: float) -> float:
        return round(HEIGHT * (high - value) / (high - low), 1)

    def path(one: Sequence[float]) -> str:
        known = [None if math.isnan(value) else f"{x(place)} {y(value)}" for place, value in enumerate(one)]
        parts = []
        for place, point in enumerate(known):
            if point and place and known[place - 1]:
                parts.append(f"L{point}")
            elif point:
                alone = known[place + 1 : place + 2] in ([], [None])
                parts.append(f"M{point}m-3 0h6" if alone else f"M{point}")  # a dash, where a line would be nothing
        return "".join(parts)

    def newest(one: Sequence[float]) -> float:
        return next((value for value in reversed(one) if not math.isnan(value)), math.nan)

    return Chart(
        title,
        curves=[(name, path(one), newest(one)) for name, one in series.items()],
        band=None
        if floor is None and ceiling is None
        else (y(high if ceiling is None else ceiling), y(low if floor is None else floor)),
        scale=[(y(value), f"{value:.2f}") for value in (min(values), (low + high) / 2, max(values))],
        marks=[(x(place), kind, decision_id) for place, (kind, decision_id) in marks.items()],
    )


@dataclass(frozen=True, slots=True)
class Curve:
    """Points joined in their order, with round values along both axes and the limit they are held to."""

    points: list[tuple[float, float]]  # SVG coordinates, one for each point given
    path: str
    across: list[tuple[float, str]]  # x and its label
    up: list[tuple[float, str]]  # y and its label
    limit: float  # y


def curve(points: Sequence[tuple[float, float]], limit: float) -> Curve:
    """Lay out (x, y) points. The y axis starts at 0, so that heights compare as the values do; the x axis does not."""
    across, up = [x for x, _ in points], [y for _, y in points]
    margin = (max(across) - min(across)) * 0.04 or 0.5
    left, right = min(across) - margin, max(across) + margin
    top = max(*up, limit) * 1.06

    def x(value: float) -> float:
        return round(CURVE_WIDTH * (value - left) / (right - left), 1)

    def y(value: float) -> float:
        return round(CURVE_HEIGHT * (top - value) / top, 1)

    placed = [(x(one), y(other)) for one, other in points]
    return Curve(
        points=placed,
        path="M" + "L".join(f"{one} {other}" for one, other in placed),
        across=[(x(value), f"{value:g}") for value in round_values(left, right)],
        up=[(y(value), f"{value:g}") for value in round_values(0, top)],
        limit=y(limit),
    )


def round_values(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between two ends, `most` steps apart or fewer.

    >>> round_values(17.2, 48.9)
    [20.0, 30.0, 40.0]
    """
    unit = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(unit * times for times in (1, 2, 5, 10) if unit * times * most >= high - low)
    return [step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1)]

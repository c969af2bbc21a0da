"""Charts as plain SVG coordinates: no script and no library, readable on a phone and on paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 200


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
        return "".join(
            f"{'L' if place and known[place - 1] else 'M'}{point}" for place, point in enumerate(known) if point
        )

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

"""Charts as plain SVG coordinates: no script, no library, readable on a phone and on paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 200


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart. `points` is an SVG path; gaps where there was nothing to measure."""

    name: str
    points: str
    newest: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A decision on a chart."""

    x: float
    kind: str
    decision_id: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over the same ticks, oldest first, with the limits they are held to and the decisions taken."""

    title: str
    curves: Sequence[Curve]
    band: tuple[float, float] | None  # y of the upper and of the lower limit
    scale: Sequence[tuple[float, str]]  # y and its label
    marks: Sequence[Mark]


def chart(
    title: str,
    series: Mapping[str, Sequence[float]],
    limits: tuple[float | None, float | None],
    marks: Mapping[int, tuple[str, str]],
) -> Chart:
    """Lay out a chart. Series hold one value per tick, NaN for none; `marks` name kind and id by tick."""
    known = [value for values in series.values() for value in values if not math.isnan(value)]
    known += [limit for limit in limits if limit is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    margin = (high - low) * 0.08 or 0.05
    low, high = low - margin, high + margin
    count = max((len(values) for values in series.values()), default=0)

    def x(place: int) -> float:
        return round(WIDTH * (place + 0.5) / max(count, 1), 1)

    def y(value: float) -> float:
        return round(HEIGHT * (high - value) / (high - low), 1)

    curves = []
    for name, values in series.items():
        path, pen = [], "M"
        for place, value in enumerate(values):
            if math.isnan(value):
                pen = "M"
            else:
                path.append(f"{pen}{x(place)} {y(value)}")
                pen = "L"
        newest = next((value for value in reversed(values) if not math.isnan(value)), math.nan)
        curves.append(Curve(name, "".join(path), newest))
    floor, ceiling = limits
    band = (y(high if ceiling is None else ceiling), y(low if floor is None else floor)) if any(limits) else None
    scale = [(y(value), f"{value:.2f}") for value in (low + margin, (low + high) / 2, high - margin)]
    return Chart(title, curves, band, scale, [Mark(x(place), kind, name) for place, (kind, name) in marks.items()])

"""Estimates without the model: a table of how long such trips took lately, and a rule of thumb where it is silent."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from contracts.estimates import Quantiles
from contracts.trips import LEVELS, TripRequest, Vehicle, minute_of_week

BAND_EDGES_KM = (1, 2, 3, 4, 5, 6.5, 8, 10, 13, 17, 24)
PART_STARTS_H = {True: (6, 10, 15, 19), False: (9, 18)}  # working days: night, morning, midday, evening peak, late
LEAST_OUTCOMES = 40  # with fewer trips a cell's p90 is mostly chance
SPEED_KM_H: Mapping[Vehicle, float] = {"bike": 14, "scooter": 19, "car": 17, "van": 15}
HANDOVER_MIN = 9
SPREAD = (0.7, 1.0, 1.6)  # p10, p50, p90 of the rule of thumb, as shares of its typical time


@dataclass(frozen=True, slots=True)
class PastOutcome:
    """One delivered trip, as much of it as the table needs. `minute` counts from Monday 00:00 when it was asked for."""

    vehicle: str
    distance_km: float
    minute: int
    duration_min: float


Cell = tuple[str, int] | tuple[str, int, tuple[bool, int]]


def cells(vehicle: str, distance_km: float, minute: int) -> tuple[Cell, Cell]:
    """A trip's cells: vehicle, distance band and part of day; and, to back off to, any part of the day."""
    band, workday = bisect_right(BAND_EDGES_KM, distance_km), minute < 5 * 1440
    part = workday, bisect_right(PART_STARTS_H[workday], minute % 1440 // 60)
    return (vehicle, band, part), (vehicle, band)


def empirical(durations_min: Sequence[float]) -> Quantiles:
    """Quantiles of some durations in minutes, interpolated between neighbours.

    >>> empirical([10.0, 20.0, 30.0]).p50_min
    20.0
    """
    ordered = sorted(durations_min)

    def at(level: float) -> float:
        place = level * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    p10, p50, p90 = (at(level) for level in LEVELS)
    return Quantiles(p10_min=p10, p50_min=p50, p90_min=p90)


def rule_of_thumb(vehicle: Vehicle, distance_km: float) -> Quantiles:
    """A handover and the route at the vehicle's usual speed: what we sell by on the very first day."""
    typical = min(HANDOVER_MIN + 60 * distance_km / SPEED_KM_H[vehicle], 1440)
    p10, p50, p90 = (typical * share for share in SPREAD)
    return Quantiles(p10_min=p10, p50_min=p50, p90_min=p90)


@dataclass(frozen=True, slots=True)
class FallbackTable:
    """Quantiles by cell. An empty table is a good one: it answers by the rule of thumb."""

    quantiles: Mapping[Cell, Quantiles] = field(default_factory=dict)

    @classmethod
    def of(cls, outcomes: Iterable[PastOutcome]) -> FallbackTable:
        """Every cell with enough past outcomes."""
        durations: dict[Cell, list[float]] = defaultdict(list)
        for past in outcomes:
            for cell in cells(past.vehicle, past.distance_km, past.minute):
                durations[cell].append(past.duration_min)
        return cls({cell: empirical(some) for cell, some in durations.items() if len(some) >= LEAST_OUTCOMES})

    def estimate(self, trip: TripRequest, zone: ZoneInfo) -> Quantiles:
        """How long such trips take, for any trip at any time."""
        for cell in cells(trip.vehicle, trip.distance_km, minute_of_week(trip.requested_at, zone)):
            if cell in self.quantiles:
                return self.quantiles[cell]
        return rule_of_thumb(trip.vehicle, trip.distance_km)


class Fallback:
    """The table in use, rebuilt from product's own past outcomes."""

    def __init__(self, past: Callable[[], Iterable[PastOutcome]]) -> None:
        self.past = past
        self.table = FallbackTable()

    def rebuild(self) -> None:
        """Replace the table in one step: a quote meets the old one or the new one."""
        self.table = FallbackTable.of(self.past())

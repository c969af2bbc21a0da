"""The promise policy: what a customer is promised, what it costs, what lateness costs us. Standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

HEAVY_KG = 20
HEAVY_EUR = 4.0
BACK_PER_LATE_MIN = 0.05  # share of the price paid back for each minute begun after the promise


@dataclass(frozen=True, slots=True)
class Tariff:
    """What a vehicle costs, in EUR: to start, for each km of the route, for each minute the trip usually takes."""

    start: float
    per_km: float
    per_min: float


TARIFFS = {
    "bike": Tariff(2.40, 0.30, 0.12),
    "scooter": Tariff(2.90, 0.40, 0.13),
    "car": Tariff(4.20, 0.60, 0.16),
    "van": Tariff(6.50, 0.80, 0.20),
}


@dataclass(frozen=True, slots=True)
class Promise:
    """Within how many minutes of booking the parcel is there, and the price."""

    minutes: int
    price_eur: float

    def by(self, booked_at: datetime) -> datetime:
        """The arrival time committed to. A trip starts at its booking, so the promise runs from there."""
        return booked_at + timedelta(minutes=self.minutes)


def promise(
    p50_min: float, p90_min: float, vehicle: str, distance_km: float, parcel_kg: float | None = None
) -> Promise:
    """Promise the p90, in whole minutes, because a late parcel hurts more than a slow one.

    >>> promise(p50_min=18, p90_min=30.2, vehicle="bike", distance_km=4)
    Promise(minutes=31, price_eur=5.76)
    """
    tariff = TARIFFS[vehicle]
    price = tariff.start + tariff.per_km * distance_km + tariff.per_min * p50_min
    heavy = HEAVY_EUR if parcel_kg is not None and parcel_kg > HEAVY_KG else 0.0
    return Promise(math.ceil(p90_min), round(price + heavy, 2))


def compensation_eur(price_eur: float, late_min: float) -> float:
    """What a late parcel earns its customer: a share of the price per minute begun, never more than the price.

    >>> compensation_eur(price_eur=8.0, late_min=2.5)
    1.2
    """
    return round(min(price_eur, price_eur * BACK_PER_LATE_MIN * math.ceil(max(0.0, late_min))), 2)

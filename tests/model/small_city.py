"""A small seeded city for the model team's tests: twelve zones, four groups, two banks of a river. Writes snapshots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from contracts.snapshots import SnapshotMade, SnapshotZone
from contracts.tables import content_digest, dtypes, minute_of_week
from contracts.trips import VEHICLES

GROUPS = ("Harbour", "Mills", "Old Town", "Park")
NORTH = {"Harbour", "Mills"}
ZONES = [
    SnapshotZone(
        zone=11 * number + 3,
        name=f"Zone {number}",
        group=GROUPS[number // 3],
        x_km=1.7 * (number % 3) + 4.0 * (number // 3 % 2),
        y_km=1.1 * (number % 2) + (4.0 if GROUPS[number // 3] in NORTH else 0.0),
    )
    for number in range(12)
]
BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 4, 6, tzinfo=BERLIN)
KM_PER_H = np.array([14.0, 20.0, 22.0, 24.0])  # by vehicle


def crosses(pickup: np.ndarray, dropoff: np.ndarray) -> np.ndarray:
    """Whether a trip crosses the river."""
    north = {zone.zone: zone.group in NORTH for zone in ZONES}
    return np.array([north[a] != north[b] for a, b in zip(pickup, dropoff, strict=True)])


def trips(rows: int, days: float, seed: int, start: datetime = START, bridge_factor: float = 1.0) -> pl.DataFrame:
    """`rows` completed trips over `days`; crossing the river takes `bridge_factor` times as long."""
    rng = np.random.default_rng(seed)
    at = np.sort(rng.uniform(0, days * 86400, rows))
    requested = pl.Series(
        "requested_at", [start + timedelta(seconds=float(second)) for second in at]
    ).dt.convert_time_zone("UTC")
    numbers = np.array([zone.zone for zone in ZONES])
    place = np.array([[zone.x_km, zone.y_km] for zone in ZONES])
    start_at, end_at = rng.integers(0, 12, rows), rng.integers(0, 12, rows)
    km = 0.7 + 1.3 * np.linalg.norm(place[start_at] - place[end_at], axis=1)
    vehicle = rng.choice(4, rows, p=[0.4, 0.3, 0.1, 0.2])
    minute = pl.DataFrame(requested).select(minute_of_week("requested_at", BERLIN)).to_series().to_numpy()
    hour = minute % 1440 / 60
    rush = np.exp(-((hour - 8) ** 2) / 3) + np.exp(-((hour - 17.5) ** 2) / 5)
    rush = np.where(minute < 5 * 1440, rush, 0.3)
    rain = np.where(rng.random(rows) < 0.25, rng.gamma(2, 1.2, rows), 0.0)
    pace = np.exp(0.35 * rush + rng.normal(0, 0.1, rows))
    slower = 1 + np.where(vehicle == 0, 0.09, np.where(vehicle == 1, 0.05, 0.02)) * rain
    door = 2.0 + 6.0 * (np.arange(12) * 5 % 12) / 12  # minutes at the door, by zone
    wait = (3.0 + door[start_at]) * (1 + 0.8 * rush) * np.exp(rng.normal(0, 0.25, rows))
    ride = km / KM_PER_H[vehicle] * 60 * slower * np.where(vehicle >= 2, pace, pace**0.2)
    ride *= np.exp(rng.normal(0, 0.13, rows)) * np.where(rng.random(rows) < 0.03, 2.0, 1.0)
    across = crosses(numbers[start_at], numbers[end_at])
    duration = wait + ride * np.where(across, bridge_factor, 1.0)
    delivered = rng.random(rows) < 0.97
    weather_known, pace_known, mass_known = (rng.random(rows) < share for share in (0.97, 0.97, 0.8))
    ended = [when + timedelta(minutes=float(minutes)) for when, minutes in zip(requested, duration, strict=True)]

    def known(values: np.ndarray, mask: np.ndarray) -> list[float | None]:
        return [float(value) if here else None for value, here in zip(values, mask, strict=True)]

    return pl.DataFrame(
        {
            "trip_id": [f"t{seed}-{number}" for number in range(rows)],
            "requested_at": requested,
            "pickup_zone": numbers[start_at],
            "dropoff_zone": numbers[end_at],
            "distance_km": km,
            "vehicle": [VEHICLES[number] for number in vehicle],
            "parcel_kg": known(rng.gamma(2, 3, rows) + 0.05, mass_known),
            "rain_mm_h": known(rain, weather_known),
            "temperature_c": known(rng.normal(12, 6, rows), weather_known),
            "city_pace": known(pace, pace_known),
            "booked_at": requested,
            "picked_up_at": [None] * rows,
            "ended_at": ended,
            "outcome": np.where(delivered, "delivered", "cancelled"),
            "duration_min": known(duration, delivered),
            "source": ["fallback"] * rows,
            "estimate_id": [None] * rows,
            "bundle_version": [None] * rows,
            "p10_min": rng.uniform(5, 10, rows),
            "p50_min": rng.uniform(10, 20, rows),
            "p90_min": rng.uniform(20, 60, rows),
            "promised_by": ended,
            "audit": [False] * rows,
        },
        schema=dtypes(),
    )


def write_snapshot(
    parent: Path,
    table: pl.DataFrame,
    change_at: datetime | None = None,
    decision_id: str | None = None,
    zones: Sequence[SnapshotZone] = ZONES,
    rows_quarantined: int | None = None,
) -> SnapshotMade:
    """Write `<parent>/<digest>/` as data does."""
    places = json.dumps([zone.model_dump() for zone in zones])
    digest = content_digest("city", BERLIN.key, places, [table])
    folder = parent / digest
    folder.mkdir(parents=True, exist_ok=True)
    table.write_parquet(folder / "trips.parquet")
    (folder / "zones.json").write_text(places)
    delivered = table.filter(pl.col("duration_min").is_not_null())
    since = delivered if change_at is None else delivered.filter(pl.col("requested_at") >= change_at.astimezone(UTC))
    made = SnapshotMade(
        digest=digest,
        source="city",
        time_zone=BERLIN.key,
        rows=table.height,
        first_requested_at=table["requested_at"].min().replace(tzinfo=UTC),
        last_requested_at=table["requested_at"].max().replace(tzinfo=UTC),
        decision_id=decision_id,
        change_at=change_at,
        rows_since_change=since.height,
        zone_groups={zone.zone: zone.group for zone in zones},
        rows_quarantined=rows_quarantined,
    )
    (folder / "snapshot.json").write_text(made.model_dump_json())
    return made

"""Simulate the city's past as product would have recorded it:  python -m data.history --weeks 8 --out history.jsonl

In that past there was no model: every trip was sold with the fallback, an empirical table from a pilot before it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.progress import track

from contracts import requirements, tables
from contracts.problems import plain_words
from contracts.trips import LEVELS, OUTCOMES, VEHICLES, instant_of
from data.city import incidents as incident_files
from data.city.dice import keys_of
from data.city.incidents import Started, map_unit_km
from data.city.reference import City
from data.city.times import EPOCH, ZONE, Floats, minutes_at, steps_at
from data.settings import Settings

LIVE_START = datetime(2026, 6, 1, 7, tzinfo=ZONE)
PILOT = timedelta(weeks=2)  # the trips that the fallback table rests on, right before the history
BANDS_KM = (2.0, 3.5, 5.0, 7.0, 10.0)
DAY_PARTS_MIN = (6 * 60, 10 * 60, 16 * 60, 21 * 60)
LEAST_IN_CELL = 50
ESTIMATE = ["p10_min", "p50_min", "p90_min"]


def simulate(city: City, start: datetime, end: datetime, incidents: Sequence[Started] = ()) -> pl.DataFrame:
    """Trips asked for after `start`, up to `end`, and booked: rows of `CompletedTrip` in order of request."""
    cells = fallback_cells(city, start)
    shown = _shown(_quoted(city, start, end, incidents), cells)
    booked = shown.filter(pl.col("p90_min") <= pl.col("patience_min"))
    promised = pl.col("booked_at") + pl.duration(seconds=(60 * pl.col("p90_min")).round())
    rest = [
        pl.lit("fallback").alias("source"),
        pl.lit(None, pl.String).alias("estimate_id"),
        pl.lit(None, pl.String).alias("bundle_version"),
        promised.alias("promised_by"),
        pl.lit(False).alias("audit"),
    ]
    return booked.with_columns(rest).select(pl.col(name).cast(kind) for name, kind in tables.dtypes().items())


def _quoted(city: City, start: datetime, end: datetime, incidents: Sequence[Started] = ()) -> pl.DataFrame:
    """Every wish of a time with its columns and with how the trip goes if it is booked."""
    wishes = city.demand.during(minutes_at(start), minutes_at(end))
    ids = [f"h-{key:016x}" for key in city.dice.bits(wishes.key, "trip id").tolist()]
    seen = city.readings(steps_at(wishes.at), incidents)
    km = city.streets.route_km[wishes.pickup, wishes.dropoff] / map_unit_km(incidents, wishes.at)
    booked_at = wishes.at + np.ceil(10 + 40 * city.dice.uniforms(wishes.key, "thinking")) / 60
    truth = city.truth(replace(wishes, key=keys_of(ids), at=booked_at), incidents)
    outcome = np.array(OUTCOMES)[truth.outcome]
    took = np.where(outcome == "delivered", np.round((truth.ended - booked_at) * 60) / 60, np.nan)
    columns = {
        "trip_id": ids,
        "requested_at": _times(wishes.at),
        "pickup_zone": wishes.pickup + 1,
        "dropoff_zone": wishes.dropoff + 1,
        "distance_km": np.round(km, 3),
        "vehicle": np.array(VEHICLES)[wishes.vehicle],
        "parcel_kg": wishes.parcel_kg,
        "rain_mm_h": seen.rain_mm_h,
        "temperature_c": seen.temperature_c,
        "city_pace": seen.city_pace,
        "booked_at": _times(booked_at),
        "picked_up_at": _times(truth.picked_up),
        "ended_at": _times(truth.ended),
        "outcome": outcome,
        "duration_min": took,
        "patience_min": city.patience(wishes),
    }
    return pl.DataFrame(columns).with_columns(pl.col(pl.Float64).fill_nan(None))


def _times(minutes: Floats) -> pl.Series:
    """Minutes since the epoch as instants, to the second; NaN as null."""
    microseconds = (pl.Series(minutes).fill_nan(None) * 60).round().cast(pl.Int64) * 1_000_000
    return microseconds.cast(pl.Duration("us")) + EPOCH


def fallback_cells(city: City, start: datetime) -> list[pl.DataFrame]:
    """Empirical quantiles of the pilot by vehicle, distance band and part of day, then with ever less detail."""
    pilot = _celled(_quoted(city, start - PILOT, start).filter(pl.col("outcome") == "delivered"))
    quantiles = [
        pl.col("duration_min").quantile(level).round(2).alias(name)
        for level, name in zip(LEVELS, ESTIMATE, strict=True)
    ]
    tables_ = []
    for keys in (["vehicle", "band", "part"], ["vehicle", "band"], ["vehicle"]):
        cells = pilot.group_by(keys).agg(pl.len().alias("trips"), *quantiles)
        tables_.append(cells.filter(pl.col("trips") >= LEAST_IN_CELL).drop("trips"))
    return tables_


def _celled(trips: pl.DataFrame) -> pl.DataFrame:
    minute_of_day = tables.minute_of_week("requested_at", ZONE) % 1440
    part = pl.sum_horizontal(minute_of_day >= edge for edge in DAY_PARTS_MIN) % len(DAY_PARTS_MIN)
    band = pl.sum_horizontal(pl.col("distance_km") > edge for edge in BANDS_KM)
    return trips.with_columns(part.alias("part"), band.alias("band"))


def _shown(quoted: pl.DataFrame, cells: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Quotes with the estimate of the most detailed cell that had enough trips."""
    found = _celled(quoted).with_columns(pl.lit(None, pl.Float64).alias(name) for name in ESTIMATE)
    for table in cells:
        keys = [name for name in table.columns if name not in ESTIMATE]
        found = found.join(table, on=keys, how="left", suffix="_here", maintain_order="left")
        found = found.with_columns(pl.coalesce(name, f"{name}_here").alias(name) for name in ESTIMATE)
        found = found.drop(f"{name}_here" for name in ESTIMATE)
    return found


def ended_before(trips: pl.DataFrame, end: datetime) -> pl.DataFrame:
    """The trips whose end is history at `end`, in order of it.

    Those asked for within the closing time before `end` are left out whole: of these only the quick ones would be in.
    """
    end = end.astimezone(UTC)
    closed = end - timedelta(minutes=requirements.load().policy.closing_min)
    past = trips.filter((pl.col("requested_at") < closed) & (pl.col("ended_at") < end))
    return past.sort("ended_at", "trip_id")


def events(trips: pl.DataFrame) -> pl.Series:
    """Each trip's last event as JSON, ids from 1 on in the order given."""
    written = pl.col(pl.Datetime).dt.convert_time_zone(ZONE.key).dt.strftime("%Y-%m-%dT%H:%M:%S%:z")
    rows = trips.with_columns(written)
    envelope = (
        pl.lit('{"specversion":"1.0","id":"'), (pl.row_index() + 1).cast(pl.String),
        pl.lit('","source":"/tandem/trips","type":"trip.'), pl.col("outcome"),
        pl.lit('","time":"'), pl.col("ended_at"), pl.lit('","subject":"'), pl.col("trip_id"),
        pl.lit('","datacontenttype":"application/json","data":'), pl.struct(trips.columns).struct.json_encode(),
        pl.lit("}"),
    )  # fmt: skip
    return rows.select(pl.concat_str(envelope)).to_series()


@plain_words()
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the history that ends where the live clock starts."""
    parser = argparse.ArgumentParser(prog="python -m data.history", description="Simulate the city's past.")
    parser.add_argument("--weeks", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=Settings().city_seed)
    parser.add_argument("--incident", help="an incident that happened in this past; needs --at")
    parser.add_argument("--at", type=instant_of, help="when it was started, with an offset")
    args = parser.parse_args(arguments)
    if (args.incident is None) != (args.at is None):
        parser.error("--incident and --at go together")
    happened = [] if args.at is None else [Started(incident_files.load(args.incident), minutes_at(args.at))]
    write(City(args.seed), LIVE_START - timedelta(weeks=args.weeks), happened, args.out)


def write(city: City, start: datetime, incidents: Sequence[Started], out: Path) -> None:
    """Simulate and write; `out` appears whole or not at all."""
    console = Console(stderr=True)
    with console.status("simulating the past"):
        trips = ended_before(simulate(city, start, LIVE_START, incidents), LIVE_START)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    with part.open("w") as file:
        for line in track(events(trips), f"writing {trips.height:,} trips", trips.height, console=console):
            file.write(f"{line}\n")
    part.replace(out)
    console.print(f"{out}: {trips.height:,} trips, {out.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()

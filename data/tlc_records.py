"""New York's published taxi trip records as they come: yellow or green, a Parquet file a month, types as they like."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import cos, radians
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl

from contracts.problems import TandemError
from contracts.snapshots import SnapshotZone
from contracts.tables import TIME

NEW_YORK = ZoneInfo("America/New_York")
KM_PER_DEGREE = 111.32
NEEDED = ("pulocationid", "dolocationid", "trip_distance")
COLOURS = {"tpep": "yellow", "lpep": "green"}
ZONE_COLUMNS = ("location_id", "borough", "zone", "lat", "lon")
UNREADABLE = (OSError, pl.exceptions.PolarsError)


class NotTripRecords(TandemError):
    """A file that is not a month of TLC trip records with taxi zones, or no file at all."""


@dataclass(frozen=True, slots=True)
class Month:
    """One published file. `columns` maps lower-case names to those in the file."""

    path: Path
    name: str
    prefix: str
    columns: dict[str, str]

    @classmethod
    def of(cls, path: Path) -> Month:
        """Know a file by its columns and its month by its name. Raises `NotTripRecords`."""
        try:
            columns = {name.lower(): name for name in pl.read_parquet_schema(path)}
        except UNREADABLE as error:
            raise NotTripRecords(f"{path}: {_first_line(error)}: mend --trips") from error
        prefix = next((name for name in COLOURS if f"{name}_pickup_datetime" in columns), None)
        month = re.search(r"\d{4}-\d{2}", path.stem)
        if prefix is None or month is None or not columns.keys() >= set(NEEDED):
            raise NotTripRecords(f"{path}: no month of yellow or green trips by zone, such as 2018-01: leave it out")
        return cls(path, f"{COLOURS[prefix]}-{month[0]}", prefix, columns)

    @property
    def trips(self) -> pl.LazyFrame:
        """The file's rows in one shape: zones, miles, local times, start and end in UTC, minutes between them.

        A local time that happened twice or never, because clocks changed, has no start or end.
        """
        source = pl.scan_parquet(self.path)
        kinds = source.collect_schema()

        def local(event: str) -> pl.Expr:
            name = self.columns[f"{self.prefix}_{event}_datetime"]
            read = pl.col(name).str.to_datetime(strict=False) if kinds[name] == pl.String else pl.col(name)
            return read.cast(pl.Datetime("us"))

        def instant(name: str) -> pl.Expr:
            return pl.col(name).dt.replace_time_zone(NEW_YORK.key, ambiguous="null", non_existent="null").cast(TIME)

        pickup_zone, dropoff_zone, miles = (pl.col(self.columns[name]) for name in NEEDED)
        read = source.select(
            pickup_zone=pickup_zone.cast(pl.Int64, strict=False),
            dropoff_zone=dropoff_zone.cast(pl.Int64, strict=False),
            miles=miles.cast(pl.Float64, strict=False),
            pickup_local=local("pickup"),
            dropoff_local=local("dropoff"),
        ).with_columns(start=instant("pickup_local"), end=instant("dropoff_local"))
        return read.with_columns(minutes=(pl.col("end") - pl.col("start")).dt.total_microseconds() / 60e6)

    @property
    def span(self) -> tuple[datetime, datetime]:
        """The month's first instant and the next month's."""
        year, month = (int(part) for part in self.name.split("-")[1:])
        after = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=NEW_YORK)
        return datetime(year, month, 1, tzinfo=NEW_YORK).astimezone(UTC), after.astimezone(UTC)

    @property
    def within(self) -> pl.Expr:
        """Whether a trip starts in the month: meters with a wrong clock write of 2008."""
        first, after = self.span
        return pl.col("start").is_between(first, after, closed="left")


def months_in(places: Sequence[Path]) -> list[Month]:
    """The months in files and folders, oldest first. Raises `NotTripRecords` where a month is there twice."""
    files = [file for place in places for file in (sorted(place.glob("*.parquet")) if place.is_dir() else [place])]
    months = sorted((Month.of(file) for file in files), key=lambda month: (month.span, month.name))
    twice = [name for name, count in Counter(month.name for month in months).items() if count > 1]
    if twice or not months:
        shown = ", ".join(str(place) for place in places)
        raise NotTripRecords(f"{shown}: {f'{twice[0]} is there twice' if twice else 'no Parquet files'}: mend --trips")
    return months


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def read_zones(path: Path) -> list[SnapshotZone]:
    """Zones from a table of centroids: location_id, borough, zone, lat, lon. Boroughs are the zone groups.

    Raises `NotTripRecords`.
    """
    try:
        table = pl.read_csv(path).select(ZONE_COLUMNS).unique("location_id").sort("location_id")
        south, west, middle = table.select(south=pl.min("lat"), west=pl.min("lon"), middle=pl.mean("lat")).row(0)
    except UNREADABLE as error:
        raise NotTripRecords(f"{path}: {_first_line(error)}: mend --zones") from error
    return [
        SnapshotZone(
            zone=row["location_id"],
            name=row["zone"],
            group=row["borough"],
            x_km=round((row["lon"] - west) * KM_PER_DEGREE * cos(radians(middle)), 3),
            y_km=round((row["lat"] - south) * KM_PER_DEGREE, 3),
        )
        for row in table.iter_rows(named=True)
    ]

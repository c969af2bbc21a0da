"""What was known before a cut-off of New York's routes and durations, to fill in what a trip record lacks.

The planned route of a zone pair is its median metered distance. A pair too rarely driven takes the straight line
between its zones times the median detour of its pickup zone, else of the city; inside a zone, the city's median.
The shown estimate is the empirical quantiles of the pair, else of its pickup zone, else of the city.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl
from rich.progress import track

from data.batch_rules import ZoneReference
from data.tlc_records import Month, NotTripRecords

KM_PER_MILE = 1.609
LEAST_TRIPS = 10  # so many trips make a figure that is not one trip's own
PAIR, ZONE, CITY = ["pickup_zone", "dropoff_zone"], ["pickup_zone"], ["city"]
LEVELS = {"p10_min": 0.1, "p50_min": 0.5, "p90_min": 0.9}


@dataclass(frozen=True, slots=True)
class Past:
    """Figures by pair, zone and city; each table is joined on its keys."""

    reference: ZoneReference
    tables: Sequence[tuple[list[str], pl.DataFrame]]

    @classmethod
    def before(cls, until: datetime, months: Sequence[Month], reference: ZoneReference) -> Past:
        """Read the past month by month. Only counts of rounded values are kept, so that its size does not matter."""
        zones = [zone.zone for zone in reference.zones]
        known = pl.col("pickup_zone").is_in(zones) & pl.col("dropoff_zone").is_in(zones)
        sane = known & (pl.col("start") < until) & (pl.col("minutes") > 0) & (pl.col("miles") > 0)
        counted: dict[str, list[pl.DataFrame]] = {"miles": [], "minutes": []}
        for month in track([month for month in months if month.span[0] < until], "reading the past"):
            trips = month.trips.filter(sane & month.within)
            for value, digits in (("miles", 2), ("minutes", 1)):
                by_value = trips.group_by(*PAIR, pl.col(value).round(digits)).agg(trips=pl.len())
                counted[value].append(by_value.with_columns(city=0).collect(engine="streaming"))
        if not counted["miles"]:
            raise NotTripRecords(f"no month begins before {until:%Y-%m-%d}: routes can't be known; add earlier months")
        minutes = pl.concat(counted["minutes"])
        miles = reference.straight_km(pl.concat(counted["miles"])).with_columns(km=pl.col("miles") * KM_PER_MILE)
        miles = miles.with_columns(detour=pl.col("km") / pl.col("straight_km"))
        inside = miles.filter(pl.col("pickup_zone") == pl.col("dropoff_zone"))
        tables = [
            (PAIR, _quantiles(miles, PAIR, "km", {"pair_km": 0.5})),
            (ZONE, _quantiles(miles, ZONE, "detour", {"zone_detour": 0.5})),
            (CITY, _quantiles(miles, CITY, "detour", {"city_detour": 0.5})),
            (CITY, _quantiles(inside, CITY, "km", {"inside_km": 0.5})),
            (CITY, _quantiles(miles, CITY, "km", {"city_km": 0.5})),
        ]
        for keys in (PAIR, ZONE, CITY):
            levels = {f"{name}_{len(tables)}": level for name, level in LEVELS.items()}
            tables.append((keys, _quantiles(minutes, keys, "minutes", levels)))
        return cls(reference, tables)

    def fill(self, trips: pl.DataFrame) -> pl.DataFrame:
        """The trips, in their order, with distance_km and the shown quantiles."""
        trips = self.reference.straight_km(trips).with_columns(city=0)
        for keys, table in self.tables:
            trips = trips.join(table, on=keys, how="left", maintain_order="left")
        detour = pl.coalesce("zone_detour", "city_detour")
        return trips.with_columns(
            pl.coalesce("pair_km", pl.col("straight_km") * detour, "inside_km", "city_km").alias("distance_km"),
            *(pl.coalesce(rf"^{name}_\d+$").alias(name) for name in LEVELS),
        )


def _quantiles(counts: pl.DataFrame, keys: list[str], value: str, levels: dict[str, float]) -> pl.DataFrame:
    """Quantiles per group from counts of values: the lowest value that so many of the group's trips do not exceed."""
    summed = counts.drop_nulls(value).sort(value)
    summed = summed.with_columns(below=pl.col("trips").cum_sum().over(keys), of=pl.col("trips").sum().over(keys))
    found = [
        pl.col(value).filter(pl.col("below") >= level * pl.col("of")).min().alias(name)
        for name, level in levels.items()
    ]
    return summed.filter(pl.col("of") >= LEAST_TRIPS).group_by(keys).agg(found)

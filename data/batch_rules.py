"""What no single row can show: whether a batch's planned routes are as long as routes between those zones are.

A producer that starts to send miles in a column of kilometres changes no type, no range and no tag; only the numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import polars as pl

from contracts.requirements import Requirement
from contracts.snapshots import SnapshotZone


@dataclass(frozen=True, slots=True)
class ZoneReference:
    """Data's own record of the zones, and of how much longer than the straight line a route is (`detour`).

    `detour` is the median over accepted trips of route over straight line, learned once. Before that it is None, and
    the reference says only that no route is shorter than the straight line.
    """

    zones: tuple[SnapshotZone, ...]
    detour: float | None = None

    def straight_km(self, trips: pl.DataFrame) -> pl.DataFrame:
        """The trips with `straight_km` between their zones' centroids; null inside one zone or off the map."""
        places = pl.DataFrame(
            [(zone.zone, zone.x_km, zone.y_km) for zone in self.zones], ["zone", "x", "y"], orient="row"
        )
        placed = trips.join(places, left_on="pickup_zone", right_on="zone", how="left", maintain_order="left")
        placed = placed.join(
            places, left_on="dropoff_zone", right_on="zone", how="left", suffix="_to", maintain_order="left"
        )
        apart = ((pl.col("x") - pl.col("x_to")) ** 2 + (pl.col("y") - pl.col("y_to")) ** 2).sqrt()
        straight = pl.when(apart > 0).then(apart).alias("straight_km")
        return placed.with_columns(straight).drop("x", "y", "x_to", "y_to")

    def ratios(self, trips: pl.DataFrame) -> pl.Series:
        """Route over reference of every trip that leaves its zone."""
        ratio = pl.col("distance_km") / pl.col("straight_km") / (self.detour or 1.0)
        return self.straight_km(trips).select(ratio.alias("ratio"))["ratio"].drop_nulls()

    def learn(self, trips: pl.DataFrame) -> Self:
        """The reference with the detour of these accepted trips."""
        detour = ZoneReference(self.zones).ratios(trips).median()
        return type(self)(self.zones, float(detour) if isinstance(detour, float) else None)

    def fault(self, trips: pl.DataFrame, limit: Requirement) -> tuple[float, str] | None:
        """The ratio at fault and why these trips must not be accepted as a batch, or None.

        The median sees a batch that went wrong as a whole; the lower quartile sees one that goes wrong in the middle.
        """
        ratios = self.ratios(trips)
        for name, share in (("median", 0.5), ("lower quartile", 0.25)):
            ratio = ratios.quantile(share, "nearest")
            if ratio is not None and not (ratio >= 1 if self.detour is None else limit.passes(ratio)):
                bound = "no route is shorter than the straight line" if self.detour is None else limit.limit
                return ratio, (
                    f"{limit.id}: the {name} route of {len(ratios)} trips is {ratio:.3f} times the reference "
                    f"({bound}): see whether the producer changed the unit of distance_km"
                )
        return None

    def save(self, path: Path) -> None:
        """Keep what was learned, in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps({"detour": self.detour}))
        part.replace(path)

    def kept(self, path: Path) -> Self:
        """The reference with what was learned before, if anything was."""
        return type(self)(self.zones, json.loads(path.read_text())["detour"]) if path.is_file() else self

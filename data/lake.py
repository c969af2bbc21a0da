"""The lake: accepted trips as Parquet, one folder per day of booking (UTC), one file per batch and day.

A batch's files are written before its verdict commits. What counts is what the verdicts say: a reader names the
batches it wants, and files of a batch that never committed are removed at the next start.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from contracts.problems import TandemError
from contracts.tables import dtypes


class LakeDamaged(TandemError):
    """The lake holds other rows than were accepted."""


@dataclass(frozen=True, slots=True)
class Lake:
    """Accepted trips below `folder`: `day=YYYY-MM-DD/<batch>.parquet`, columns exactly those of `CompletedTrip`."""

    folder: Path

    def write(self, batch_id: str, trips: pl.DataFrame) -> None:
        """Keep a batch's accepted rows; writing the same batch again replaces it."""
        for (day,), rows in trips.group_by(pl.col("booked_at").dt.date(), maintain_order=True):
            place = self.folder / f"day={day}"
            place.mkdir(parents=True, exist_ok=True)
            rows.write_parquet(place / f"{batch_id}.parquet")

    def read(self, batches: Mapping[str, int]) -> pl.DataFrame:
        """The rows of these batches, given how many rows each had accepted. Raises `LakeDamaged`."""
        files = [path for path in sorted(self.folder.glob("day=*/*.parquet")) if path.stem in batches]
        trips = pl.read_parquet(files, hive_partitioning=False) if files else pl.DataFrame(schema=dtypes())
        if trips.height != sum(batches.values()):
            raise LakeDamaged(
                f"{self.folder} holds {trips.height:,} rows of {len(batches):,} batches that accepted "
                f"{sum(batches.values()):,}: files were lost or changed; restore them before training on this"
            )
        return trips

    def keep_only(self, batches: Collection[str]) -> None:
        """Remove what a crash left behind: files of batches that were never committed."""
        for path in self.folder.glob("day=*/*.parquet"):
            if path.stem not in batches:
                path.unlink()

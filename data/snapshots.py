"""Snapshots: immutable training data, named by the digest of their content.

`python -m data.snapshots --source city` cuts one from the lake by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import polars as pl
from rich.console import Console

from contracts.problems import TandemError, plain_words
from contracts.snapshots import SnapshotMade, SnapshotZone
from contracts.tables import content_digest
from contracts.trips import instant_of

CHUNK = 100_000  # rows as text in memory at a time


class NothingToCut(TandemError):
    """There are no accepted rows for a snapshot."""


@dataclass(frozen=True, slots=True)
class Cutter:
    """Cuts snapshots of one source into `folder`."""

    folder: Path
    source: Literal["city", "tlc"]
    time_zone: str
    zones: Sequence[SnapshotZone]

    def cut(
        self,
        trips: pl.DataFrame,
        decision_id: str | None = None,
        change_at: datetime | None = None,
        rows_quarantined: int | None = None,
    ) -> SnapshotMade:
        """Seal these accepted trips. Rows that were sealed before keep their folder, whoever asks again.

        Raises `NothingToCut` where there are no trips.
        """
        if trips.is_empty():
            raise NothingToCut("no accepted trips before the time asked for: see the lake, or let more trips end first")
        trips = trips.sort("booked_at", "trip_id")
        zones = json.dumps([zone.model_dump() for zone in self.zones], indent=1)
        made = SnapshotMade(
            digest=content_digest(self.source, self.time_zone, zones, trips.iter_slices(CHUNK)),
            source=self.source,
            time_zone=self.time_zone,
            rows=trips.height,
            first_requested_at=trips["requested_at"].min(),
            last_requested_at=trips["requested_at"].max(),
            decision_id=decision_id,
            change_at=change_at,
            rows_since_change=_delivered_since(trips, change_at),
            zone_groups={zone.zone: zone.group for zone in self.zones},
            rows_quarantined=rows_quarantined,
        )
        self._seal(trips, zones, made)
        return made

    def _seal(self, trips: pl.DataFrame, zones: str, made: SnapshotMade) -> None:
        """Write the snapshot's folder, which appears by one rename."""
        place = self.folder / made.digest
        if place.is_dir():
            return
        part = self.folder / f".part-{os.getpid()}-{made.digest[:12]}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        trips.write_parquet(part / "trips.parquet")
        (part / "zones.json").write_text(zones)
        (part / "snapshot.json").write_text(made.model_dump_json(indent=1))
        part.rename(place)


def _delivered_since(trips: pl.DataFrame, change_at: datetime | None) -> int:
    delivered = trips.filter(pl.col("outcome") == "delivered")
    if change_at is None:
        return delivered.height
    return delivered.filter(pl.col("requested_at") >= change_at.astimezone(UTC)).height


@plain_words()
def main() -> None:
    """Cut one snapshot of all accepted rows, or of those booked before a time, and say where it lies."""
    from data.settings import Settings
    from data.worker import build

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", choices=["city"], required=True, help="whose accepted trips; for tlc see data.tlc")
    parser.add_argument("--before", type=instant_of, help="trips booked before this time, with offset")
    asked = parser.parse_args()
    desk = build(Settings())
    made = desk.cutter.cut(desk.accepted_before(asked.before), rows_quarantined=desk.rows_quarantined())
    Console().print(f"{made.rows:,} rows at {desk.cutter.folder / made.digest}")


if __name__ == "__main__":
    main()

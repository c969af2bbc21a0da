"""What data publishes: verdicts on batches, and snapshots, immutable training data named by their content.

A snapshot lies at `<snapshots>/<digest>/` with `trips.parquet` (rows of `CompletedTrip`, ordered by booked_at, then
trip_id), `zones.json` (a list of `SnapshotZone`) and `snapshot.json` (a `SnapshotMade`). The digest is that of
`contracts.tables.content_digest`.
"""

from __future__ import annotations

from typing import Literal

from contracts.trips import Instant, Wire, Zone


class BatchJudged(Wire):
    """Feed `snapshots`, types `batch.accepted` and `batch.quarantined` (a batch refused whole).

    Rows in = rows_accepted + rows_quarantined; `reasons` counts quarantined rows by the first rule each broke.
    """

    batch_id: str
    rows_accepted: int
    rows_quarantined: int
    reasons: dict[str, int]
    detail: str = ""
    first_requested_at: Instant | None = None
    last_requested_at: Instant | None = None
    missing_share: dict[str, float] = {}


class SnapshotZone(Wire):
    """One zone as the model may know it: where it lies and which fairness group it belongs to. km east and north."""

    zone: Zone
    name: str
    group: str
    x_km: float
    y_km: float


class SnapshotMade(Wire):
    """Feed `snapshots`, type `snapshot.made`. `change_at` is copied from the decision that asked for the snapshot;
    `rows_quarantined` counts what intake refused of the same source until then."""

    digest: str
    source: Literal["city", "tlc"]
    time_zone: str
    rows: int
    first_requested_at: Instant
    last_requested_at: Instant
    decision_id: str | None = None
    change_at: Instant | None = None
    rows_since_change: int
    zone_groups: dict[int, str]
    rows_quarantined: int | None = None

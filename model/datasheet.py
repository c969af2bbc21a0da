"""What a snapshot holds, told for the data sheet in a bundle's card."""

from __future__ import annotations

import numpy as np

from contracts.bundle import DataSheet
from contracts.trips import HIGHEST_ZONE, MODEL_INPUTS
from model.snapshot import Snapshot


def data_sheet(snapshot: Snapshot) -> DataSheet:
    """Rows, span, zone groups and missing shares of a snapshot; zone groups without a delivered trip count none."""
    made, trips = snapshot.made, snapshot.trips
    by_zone = np.bincount(trips.inputs["pickup_zone"], minlength=HIGHEST_ZONE + 1)
    groups = dict.fromkeys(sorted({zone.group for zone in snapshot.zones}), 0)
    for zone in snapshot.zones:
        groups[zone.group] += int(by_zone[zone.zone])
    return DataSheet(
        source=made.source,
        rows=made.rows,
        rows_quarantined=made.rows_quarantined,
        delivered=len(trips),
        first_requested_at=made.first_requested_at,
        last_requested_at=made.last_requested_at,
        zone_groups=groups,
        missing_share={
            item.name: float(np.isnan(trips.inputs[item.name]).mean()) for item in MODEL_INPUTS if item.nullable
        },
    )

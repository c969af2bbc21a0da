"""Released bundles as they lie in their place, told as the event that announces them. Loads no torch."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import ValidationError

from contracts.bundle import CHECKSUMS, BundleReleased, Evidence, Manifest, digest, verify

log = logging.getLogger(__name__)


def released(folder: Path) -> BundleReleased:
    """The event's body for a sealed bundle. Raises `BundleError`."""
    manifest = verify(folder)
    return BundleReleased(
        version=manifest.version,
        checksums_sha256=digest(folder / CHECKSUMS),
        decision_id=manifest.lineage.decision_id,
        manifest=manifest,
        evidence=Evidence.model_validate_json((folder / "evidence.json").read_bytes()),
    )


def released_for(bundles: Path, decision_id: str) -> BundleReleased | None:
    """The bundle that a decision's training released, if there is one: it needs no second training. Bundles of another
    contract are passed over, with a warning."""
    for file in sorted(bundles.glob("v*/bundle.json")):
        try:
            manifest = Manifest.model_validate_json(file.read_bytes())
        except ValidationError as error:
            log.warning("%s is passed over, unreadable manifest: %s", file.parent.name, error.errors()[0]["msg"])
            continue
        if manifest.lineage.decision_id == decision_id:
            return released(file.parent)
    return None

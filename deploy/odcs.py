"""The completed trip as an Open Data Contract Standard document, for catalogues and tools outside Tandem.

The standard has no place for a unit, a model's input or drift: those are customProperties.
"""

from __future__ import annotations

from typing import Any

from contracts.dictionary import Entry, entries
from contracts.trips import LABEL, VERSION, CompletedTrip, fingerprint

LIMITS = ("minimum", "exclusiveMinimum", "maximum", "minLength", "maxLength", "pattern")


def odcs() -> dict[str, Any]:
    """The document, valid against the standard's JSON Schema 3.2."""
    return {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": "tandem-trips",
        "name": "Completed trips",
        "version": VERSION,
        "status": "active",
        "domain": "couriers",
        "description": {
            "purpose": "What the lake, snapshots, training and monitoring know of a trip that has ended.",
            "usage": f"One row a trip. The label is {LABEL}. A field whose modelInput is null never reaches training.",
            "limitations": "Rules across fields and rows are checked at intake and are not stated here.",
        },
        "team": {"name": "data"},
        "schema": [
            {
                "name": "trips",
                "logicalType": "object",
                "physicalType": "table",
                "description": (CompletedTrip.__doc__ or "").strip(),
                "dataGranularityDescription": "one row a trip",
                "properties": [_property(entry) for entry in entries()],
                "customProperties": _custom({"modelFingerprint": fingerprint()}),
            }
        ],
    }


def _property(entry: Entry) -> dict[str, Any]:
    column, values = entry.column, entry.values
    time = entry.kind == "time"
    found: dict[str, Any] = {
        "name": entry.name,
        "logicalType": "timestamp" if time else values["type"],
        "description": column.meaning,
        "required": not entry.nullable,
    }
    if entry.name == "trip_id":
        found |= {"primaryKey": True, "primaryKeyPosition": 1, "unique": True}
    if "enum" in values:
        found["enum"] = [{"value": value} for value in values["enum"]]
    options = {"timezone": True} if time else {key: values[key] for key in LIMITS if key in values}
    if options:
        found["logicalTypeOptions"] = options
    found["customProperties"] = _custom(
        {
            "unit": column.unit,
            "owner": column.owner,
            "known": column.known,
            "personalClass": column.personal,
            "missingPolicy": column.missing,
            "modelInput": column.model_input,
            "fairnessGroup": column.fairness_group,
            "driftWatched": column.watched,
        }
    )
    return found


def _custom(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"property": key, "value": value} for key, value in values.items()]

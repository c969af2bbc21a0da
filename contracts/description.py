"""The contracts as plain JSON, so that two versions of them can be compared (`contracts/changes.py`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from contracts import requirements
from contracts.feeds import FEED_OWNERS, PAYLOADS, FeedName
from contracts.requirements import Requirement, Requirements
from contracts.trips import LABEL, LEVELS, MODEL_INPUTS, VEHICLES, VERSION, CompletedTrip, columns

Description = dict[str, Any]
Schema = Mapping[str, Any]

PROSE = ("title", "description", "summary")
PROMISE = {"owner", "asked_by", "metric", "unit", "population", "newest", "at_least", "at_most", "checked_by"}
FEED_OF: dict[str, FeedName] = {  # by event type, or what it starts with
    "conditions": "conditions",
    "trip": "trips",
    "rating": "ratings",
    "snapshot": "snapshots",
    "batch": "snapshots",
    "bundle": "bundles",
    "bundle.rejected": "rollout",
    "estimate": "estimates",
    "rollout": "rollout",
    "decision": "decisions",
}


def describe(openapis: Mapping[str, Schema]) -> Description:
    """The contracts as they are. `openapis` holds each service's OpenAPI document under its team's name."""
    types, record = CompletedTrip.model_json_schema()["properties"], requirements.load()
    found = {
        "version": VERSION,
        "trip": {
            # A model learns from values; how a time is written (its pattern) is no part of them.
            name: asdict(column) | {"values": types[name] | {"pattern": None} if column.model_input else None}
            for name, column in columns(CompletedTrip).items()
        },
        "model": {
            "inputs": [asdict(item) for item in MODEL_INPUTS],
            "levels": LEVELS,
            "label": LABEL,
            "vehicle_codes": VEHICLES,
        },
        "routes": {name: route for team, api in openapis.items() for name, route in routes(team, api)},
        "events": {
            name: {
                "owner": FEED_OWNERS[FEED_OF.get(name) or FEED_OF[name.partition(".")[0]]],
                "schema": _schema_of(name),
            }
            for name in PAYLOADS
        },
        "requirements": {
            item.id: item.model_dump(mode="json", include=PROMISE) | _under_load(item, record) for item in record.all()
        },
        "policy": record.policy.model_dump(),
    }
    plain: Description = json.loads(json.dumps(found))  # tuples become lists, as in a description read from a file
    return plain


def routes(team: str, api: Schema) -> Iterator[tuple[str, Any]]:
    """The routes of a service: all that a request holds as one object schema, and each answer's schema."""
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            parts = {
                f"{it['in']} {it['name']}": (it["schema"], it["required"]) for it in operation.get("parameters", [])
            }
            if body := operation.get("requestBody"):
                parts["body"] = (next(iter(body["content"].values()))["schema"], body.get("required", False))
            parts |= {f"token {name}": ({}, True) for item in operation.get("security", []) for name in item}
            route = {
                "owner": team,
                "request": {
                    "type": "object",
                    "properties": {name: schema for name, (schema, _) in parts.items()},
                    "required": [name for name, (_, required) in parts.items() if required],
                },
                "answers": {
                    f"{status} {media}": content.get("schema", {})
                    for status, answer in operation["responses"].items()
                    for media, content in answer.get("content", {"-": {}}).items()
                },
            }
            yield f"{team} {method.upper()} {path}", inlined(route, api.get("components", {}).get("schemas", {}))


def inlined(schema: Any, definitions: Schema) -> Any:
    """A JSON Schema without prose, each `$ref` replaced by what it names, a `const` written as an `enum` of one."""
    if isinstance(schema, list):
        return [inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    said = {name: item for name, item in schema.items() if not (name in PROSE and isinstance(item, str))}
    if isinstance(said.get("const"), str):
        said["enum"] = [said.pop("const")]
    return {name: inlined(item, definitions) for name, item in said.items() if name != "$defs"}


def _under_load(item: Requirement, record: Requirements) -> Description:
    """The loads that a requirement's population names, if any."""
    named = {name: load.model_dump() for name, load in record.load.items() if name in item.population.split()}
    return {"load": named} if named else {}


def _schema_of(event_type: str) -> Any:
    schema = PAYLOADS[event_type].model_json_schema(mode="serialization")
    return inlined(schema, schema.get("$defs", {}))

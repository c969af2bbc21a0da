"""The data dictionary: what each field of a trip means, for people. Derived; nothing about a field is stated here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from contracts.trips import Column, CompletedTrip, TripRequest, columns

HEADINGS = ("field", "value", "unit", "meaning", "owner", "known at", "personal", "missing", "model input",
            "drift watched", "fairness by")  # fmt: skip

Kind = Literal["choice", "time", "text", "whole number", "number", "yes or no"]
KINDS: dict[str, Kind] = {"string": "text", "integer": "whole number", "number": "number", "boolean": "yes or no"}
LIMITS = {"minimum": "from", "exclusiveMinimum": "over", "maximum": "up to", "minLength": "from", "maxLength": "up to"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One field: its `Column` and what its values must be. `values` is their JSON Schema, null left out."""

    name: str
    column: Column
    values: dict[str, Any]
    nullable: bool
    required: bool

    @property
    def kind(self) -> Kind:
        """What sort of value it holds."""
        if "enum" in self.values:
            return "choice"
        return "time" if self.values.get("format") == "date-time" else KINDS[self.values["type"]]


def entries(model: type[BaseModel] = CompletedTrip) -> list[Entry]:
    """The fields of a wire model, in order."""
    schema = model.model_json_schema()
    found = []
    for name, column in columns(model).items():
        values = schema["properties"][name]
        nullable = "anyOf" in values
        if nullable:  # a type or null: the only choice that a trip's fields offer
            (values,) = [part for part in values["anyOf"] if part != {"type": "null"}]
        values = {key: value for key, value in values.items() if key not in ("title", "default")}
        found.append(Entry(name, column, values, nullable, required=name in schema["required"]))
    return found


def tables() -> Iterator[tuple[str, list[Entry]]]:
    """The dictionary's two tables: title and fields."""
    asked = TripRequest.model_fields
    yield "As requested (`TripRequest`)", [entry for entry in entries() if entry.name in asked]
    yield "Added when it has ended (`CompletedTrip`)", [entry for entry in entries() if entry.name not in asked]


def cells(entry: Entry) -> list[str]:
    """What is told of a field, one text for each of `HEADINGS`."""
    column = entry.column
    return [
        entry.name, _values(entry), column.unit, column.meaning, column.owner, column.known, column.personal,
        column.missing, column.model_input or "no", "yes" if column.watched else "no", column.fairness_group or "-",
    ]  # fmt: skip


def _values(entry: Entry) -> str:
    """What a value may be, in words: number over 0 up to 500."""
    values = entry.values
    if entry.kind == "choice":
        return " or ".join(values["enum"])
    words = [entry.kind, *(f"{word} {values[key]:g}" for key, word in LIMITS.items() if key in values)]
    if entry.kind == "text":
        words += ["characters", f"like `{values['pattern']}`"] if "pattern" in values else ["characters"]
    return " ".join(words)

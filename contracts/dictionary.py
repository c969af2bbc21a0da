"""The data dictionary: what each field of a trip means, for people. Derived; nothing about a field is stated here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from pydantic import BaseModel

from contracts.trips import LABEL, VERSION, Column, CompletedTrip, TripRequest, columns

HEADINGS = ("field", "value", "unit", "meaning", "owner", "known at", "personal", "missing", "model input",
            "drift watched", "fairness by")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One field: its `Column` and what its values must be. `values` is their JSON Schema, null left out."""

    name: str
    column: Column
    values: dict[str, Any]
    nullable: bool
    required: bool


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


def dictionary() -> str:
    """The dictionary as Markdown."""
    rules = "|".join("---" for _ in HEADINGS)
    parts = [
        "# A trip, field by field",
        f"Derived from `contracts/trips.py`, version {VERSION}; not for editing. "
        f"A time is text with seconds and an offset. The label is {LABEL}.",
    ]
    for title, fields in _tables():
        rows = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in _cells(entry))} |" for entry in fields]
        parts += [f"## {title}", "\n".join([f"| {' | '.join(HEADINGS)} |", f"|{rules}|", *rows])]
    return "\n\n".join(parts) + "\n"


def fragment() -> str:
    """The same tables as HTML, for a page to put its frame around."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in HEADINGS)
    parts = []
    for title, fields in _tables():
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(entry)) + "</tr>\n" for entry in fields
        )
        parts.append(
            f"<h2>{escape(title)}</h2>\n<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>\n"
        )
    return "".join(parts)


def _tables() -> Iterator[tuple[str, list[Entry]]]:
    asked = TripRequest.model_fields
    yield "As requested (`TripRequest`)", [entry for entry in entries() if entry.name in asked]
    yield "Added when it has ended (`CompletedTrip`)", [entry for entry in entries() if entry.name not in asked]


def _cells(entry: Entry) -> list[str]:
    column = entry.column
    return [
        entry.name, _values(entry.values), column.unit, column.meaning, column.owner, column.known, column.personal,
        column.missing, column.model_input or "no", "yes" if column.watched else "no", column.fairness_group or "-",
    ]  # fmt: skip


def _values(values: dict[str, Any]) -> str:
    """What a value may be, in words.

    >>> _values({"type": "number", "exclusiveMinimum": 0, "maximum": 500})
    'number over 0 up to 500'
    """
    if "enum" in values:
        return " or ".join(values["enum"])
    if values.get("format") == "date-time":
        return "time"
    words = {
        "minimum": "from",
        "exclusiveMinimum": "over",
        "maximum": "up to",
        "minLength": "from",
        "maxLength": "up to",
    }
    limits = [f"{word} {values[key]:g}" for key, word in words.items() if key in values]
    plain = {"string": "text", "integer": "whole number", "boolean": "true or false"}.get(
        values["type"], values["type"]
    )
    length = " characters" if values["type"] == "string" else ""
    form = f" like {values['pattern']}" if "pattern" in values else ""
    return (f"{plain} {' '.join(limits)}".rstrip()) + length + form

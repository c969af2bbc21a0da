"""Agreement: whoever judges a row by the definition of a trip says the same of it.

Four judges: pydantic of objects (as FastAPI asks it) and of JSON text, the JSON Schema that others get, and the table
(typed by `tables.read`, judged by pandera). There are no exceptions to the agreement. The JSON Schema judges JSON, so
it refuses what is none (RFC 8259): NaN, the infinities, half a surrogate pair.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker, ValidationError, validators
from jsonschema.protocols import Validator
from pydantic import BaseModel
from pydantic import ValidationError as RefusedByWire

from contracts import tables
from contracts.dictionary import entries
from contracts.trips import CompletedTrip, TripRequest
from tests import rows
from tests.rows import Mutation, Row

Verdicts = list[bool]
JUDGES = ("objects", "text", "json schema", "table")
# Without shrinking: a failure names judges and row, and pandera would make it take minutes.
some = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])


def objects(judged: Sequence[Row], model: type[BaseModel]) -> Verdicts:
    return [_takes(lambda row=row: model.model_validate(row)) for row in judged]


def text(judged: Sequence[Row], model: type[BaseModel]) -> Verdicts:
    return [_takes(lambda row=row: model.model_validate_json(json.dumps(row))) for row in judged]


def _takes(read: Callable[[], Any]) -> bool:
    try:
        read()
    except RefusedByWire:
        return False
    return True


def _pattern(validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[ValidationError]:
    """The `pattern` keyword with the `$` of its standard, ECMA 262: the end, while Python's also takes a line break."""
    if validator.is_type(value, "string") and not re.search(re.sub(r"\$$", r"\\Z", pattern), value):
        yield ValidationError(f"{value!r} is not like {pattern}")


Ecma: type[Validator] = validators.extend(Draft202012Validator, {"pattern": _pattern})


def validator(schema: dict[str, Any]) -> Validator:
    return Ecma(schema, format_checker=FormatChecker(["date-time"]))


def json_schema(judged: Sequence[Row], model: type[BaseModel]) -> Verdicts:
    schema = validator(model.model_json_schema())
    return [is_json(row) and schema.is_valid(row) for row in judged]


def is_json(value: Any) -> bool:
    """Whether JSON can carry the value."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        return False
    return True


def table(judged: Sequence[Row], model: type[BaseModel]) -> Verdicts:
    typed, unreadable = tables.read(judged, model)
    refused = unreadable.keys() | tables.faults(typed, model).keys()
    return [number not in refused for number in range(len(judged))]


def verdicts(judged: Sequence[Row], model: type[BaseModel] = CompletedTrip) -> list[tuple[bool, ...]]:
    """For each row: what each of `JUDGES` says."""
    return list(zip(*(judge(judged, model) for judge in (objects, text, json_schema, table)), strict=True))


def hold_to_agreement(mutated: Sequence[Mutation], batch: Callable[[Mutation], Any], model: type[BaseModel]) -> None:
    """Judge in batches, for pandera takes as long over one row as over a thousand. Verdicts stay a row's own."""
    batches = defaultdict(list)
    for mutation in mutated:
        batches[batch(mutation)].append(mutation)
    seen = defaultdict(set)
    for batched in batches.values():
        for mutation, said in zip(batched, verdicts([item.row for item in batched], model), strict=True):
            told = f"{mutation.kind} in {mutation.field.name}: {mutation.row}"
            assert len(set(said)) == 1, f"{dict(zip(JUDGES, said, strict=True))} of {told}"
            seen[mutation.field.name].add(said[0])
    assert seen == {name: {True, False} for name in model.model_fields}  # both sides of the line, for every field


def test_all_judges_agree_on_500_mutated_rows():
    hold_to_agreement(rows.mutations(500, seed=7), lambda mutation: mutation.kind, CompletedTrip)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "count", "seed"), [(CompletedTrip, 12_000, 11), (TripRequest, 4_000, 12)])
def test_all_judges_agree_on_16000_mutated_rows(model: type[BaseModel], count: int, seed: int):
    mutated = rows.mutations(count, seed, model)

    assert len(mutated) == count
    hold_to_agreement(mutated, lambda mutation: (mutation.field.kind, mutation.kind), model)


def test_each_limit_of_each_field_decides_over_a_mutated_row():
    """Were one limit lost, some mutated value would be taken: mutations that miss a limit could not tell."""
    mutated = [item.row for item in rows.mutations(12_000, seed=11)]
    undecided = []
    for entry in entries():
        schema = validator(entry.values)
        found = [row[entry.name] for row in mutated if row.get(entry.name) is not None and is_json(row[entry.name])]
        values = [value for value in {repr(value): value for value in found}.values() if not schema.is_valid(value)]
        implied = {"type"} if entry.kind == "choice" else {"minLength"} if "pattern" in entry.values else set()
        for limit in entry.values.keys() - implied:
            without = validator({key: value for key, value in entry.values.items() if key != limit})
            if not any(without.is_valid(value) for value in values):
                undecided.append((entry.name, limit))
    assert undecided == []


@some
@given(st.lists(rows.valid(), min_size=3, max_size=3))
def test_valid_rows_are_taken_by_all(judged: list[Row]):
    assert set(verdicts(judged)) == {(True,) * len(JUDGES)}


@some
@given(st.lists(rows.boundary(), min_size=10, max_size=10))
def test_rows_at_their_limits_are_taken_by_all(judged: list[Row]):
    assert set(verdicts(judged)) == {(True,) * len(JUDGES)}


@some
@given(st.lists(rows.invalid(), min_size=20, max_size=20))
def test_rows_just_past_a_limit_are_refused_by_all(judged: list[Row]):
    assert set(verdicts(judged)) == {(False,) * len(JUDGES)}


@pytest.mark.parametrize(
    "spoilt", [[], [{name: [] for name in CompletedTrip.model_fields}]], ids=["at once", "by cell"]
)
def test_a_row_means_the_same_as_an_object_and_in_a_table(spoilt: list[Row]):
    """18.0 zones, whole kilometres and times with offsets are taken by all: as the same value. A row of nonsense
    among them has its columns read cell by cell."""
    judged = [item.row for item in rows.mutations(6_000, seed=5)]
    taken = [row for row, said in zip(judged, objects(judged, CompletedTrip), strict=True) if said]
    typed, unreadable = tables.read([*taken, *spoilt])

    assert any(type(row["pickup_zone"]) is float for row in taken)
    assert list(unreadable) == [len(taken) + number for number in range(len(spoilt))]
    assert typed.drop(tables.ROW).to_dicts() == [CompletedTrip.model_validate(row).model_dump() for row in taken]


def test_a_row_alone_is_read_as_among_others():
    """A column whose values all have their type is read at once, any other cell by cell: both must refuse the same."""
    mutated = rows.mutations(12_000, seed=11)
    judged = [item.row for item in mutated if item.field.kind == "time" and item.kind == "outside"][:100]
    among_others = tables.read(judged)[1]

    assert len(judged) == 100
    assert {number for number, row in enumerate(judged) if tables.read([row])[1]} == among_others.keys()


def test_a_fault_is_told_with_field_rule_and_value():
    sound = {entry.name: rows.inside(entry)[0] for entry in entries()}
    typed, unreadable = tables.read([sound, sound | {"pickup_zone": "5"}, sound | {"tip_eur": 1}, {}])

    assert {number: (fault.rule, fault.value) for number, fault in unreadable.items()} == {
        1: ("pickup_zone.type", "5"), 2: ("unknown_field", {"tip_eur": 1}), 3: ("trip_id.missing", None),
    }  # fmt: skip
    assert typed[tables.ROW].to_list() == [0]
    (fault,) = tables.faults(tables.read([sound, sound | {"distance_km": 200.5}])[0]).values()
    assert (fault.rule.split(".")[0], fault.value) == ("distance_km", 200.5)

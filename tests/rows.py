"""Rows for tests, derived from the definition of a trip: valid ones, ones at their limits, invalid ones, mutations.

No field is named here: what a value may be comes from `contracts.dictionary.entries`. Rows are as JSON carries them,
and a little worse: Python's `json` would write and read NaN and half a surrogate pair.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from math import inf, nan, nextafter
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel

from contracts.dictionary import Entry, entries
from contracts.trips import CompletedTrip

Row = dict[str, Any]
SOUND_TIMES = [
    "2026-06-01T08:30:00+02:00", "2026-06-01T06:30:00Z", "2026-03-29T01:59:59.999999+01:00",
    "2024-02-29T12:00:00.5-05:30",
    "2000-01-01T00:00:00+23:59", "2099-12-31T23:59:59.999999-23:59", "2026-06-01T06:30:00-00:00",
]  # fmt: skip
ODD_TIMES = [
    "2026-06-01T08:30:00", "2026-06-01T08:30+02:00", "2026-06-01", "08:30:00Z", "2026-06-01 08:30:00Z",
    "2026-06-01t08:30:00z", "2026-06-01T08:30:00z", "2026-06-01T08:30:00,5Z", "2026-06-01T08:30:00.1234567Z",
    "2026-06-01T08:30:00.Z", "2026-06-01T08:30:60Z", "2026-06-01T24:00:00Z", "2026-02-30T08:30:00Z",
    "2023-02-29T08:30:00Z",
    "2026-04-31T08:30:00Z", "2026-00-01T08:30:00Z", "2026-06-00T08:30:00Z", "2026-06-01T08:30:00+24:00",
    "2026-06-01T08:30:00+02", "2026-06-01T08:30:00+0200", "2026-06-01T08:30:00+02:60", "2026-06-01T08:30:00 CET",
    "2026-06-01T08:30:00[Europe/Berlin]", "2026-06-01T08:30:00Europe/Berlin", "2026-W23-1T08:30:00Z",
    "20260601T083000Z",
    "1780000000", "1780000000.5", "1999-12-31T23:59:59Z", "2100-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59", "12026-06-01T08:30:00Z", "-2026-06-01T08:30:00Z", " 2026-06-01T08:30:00Z",
    "2026-06-01T08:30:00Z\n", "２０２６-06-01T08:30:00Z", "2026-06-01T08:30:0٠Z", "now",
    1_780_000_000, 1_780_000_000.5, 1_780_000_000_000, -1,
]  # fmt: skip
NUMBERS = [
    0, -0.0, 1, 18, 18.0, 18.5, -1, 1e-320, 1e-9, 0.1, 1e15 + 0.5, 2**53 + 1,
    2**63 - 1, 2**63, 2**64, -(2**63), -(2**63) - 1,
    1e308, -1e308, 10**400,
]  # fmt: skip
TEXTS = [
    "",
    " ",
    "x",
    "ünicode",
    "a b",
    "a/../b",
    "x\n",
    "\nx",
    "a\x00b",
    "\ud800",
    "😀",
    "e\u0301",
    "null",
    "true",
    "18",
    "NaN",
]
STRANGERS = ["tip_eur", "", " trip_id", "Trip_id", "trip_id\n", "__class__", "model_config", "row_number", "ünicode"]


def inside(entry: Entry) -> list[Any]:
    """Values that the field takes, its limits among them."""
    values = entry.values
    if entry.kind == "choice":
        found = list(values["enum"])
    elif entry.kind == "time":
        found = list(SOUND_TIMES)
    elif entry.kind == "yes or no":
        found = [True, False]
    elif entry.kind == "text":
        letters = _letters(entry)
        found = [
            letters[0] * values["minLength"],
            letters[-1] * values["maxLength"],
            "".join(letters)[: values["maxLength"]],
        ]
    else:
        step = _step(entry)
        low = values["minimum"] if "minimum" in values else step(values["exclusiveMinimum"], inf)
        found = [low, values["maximum"], step(low, inf), step(values["maximum"], -inf), (low + values["maximum"]) // 2]
    return [*found, None] if entry.nullable else found


def outside(entry: Entry) -> list[Any]:
    """Values of the field's type that are just not taken, or by far."""
    values = entry.values
    if entry.kind == "choice":
        return [*(value.upper() for value in values["enum"]), f"{values['enum'][0]} ", ""]
    if entry.kind == "time":
        return [time for time in ODD_TIMES if isinstance(time, str)]
    if entry.kind == "yes or no":
        return ["true", 1]
    if entry.kind == "text":
        letters = _letters(entry)
        return [letters[0] * (values["minLength"] - 1), letters[0] * (values["maxLength"] + 1), letters[0] * 100_000]
    step = _step(entry)
    low = step(values["minimum"], -inf) if "minimum" in values else values["exclusiveMinimum"]
    return [low, step(values["maximum"], inf), low - 1, values["maximum"] * 60]


def _step(entry: Entry) -> Callable[[float, float], float]:
    """The next number of the field's type from one on towards another."""
    if entry.kind == "whole number":
        return lambda number, towards: int(number) + (1 if towards > number else -1)
    return nextafter


def _letters(entry: Entry) -> list[str]:
    """Characters of which the field's texts may consist, one byte or more each."""
    candidates = [chr(code) for code in range(32, 127)] + ["ü", "京", "😀"]
    pattern = entry.values.get("pattern", "")
    return [letter for letter in candidates if re.search(pattern, letter)]


def valid(model: type[BaseModel] = CompletedTrip) -> st.SearchStrategy[Row]:
    """Rows that every judge must take."""
    return _rows(model, _values)


def boundary(model: type[BaseModel] = CompletedTrip) -> st.SearchStrategy[Row]:
    """Rows that every judge must take, each value at a limit of its field."""
    return _rows(model, lambda entry: st.sampled_from(inside(entry)))


def invalid(model: type[BaseModel] = CompletedTrip) -> st.SearchStrategy[Row]:
    """Rows that every judge must refuse: one field is just past what it may be, left out, or unknown."""
    fields = entries(model)
    past = st.sampled_from(fields).flatmap(
        lambda entry: st.tuples(st.just(entry.name), st.sampled_from(outside(entry)))
    )
    left_out = st.sampled_from([entry.name for entry in fields if entry.required])
    return st.one_of(
        st.builds(lambda row, change: row | dict([change]), boundary(model), past),
        st.builds(lambda row, name: {key: row[key] for key in row if key != name}, boundary(model), left_out),
        st.builds(lambda row, name: row | {name: 1.0}, boundary(model), st.sampled_from(STRANGERS)),
    )


def _rows(model: type[BaseModel], value: Callable[[Entry], st.SearchStrategy[Any]]) -> st.SearchStrategy[Row]:
    fields = entries(model)
    return st.fixed_dictionaries(
        {entry.name: value(entry) for entry in fields if entry.required},
        optional={entry.name: value(entry) for entry in fields if not entry.required},
    )


def _values(entry: Entry) -> st.SearchStrategy[Any]:
    values = entry.values
    if entry.kind == "choice":
        found: st.SearchStrategy[Any] = st.sampled_from(values["enum"])
    elif entry.kind == "time":
        offsets = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
        span = {"min_value": datetime(2000, 1, 1), "max_value": datetime(2099, 12, 31)}  # noqa: DTZ001
        found = st.datetimes(**span, timezones=offsets | st.just(UTC)).map(datetime.isoformat)
    elif entry.kind == "yes or no":
        found = st.booleans()
    elif entry.kind == "text":
        letters = st.sampled_from(_letters(entry)) if "pattern" in values else st.characters(exclude_categories=["Cs"])
        found = st.text(letters, min_size=values["minLength"], max_size=values["maxLength"])
    elif entry.kind == "whole number":
        found = st.integers(values["minimum"], values["maximum"])
    else:
        over = "exclusiveMinimum" in values
        low = values["exclusiveMinimum"] if over else values["minimum"]
        found = st.floats(low, values["maximum"], exclude_min=over)
    return found | st.none() if entry.nullable else found


@dataclass(frozen=True, slots=True)
class Mutation:
    """A row that was sound until something was done to `field`; `kind` says what."""

    field: Entry
    kind: str
    row: Row


KINDS = ("inside", "outside", "number", "near a limit", "not a number", "text", "time", "wrong type", "another field's",
         "missing", "stranger")  # fmt: skip


def mutations(count: int, seed: int, model: type[BaseModel] = CompletedTrip) -> list[Mutation]:
    """Seeded mutations: every field and kind in turn, and with each turn the next value of that kind. A fifth of the
    rows have a second one."""
    luck = random.Random(seed)
    fields = entries(model)
    sound = {entry.name: inside(entry) for entry in fields}
    everything = [value for values in sound.values() for value in values]
    turns = {(entry.name, kind): luck.randrange(1000) for kind in KINDS for entry in fields}

    def mutate(row: Row, entry: Entry, kind: str) -> None:
        turn = turns[entry.name, kind] = turns[entry.name, kind] + 1
        if kind == "missing":
            row.pop(entry.name, None)
        elif kind == "stranger":
            row[STRANGERS[turn % len(STRANGERS)]] = luck.choice([None, 1.0, *sound[entry.name]])
        else:
            values = _odd(entry, kind, everything, luck)
            row[entry.name] = values[turn % len(values)]

    found = []
    for number in range(count):
        kind, entry = KINDS[number // len(fields) % len(KINDS)], fields[number % len(fields)]
        row = {name: luck.choice(values) for name, values in sound.items()}
        mutate(row, entry, kind)
        if luck.random() < 0.2:
            mutate(row, luck.choice(fields), luck.choice(KINDS))
        found.append(Mutation(entry, kind, row))
    return found


def _odd(entry: Entry, kind: str, everything: list[Any], luck: random.Random) -> list[Any]:
    """The values that a kind of mutation has for a field."""
    match kind:
        case "inside":
            return inside(entry)
        case "outside":
            return outside(entry)
        case "number":
            return NUMBERS
        case "near a limit":
            limits = [value for value in inside(entry) if isinstance(value, int | float)]
            steps = [nextafter(limit, towards) for limit in limits for towards in (inf, -inf)]
            further = [limit + luck.uniform(-1, 1) for limit in limits]
            texts = [value[:-1] + luck.choice(TEXTS) for value in inside(entry) if isinstance(value, str)]
            return [*limits, *map(float, limits), *steps, *further, *texts]
        case "not a number":
            return [nan, inf, -inf, "NaN", "Infinity", "-inf"]
        case "text":
            return TEXTS
        case "time":
            return ODD_TIMES
        case "wrong type":
            return [None, True, False, 0, 1, 0.0, 1.0, "", "1", [], {}, [1], {"value": 1}, [None]]
        case "another field's":
            return everything
        case _:
            raise AssertionError(kind)

"""The trip as a table: the pandera (polars) schema derived from the wire models. For data/, model/ and tests only.

The schema states what one row must be; rules across rows or fields are batch rules and live in data/.
"""

from __future__ import annotations

import hashlib
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import NoneType
from typing import Any, Literal, Union, get_args, get_origin
from zoneinfo import ZoneInfo

import annotated_types
import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors
from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo

from contracts.trips import INSTANT, MODEL_INPUTS, VEHICLES, CompletedTrip

TIME = pl.Datetime("us", "UTC")
ROW = "row_number"  # ties a row of a table to the row as it came
_INSTANT = re.compile(INSTANT)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a row: `rule` is the field and what it breaks, `value` the value at fault."""

    rule: str
    value: Any


def read(
    rows: Sequence[Mapping[str, Any]], model: type[BaseModel] = CompletedTrip
) -> tuple[pl.DataFrame, dict[int, Fault]]:
    """Rows as JSON carries them as a typed table, and by row number why the others cannot be in one.

    The table has `ROW`, then the model's columns in order; a field left out has its default. It is typed, not yet
    judged: `faults` does that. A type that polars would bend ("5" or true for a 5, half a microsecond) is refused.
    """
    refused: dict[int, Fault] = {}
    names = set(model.model_fields)
    for number, row in enumerate(rows):
        if not row.keys() <= names:
            refused[number] = Fault("unknown_field", {name: row[name] for name in row if name not in names})
    kinds = dtypes(model)
    table = pl.DataFrame(
        [_series(rows, name, field, kinds[name], refused) for name, field in model.model_fields.items()]
    ).with_row_index(ROW)
    return table.filter(~pl.col(ROW).is_in(list(refused))), refused


def _series(
    rows: Sequence[Mapping[str, Any]], name: str, field: FieldInfo, kind: Any, refused: dict[int, Fault]
) -> pl.Series:
    """One column; null, and an entry in `refused`, where a row has nothing that can be in it."""
    values = [row.get(name, field.default) for row in rows]
    plain, reader = _READERS[kind]
    if set(map(type, values)) <= {plain, NoneType}:  # the usual column is read at once, twenty times quicker
        with suppress(pl.exceptions.PolarsError, TypeError, OverflowError, UnicodeEncodeError):
            return _times(name, values) if kind == TIME else pl.Series(name, values, kind)
    cells: list[Any] = []
    for number, value in enumerate(values):
        try:
            cells.append(None if value is None else reader(value))  # whether null is allowed is the schema's question
        except (ValueError, OverflowError):
            rule, shown = ("type", value) if name in rows[number] else ("missing", None)
            refused.setdefault(number, Fault(f"{name}.{rule}", shown))
            cells.append(None)
    return pl.Series(name, cells, kind)


def _times(name: str, texts: list[str | None]) -> pl.Series:
    found = pl.Series(name, texts, pl.String)
    if not found.str.contains(INSTANT).all():
        raise pl.exceptions.InvalidOperationError("not all are times")
    return found.str.to_datetime("%+", time_unit="us", time_zone="UTC")


def _whole(value: Any) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)  # JSON knows one kind of number: 18.0 is 18
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ValueError
    return value


def _real(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError
    return float(value)


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError
    value.encode()  # half a surrogate pair is no text
    return value


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError
    return value


def _time(value: Any) -> datetime:
    if type(value) is not str or not _INSTANT.fullmatch(value):
        raise ValueError
    return datetime.fromisoformat(value).astimezone(UTC)


_READERS: dict[Any, tuple[type, Callable[[Any], Any]]] = {
    pl.Int64: (int, _whole), pl.Float64: (float, _real), pl.String: (str, _text), pl.Boolean: (bool, _truth),
    TIME: (str, _time),
}  # fmt: skip


def faults(table: pl.DataFrame, model: type[BaseModel] = CompletedTrip) -> dict[int, Fault]:
    """The first fault that the schema finds in each row of a typed table, by its `ROW`."""
    try:
        schema(model).validate(table.drop(ROW), lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases.group_by("index", maintain_order=True).first()
        if cases["index"].null_count():  # not a fault of a row: the table itself was made wrongly
            raise
        return {
            table[ROW][index]: Fault(f"{column}.{check}", table[column][index])
            for index, column, check in cases.select("index", "column", "check").iter_rows()
        }
    return {}


def _plain(annotation: Any) -> tuple[Any, list[Any], bool]:
    """A field's type without its wrappings: the plain type, the constraints met on the way, whether None is allowed."""
    constraints: list[Any] = []
    nullable = False
    while True:
        origin = get_origin(annotation)
        if origin is typing.Annotated:
            annotation, *extra = get_args(annotation)
            constraints += extra
        elif origin in (types.UnionType, Union):
            (annotation,) = [part for part in get_args(annotation) if part is not type(None)]
            nullable = True
        else:
            return annotation, constraints, nullable


def _constraints(parts: list[Any]) -> list[Any]:
    """Constraints with those inside `Field(...)` unfolded."""
    flat: list[Any] = []
    for part in parts:
        flat += part.metadata if isinstance(part, FieldInfo) else [part]
    return flat


def _checks(parts: list[Any]) -> list[pa.Check]:
    checks = []
    for part in _constraints(parts):
        match part:
            case annotated_types.Ge(ge=low):
                checks.append(pa.Check.ge(low))
            case annotated_types.Gt(gt=low):
                checks.append(pa.Check.gt(low))
            case annotated_types.Le(le=high):
                checks.append(pa.Check.le(high))
            case annotated_types.MinLen(min_length=least):
                checks.append(pa.Check.str_length(min_value=least))
            case annotated_types.MaxLen(max_length=most):
                checks.append(pa.Check.str_length(max_value=most))
            case _ if getattr(part, "pattern", None):
                checks.append(pa.Check.str_matches(part.pattern))
    return checks


def _column(field: FieldInfo) -> pa.Column:
    plain, inner, nullable = _plain(field.annotation)
    checks = _checks([*field.metadata, *inner])
    if get_origin(plain) is Literal:
        return pa.Column(
            pl.String,
            [*checks, pa.Check.isin(list(get_args(plain)))],
            nullable=nullable,
        )
    dtype = {
        int: pl.Int64,
        float: pl.Float64,
        str: pl.String,
        bool: pl.Boolean,
        AwareDatetime: TIME,
    }[plain]
    return pa.Column(dtype, checks, nullable=nullable)


def schema(model: type[BaseModel] = CompletedTrip) -> pa.DataFrameSchema:
    """The pandera schema of a wire model's rows: same columns in the same order, strict. Validate eager frames only:
    on a LazyFrame pandera checks no values."""
    fields = {name: _column(field) for name, field in model.model_fields.items()}
    return pa.DataFrameSchema(fields, strict=True, ordered=True)


def dtypes(model: type[BaseModel] = CompletedTrip) -> dict[str, pl.DataType]:
    """Polars types of a wire model's columns, in order; times are microseconds in UTC."""
    return {name: column.dtype.type for name, column in schema(model).columns.items()}


def minute_of_week(column: str, zone: ZoneInfo) -> pl.Expr:
    """Minutes since Monday 00:00 on the city's wall clock: the table form of `contracts.trips.minute_of_week`."""
    local = pl.col(column).dt.convert_time_zone(zone.key)
    minutes = (local.dt.weekday().cast(pl.Int64) - 1) * 1440 + local.dt.hour().cast(pl.Int64) * 60
    return minutes + local.dt.minute().cast(pl.Int64)


def model_inputs(trips: pl.DataFrame, zone: ZoneInfo) -> pl.DataFrame:
    """The model's inputs of some trips, one column per input in contract order, NaN where a value is missing."""
    made = trips.with_columns(
        minute_of_week("requested_at", zone).alias("minute_of_week"),
        pl.col("vehicle").replace_strict(list(VEHICLES), range(len(VEHICLES)), return_dtype=pl.Int64),
    )
    kinds = {"int64": pl.Int64, "float32": pl.Float32}
    return made.select(
        pl.col(item.name).fill_null(float("nan")).cast(kinds[item.dtype])
        if item.nullable
        else pl.col(item.name).cast(kinds[item.dtype])
        for item in MODEL_INPUTS
    )


def content_digest(source: str, time_zone: str, zones: str, chunks: Iterable[pl.DataFrame]) -> str:
    """A snapshot's name: SHA-256 over its source and time zone, the text of `zones.json` and its rows as CSV.

    `chunks` are the rows in the file's order, cut anywhere. The same content has the same name on any machine, so that
    anyone can check that a snapshot is still what it was.
    """
    content = hashlib.sha256(f"{source} {time_zone}\n{zones}\n".encode())
    for number, chunk in enumerate(chunks):
        content.update(chunk.write_csv(include_header=number == 0).encode())
    return content.hexdigest()

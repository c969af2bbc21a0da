"""The trip as a table: the pandera (polars) schema derived from the wire models. For data/, model/ and tests only.

The schema states what one row must be; rules across rows or fields are batch rules and live in data/.
"""

from __future__ import annotations

import types
import typing
from typing import Any, Literal, Union, get_args, get_origin
from zoneinfo import ZoneInfo

import annotated_types
import pandera.polars as pa
import polars as pl
from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo

from contracts.trips import MODEL_INPUTS, VEHICLES, CompletedTrip

TIME = pl.Datetime("us", "UTC")


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
    if plain is float:
        checks.append(
            pa.Check(
                lambda data: data.lazyframe.select(pl.col(data.key).is_finite()),
                name="finite",
            )
        )
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

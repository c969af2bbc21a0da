"""Tensors as the Open Inference Protocol v2 writes them, in JSON or in bytes behind it, and the trips they hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from math import isnan
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from chassis.problems import ProblemError, faults
from contracts.bundle import OUTPUT
from contracts.estimates import LARGEST_BATCH
from contracts.trips import LEVELS, MODEL_INPUTS, VEHICLES, TripRequest

INPUTS = {item.name: item for item in MODEL_INPUTS}
DATATYPES: dict[str, tuple[str, np.dtype[Any]]] = {
    "int64": ("INT64", np.dtype("<i8")),
    "float32": ("FP32", np.dtype("<f4")),
}
WEEK_MIN = 7 * 1440
MONDAY = datetime(2026, 6, 1)  # noqa: DTZ001  a week's start on any city's wall clock, far from a change of clocks
Column = Sequence[Any]  # one value per row, as it came


class Tensor(BaseModel):
    """A tensor; its values are in `data`, or as many bytes behind the JSON as `parameters.binary_data_size` says."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class RequestedOutput(BaseModel):
    """An output that is asked for, as bytes if `parameters.binary_data` says so."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(BaseModel):
    """The JSON of a request. Parameters that we do not know are passed over."""

    id: str | None = None
    parameters: dict[str, Any] | None = None
    inputs: list[Tensor]
    outputs: list[RequestedOutput] | None = None

    def binary(self) -> bool:
        """Whether the output is asked for in bytes. Raises `ProblemError` for an output that there is not."""
        every = (self.parameters or {}).get("binary_data_output", False)
        for output in self.outputs or ():
            if output.name != OUTPUT:
                raise refused(("outputs", "name"), output.name, f"must be {OUTPUT}")
            every = (output.parameters or {}).get("binary_data", every)
        return every is True


class InferAnswer(BaseModel):
    """The JSON of an answer. `model_version` is the version of the bundle that answered."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[Tensor]


def refused(place: Iterable[str | int], value: Any, rule: str) -> ProblemError:
    """A 400 that names field, value and rule."""
    return refusal([{"type": "value_error", "loc": tuple(place), "input": value, "msg": rule}])


def refusal(errors: Sequence[Any]) -> ProblemError:
    """A 400 for what pydantic found."""
    found = faults(RequestValidationError(errors))
    first = found[0]
    return ProblemError(400, "invalid-tensors", f"{first.field}: {first.rule} (got {first.value!r})", found)


def read(body: bytes, json_bytes: int | None) -> tuple[InferRequest, dict[str, Column]]:
    """A request and its columns by input name, of equal length. `json_bytes` is where the JSON ends and the tensors'
    bytes begin, None where all is JSON. Raises `ProblemError`, a 400, for anything but the model's inputs."""
    end = len(body) if json_bytes is None else json_bytes
    if end > len(body):
        raise refused(["Inference-Header-Content-Length"], end, f"must be at most the body's {len(body)} bytes")
    try:
        asked = InferRequest.model_validate_json(body[:end])
    except ValidationError as error:
        raise refusal(error.errors(include_url=False, include_context=False)) from error
    behind = memoryview(body)[end:]
    columns: dict[str, Column] = {}
    for tensor in asked.inputs:
        if tensor.name not in INPUTS or tensor.name in columns:
            raise refused(("inputs", "name"), tensor.name, f"must be each of {', '.join(INPUTS)} once")
        columns[tensor.name], behind = _column(tensor, behind)
    if missing := INPUTS.keys() - columns.keys():
        raise refused(["inputs"], sorted(columns), f"must hold {', '.join(sorted(missing))}, too")
    if len({len(column) for column in columns.values()}) > 1:
        lengths = {name: len(column) for name, column in columns.items()}
        raise refused(["inputs"], lengths, "must be of equal length")
    if behind:
        raise refused(["body"], f"{len(behind)} bytes", "must end with the last tensor's bytes")
    return asked, columns


def _column(tensor: Tensor, behind: memoryview) -> tuple[Column, memoryview]:
    """The tensor's values, and the bytes that are left for those after it."""
    place = ("inputs", tensor.name)
    datatype, dtype = DATATYPES[INPUTS[tensor.name].dtype]
    if tensor.datatype != datatype:
        raise refused((*place, "datatype"), tensor.datatype, f"must be {datatype}")
    if len(tensor.shape) != 1 or not 1 <= tensor.shape[0] <= LARGEST_BATCH:
        raise refused((*place, "shape"), tensor.shape, f"must be one dimension of 1 to {LARGEST_BATCH} rows")
    (rows,) = tensor.shape
    size = (tensor.parameters or {}).get("binary_data_size")
    if size is None:
        if tensor.data is None or len(tensor.data) != rows:
            found = "nothing" if tensor.data is None else f"{len(tensor.data)} values"
            raise refused((*place, "data"), found, f"must be {rows} values, or binary_data_size must be given")
        return tensor.data, behind
    if tensor.data is not None or type(size) is not int or size != rows * dtype.itemsize or size > len(behind):
        rule = f"must be {rows * dtype.itemsize}, with as many bytes behind the JSON, and no data in it"
        raise refused((*place, "parameters", "binary_data_size"), size, rule)
    column: list[int] | list[float] = np.frombuffer(behind[:size], dtype).tolist()
    return column, behind[size:]


def trips(columns: Mapping[str, Column], zone: ZoneInfo) -> list[TripRequest]:
    """The trips that have these model inputs, one per row, so that the contract's ranges hold here, too.

    A trip's id is its row, its time any that has the minute of the week in the city's `zone`. Raises `ProblemError`, a
    400.
    """
    rows = zip(*columns.values(), strict=True)
    return [_trip(row, dict(zip(columns, values, strict=True)), zone) for row, values in enumerate(rows)]


def _trip(row: int, inputs: Mapping[str, Any], zone: ZoneInfo) -> TripRequest:
    given = {name: None if INPUTS[name].nullable and _is_nan(value) else value for name, value in inputs.items()}
    minute = _code(row, "minute_of_week", given.pop("minute_of_week"), WEEK_MIN)
    vehicle = VEHICLES[_code(row, "vehicle", given.pop("vehicle"), len(VEHICLES))]
    at = (MONDAY + timedelta(minutes=minute)).replace(tzinfo=zone)
    try:
        return TripRequest(trip_id=f"row-{row}", requested_at=at, vehicle=vehicle, **given)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        raise refusal([fault | {"loc": ("inputs", fault["loc"][0], "data", row)} for fault in found]) from error


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and isnan(value)


def _code(row: int, name: str, value: Any, beyond: int) -> int:
    if type(value) is not int or not 0 <= value < beyond:  # true and 3.0 are none
        raise refused(("inputs", name, "data", row), value, f"must be a whole number from 0 to {beyond - 1}")
    return value


def output(rows: Sequence[tuple[float, float, float]], *, binary: bool) -> tuple[Tensor, bytes]:
    """The output tensor, shape (n, 3) in minutes, and the bytes that go behind the JSON, if any."""
    datatype, dtype = DATATYPES["float32"]
    tensor = Tensor(name=OUTPUT, shape=[len(rows), len(LEVELS)], datatype=datatype)
    if not binary:
        return tensor.model_copy(update={"data": [minutes for row in rows for minutes in row]}), b""
    behind = np.array(rows, dtype).tobytes()
    return tensor.model_copy(update={"parameters": {"binary_data_size": len(behind)}}), behind

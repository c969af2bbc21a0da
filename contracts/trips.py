"""The trip as requested and as completed: the one definition from which every other use of its columns derives.

A field's type and range are pydantic's; its meaning, unit, owner and so on are the `Column` beside them. The wire
models are these classes; `contracts/tables.py` derives the table schema, `MODEL_INPUTS` the model's signature.
"""

from __future__ import annotations

import hashlib
import json
import re
from argparse import ArgumentTypeError
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

Team = Literal["product", "data", "model", "serving", "monitoring", "city", "platform"]
Vehicle = Literal["bike", "scooter", "van", "car"]
Outcome = Literal["delivered", "cancelled", "lost"]
EstimateSource = Literal["model", "fallback"]

VEHICLES: tuple[Vehicle, ...] = get_args(Vehicle)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
VERSION = "1.0.0"  # of the trip's definition: major when a reader or a writer of the last one would break
LEVELS = (0.1, 0.5, 0.9)
LABEL = "duration_min: minutes from booked_at to ended_at of a delivered trip"
HIGHEST_ZONE = 1023
LONGEST_MIN = 2880  # two days


@dataclass(frozen=True, slots=True)
class Column:
    """What a reader of one field needs beyond its type.

    `model_input` names the model input made from the field, or is None where the model may not see it: such a field
    never reaches training, whatever it would do for the loss. `fairness_group` names the groups, made from the field,
    between which we compare how good a promise is. `drift` says whether monitors watch the field's distribution; None
    means that they do if the model may see it.
    """

    meaning: str
    unit: str
    owner: Team
    known: Literal["request", "booking", "outcome"]
    personal: Literal["none", "pseudonym", "location"] = "none"
    missing: str = "never missing"
    model_input: str | None = None
    fairness_group: str | None = None
    drift: bool | None = None

    @property
    def watched(self) -> bool:
        """Whether monitors watch the field for drift."""
        return self.model_input is not None if self.drift is None else self.drift


def _number(value: Any) -> Any:
    if isinstance(value, bool | str | bytes):
        raise ValueError("must be a number, not text and not true or false")
    return value


# Whole seconds or finer down to our microseconds, always an offset, a year in which we trade: an epoch's zero, a time
# without seconds and a count of seconds written as text are all refused. ASCII digits alone, in every regex dialect.
INSTANT = (
    r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
    r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
_INSTANT = re.compile(INSTANT)


def _instant(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    instant = read(value)  # first, for its own words about a missing offset or a 30th of February
    if isinstance(value, datetime) or (isinstance(value, str) and _INSTANT.fullmatch(value)):
        return instant
    raise ValueError("must be an ISO 8601 time with seconds and an offset, as text: 2026-06-01T08:30:00+02:00")


number = BeforeValidator(_number)
Instant = Annotated[
    AwareDatetime,
    WrapValidator(_instant),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": INSTANT}),
]
TripId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
Zone = Annotated[int, Field(ge=1, le=HIGHEST_ZONE), number]
DistanceKm = Annotated[float, Field(ge=0.05, le=200, allow_inf_nan=False, strict=True)]
ParcelKg = Annotated[float, Field(gt=0, le=500, allow_inf_nan=False, strict=True)]
RainMmH = Annotated[float, Field(ge=0, le=200, allow_inf_nan=False, strict=True)]
TemperatureC = Annotated[float, Field(ge=-50, le=60, allow_inf_nan=False, strict=True)]
Pace = Annotated[float, Field(gt=0, le=20, allow_inf_nan=False, strict=True)]
Minutes = Annotated[float, Field(gt=0, le=LONGEST_MIN, allow_inf_nan=False, strict=True)]
BundleVersion = Annotated[str, Field(min_length=1, max_length=64)]
YesNo = Annotated[bool, Strict()]  # else "yes" and 1 would pass for true


class Wire(BaseModel):
    """Base of everything that crosses a team's border: no unknown field, no change after it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TripRequest(Wire):
    """A trip as it is known when its quote is asked for: exactly what an estimate may rest on."""

    trip_id: Annotated[
        TripId, Column("One parcel from a pickup to a dropoff zone", "-", "product", "request", "pseudonym")
    ]
    # Not watched for drift: a window shorter than the training time differs in its times by construction.
    requested_at: Annotated[
        Instant,
        Column("When the quote was asked for, in city time", "time", "product", "request", model_input="minute_of_week",
               drift=False),
    ]  # fmt: skip
    pickup_zone: Annotated[
        Zone,
        Column("Where the parcel is fetched", "-", "product", "request", "location", model_input="pickup_zone",
               fairness_group="zone group of the pickup"),
    ]  # fmt: skip
    dropoff_zone: Annotated[
        Zone, Column("Where the parcel is brought", "-", "product", "request", "location", model_input="dropoff_zone")
    ]
    distance_km: Annotated[
        DistanceKm,
        Column("Length of the planned route, never a metered one", "km", "city", "request", model_input="distance_km"),
    ]
    vehicle: Annotated[Vehicle, Column("What carries the parcel", "-", "product", "request", model_input="vehicle")]
    parcel_kg: Annotated[
        ParcelKg | None,
        Column("Mass of the parcel", "kg", "product", "request", missing="customer did not say",
               model_input="parcel_kg"),
    ] = None  # fmt: skip
    rain_mm_h: Annotated[
        RainMmH | None,
        Column("Rain when asked", "mm/h", "city", "request", missing="the weather feed is down",
               model_input="rain_mm_h"),
    ] = None  # fmt: skip
    temperature_c: Annotated[
        TemperatureC | None,
        Column("Air temperature when asked", "degC", "city", "request", missing="the weather feed is down",
               model_input="temperature_c"),
    ] = None  # fmt: skip
    city_pace: Annotated[
        Pace | None,
        Column("Street sensors' travel time over free flow, ten minutes old; never computed from our own trips",
               "ratio", "city", "request", missing="the sensors are down", model_input="city_pace"),
    ] = None  # fmt: skip


class CompletedTrip(TripRequest):
    """A trip that has ended, with what was promised. The row of the trips feed's last event, the lake and snapshots."""

    booked_at: Annotated[Instant, Column("When the customer booked", "time", "product", "booking")]
    picked_up_at: Annotated[
        Instant | None,
        Column("When the courier had the parcel", "time", "city", "outcome", missing="ended before the pickup"),
    ] = None
    ended_at: Annotated[Instant, Column("When the outcome happened", "time", "city", "outcome")]
    outcome: Annotated[Outcome, Column("How the trip ended", "-", "city", "outcome")]
    duration_min: Annotated[
        Minutes | None,
        Column("The label: from booked_at to ended_at", "min", "product", "outcome", missing="not delivered"),
    ] = None
    source: Annotated[EstimateSource, Column("Who made the shown estimate", "-", "product", "booking")]
    estimate_id: Annotated[
        TripId | None, Column("Serving's estimate, if it answered", "-", "serving", "booking", missing="no answer")
    ] = None
    bundle_version: Annotated[
        BundleVersion | None, Column("Bundle behind that estimate", "-", "serving", "booking", missing="no answer")
    ] = None
    p10_min: Annotated[Minutes, Column("Shown estimate, one in ten is quicker", "min", "product", "booking")]
    p50_min: Annotated[Minutes, Column("Shown estimate, half are quicker", "min", "product", "booking")]
    p90_min: Annotated[Minutes, Column("Shown estimate, nine in ten are quicker", "min", "product", "booking")]
    promised_by: Annotated[Instant, Column("The promise: arrival time committed to", "time", "product", "booking")]
    audit: Annotated[
        YesNo, Column("Shown the fallback's promise whatever the model said", "-", "product", "booking")
    ] = False


def columns(model: type[BaseModel]) -> dict[str, Column]:
    """The `Column` beside each field of a wire model, in order."""
    found = {}
    for name, field in model.model_fields.items():
        found[name] = next(item for item in field.metadata if isinstance(item, Column))
    return found


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One input tensor of the model, shape (batch,). NaN in a nullable float means missing."""

    name: str
    dtype: Literal["int64", "float32"]
    nullable: bool


MODEL_INPUTS: tuple[ModelInput, ...] = tuple(
    ModelInput(
        column.model_input,
        "int64" if column.model_input in ("pickup_zone", "dropoff_zone", "minute_of_week", "vehicle") else "float32",
        nullable=TripRequest.model_fields[name].default is None,
    )
    for name, column in columns(TripRequest).items()
    if column.model_input is not None
)
NOT_FOR_THE_MODEL: tuple[str, ...] = tuple(
    name for name, column in columns(CompletedTrip).items() if column.model_input is None and name != "duration_min"
)
DRIFT_COLUMNS: tuple[str, ...] = tuple(name for name, column in columns(CompletedTrip).items() if column.watched)
FAIRNESS_GROUPS = {name: it.fairness_group for name, it in columns(CompletedTrip).items() if it.fairness_group}


def minute_of_week(at: datetime, zone: ZoneInfo) -> int:
    """Minutes since Monday 00:00 on the city's wall clock.

    >>> minute_of_week(datetime.fromisoformat("2026-06-01T07:00+00:00"), ZoneInfo("Europe/Berlin"))
    540
    """
    local = at.astimezone(zone)
    return local.weekday() * 1440 + local.hour * 60 + local.minute


def model_inputs(trips: Sequence[TripRequest], zone: ZoneInfo) -> dict[str, list[int] | list[float]]:
    """The model's inputs for some trips: by input name, one number per trip, NaN where a value is missing."""
    rows = [vars(trip) for trip in trips]  # pydantic takes three times as long to find an attribute

    def numbers(name: str) -> list[float]:
        return [nan if (value := row[name]) is None else value for row in rows]

    nan = float("nan")
    return {
        "minute_of_week": [minute_of_week(row["requested_at"], zone) for row in rows],
        "pickup_zone": [row["pickup_zone"] for row in rows],
        "dropoff_zone": [row["dropoff_zone"] for row in rows],
        "distance_km": [row["distance_km"] for row in rows],
        "vehicle": [VEHICLES.index(row["vehicle"]) for row in rows],
        "parcel_kg": numbers("parcel_kg"),
        "rain_mm_h": numbers("rain_mm_h"),
        "temperature_c": numbers("temperature_c"),
        "city_pace": numbers("city_pace"),
    }


@cache  # it takes most of a millisecond, and every look at a bundle asks for it
def fingerprint() -> str:
    """Digest of all that a model and its server must agree on: inputs, their units and ranges, levels and label.

    How a time is written (its pattern) is left out: the model sees the minute of the week.
    """
    schema = TripRequest.model_json_schema()["properties"]
    schema["requested_at"].pop("pattern")
    inputs = [
        [column.model_input, column.unit, column.meaning, column.missing, schema[name]]
        for name, column in columns(TripRequest).items()
        if column.model_input is not None
    ]
    order = [[item.name, item.dtype, item.nullable] for item in MODEL_INPUTS]
    return hashlib.sha256(json.dumps([inputs, order, VEHICLES, LEVELS, LABEL], sort_keys=True).encode()).hexdigest()


def instant_of(text: str) -> datetime:
    """A time as command lines take it, with its offset. Raises `ValueError` or `ArgumentTypeError`.

    >>> instant_of("2026-06-02T13:00+02:00").utcoffset()
    datetime.timedelta(seconds=7200)
    """
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ArgumentTypeError(f"{text!r} needs an offset, as in 2026-05-20T08:00+02:00")
    return at


def minutes_between(start: datetime, end: datetime) -> float:
    """Minutes from start to end; negative when end comes first."""
    return (end - start) / timedelta(minutes=1)

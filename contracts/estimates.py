"""What product asks of serving, what it gets, and what serving logs of it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from contracts.trips import LONGEST_MIN, Instant, Minutes, TripId, TripRequest, Wire, YesNo

LARGEST_BATCH = 256
TIMEOUT_HEADER = "X-Request-Timeout-Ms"  # how long the caller waits; what can't be answered by then is not worked on
MOST_EXPLAINED = 16  # trips of one request: an explanation takes 64 rows of the graph, an estimate one

ReasonGroup = Literal["distance", "time_of_week", "weather", "city_pace", "vehicle", "zones"]
REASON_GROUPS: dict[ReasonGroup, tuple[str, ...]] = {  # the model inputs that explanations take together
    "distance": ("distance_km",),
    "time_of_week": ("minute_of_week",),
    "weather": ("rain_mm_h", "temperature_c"),
    "city_pace": ("city_pace",),
    "vehicle": ("vehicle", "parcel_kg"),
    "zones": ("pickup_zone", "dropoff_zone"),
}


class Quantiles(Wire):
    """One in ten such trips takes under `p10_min` minutes, half under `p50_min`, nine in ten under `p90_min`.

    Raises `ValueError` when they cross: such an answer must not reach a customer.
    """

    p10_min: Minutes
    p50_min: Minutes
    p90_min: Minutes

    @model_validator(mode="after")
    def _do_not_cross(self) -> Self:
        if not self.p10_min <= self.p50_min <= self.p90_min:
            raise ValueError(f"quantiles cross: p10={self.p10_min}, p50={self.p50_min}, p90={self.p90_min} min")
        return self


class Reason(Wire):
    """What one group of inputs adds to a trip's p50; negative minutes are saved."""

    group: ReasonGroup
    minutes: Annotated[float, Field(ge=-LONGEST_MIN, le=LONGEST_MIN, allow_inf_nan=False, strict=True)]


class Explanation(Wire):
    """Why a trip's p50 is not that of the bundle's typical trip, `typical_min`: one reason for each of `REASON_GROUPS`,
    in that order. Their minutes sum to the trip's p50 minus `typical_min`."""

    typical_min: Minutes
    reasons: list[Reason]


class EstimatesRequest(Wire):
    """Body of `POST /v1/estimates`. `with_reasons` asks for explanations, too, of at most `MOST_EXPLAINED` trips."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"with_reasons": {"const": True}}, "required": ["with_reasons"]},
            "then": {"properties": {"trips": {"maxItems": MOST_EXPLAINED}}},
        }
    )

    trips: Annotated[list[TripRequest], Field(min_length=1, max_length=LARGEST_BATCH)]
    with_reasons: YesNo = False

    @model_validator(mode="after")
    def _explains_few(self) -> Self:
        if self.with_reasons and len(self.trips) > MOST_EXPLAINED:
            raise ValueError(
                f"with_reasons allows at most {MOST_EXPLAINED} trips, got {len(self.trips)}: ask for fewer at once, "
                "or for the others without reasons"
            )
        return self


class Estimate(Wire):
    """Serving's answer for one trip: quantiles, or out of scope with the reason. Out of scope is not an error.

    `explanation` comes only where it was asked for and the bundle has a typical trip.
    """

    estimate_id: TripId
    trip_id: TripId
    bundle_version: str
    status: Literal["estimated", "out_of_scope"]
    quantiles: Quantiles | None = None
    reason: str | None = None
    explanation: Explanation | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if (self.status == "estimated") != (self.quantiles is not None):
            raise ValueError(f"status {self.status} with quantiles {self.quantiles}")
        if self.explanation is not None and self.quantiles is None:
            raise ValueError(f"status {self.status} with an explanation of no estimate")
        return self


class EstimatesAnswer(Wire):
    """Answer of `POST /v1/estimates`: one estimate per trip, in the order asked."""

    estimates: list[Estimate]


class ModelAnswer(Wire):
    """What one bundle said of a trip, whether or not anybody was shown it."""

    role: Literal["champion", "challenger", "previous"]
    bundle_version: str
    quantiles: Quantiles | None = None
    reason: str | None = None


class EstimateAnswered(Wire):
    """Feed `estimates`, type `estimate.answered`: the request as served and every bundle's answer.

    `answers[i].role` is the role the bundle had then; `shown` is the version whose answer the caller got. `request_id`
    and `traceparent` (W3C Trace Context) are the answer's headers, by which logs of all teams find it.
    """

    estimate_id: TripId
    trip: TripRequest
    shown: str
    answers: list[ModelAnswer]
    request_id: str | None = None
    traceparent: str | None = None


class Rollout(Wire):
    """Which bundles serve. In `shadow` the challenger answers beside the champion and nobody is shown it;
    in `canary` the share `canary_share` of trips, chosen by trip id, is shown the challenger's answer. `previous` is
    the champion before this one: while there is no challenger it answers in shadow, so that a rollback has evidence.
    """

    champion: str | None = None
    challenger: str | None = None
    mode: Literal["shadow", "canary"] = "shadow"
    canary_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    previous: str | None = None


class RolloutChanged(Wire):
    """Feed `rollout`, type `rollout.changed`. `cause` is a decision's id, `bundles:<feed id>`, `control` (a
    person) or `start` (a bundle could not be loaded again)."""

    before: Rollout
    after: Rollout
    cause: str
    reason: str
    at: Instant


class BundleRejected(Wire):
    """Feed `rollout`, type `bundle.rejected`: serving would not load a released bundle; the old one serves on."""

    version: str
    reason: str
    at: Instant


class RolloutCommand(Wire):
    """Body of serving's token-guarded `POST /v1/rollout`, for people. `version` names the bundle for `challenge`."""

    action: Literal["challenge", "promote", "drop", "roll_back", "canary"]
    version: str | None = None
    canary_share: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.0
    reason: Annotated[str, Field(min_length=3, max_length=500)]

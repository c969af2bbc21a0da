"""From what bundles said of trips to what a caller gets and what the feed tells of it. Nothing here waits or writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chassis.ids import new_id
from chassis.problems import ProblemError
from contracts.estimates import Estimate, EstimateAnswered, ModelAnswer
from contracts.trips import TripRequest
from serving.bundles import Said
from serving.caller import Caller
from serving.conductor import Fleet
from serving.rollout import Role, in_canary


def put_together(
    fleet: Fleet, trips: Sequence[TripRequest], said: Mapping[Role, Sequence[Said]], caller: Caller
) -> tuple[list[Estimate], list[EstimateAnswered]]:
    """What the caller gets and what the feed tells of it, one of each per trip.

    A canary trip is shown the challenger's quantiles; where it has none, the champion's answer as everybody else.
    """
    rollout, estimates, records = fleet.rollout, [], []
    for place, trip in enumerate(trips):
        heard = {role: words[place] for role, words in said.items()}
        canary = rollout.mode == "canary" and in_canary(trip.trip_id, rollout.canary_share)
        shown: Role = "challenger" if canary and heard["challenger"].quantiles is not None else "champion"
        estimate = Estimate(
            estimate_id=new_id(),
            trip_id=trip.trip_id,
            bundle_version=fleet.bundles[shown].version,
            status="out_of_scope" if heard[shown].quantiles is None else "estimated",
            quantiles=heard[shown].quantiles,
            reason=heard[shown].reason,
        )
        answers = [
            ModelAnswer(
                role=role, bundle_version=fleet.bundles[role].version, quantiles=words.quantiles, reason=words.reason
            )
            for role, words in heard.items()
        ]
        estimates.append(estimate)
        records.append(
            EstimateAnswered(
                estimate_id=estimate.estimate_id,
                trip=trip,
                shown=estimate.bundle_version,
                answers=answers,
                request_id=caller.request_id,
                traceparent=str(caller.span),
            )
        )
    return estimates, records


def misbehaviour(version: str, trips: Sequence[TripRequest], said: Sequence[Said]) -> ProblemError | None:
    """Why trips can't be answered of which this version said what must reach nobody, or None."""
    for trip, words in zip(trips, said, strict=True):
        if words.status == "misbehaved":
            detail = f"bundle {version} on trip {trip.trip_id}: {words.reason}; roll it back"
            return unavailable("bundle-misbehaves", detail, 30)
    return None


def unavailable(slug: str, detail: str, retry_after_s: float) -> ProblemError:
    """The request was good; another time or a fallback will do."""
    return ProblemError(503, slug, detail, retry_after_s=retry_after_s)

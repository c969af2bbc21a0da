"""From what bundles said of trips to what a caller gets and what the feed tells of it. Nothing here waits or writes.

Both are written as JSON at once: to build the contract's objects only to have them written takes three times as long as
all the rest (docs/decisions/0011). A test reads what is written here as the contract's `EstimatesAnswer` and
`EstimateAnswered`, and gets back what went in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from chassis.ids import new_id
from chassis.problems import ProblemError
from contracts.estimates import Explanation, Quantiles
from contracts.trips import TripRequest
from serving.bundles import Said
from serving.caller import Caller
from serving.conductor import Fleet
from serving.rollout import Role, in_canary

Words = Mapping[Role, Sequence[Said]]  # what each bundle said of some trips, in their order


def shown(fleet: Fleet, trips: Sequence[TripRequest], said: Words) -> list[Role]:
    """Whose answer callers get, trip by trip. A canary trip gets the challenger's quantiles; where it has none, the
    champion's answer as everybody else."""
    rollout = fleet.rollout
    if rollout.mode != "canary":
        return ["champion"] * len(trips)
    return [
        "challenger" if words.quantiles is not None and in_canary(trip.trip_id, rollout.canary_share) else "champion"
        for trip, words in zip(trips, said["challenger"], strict=True)
    ]


def put_together(
    fleet: Fleet, trips: Sequence[TripRequest], said: Words, why: Sequence[Explanation | None], caller: Caller
) -> tuple[str, list[tuple[str, str]]]:
    """What the caller gets, an `EstimatesAnswer`; and what the feed tells of it, an `EstimateAnswered` for each trip
    with its trip's id. All are JSON."""
    versions = {role: bundle.version for role, bundle in fleet.bundles.items()}
    minutes = {role: [_minutes(it.quantiles) for it in them] for role, them in said.items()}
    traced = "" if caller.span is None else f',"traceparent":"{caller.span}"'
    ends = f'],"request_id":"{caller.request_id}"{traced}}}'
    estimates, records = [], []
    for place, (trip, role) in enumerate(zip(trips, shown(fleet, trips, said), strict=True)):
        estimate_id, version, told, explanation = new_id(), versions[role], said[role][place], why[place]
        if told.quantiles is None:
            outcome = f'"status":"out_of_scope","reason":{json.dumps(told.reason)}'
        else:
            reasons = "" if explanation is None else f',"explanation":{explanation.model_dump_json()}'
            outcome = f'"status":"estimated","quantiles":{minutes[role][place]}{reasons}'
        estimates.append(
            f'{{"estimate_id":"{estimate_id}","trip_id":"{trip.trip_id}","bundle_version":"{version}",{outcome}}}'
        )
        answers = ",".join(
            f'{{"role":"{it}","bundle_version":"{versions[it]}","quantiles":{theirs[place]},"reason":'
            f"{_reason(said[it][place])}}}"
            for it, theirs in minutes.items()
        )
        start = f'{{"estimate_id":"{estimate_id}","trip":{trip.model_dump_json()},"shown":"{version}","answers":['
        records.append((trip.trip_id, start + answers + ends))
    return f'{{"estimates":[{",".join(estimates)}]}}', records


def misbehaviour(version: str, trips: Sequence[TripRequest], said: Sequence[Said]) -> ProblemError | None:
    """Why trips can't be answered of which this version said what must reach nobody; or None."""
    for trip, words in zip(trips, said, strict=True):
        if words.status == "misbehaved":
            detail = f"bundle {version} on trip {trip.trip_id}: {words.reason}; roll it back"
            return unavailable("bundle-misbehaves", detail, 30)
    return None


def unavailable(slug: str, detail: str, retry_after_s: float) -> ProblemError:
    """The request was good; another time or a fallback will do."""
    return ProblemError(503, slug, detail, retry_after_s=retry_after_s)


def _reason(said: Said) -> str:
    return "null" if said.reason is None else json.dumps(said.reason)


def _minutes(it: Quantiles | None) -> str:
    """Quantiles with seven digits, as many as the graph's float32 holds: more take four times as long to write."""
    if it is None:
        return "null"
    return f'{{"p10_min":{it.p10_min:.7g},"p50_min":{it.p50_min:.7g},"p90_min":{it.p90_min:.7g}}}'

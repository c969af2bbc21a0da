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

Heard = Mapping[Role, Said]  # what each bundle said of one trip


def shown(fleet: Fleet, trip_id: str, heard: Heard) -> Role:
    """Whose answer the caller gets. A canary trip gets the challenger's quantiles; where it has none, the champion's
    answer as everybody else."""
    rollout = fleet.rollout
    if rollout.mode == "canary" and heard["challenger"].quantiles is not None:
        return "challenger" if in_canary(trip_id, rollout.canary_share) else "champion"
    return "champion"


def put_together(
    fleet: Fleet,
    trips: Sequence[TripRequest],
    heard: Sequence[Heard],
    why: Sequence[Explanation | None],
    caller: Caller,
) -> tuple[str, list[tuple[str, str]]]:
    """What the caller gets, an `EstimatesAnswer`; and what the feed tells of it, an `EstimateAnswered` for each trip
    with its trip's id. All are JSON."""
    versions = {role: bundle.version for role, bundle in fleet.bundles.items()}
    estimates, records = [], []
    for trip, words, explanation in zip(trips, heard, why, strict=True):
        role, estimate_id = shown(fleet, trip.trip_id, words), new_id()
        version = versions[role]
        said = {it: _said(word) for it, word in words.items()}
        told = f'"estimate_id":"{estimate_id}","trip_id":"{trip.trip_id}","bundle_version":"{version}"'
        status = "out_of_scope" if words[role].quantiles is None else "estimated"
        reasons = "" if explanation is None else f',"explanation":{explanation.model_dump_json()}'
        estimates.append(f'{{{told},"status":"{status}"{said[role]}{reasons}}}')
        answers = [f'{{"role":"{it}","bundle_version":"{versions[it]}"{text}}}' for it, text in said.items()]
        record = (
            f'{{"estimate_id":"{estimate_id}","trip":{trip.model_dump_json()},"shown":"{version}",'
            f'"answers":[{",".join(answers)}],"request_id":"{caller.request_id}"{_traced(caller)}}}'
        )
        records.append((trip.trip_id, record))
    return f'{{"estimates":[{",".join(estimates)}]}}', records


def misbehaviour(version: str, trips: Sequence[TripRequest], heard: Sequence[Heard]) -> ProblemError | None:
    """Why trips can't be answered of which the champion, this version, said what must reach nobody; or None."""
    for trip, words in zip(trips, heard, strict=True):
        if words["champion"].status == "misbehaved":
            detail = f"bundle {version} on trip {trip.trip_id}: {words['champion'].reason}; roll it back"
            return unavailable("bundle-misbehaves", detail, 30)
    return None


def unavailable(slug: str, detail: str, retry_after_s: float) -> ProblemError:
    """The request was good; another time or a fallback will do."""
    return ProblemError(503, slug, detail, retry_after_s=retry_after_s)


def _said(said: Said) -> str:
    """A bundle's words as members of an object: its quantiles or its reason."""
    if said.quantiles is None:
        return f',"reason":{json.dumps(said.reason)}'
    return f',"quantiles":{_minutes(said.quantiles)}'


def _minutes(it: Quantiles) -> str:
    """Quantiles with seven digits, as many as the graph's float32 holds: more take four times as long to write."""
    return f'{{"p10_min":{it.p10_min:.7g},"p50_min":{it.p50_min:.7g},"p90_min":{it.p90_min:.7g}}}'


def _traced(caller: Caller) -> str:
    return "" if caller.span is None else f',"traceparent":"{caller.span}"'

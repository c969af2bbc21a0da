"""From what bundles said of trips to what a caller gets and what the feed tells of it. Nothing here waits or writes.

Both are written as JSON at once: to build the contract's objects only to have them written takes three times as long as
all the rest (docs/decisions/0011). A test reads what is written here as the contract's `EstimatesAnswer` and
`EstimateAnswered`, and gets back what went in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter

from chassis.ids import new_id
from chassis.problems import ProblemError
from contracts.estimates import Explanation
from contracts.trips import TripRequest
from serving.bundles import Said
from serving.caller import Caller
from serving.conductor import Fleet
from serving.rollout import Role, in_canary

trip_as_json = TypeAdapter(TripRequest).serializer.to_json  # `model_dump_json` takes half as long again
Words = Mapping[Role, Sequence[Said]]  # what each bundle said of some trips, in their order


def shown(fleet: Fleet, trips: Sequence[TripRequest], said: Words) -> list[Role]:
    """Whose answer callers get, trip by trip. A canary trip gets the challenger's quantiles; where it has none, the
    champion's answer as everybody else."""
    rollout = fleet.rollout
    if rollout.mode != "canary":
        return ["champion"] * len(trips)
    return [
        "challenger" if words.minutes is not None and in_canary(trip.trip_id, rollout.canary_share) else "champion"
        for trip, words in zip(trips, said["challenger"], strict=True)
    ]


class Answers:
    """What callers get and the feed tells of a batch of trips, request by request."""

    def __init__(self, fleet: Fleet, trips: Sequence[TripRequest], said: Words) -> None:
        self.trips, self.said, self.roles = trips, said, shown(fleet, trips, said)
        self._versions = {role: fleet.bundles[role].version for role in said}
        self._starts = {role: f'{{"role":"{role}","bundle_version":"{it}",' for role, it in self._versions.items()}
        self._quantiles = {role: [_quantiles(it.minutes) for it in words] for role, words in said.items()}

    def of(self, places: range, why: Mapping[int, Explanation], caller: Caller) -> tuple[str, list[tuple[str, str]]]:
        """For one request's trips, by their places: an `EstimatesAnswer`; and for each trip its id and an
        `EstimateAnswered`. All are JSON. `why` holds explanations, by place."""
        traced = "" if caller.span is None else f',"traceparent":"{caller.span}"'
        ends = f'],"request_id":"{caller.request_id}"{traced}}}'
        estimates, records = [], []
        for place in places:
            trip, role, estimate_id = self.trips[place], self.roles[place], new_id()
            trip_id, version, told = trip.trip_id, self._versions[role], self.said[role][place]
            if told.minutes is None:
                outcome = f'"status":"out_of_scope","reason":{_reason(told)}'
            else:
                reasons = f',"explanation":{why[place].model_dump_json()}' if place in why else ""
                outcome = f'"status":"estimated","quantiles":{self._quantiles[role][place]}{reasons}'
            estimates.append(
                f'{{"estimate_id":"{estimate_id}","trip_id":"{trip_id}","bundle_version":"{version}",{outcome}}}'
            )
            answers = [
                f'{start}"quantiles":{self._quantiles[it][place]},"reason":{_reason(self.said[it][place])}}}'
                for it, start in self._starts.items()
            ]
            request = trip_as_json(trip).decode()
            about = f'{{"estimate_id":"{estimate_id}","trip":{request},"shown":"{version}","answers":['
            records.append((trip_id, f"{about}{','.join(answers)}{ends}"))
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


def _quantiles(minutes: tuple[float, float, float] | None) -> str:
    """With seven digits, as many as the graph's float32 holds: more take four times as long to write."""
    return "null" if minutes is None else '{{"p10_min":{:.7g},"p50_min":{:.7g},"p90_min":{:.7g}}}'.format(*minutes)

"""What serving writes as JSON is what the contract reads: nothing lost, nothing added, whatever bundles say."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from chassis.tracing import parse
from contracts.estimates import EstimateAnswered, EstimatesAnswer, Explanation, Quantiles, Rollout
from serving.answers import Answers, shown
from serving.bundles import Said
from serving.caller import Caller
from serving.conductor import Fleet
from serving.rollout import in_canary
from tests.bundles import a_trip

TRACE = parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
MINUTES = some.floats(2**-20, 2880, width=32)
minutes = some.tuples(MINUTES, MINUTES, MINUTES).map(lambda them: tuple(sorted(them)))
words = some.one_of(
    minutes.map(lambda it: Said("estimated", it)),
    some.text(max_size=50).map(lambda reason: Said("out_of_scope", reason=reason)),
)
explanations = some.one_of(some.none(), MINUTES.map(lambda minutes: Explanation(typical_min=minutes, reasons=[])))


def fleet(rollout: Rollout) -> Fleet:
    roles = ("champion", "challenger", "previous")
    return Fleet(rollout, {role: SimpleNamespace(version=f"v-{role}") for role in roles if getattr(rollout, role)})


@given(
    champion=words,
    other=some.one_of(words, some.text(max_size=50).map(lambda reason: Said("misbehaved", reason=reason))),
    share=some.sampled_from([0.0, 0.5, 1.0]),
    why=explanations,
    traced=some.booleans(),
)
def test_answers_and_records_read_back_as_what_was_said(champion, other, share, why, traced):
    mode = "canary" if share else "shadow"
    serving = fleet(Rollout(champion="1", challenger="2", mode=mode, canary_share=share))
    trips = [a_trip("a"), a_trip("b", parcel_kg=None, rain_mm_h=0.1)]
    said = {"champion": [champion] * 2, "challenger": [other] * 2}
    roles = shown(serving, trips, said)
    explained = [why if said[role][0].minutes is not None else None for role in roles]
    caller = Caller("quote-7", TRACE, TRACE) if traced else Caller("quote-7", None, None)

    places = {place: it for place, it in enumerate(explained) if it is not None}
    told, records = Answers(serving, trips, said).of(range(2), places, caller)

    estimates = EstimatesAnswer.model_validate_json(told).estimates
    for place, (trip, role, estimate) in enumerate(zip(trips, roles, estimates, strict=True)):
        subject, text = records[place]
        record = EstimateAnswered.model_validate_json(text)
        assert subject == trip.trip_id == estimate.trip_id
        assert record.trip == trip
        assert (record.estimate_id, record.shown) == (estimate.estimate_id, estimate.bundle_version)
        assert record.shown == f"v-{role}"
        assert (record.request_id, record.traceparent) == ("quote-7", str(TRACE) if traced else None)
        assert [(it.role, it.reason) for it in record.answers] == [
            ("champion", champion.reason),
            ("challenger", other.reason),
        ]
        for told_of, meant in ((record.answers[0], champion), (record.answers[1], other), (estimate, said[role][0])):
            same(told_of.quantiles, meant.minutes)
        assert estimate.explanation == explained[place]
        assert estimate.reason == said[role][0].reason
    assert len({estimate.estimate_id for estimate in estimates}) == 2


def same(told: Quantiles | None, meant: tuple[float, float, float] | None) -> None:
    assert (told is None) == (meant is None)
    if told is not None:
        assert (told.p10_min, told.p50_min, told.p90_min) == pytest.approx(meant, rel=1e-6)


def test_each_request_of_a_batch_gets_its_own_trips():
    trips = [a_trip(name) for name in "abc"]
    said = {"champion": [Said("estimated", (km, km + 1.0, km + 2.0)) for km in (1.0, 2.0, 3.0)]}
    answers = Answers(fleet(Rollout(champion="1")), trips, said)
    why = Explanation(typical_min=5, reasons=[])
    for places, known in ((range(1), {}), (range(1, 3), {2: why})):
        told, records = answers.of(places, known, Caller("quote-7", None, None))
        estimates = EstimatesAnswer.model_validate_json(told).estimates
        assert [it.trip_id for it in estimates] == [name for name, _ in records] == [trips[at].trip_id for at in places]
        assert [it.quantiles.p10_min for it in estimates] == [at + 1.0 for at in places]
        assert [it.explanation for it in estimates] == [known.get(at) for at in places]


def test_a_canary_is_shown_to_its_share_and_only_where_it_has_quantiles():
    sound = Said("estimated", (1.0, 2.0, 3.0))
    trips = [a_trip(f"t{number}") for number in range(300)]
    both = {"champion": [sound] * 300, "challenger": [sound] * 300}
    silent = both | {"challenger": [Said("misbehaved")] * 300}
    canary = fleet(Rollout(champion="1", challenger="2", mode="canary", canary_share=0.3))
    assert [it == "challenger" for it in shown(canary, trips, both)] == [in_canary(it.trip_id, 0.3) for it in trips]
    assert set(shown(canary, trips, silent)) == {"champion"}
    assert set(shown(fleet(Rollout(champion="1", challenger="2")), trips, both)) == {"champion"}

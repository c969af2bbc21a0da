"""Serving late, wrong, refusing or gone: every quote is answered, the event says why, the customer notices nothing."""

from __future__ import annotations

import pytest

from contracts.estimates import Quantiles
from contracts.feeds import TripQuoted
from contracts.trips import TripRequest
from product.desk import decide, in_audit
from product.estimator import Answered, Breaker, Unanswered
from product.fallback import rule_of_thumb
from tests.product.conftest import START, WISH, a_tandem, nobody_listens_here
from tests.product.neighbours import MODEL_SAYS

USUAL = Quantiles(p10_min=20, p50_min=25, p90_min=44.5)
ANSWER = Answered(MODEL_SAYS, estimate_id="e1", bundle_version="v7")


def a_trip(trip_id: str = "t1") -> TripRequest:
    return TripRequest(
        trip_id=trip_id, requested_at=START, pickup_zone=1, dropoff_zone=2, distance_km=3, vehicle="bike"
    )


def last_quoted(tandem) -> TripQuoted:
    return TripQuoted.model_validate(tandem.feed()[-1].data)


def test_when_serving_is_well_its_p90_is_promised(tandem):
    trips = [tandem.quote() for _ in range(30)]

    in_time = 0
    for quote, event in zip(trips, tandem.feed(), strict=True):
        told = TripQuoted.model_validate(event.data)
        if (told.why_fallback or "").startswith("late"):  # a busy machine may starve even a quick answer
            continue
        in_time += 1
        assert told.model_quantiles == MODEL_SAYS
        assert (told.source, told.audit) == (("fallback", True) if in_audit(quote.trip_id, 0.05) else ("model", False))
        assert quote.promised_min == (31 if quote.source == "model" else told.promised_min)
    assert in_time >= 20
    assert tandem.metric('tandem_quotes_total{source="model"}') == sum(q.source == "model" for q in trips)


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ("late", "late: no answer within 135 ms"),
        ("500", "refused: status 500: out of order"),
        ("crossing", "wrong: estimates.0.quantiles: Value error, quantiles cross"),
        ("not json", "wrong: body: Invalid JSON"),
        ("wrong trip", "wrong: asked for trip"),
        ("two answers", "wrong: asked for trip"),
        ("out of scope", "out_of_scope: zone not seen"),
    ],
)
def test_whatever_serving_does_the_customer_gets_a_quote(shared, way, why):
    tandem, counter = shared, f'tandem_fallbacks_total{{reason="{why.split(":")[0]}"}}'
    before = tandem.metric(counter)
    tandem.serving.way = way
    quote = tandem.quote()

    told = last_quoted(tandem)
    assert (quote.source, told.source, told.model_quantiles, told.audit) == ("fallback", "fallback", None, False)
    assert told.shown == rule_of_thumb("bike", told.trip.distance_km)
    assert told.why_fallback.startswith(why)
    assert tandem.metric(counter) == before + 1
    tandem.serving.way = "well"
    tandem.quote()
    assert last_quoted(tandem).model_quantiles == MODEL_SAYS


def test_a_dead_serving_is_left_alone_for_a_while_and_asked_again_later(tmp_path, stack):
    tandem = a_tandem(tmp_path, stack)
    tandem.serving.way = "500"
    for _ in range(8):
        tandem.quote()
    whys = [TripQuoted.model_validate(event.data).why_fallback.split(":")[0] for event in tandem.feed()]
    assert whys == ["refused"] * 5 + ["circuit_open"] * 3
    assert len(tandem.serving.asked) == 5


def test_a_serving_that_is_down_stops_no_quote(tmp_path, stack):
    tandem = a_tandem(tmp_path, stack, serving_url=nobody_listens_here())

    assert [tandem.quote().source for _ in range(10)] == ["fallback"] * 10


def test_the_breaker_opens_probes_and_closes():
    breaker = Breaker(failures_to_open=3, pause_s=1.0)
    for _ in range(2):
        breaker.failed(now=10)
    assert breaker.lets_through(10)
    breaker.failed(now=10)
    assert not breaker.lets_through(10.9)
    assert [breaker.lets_through(11.1) for _ in range(3)] == [True, False, False]
    breaker.failed(now=11.2)
    assert not breaker.lets_through(12.1)
    assert breaker.lets_through(12.3)
    breaker.succeeded()
    assert breaker.lets_through(12.3)


def test_the_audit_share_sees_the_fallback_and_the_event_keeps_what_the_model_said():
    audited = decide(a_trip(), ANSWER, USUAL, audit_share=1)
    assert (audited.source, audited.shown, audited.promised_min) == ("fallback", USUAL, 45)
    assert (audited.audit, audited.why_fallback, audited.audit_share) == (True, "audit", 1)
    assert (audited.model_quantiles, audited.estimate_id, audited.bundle_version) == (MODEL_SAYS, "e1", "v7")

    usual = decide(a_trip(), ANSWER, USUAL, audit_share=0)
    assert (usual.source, usual.shown, usual.promised_min, usual.why_fallback) == ("model", MODEL_SAYS, 31, None)


def test_no_audit_where_the_model_said_nothing():
    told = decide(a_trip(), Unanswered("late", "150 ms"), USUAL, audit_share=1)

    assert (told.audit, told.why_fallback, told.estimate_id) == (False, "late: 150 ms", None)


def test_about_the_agreed_share_is_audited():
    share = sum(in_audit(f"trip-{number}", 0.05) for number in range(20_000)) / 20_000

    assert share == pytest.approx(0.05, abs=0.006)


def test_before_the_city_is_known_quotes_ask_for_patience(tmp_path, stack):
    tandem = a_tandem(tmp_path, stack, knows=False)

    got = tandem.client.post("/api/quotes", json=WISH)
    assert got.status_code == 503
    page = tandem.client.get("/")
    assert page.status_code == 503
    assert "just starting" in page.text
    assert 'http-equiv="refresh"' in page.text

"""The service over real sockets: answers, shadow, canary, problems, metrics."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from contracts.estimates import EstimateAnswered, EstimatesAnswer, EstimatesRequest
from contracts.requirements import load
from serving.bundles import Batch, Said
from serving.engine import Patience
from serving.rollout import in_canary
from tests.bundles import SOUND_UP_TO_KM, a_trip, make_bundle, quantiles_of
from tests.postgres import postgres
from tests.serving.conftest import a_champion


def answered(service) -> list[EstimateAnswered]:
    return [EstimateAnswered.model_validate(event["data"]) for event in service.feed("estimates")]


def challenge(place, service, version: str = "2", **how) -> None:
    place.upstream.release(make_bundle(place.bundles, version, **how))
    service.until_serving(challenger=version)


SERVE_ONE_TRIP = """
import sys, httpx
import serving.__main__
from serving.main import build
from serving.settings import Settings
from tests.servers import running
with running(build(Settings())) as url:
    answer = httpx.post(url + "/v1/estimates", content=sys.argv[1], headers={"content-type": "application/json"})
print(answer.status_code)
print([m for m in ("torch", "pandas", "polars", "pandera", "mlflow", "onnx", "onnxruntime") if m in sys.modules])
"""


@pytest.mark.slow
def test_it_serves_without_any_heavy_library(place, trip):
    place.upstream.release(make_bundle(place.bundles, "1"))
    with place.serving() as service:  # the next process finds its champion in the rollout's log
        service.until_serving(champion="1")
    urls = {f"TANDEM_{team}_URL": place.upstream.url for team in ("MODEL", "MONITORING")}
    found = subprocess.run(
        [sys.executable, "-c", SERVE_ONE_TRIP, EstimatesRequest(trips=[trip]).model_dump_json()],
        env=os.environ | urls | {"TANDEM_VAR": str(place.var)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.splitlines() == ["200", "['onnxruntime']"]


def test_answers_come_in_order_and_each_is_in_the_feed_first(champion):
    trips = [a_trip("a", distance_km=2.0), a_trip("b", distance_km=8.0)]

    answer = EstimatesAnswer.model_validate(champion.estimate(*trips).json())
    records = answered(champion)

    assert [estimate.trip_id for estimate in answer.estimates] == ["a", "b"]
    for estimate, trip, record in zip(answer.estimates, trips, records, strict=True):
        assert estimate.status == "estimated"
        assert estimate.quantiles.p50_min == pytest.approx(quantiles_of(trip.distance_km).p50_min, abs=0.001)
        assert record.estimate_id == estimate.estimate_id
        assert record.trip == trip
        assert record.shown == "1"
        assert [(said.role, said.quantiles) for said in record.answers] == [("champion", estimate.quantiles)]


def test_a_full_batch_is_answered_and_one_more_is_refused(shared_champion):
    trips = [a_trip(f"t{number}") for number in range(256)]
    assert len(shared_champion.estimate(*trips).json()["estimates"]) == 256
    assert shared_champion.estimate(*trips, a_trip("one-more")).status_code == 422
    assert shared_champion.estimate().status_code == 422


def test_out_of_scope_is_an_answer(champion):
    (estimate,) = champion.estimate(a_trip(dropoff_zone=900)).json()["estimates"]
    assert estimate["status"] == "out_of_scope"
    assert "dropoff_zone 900" in estimate["reason"]
    (record,) = answered(champion)
    assert record.answers[0].quantiles is None
    assert record.answers[0].reason == estimate["reason"]


def test_an_hour_of_the_week_that_the_model_never_saw_is_out_of_scope_and_counted(place):
    nine_on_monday = 9
    with a_champion(place, hours=[hour for hour in range(168) if hour != nine_on_monday]) as service:
        at = ["2026-06-01T08:59:59+02:00", "2026-06-01T07:00:00Z", "2026-06-01T10:00:00+02:00"]  # 7 in UTC is 9 here
        trips = [a_trip(f"t{place}", requested_at=instant) for place, instant in enumerate(at)]

        before, unseen, after = service.estimate(*trips).json()["estimates"]

        assert [it["status"] for it in (before, unseen, after)] == ["estimated", "out_of_scope", "estimated"]
        assert "hour 9 of the week" in unseen["reason"]
        assert service.metric('tandem_estimates_total{role="champion",status="out_of_scope"}') == 1
        assert service.metric('tandem_estimates_total{role="champion",status="estimated"}') == 2


def test_the_challenger_answers_in_shadow_and_nobody_is_shown_it(place, champion):
    challenge(place, champion, minutes_per_km=4.0)

    (estimate,) = champion.estimate(a_trip(distance_km=10)).json()["estimates"]

    assert estimate["bundle_version"] == "1"
    record = answered(champion)[-1]
    assert [(said.role, said.bundle_version) for said in record.answers] == [("champion", "1"), ("challenger", "2")]
    assert record.answers[1].quantiles.p50_min == pytest.approx(45, abs=0.001)


def test_without_a_challenger_the_previous_champion_answers_in_shadow(place, champion):
    challenge(place, champion, minutes_per_km=4.0)
    assert champion.control("promote").status_code == 200
    assert champion.rollout()["previous"] == "1"

    (estimate,) = champion.estimate(a_trip()).json()["estimates"]

    assert estimate["bundle_version"] == "2"
    assert [(said.role, said.bundle_version) for said in answered(champion)[-1].answers] == [
        ("champion", "2"),
        ("previous", "1"),
    ]


@pytest.mark.parametrize("fault", ["nan", "crossing", "throws"])
def test_a_challenger_that_misbehaves_is_recorded_and_fails_nobody(place, champion, fault):
    challenge(place, champion, misbehaves=fault)

    answer = champion.estimate(a_trip(distance_km=SOUND_UP_TO_KM + 5))

    assert answer.json()["estimates"][0]["bundle_version"] == "1"
    said = answered(champion)[-1].answers[1]
    assert said.quantiles is None
    assert said.reason
    assert champion.metric('tandem_estimates_total{role="challenger",status="misbehaved"}') == 1


@pytest.mark.parametrize("fault", ["nan", "crossing", "throws"])
def test_a_champion_that_misbehaves_reaches_no_customer(place, fault):
    place.upstream.release(make_bundle(place.bundles, "1", misbehaves=fault))
    with place.serving() as service:
        service.until_serving(champion="1")

        answer = service.estimate(a_trip("good"), a_trip("bad", distance_km=SOUND_UP_TO_KM + 5))

        assert answer.status_code == 503
        problem = answer.json()
        assert problem["type"] == "/problems/bundle-misbehaves"
        assert "bundle 1" in problem["detail"]
        assert int(answer.headers["Retry-After"]) > 0
        assert service.feed("estimates") == []
        assert service.metric('tandem_estimates_total{role="champion",status="misbehaved"}') >= 1
        assert service.estimate(a_trip("good")).status_code == 200


class SlowBundle:
    """Computes as long as it is told; knows how often it was asked."""

    version = "slow"

    def __init__(self, takes_s: float) -> None:
        self.takes_s, self.asked = takes_s, 0

    def answer(self, batch, _limit_s):
        self.asked += 1
        until = time.thread_time() + self.takes_s
        while time.thread_time() < until:
            pass
        return [Said("out_of_scope", reason="slow")] * len(batch.trips)


def test_a_shadow_that_took_longer_than_its_budget_is_left_alone_for_a_while(trip):
    shadow, slow = Patience(limit_s=0.02, pause_s=0.2), SlowBundle(0.05)

    first, second = shadow.ask(slow, Batch([trip])), shadow.ask(slow, Batch([trip, trip]))
    time.sleep(0.2)
    third = shadow.ask(slow, Batch([trip]))

    assert first == third == [Said("out_of_scope", reason="slow")]
    assert second == [Said("misbehaved", reason="not asked: took over 0.02 s just now")] * 2
    assert slow.asked == 2


def test_a_shadow_within_its_budget_is_always_asked(trip):
    shadow, quick = Patience(limit_s=5, pause_s=60), SlowBundle(0)
    for _ in range(3):
        shadow.ask(quick, Batch([trip]))
    assert quick.asked == 3


def test_a_canary_shows_the_challenger_to_its_share_and_always_to_the_same_trips(place, champion):
    challenge(place, champion, minutes_per_km=4.0)
    state = champion.control("canary", canary_share=0.3).json()
    assert (state["mode"], state["canary_share"]) == ("canary", 0.3)
    trips = [a_trip(f"t{number}") for number in range(200)]

    rounds = [[it["bundle_version"] for it in champion.estimate(*trips).json()["estimates"]] for _ in range(2)]

    assert rounds[0] == rounds[1] == ["2" if in_canary(trip.trip_id, 0.3) else "1" for trip in trips]
    assert set(rounds[0]) == {"1", "2"}
    assert [record.shown for record in answered(champion)[:200]] == rounds[0]


def test_a_canary_trip_gets_the_champions_answer_where_the_challenger_has_none(place, champion):
    challenge(place, champion, misbehaves="nan")
    champion.control("canary", canary_share=1.0)

    short, long = champion.estimate(a_trip("s"), a_trip("l", distance_km=SOUND_UP_TO_KM + 5)).json()["estimates"]

    assert (short["bundle_version"], long["bundle_version"]) == ("2", "1")
    assert long["quantiles"]["p50_min"] == pytest.approx(115, abs=0.001)


def test_without_a_champion_it_is_live_not_ready_and_answers_503(place, trip):
    with place.serving() as service:
        assert service.client.get("/health/live").status_code == 200
        assert service.client.get("/health/ready").status_code == 503
        answer = service.estimate(trip)
        assert answer.status_code == 503
        assert answer.json()["type"] == "/problems/no-champion"
        assert int(answer.headers["Retry-After"]) > 0

        place.upstream.release(make_bundle(place.bundles, "1"))
        service.until(lambda: service.client.get("/health/ready").status_code == 200, "it is ready")


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"distance_km": 0.0}, "trips.0.distance_km", 0.0),
        ({"pickup_zone": 2000}, "trips.0.pickup_zone", 2000),
        ({"vehicle": "rocket"}, "trips.0.vehicle", "rocket"),
        ({"wind": 3}, "trips.0.wind", 3),
        ({"requested_at": "2026-06-01T09:00:00"}, "trips.0.requested_at", "2026-06-01T09:00:00"),
    ],
)
def test_bad_input_is_a_problem_that_names_field_value_and_rule(shared_champion, trip, change, field, value):
    answer = shared_champion.client.post("/v1/estimates", json={"trips": [trip.model_dump(mode="json") | change]})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    fault = answer.json()["errors"][0]
    assert (fault["field"], fault["value"]) == (field, value)
    assert fault["rule"]


def test_json_that_is_none_is_a_400(shared_champion):
    answer = shared_champion.client.post(
        "/v1/estimates", content='{"trips": [', headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.json()["type"] == "/problems/malformed-json"


def test_nan_in_a_body_is_refused(shared_champion, trip):
    body = json.dumps({"trips": [trip.model_dump(mode="json") | {"distance_km": float("nan")}]})
    answer = shared_champion.client.post("/v1/estimates", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_a_413(place, chunked):
    with place.serving(serving_largest_body_bytes=10_000) as service:
        body = b"[" + b" " * 20_000
        content = iter([body[:9_000], body[9_000:]]) if chunked else body
        answer = service.client.post("/v1/estimates", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"
        assert "10000 bytes" in answer.json()["detail"]


def test_a_request_id_is_given_back_or_made(shared_champion, trip):
    kept = shared_champion.estimate(trip, headers={"X-Request-Id": "quote-77"})
    assert kept.headers["X-Request-Id"] == "quote-77"
    made = {shared_champion.estimate(trip).headers["X-Request-Id"] for _ in range(2)}
    assert len(made) == 2
    foreign = shared_champion.estimate(trip, headers={"X-Request-Id": "a b{}"}).headers["X-Request-Id"]
    assert foreign != "a b{}"


def test_while_the_database_is_locked_answers_are_quick_refusals_and_health_is_told_at_once(champion, place, trip):
    stuck = sqlite3.connect(place.var / "serving.db", isolation_level=None)
    stuck.execute("BEGIN IMMEDIATE")  # nothing can be committed while this is held
    began = time.monotonic()
    refused = champion.estimate(trip)
    live = champion.client.get("/health/live")
    took_s = time.monotonic() - began
    stuck.execute("ROLLBACK")

    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/not-recorded")
    assert int(refused.headers["Retry-After"]) > 0
    assert live.status_code == 200
    assert took_s < 2  # a writer elsewhere waits ten
    assert champion.estimate(trip).status_code == 200
    assert len(champion.feed("estimates")) == 1


@pytest.mark.slow
def test_when_too_many_trips_wait_for_the_database_the_next_is_refused_at_once(place, trip, tmp_path):
    place.upstream.release(make_bundle(place.bundles, "1"))
    limits = {"serving_most_waiting_trips": 256, "serving_longest_answer_s": 30}
    with postgres(tmp_path) as url, place.serving(serving_database_url=url, **limits) as service:
        service.until_serving(champion="1")
        with psycopg.connect(url) as other, ThreadPoolExecutor(1) as caller:
            other.execute("SELECT * FROM feed_heads FOR UPDATE")  # nothing can be appended while this is held
            waiting = caller.submit(service.estimate, *[a_trip(f"t{number}") for number in range(256)])
            service.until(lambda: service.metric("tandem_waiting_trips") == 256, "256 trips wait")

            refused = service.estimate(trip)

            assert (refused.status_code, refused.json()["type"]) == (503, "/problems/queue-full")
            assert int(refused.headers["Retry-After"]) > 0
            assert not waiting.done()
            other.rollback()
            assert waiting.result(20).status_code == 200
            assert service.estimate(trip).status_code == 200
            assert len(service.feed("estimates")) == 257


def test_an_answer_that_cannot_be_recorded_is_not_sent(champion, place, trip):
    database = sqlite3.connect(place.var / "serving.db")
    database.execute("ALTER TABLE feed_estimates RENAME TO lost")
    refused = champion.estimate(trip)
    assert refused.status_code == 503
    assert refused.json()["type"] == "/problems/not-recorded"
    database.execute("ALTER TABLE lost RENAME TO feed_estimates")
    assert champion.estimate(trip).status_code == 200
    assert len(champion.feed("estimates")) == 1


def test_many_callers_at_once_are_all_recorded_once(champion):
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(lambda number: champion.estimate(a_trip(f"t{number}")), range(200)))
    told = [answer.json()["estimates"][0]["estimate_id"] for answer in answers]
    recorded = [record.estimate_id for record in answered(champion)]
    assert len(set(told)) == 200
    assert sorted(recorded) == sorted(told)


def test_metrics_count_answers_and_every_latency_limit_is_a_bucket_edge(champion, trip):
    champion.estimate(trip, a_trip("out", pickup_zone=900))
    champion.estimate()
    assert champion.metric('tandem_estimates_total{role="champion",status="estimated"}') == 1
    assert champion.metric('tandem_estimates_total{role="champion",status="out_of_scope"}') == 1
    assert champion.metric('tandem_estimate_requests_total{code="200"}') == 1
    assert champion.metric('tandem_estimate_requests_total{code="422"}') == 1
    assert champion.metric("tandem_estimate_seconds_count") == 1
    text = champion.client.get("/metrics").text
    for requirement in ("estimate-latency-p95", "estimate-latency-p99", "estimate-wait"):
        edge = load()[requirement].ceiling / 1000
        assert f'tandem_estimate_seconds_bucket{{le="{edge}"}}' in text
    assert 'tandem_rollout_info{canary_share="",challenger="",champion="1",mode="shadow",previous=""} 1.0' in text
    assert champion.metric('tandem_feed_follow_lag_seconds{feed="bundles"}') < 5


def test_the_published_interface_documents_its_problems(shared_champion):
    paths = shared_champion.client.get("/openapi.json").json()["paths"]
    for status in ("400", "413", "422", "503"):
        content = paths["/v1/estimates"]["post"]["responses"][status]["content"]
        assert content["application/problem+json"]["schema"]["$ref"].endswith("/Problem")
    assert {"401", "409"} <= paths["/v1/rollout"]["post"]["responses"].keys()


def test_only_the_control_token_changes_the_rollout(shared_champion):
    body = {"action": "roll_back", "reason": "test"}
    assert shared_champion.client.post("/v1/rollout", json=body).status_code == 401
    wrong = shared_champion.client.post("/v1/rollout", json=body, headers={"Authorization": "Bearer courier"})
    assert wrong.status_code == 401
    conflict = shared_champion.control("roll_back")
    assert conflict.status_code == 409
    assert "no previous bundle" in conflict.json()["detail"]
    assert shared_champion.rollout()["champion"] == "1"


def test_an_unknown_path_is_a_problem_too(shared_champion):
    answer = shared_champion.client.get("/nowhere")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/http-404")

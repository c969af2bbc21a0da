"""The rollout as it is followed: releases and decisions, refusals, restarts, swaps under load, a killed process."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from itertools import pairwise

import httpx
import pytest

from contracts.estimates import BundleRejected
from serving.conductor import StoreAway
from serving.main import build
from tests.bundles import a_trip, make_bundle, quantiles_of, released
from tests.postgres import postgres
from tests.servers import free_port


def rejections(service) -> list[BundleRejected]:
    return [
        BundleRejected.model_validate(event["data"])
        for event in service.feed("rollout")
        if event["type"] == "bundle.rejected"
    ]


def changes(service) -> list[dict]:
    return [event["data"] for event in service.feed("rollout") if event["type"] == "rollout.changed"]


def test_decisions_are_followed_from_release_to_rollback(place):
    with place.serving() as service:
        place.upstream.release(make_bundle(place.bundles, "1"))
        service.until_serving(champion="1")
        place.upstream.release(make_bundle(place.bundles, "2"))
        service.until_serving(champion="1", challenger="2")
        place.upstream.decide("promote", "2", "d-1")
        service.until_serving(champion="2", challenger=None, previous="1")
        place.upstream.decide("roll_back", "2", "d-2")
        service.until_serving(champion="1", previous=None)
        place.upstream.release(make_bundle(place.bundles, "3"))
        service.until_serving(challenger="3")
        place.upstream.decide("drop_challenger", "3", "d-3")
        service.until_serving(champion="1", challenger=None)

        told = changes(service)
        assert [change["cause"] for change in told] == ["bundles:1", "bundles:2", "d-1", "d-2", "bundles:3", "d-3"]
        assert all(before["after"] == after["before"] for before, after in pairwise(told))
        assert told[2]["reason"] == "promote: because the test says so"
        history = service.client.get("/v1/rollout/history", params={"limit": 2}).json()
        assert [event["data"]["cause"] for event in history] == ["bundles:3", "d-3"]
        assert list(service.rollout()["bundles"]) == ["champion"]


def test_a_decision_about_what_does_not_serve_changes_nothing_and_is_logged(place, caplog):
    with place.serving() as service:
        place.upstream.release(make_bundle(place.bundles, "1"))
        place.upstream.release(make_bundle(place.bundles, "2"))
        service.until_serving(champion="1", challenger="2")
        with caplog.at_level(logging.WARNING):
            place.upstream.decide("promote", "7", "d-1")
            place.upstream.decide("roll_back", "1", "d-2")
            place.upstream.decide("drop_challenger", None, "d-3")
            place.upstream.publish_raw(place.upstream.decisions, "decision.made", "d-4", {"kind": "conquer"})
            place.upstream.decide("watch", None, "d-5")
            place.upstream.decide("promote", "2", "d-6")  # shows that the ones before have been seen
            service.until_serving(champion="2")

        assert [change["cause"] for change in changes(service)] == ["bundles:1", "bundles:2", "d-6"]
        assert "the challenger is 2 now" in caplog.text
        assert "no previous bundle" in caplog.text
        assert "without a target" in caplog.text
        assert "another contract" in caplog.text
        assert service.metric('tandem_commands_ignored_total{action="decision.made"}') == 4


def test_events_delivered_again_change_nothing_twice(place):
    with place.serving() as service:
        place.upstream.release(make_bundle(place.bundles, "1"))
        place.upstream.release(make_bundle(place.bundles, "2"))
        place.upstream.release(make_bundle(place.bundles, "bad", golden_off_min=1))
        service.until(lambda: rejections(service) != [], "the bad bundle is rejected")
        place.upstream.decide("promote", "2", "d-1")
        service.until_serving(champion="2")
        place.upstream.decide("roll_back", "2", "d-2")
        service.until_serving(champion="1", previous=None)
        service.control("challenge", version="2")  # d-1 would fit again
        before = service.feed("rollout")

    with sqlite3.connect(place.var / "serving.db") as database:
        database.execute("DELETE FROM cursors")  # everything comes again, as to a consumer that lost its place
    with place.serving() as service:
        place.upstream.release(make_bundle(place.bundles, "3"))
        service.until_serving(challenger="3")
        place.upstream.decide("drop_challenger", "3", "d-3")
        service.until_serving(challenger=None)
        assert service.feed("rollout")[: len(before)] == before
        assert [change["cause"] for change in changes(service)][-2:] == ["bundles:4", "d-3"]
        assert len(service.feed("rollout")) == len(before) + 2


def cut(folder):
    graph = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(graph[:100])


@pytest.mark.parametrize(
    ("how", "spoil", "says"),
    [
        ({}, cut, "was changed or cut"),
        ({}, lambda folder: (folder / "SHA256SUMS").unlink(), "only half of one"),
        ({}, shutil.rmtree, "not a bundle"),
        ({}, lambda folder: (folder / "extra.bin").write_bytes(b"x"), "extra.bin"),
        ({"manifest_fingerprint": "ab" * 32}, None, "retrain under this contract"),
        ({"graph_fingerprint": "ab" * 32}, None, "the graph's contract"),
        ({"input_name": "miles"}, None, "the graph's inputs"),
        ({"golden_off_min": 1.0}, None, "off its golden trips"),
    ],
)
def test_a_wrong_bundle_is_rejected_and_the_old_one_serves_on(place, trip, how, spoil, says):
    with place.serving() as service:
        place.upstream.release(make_bundle(place.bundles, "1"))
        service.until_serving(champion="1")
        folder = make_bundle(place.bundles, "2", **how)
        told = released(folder)
        if spoil is not None:
            spoil(folder)
        place.upstream.publish_raw(place.upstream.bundles, "bundle.released", "2", json.loads(told.model_dump_json()))
        service.until(lambda: rejections(service) != [], "bundle 2 is rejected")

        (rejected,) = rejections(service)
        assert rejected.version == "2"
        assert says in rejected.reason
        assert service.estimate(trip).json()["estimates"][0]["bundle_version"] == "1"
        assert service.rollout()["challenger"] is None
        assert (
            sum(
                service.metric(f'tandem_bundles_rejected_total{{reason="{it}"}}')
                for it in ("event", "seal", "graph", "signature", "golden")
            )
            == 1
        )


def test_a_bundle_other_than_the_one_released_is_rejected(place):
    with place.serving() as service:
        place.upstream.release(make_bundle(place.bundles, "1"), checksums_sha256="0" * 64)
        service.until(lambda: rejections(service) != [], "bundle 1 is rejected")
        assert "not the one released" in rejections(service)[0].reason
        assert service.client.get("/health/ready").status_code == 503


def test_a_release_under_an_older_contract_is_rejected_and_the_feed_goes_on(place):
    with place.serving() as service:
        place.upstream.publish_raw(place.upstream.bundles, "bundle.released", "0", {"version": "0", "accuracy": 0.97})
        place.upstream.publish_raw(place.upstream.bundles, "bundle.refused", "0", {"reasons": ["gate"]})
        place.upstream.release(make_bundle(place.bundles, "1"))
        service.until_serving(champion="1")
        (rejected,) = rejections(service)
        assert rejected.version == "0"
        assert "another contract" in rejected.reason


def test_a_person_can_challenge_with_a_bundle_and_a_wrong_one_is_a_409(place):
    with place.serving() as service:
        make_bundle(place.bundles, "1")
        assert service.control("challenge", version="1").json()["champion"] == "1"
        make_bundle(place.bundles, "2", golden_off_min=1.0)
        refused = service.control("challenge", version="2")
        assert refused.status_code == 409
        assert "off its golden trips" in refused.json()["detail"]
        assert [it.version for it in rejections(service)] == ["2"]
        assert service.control("challenge", version="../1").status_code == 409
        assert service.rollout()["challenger"] is None


def rolled_out(place) -> None:
    """Serve until 2 is champion, 1 previous and 3 challenger in a canary."""
    with place.serving() as service:
        place.upstream.release(make_bundle(place.bundles, "1"))
        place.upstream.release(make_bundle(place.bundles, "2", minutes_per_km=3.0))
        service.until_serving(champion="1", challenger="2")
        place.upstream.decide("promote", "2")
        service.until_serving(champion="2", previous="1")
        place.upstream.release(make_bundle(place.bundles, "3"))
        service.until_serving(challenger="3")
        service.control("canary", canary_share=0.25)


def test_the_rollout_survives_a_restart(place, trip):
    rolled_out(place)
    with place.serving() as service:
        state = service.rollout()
        assert {name: state[name] for name in ("champion", "challenger", "previous", "mode", "canary_share")} == {
            "champion": "2",
            "challenger": "3",
            "previous": "1",
            "mode": "canary",
            "canary_share": 0.25,
        }
        assert sorted(state["bundles"]) == ["challenger", "champion", "previous"]
        assert service.estimate(trip).status_code == 200
        assert len(changes(service)) == 5  # starting again says nothing new


@pytest.mark.slow
def test_it_keeps_its_feeds_and_rollout_in_postgres_too(place, trip, tmp_path):
    with postgres(tmp_path) as url:
        place.upstream.release(make_bundle(place.bundles, "1"))
        with place.serving(serving_database_url=url) as service:
            service.until_serving(champion="1")
            told = service.estimate(trip).json()["estimates"][0]["estimate_id"]
        with place.serving(serving_database_url=url) as service:
            assert service.rollout()["champion"] == "1"
            assert [event["data"]["estimate_id"] for event in service.feed("estimates")] == [told]


def test_after_a_restart_the_previous_bundle_steps_in_for_a_spoilt_champion(place, trip):
    rolled_out(place)
    cut(place.bundles / "2")
    for _ in range(2):  # a second start finds the same and has nothing to add
        with place.serving() as service:
            assert service.client.get("/health/ready").status_code == 200
            assert service.rollout()["champion"] == "1"
            assert service.rollout()["challenger"] == "3"
            assert service.estimate(trip).json()["estimates"][0]["bundle_version"] in "13"
            assert [it.version for it in rejections(service)] == ["2"]
            assert changes(service)[-1]["cause"] == "start"
            assert len(changes(service)) == 6


@pytest.mark.slow
def test_after_a_restart_with_no_good_bundle_it_is_not_ready_until_the_next_release(place, trip):
    rolled_out(place)
    for version in "123":
        cut(place.bundles / version)
    with place.serving() as service:
        assert service.client.get("/health/ready").status_code == 503
        assert service.estimate(trip).status_code == 503
        assert {it.version for it in rejections(service)} == {"1", "2", "3"}
        place.upstream.release(make_bundle(place.bundles, "4"))
        service.until_serving(champion="4")
        assert service.estimate(trip).status_code == 200


def test_a_bundle_swapped_for_another_of_its_name_is_not_loaded_again(place):
    rolled_out(place)
    shutil.rmtree(place.bundles / "2")
    make_bundle(place.bundles, "2", minutes_per_km=9.0)
    with place.serving() as service:
        assert service.rollout()["champion"] == "1"
        assert "not the one released" in rejections(service)[0].reason


@pytest.mark.slow
def test_a_bundles_folder_that_is_away_stops_the_start_and_leaves_the_rollout(place):
    rolled_out(place)
    place.bundles.rename(place.var / "away")
    with pytest.raises(StoreAway, match="mount or restore"):
        build(place.settings())
    (place.var / "away").rename(place.bundles)
    with place.serving() as service:
        assert service.rollout()["champion"] == "2"


@pytest.mark.slow
def test_swaps_under_load_fail_no_request_and_each_answer_is_of_the_version_it_names(place):
    slopes = {str(number): 1.0 + number for number in range(1, 9)}
    for version, slope in slopes.items():
        make_bundle(place.bundles, version, minutes_per_km=slope)
    done, wrong, seen = threading.Event(), [], set()

    def customer(url: str, name: str) -> None:
        with httpx.Client(base_url=url, timeout=20) as client:
            body = {"trips": [a_trip(f"{name}-{place}").model_dump(mode="json") for place in range(3)]}
            while not done.is_set():
                answer = client.post("/v1/estimates", json=body)
                if answer.status_code != 200:
                    wrong.append(answer.text)
                    continue
                said = answer.json()["estimates"]
                seen.update(it["bundle_version"] for it in said)
                for it in said:
                    expected = quantiles_of(3.0, slopes[it["bundle_version"]]).p50_min
                    if (
                        abs(it["quantiles"]["p50_min"] - expected) > 0.001
                        or len({e["bundle_version"] for e in said}) > 1
                    ):
                        wrong.append(it)

    with place.serving() as service:
        place.upstream.release(place.bundles / "1")
        service.until_serving(champion="1")
        url = str(service.client.base_url)
        customers = [threading.Thread(target=customer, args=(url, f"c{number}")) for number in range(4)]
        for thread in customers:
            thread.start()
        service.until(lambda: "1" in seen, "1 has answered")
        for version in list(slopes)[1:]:
            place.upstream.release(place.bundles / version)
            service.until_serving(challenger=version)
            place.upstream.decide("promote", version, f"d-{version}")
            service.until_serving(champion=version)
            service.until(lambda version=version: version in seen, f"{version} has answered")
        done.set()
        for thread in customers:
            thread.join()
        recorded = {event["data"]["shown"] for event in service.feed("estimates")}

    assert wrong == []
    assert seen == recorded == set(slopes)


@pytest.mark.slow
def test_an_answer_is_in_the_feed_even_if_the_process_is_killed_right_after_it(place, trip):
    make_bundle(place.bundles, "1")
    port = free_port()
    env = os.environ | {
        "TANDEM_VAR": str(place.var),
        "TANDEM_SERVING_PORT": str(port),
        "TANDEM_MODEL_URL": place.upstream.url,
        "TANDEM_MONITORING_URL": place.upstream.url,
        "TANDEM_SERVING_FEED_WAIT_S": "0.2",
    }
    place.upstream.release(place.bundles / "1")

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-m", "serving"], env=env)
        patience = time.monotonic() + 60
        while time.monotonic() < patience:
            assert process.poll() is None, "serving ended by itself; see its log above"
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200:
                    return process
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError("serving did not get ready in a minute")

    process = start()
    body = {"trips": [trip.model_dump(mode="json")]}
    told = []
    for _ in range(5):
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/estimates", json=body)
        told += [it["estimate_id"] for it in answer.json()["estimates"]]
    process.send_signal(signal.SIGKILL)
    process.wait()

    process = start()
    try:
        feed = httpx.get(f"http://127.0.0.1:{port}/feeds/estimates").json()
        assert [event["data"]["estimate_id"] for event in feed] == told
        assert httpx.get(f"http://127.0.0.1:{port}/v1/rollout").json()["champion"] == "1"
    finally:
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM

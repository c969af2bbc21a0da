"""The service as others meet it: pages, JSON, metrics, approvals and the decisions feed over a real socket."""

from __future__ import annotations

import time

import httpx
import pytest

from chassis.clock import Clock
from chassis.tokens import make_tokens, read_token
from contracts import requirements
from contracts.decisions import KINDS
from contracts.measurements import Measurement, keep
from contracts.trips import CompletedTrip, columns
from monitoring.app import build
from monitoring.settings import Settings
from tests.monitoring.desk import Desk
from tests.monitoring.recorded import LIVE, Feeds, RecordedCity, history, snapshot, with_champion
from tests.servers import running

RECORD = requirements.load()


def a_service(tmp_path, url, hours, **settings):
    """The real service in its own `var`, its clock standing `hours` after LIVE."""
    var = tmp_path / "var"
    Clock(time_zone="Europe/Berlin", city_start=LIVE, wall_start=time.time() - hours * 3600, speed=1).save(
        var / "clock.json"
    )
    make_tokens(var / "tokens")
    urls = {f"{team}_url": url for team in ("product", "serving", "data", "model")}
    return build(Settings(var=var, monitoring_poll_s=0.05, **urls, **settings)), read_token(var / "tokens", "staff")


def until(look, what: str):
    """Ask again until there is an answer."""
    patience = time.monotonic() + 30
    while time.monotonic() < patience:
        if answer := look():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come within 30 s")


@pytest.fixture
def feeds(tmp_path, request):
    feeds = Feeds(tmp_path / "feeds.db", request.param())
    with feeds.served() as url:
        feeds.publish(LIVE)
        yield feeds, url


def after_an_incident():
    return with_champion() + RecordedCity(seed=6, bridge_closed_h=0, slowdown=1.8).events(8)


def bootstrap():
    return [snapshot(LIVE), *history(1_200)]


@pytest.mark.parametrize("feeds", [after_an_incident], indirect=True)
def test_pages_json_and_metrics_tell_the_same_story(tmp_path, feeds):
    desk = Desk(feeds[1], feeds[0], f"sqlite:///{tmp_path}/var/monitoring.db")
    desk.run(8)
    app, _ = a_service(tmp_path, feeds[1], hours=8)
    with running(app) as url:
        assert len(httpx.get(f"{url}/v1/ticks").json()) == 33
        assert httpx.get(f"{url}/health/ready").json() == {"status": "ready"}
        status = httpx.get(f"{url}/v1/status").json()
        lines = {line["id"]: line for line in httpx.get(f"{url}/v1/requirements").json()}
        ticks = httpx.get(f"{url}/v1/ticks", params={"limit": 5}).json()
        page, decisions = httpx.get(url), httpx.get(f"{url}/decisions")
        keep([Measurement.of("bundle-size", "gate", 123_456, True)], tmp_path / "var" / "measured")
        agreed, dictionary = httpx.get(f"{url}/requirements"), httpx.get(f"{url}/dictionary")
        metrics = httpx.get(f"{url}/metrics").text
        feed = httpx.get(f"{url}/feeds/decisions").json()

    assert status["verdict"]["kind"] == "watch"
    assert status["evidence_digest"] == ticks[0]["digest"]
    assert {item.id for item in RECORD.all() if "monitor" in item.checked_by} == set(lines)
    assert lines["late-promises"]["verdict"] == "red"
    assert lines["outcome-join"]["verdict"] == "green"
    assert [event["data"]["kind"] for event in feed] == ["nothing", "watch"]
    for text in (*status["verdict"]["reasons"], "late-promises", "too many trips above p90", feed[-1]["subject"]):
        assert text.split(":")[0] in page.text
    assert page.text.count("<svg") == 4
    assert f'id="{feed[-1]["subject"]}"' in decisions.text
    assert "what was rejected" in decisions.text
    assert "https://" not in page.text  # nothing comes from elsewhere
    assert all(f'id="{item.id}"' in agreed.text for item in RECORD.all())
    assert "gate: 123456 kept" in agreed.text
    assert "load test: never measured" in agreed.text
    assert all(f"<td>{name}</td>" in dictionary.text for name in columns(CompletedTrip))
    assert 'tandem_decision_state{kind="watch"} 1.0' in metrics
    assert 'tandem_coverage_p90_ratio{group="all",role="champion"}' in metrics
    assert metrics.count("tandem_decision_state{") == len(KINDS)
    assert 'tandem_feed_lag_seconds{feed="trips"}' in metrics


@pytest.mark.parametrize("feeds", [bootstrap], indirect=True)
def test_an_approval_needs_the_staff_token_and_publishes_the_decision(tmp_path, feeds):
    app, token = a_service(tmp_path, feeds[1], hours=0.01, approval="ask")
    with running(app) as url:
        tick = until(lambda: httpx.get(f"{url}/v1/ticks").json(), "the first tick")[0]
        assert (tick["kind"], tick["state"]) == ("retrain", "waiting")
        assert httpx.get(f"{url}/feeds/decisions").json() == []
        assert "waits for approval" in httpx.get(url).text
        there = f"{url}/v1/approvals/{tick['decision_id']}"
        refused = httpx.post(there)
        approved = httpx.post(there, headers={"Authorization": f"Bearer {token}"})
        again = httpx.post(there, headers={"Authorization": f"Bearer {token}"})
        feed = httpx.get(f"{url}/feeds/decisions").json()

    assert (refused.status_code, approved.status_code, again.status_code) == (401, 200, 409)
    assert again.headers["content-type"] == "application/problem+json"
    assert [event["subject"] for event in feed] == [tick["decision_id"]]


@pytest.mark.parametrize("feeds", [list], indirect=True)
def test_before_the_first_tick_it_says_so(tmp_path, feeds):
    app, _ = a_service(tmp_path, f"{feeds[1]}/nowhere", hours=0)
    with running(app) as url:
        assert httpx.get(f"{url}/health/ready").status_code == 503
        assert httpx.get(f"{url}/v1/status").json()["type"] == "/problems/no-tick-yet"
        assert "No cohort has closed yet" in httpx.get(url).text
        assert httpx.get(f"{url}/v1/ticks").json() == []
        assert "tandem_feed_lag_seconds" in httpx.get(f"{url}/metrics").text

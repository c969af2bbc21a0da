"""The service as others meet it: pages, JSON, metrics, approvals and the decisions feed over a real socket."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest

from contracts import requirements
from contracts.decisions import KINDS
from contracts.estimates import Rollout
from contracts.measurements import Measurement, keep
from contracts.trips import CompletedTrip, columns
from tests.monitoring.desk import Desk
from tests.monitoring.recorded import (
    LIVE,
    Feeds,
    RecordedCity,
    history,
    promise_levels,
    release,
    rollout,
    snapshot,
    with_champion,
)
from tests.monitoring.service import a_service, until
from tests.servers import running

RECORD = requirements.load()


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


def a_newer_challenger():
    """The champion's release, a newer one without levels, and then the newer one promoted."""
    later = LIVE + timedelta(hours=2)
    shadow = Rollout(champion="v1", challenger="v2")
    return [
        *with_champion(),
        release(LIVE, "v2", levels=[]),
        rollout(LIVE, Rollout(champion="v1"), shadow),
        rollout(later, shadow, Rollout(champion="v2", previous="v1")),
    ]


@pytest.mark.parametrize("feeds", [a_newer_challenger], indirect=True)
def test_the_champions_promise_levels_as_json_and_as_a_page(tmp_path, feeds):
    desk = Desk(feeds[1], feeds[0], f"sqlite:///{tmp_path}/var/monitoring.db")
    desk.run(1)
    app, _ = a_service(tmp_path, feeds[1], hours=1)
    with running(app) as url:
        known, page = httpx.get(f"{url}/v1/promise").json(), httpx.get(f"{url}/promise").text
        script, home = httpx.get(f"{url}/static/promise.js"), httpx.get(url).text

    assert (known["bundle_version"], known["champion"], known["test_rows"]) == ("v1", True, 5000)
    assert known["levels"] == [level.model_dump() for level in promise_levels()]
    assert known["today"] in known["levels"]
    assert known["today"]["stretch"] == 1
    assert known["late_limit"] == RECORD["late-promises"].at_most
    assert "Promising 31.3 min on average, about 1 in 10 parcels comes later than promised (10.0 in 100)." in page
    assert "5,000 held-out trips of bundle <b>v1</b>, the champion" in page
    assert "requested from Mon 18 May 2026 to Mon 01 Jun 2026" in page
    assert "not a guarantee" in page
    assert page.count("data-said=") == len(promise_levels())  # a row for each level, which needs no script
    assert 'src="/static/promise.js"' in page
    assert "https://" not in page + script.text
    assert script.headers["content-type"].startswith("text/javascript")
    assert 'href="/promise"' in home


@pytest.mark.parametrize("feeds", [a_newer_challenger], indirect=True)
def test_a_champion_without_levels_is_said_to_have_none(tmp_path, feeds):
    desk = Desk(feeds[1], feeds[0], f"sqlite:///{tmp_path}/var/monitoring.db")
    desk.run(3)
    app, _ = a_service(tmp_path, feeds[1], hours=3)
    with running(app) as url:
        refused, page = httpx.get(f"{url}/v1/promise"), httpx.get(f"{url}/promise")

    assert (refused.status_code, refused.json()["type"]) == (404, "/problems/no-levels")
    assert page.status_code == 200
    assert "bundle v2 was released without promise levels" in page.text
    assert "<input" not in page.text


@pytest.mark.parametrize("feeds", [list], indirect=True)
def test_before_the_first_tick_it_says_so(tmp_path, feeds):
    app, _ = a_service(tmp_path, f"{feeds[1]}/nowhere", hours=0)
    with running(app) as url:
        assert httpx.get(f"{url}/health/ready").status_code == 503
        assert httpx.get(f"{url}/v1/status").json()["type"] == "/problems/no-tick-yet"
        assert "No cohort has closed yet" in httpx.get(url).text
        assert httpx.get(f"{url}/v1/ticks").json() == []
        assert httpx.get(f"{url}/v1/promise").json()["type"] == "/problems/no-release-yet"
        assert "no bundle has been released yet" in httpx.get(f"{url}/promise").text
        assert "tandem_feed_lag_seconds" in httpx.get(f"{url}/metrics").text

"""The city process over real sockets: truth, wishes, incidents, the conditions feed and the clock."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import contextmanager
from datetime import timedelta

import httpx
import pytest

from chassis.clock import Clock
from chassis.tokens import make_tokens, read_token
from contracts.conditions import CityMap, Conditions, TruthAnswer, Wish
from contracts.feeds import Event, payload
from data.city.__main__ import build
from data.city.times import STEP_MIN
from data.history import LIVE_START
from data.settings import Settings
from tests.servers import running

TRIP = {
    "trip_id": "t-1",
    "requested_at": LIVE_START.isoformat(),
    "pickup_zone": 5,
    "dropoff_zone": 50,
    "distance_km": 6.0,
    "vehicle": "van",
    "rain_mm_h": None,
}


class Town:
    """A city process and a client that may carry tokens."""

    def __init__(self, settings: Settings, url: str) -> None:
        self.settings = settings
        self.client = httpx.Client(base_url=url, timeout=20)

    def bearer(self, role: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {read_token(self.settings.tokens_file, role)}"}

    def truth(self, **changes: object) -> httpx.Response:
        body = {"trip": {**TRIP, **changes}, "booked_at": LIVE_START.isoformat()}
        return self.client.post("/v1/truth", json=body, headers=self.bearer("courier"))

    def start(self, name: str) -> httpx.Response:
        return self.client.post("/v1/incidents", json={"name": name}, headers=self.bearer("control"))

    def events(self, kind: str) -> list[Event]:
        found = self.client.get("/feeds/conditions", params={"limit": 5000}).json()
        return [event for event in map(Event.model_validate, found) if event.type == kind]

    def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not true():
            assert time.monotonic() < deadline, "it did not happen within 20 s"
            time.sleep(0.02)

    def wait_for(self, kind: str, count: int) -> list[Event]:
        self.until(lambda: len(self.events(kind)) >= count)
        return self.events(kind)


@pytest.fixture
def settings(tmp_path) -> Settings:
    made = Settings(var=tmp_path, city_seed=3)
    make_tokens(made.tokens_file)
    clock = Clock(time_zone="Europe/Berlin", city_start=LIVE_START, wall_start=time.time(), speed=600)
    clock.save(made.clock_file)
    return made


@contextmanager
def town(settings: Settings):
    with running(build(settings)) as url:
        there = Town(settings, url)
        there.until(lambda: there.client.get("/health/ready").status_code == 200)
        yield there


def test_the_feed_starts_with_the_map_and_goes_on_with_a_reading_every_five_minutes(settings):
    with town(settings) as there:
        readings = [payload(event) for event in there.wait_for("conditions.reading", 4)]
        maps = [payload(event) for event in there.events("conditions.map")]

    assert isinstance(maps[0], CityMap)
    assert len(maps) == 1
    assert all(isinstance(reading, Conditions) for reading in readings)
    steps = [(after.at - before.at) / timedelta(minutes=STEP_MIN) for before, after in itertools.pairwise(readings)]
    assert set(steps) == {1.0}
    assert readings[0].at >= LIVE_START


def test_a_warm_start_fills_in_the_readings_since_the_last_one_and_repeats_no_map(settings):
    with town(settings) as there:
        there.wait_for("conditions.reading", 2)
    clock = Clock.load(settings.clock_file)
    later = clock.model_copy(update={"seen": clock.seen + timedelta(days=2)})
    later.resumed(time.time(), speed=600).save(settings.clock_file)
    with town(settings) as there:
        at = [payload(event).at for event in there.wait_for("conditions.reading", 570)]
        maps = there.events("conditions.map")

    assert len(maps) == 1
    assert {after - before for before, after in itertools.pairwise(at)} == {timedelta(minutes=STEP_MIN)}


def test_it_keeps_the_clock(settings):
    with town(settings) as there:
        there.until(lambda: Clock.load(settings.clock_file).seen is not None)
        first = Clock.load(settings.clock_file)
        there.until(lambda: Clock.load(settings.clock_file).seen > first.seen)
        assert abs(Clock.load(settings.clock_file).seen - first.now()) < timedelta(hours=1)
    last = Clock.load(settings.clock_file)

    assert last.model_copy(update={"seen": None}) == first.model_copy(update={"seen": None})
    assert first.now() - last.seen < timedelta(hours=1)


def test_a_courier_hears_the_truth_once_and_for_all(settings):
    with town(settings) as there:
        first = TruthAnswer.model_validate(there.truth().json())
        again = TruthAnswer.model_validate(there.truth().json())
        other = TruthAnswer.model_validate(there.truth(trip_id="t-2").json())
    with town(settings) as there:
        later = TruthAnswer.model_validate(there.truth().json())

    assert first == again == later
    assert other.ended_at != first.ended_at


def test_wishes_of_a_time_are_the_same_for_everybody(settings):
    span = {"after": LIVE_START.isoformat(), "until": (LIVE_START + timedelta(hours=2)).isoformat()}
    with town(settings) as there:
        wishes = [Wish.model_validate(wish) for wish in there.client.get("/v1/wishes", params=span).json()]
        again = there.client.get("/v1/wishes", params=span).json()

    assert len(wishes) > 60
    assert [Wish.model_validate(wish) for wish in again] == wishes
    assert all(LIVE_START < wish.at <= LIVE_START + timedelta(hours=2) for wish in wishes)


def test_an_incident_starts_now_changes_map_and_truth_and_outlives_a_restart(settings):
    with town(settings) as there:
        before = there.truth().json()
        assert there.start("miles").status_code == 201
        assert there.start("bridge-closed").status_code == 201
        maps = [payload(event) for event in there.wait_for("conditions.map", 2)]
        booked = Clock.load(settings.clock_file).now() + timedelta(minutes=1)
        body = {"trip": TRIP, "booked_at": booked.isoformat()}
        slow = there.client.post("/v1/truth", json=body, headers=there.bearer("courier")).json()
        assert there.truth().json() == before  # booked before the bridge closed
        assert there.start("miles").status_code == 409
    with town(settings) as there:
        assert there.client.post("/v1/truth", json=body, headers=there.bearer("courier")).json() == slow
        shown = there.client.get("/v1/incidents").json()
        assert len(there.events("conditions.map")) == 2

    assert maps[0].route_km[0][40] == pytest.approx(1.609 * maps[1].route_km[0][40], abs=0.002)
    assert [(incident["name"], incident["running"]) for incident in shown] == [("miles", True), ("bridge-closed", True)]
    open_bridge = Settings(var=settings.var / "other", city_seed=3)
    make_tokens(open_bridge.tokens_file)
    Clock.load(settings.clock_file).save(open_bridge.clock_file)
    with town(open_bridge) as there:
        quick = there.client.post("/v1/truth", json=body, headers=there.bearer("courier")).json()
    took = [TruthAnswer.model_validate(answer).ended_at - booked for answer in (slow, quick)]
    assert 1.29 < took[0] / took[1] < 1.61


def test_doors_are_locked_and_problems_name_the_fault(settings):
    with town(settings) as there:
        client, courier, control = there.client, there.bearer("courier"), there.bearer("control")
        assert client.post("/v1/truth", json={"trip": TRIP, "booked_at": LIVE_START.isoformat()}).status_code == 401
        assert client.post("/v1/incidents", json={"name": "miles"}, headers=courier).status_code == 401
        unknown = client.post("/v1/incidents", json={"name": "flood"}, headers=control)
        nowhere = there.truth(dropoff_zone=61)
        backwards = {"after": LIVE_START.isoformat(), "until": (LIVE_START - timedelta(hours=1)).isoformat()}
        span = client.get("/v1/wishes", params=backwards)
        no_offset = client.get("/v1/wishes", params={"after": "2026-06-01T07:00", "until": "2026-06-01T08:00"})

    assert (unknown.status_code, unknown.json()["title"]) == (404, "Unknown incident")
    assert "bridge-closed" in unknown.json()["detail"]
    assert (nowhere.status_code, nowhere.json()["title"]) == (422, "Unknown zone")
    assert (span.status_code, span.json()["title"]) == (422, "Bad span")
    assert no_offset.json()["errors"][0]["field"] == "query.after"

"""The simulated people as a real process, against a little city and product that stumble."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from chassis.clock import Clock
from chassis.tokens import make_tokens
from contracts.bookings import CourierReport, Job, Quote, QuoteRequest, Rating, TripStatus
from contracts.conditions import TruthAnswer, TruthRequest, Wish
from contracts.trips import TripRequest
from tests.servers import running

pytestmark = pytest.mark.slow

CITY_START = datetime.fromisoformat("2026-06-01T07:00:00+02:00")
PROMISED_MIN = 30.0


class LittleWorld:
    """City and product in one app. Each path fails the first two times it is asked for a trip, then works."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.asked: Counter[str] = Counter()
        self.jobs: list[Job] = []
        self.reports: dict[str, list[CourierReport]] = defaultdict(list)
        self.booked: list[str] = []
        self.ratings: dict[str, Rating] = {}
        self.quoted = 0
        self.wishes = [self.wish(minute, patience) for minute, patience in ((24, 29), (25, 30), (26, 45), (27, 10))]
        self.app.get("/v1/wishes")(self.between)
        self.app.post("/v1/truth")(self.truth)
        self.app.post("/api/quotes")(self.quote)
        self.app.post("/api/trips/{trip_id}")(self.book)
        self.app.get("/api/trips/{trip_id}")(self.status)
        self.app.post("/api/trips/{trip_id}/rating")(self.rate)
        self.app.get("/api/courier/jobs")(self.open_jobs)
        self.app.post("/api/courier/trips/{trip_id}/reports")(self.report)

    @staticmethod
    def wish(minute: int, patience_min: float) -> Wish:
        at = CITY_START + timedelta(minutes=minute)
        return Wish(at=at, pickup_zone=1, dropoff_zone=2, vehicle="bike", patience_min=patience_min)

    def stumble(self, what: str) -> None:
        self.asked[what] += 1
        if self.asked[what] <= 2:
            raise HTTPException(503)

    def between(self, after: datetime, until: datetime) -> list[Wish]:
        return [wish for wish in self.wishes if after < wish.at <= until]

    def quote(self, _wish: QuoteRequest) -> Quote:
        self.quoted += 1
        valid = CITY_START + timedelta(hours=4)
        return Quote(
            trip_id=f"new-{self.quoted}", price_eur=5, promised_min=PROMISED_MIN, promised_by=valid, p50_min=20,
            source="fallback", valid_until=valid,
        )  # fmt: skip

    def trip(self, trip_id: str) -> TripStatus:
        ends = [report for report in self.reports[trip_id] if report.event == "delivered"]
        return TripStatus(
            trip_id=trip_id, state="delivered" if ends else "booked", pickup_zone=1, dropoff_zone=2, vehicle="bike",
            price_eur=5, promised_min=PROMISED_MIN, promised_by=CITY_START + timedelta(minutes=36),
            late_min=17.0 if ends else None,
        )  # fmt: skip

    def book(self, trip_id: str) -> TripStatus:
        self.stumble(f"book {trip_id}")
        self.booked.append(trip_id)
        self.open_a_job(trip_id)
        return self.trip(trip_id)

    def open_a_job(self, trip_id: str) -> None:
        trip = TripRequest(
            trip_id=trip_id, requested_at=CITY_START, pickup_zone=1, dropoff_zone=2, distance_km=3, vehicle="bike"
        )
        self.jobs.append(Job(seq=len(self.jobs) + 1, trip=trip, booked_at=CITY_START))

    def status(self, trip_id: str) -> TripStatus:
        return self.trip(trip_id)

    def rate(self, trip_id: str, rating: Rating) -> TripStatus:
        self.ratings[trip_id] = rating
        return self.trip(trip_id)

    def open_jobs(self, after: int = 0) -> list[Job]:
        self.stumble("jobs")
        open_ = [job for job in self.jobs if not any(r.event == "delivered" for r in self.reports[job.trip.trip_id])]
        return [job for job in open_ if job.seq > after]

    def truth(self, asked: TruthRequest) -> TruthAnswer:
        self.stumble(f"truth {asked.trip.trip_id}")
        return self.true_times(asked.trip.trip_id)

    @staticmethod
    def true_times(trip_id: str) -> TruthAnswer:
        return TruthAnswer(
            trip_id=trip_id,
            picked_up_at=CITY_START + timedelta(minutes=28),
            ended_at=CITY_START + timedelta(minutes=50),
            outcome="delivered",
        )

    def report(self, trip_id: str, said: CourierReport) -> TripStatus:
        self.stumble(f"report {trip_id} {said.event}")
        self.reports[trip_id].append(said)
        return self.trip(trip_id)

    def delivered(self) -> set[str]:
        return {trip for trip, said in self.reports.items() if [r.event for r in said] == ["picked_up", "delivered"]}


@contextmanager
def traffic(world: LittleWorld, var, rating_share: float = 1):
    """The people as a process of their own, five city minutes to a wall second."""
    make_tokens(var / "tokens")
    if not (var / "clock.json").exists():
        clock = Clock(time_zone="Europe/Berlin", city_start=CITY_START, wall_start=time.time(), speed=300)
        clock.save(var / "clock.json")
    with running(world.app) as url:
        settings = {"TANDEM_PRODUCT_URL": url, "TANDEM_CITY_URL": url, "TANDEM_VAR": str(var)}
        settings["TANDEM_RATING_SHARE"] = str(rating_share)
        process = subprocess.Popen([sys.executable, "-m", "loadtests.traffic"], env=os.environ | settings)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0


def eventually(look, within_s: float = 40) -> None:
    deadline = time.monotonic() + within_s
    while not look():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture
def world() -> LittleWorld:
    return LittleWorld()


def test_customers_book_what_suits_them_and_every_parcel_is_reported_though_services_stumble(world, tmp_path):
    with traffic(world, tmp_path):
        eventually(lambda: world.quoted == 4 and len(world.delivered()) == 2 and len(world.ratings) == 2)

    assert len(world.booked) == 2  # patience of 30 and 45 minutes; those of 29 and 10 minutes went elsewhere
    truth = world.true_times("any")
    for trip in world.booked:
        assert [said.at for said in world.reports[trip]] == [truth.picked_up_at, truth.ended_at]
        assert world.ratings[trip].stars == 1  # 17 minutes late


def test_services_that_say_more_than_we_know_of_are_understood(world, tmp_path):
    """Readers ignore fields they do not know, so that a writer may add some."""

    @world.app.middleware("http")
    async def says_more(request: Request, call_next):
        answer = await call_next(request)
        if answer.status_code != 200:
            return answer
        told = json.loads(b"".join([part async for part in answer.body_iterator]))
        more = {"news": "of a later version"}
        told = [item | more for item in told] if isinstance(told, list) else told | more
        return JSONResponse(told)

    with traffic(world, tmp_path):
        eventually(lambda: len(world.delivered()) == 2 and len(world.ratings) == 2)


def test_couriers_who_start_afresh_take_up_open_jobs(world, tmp_path):
    world.wishes.clear()
    world.open_a_job("left-open")
    with traffic(world, tmp_path):
        eventually(lambda: [said.event for said in world.reports["left-open"]] == ["picked_up"])
    with traffic(world, tmp_path):
        eventually(lambda: world.reports["left-open"][-1].event == "delivered")

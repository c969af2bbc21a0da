"""From quote to rating over real sockets, as customers, couriers and the followers of the feeds meet it."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

import httpx
import pytest

from contracts.bookings import Job, TripStatus
from contracts.feeds import PAYLOADS, TripQuoted
from contracts.trips import CompletedTrip
from tests.postgres import postgres
from tests.product.conftest import START, WISH, a_tandem, eventually

JSON = {"Content-Type": "application/json"}


def walk(tandem) -> None:
    """Quote, book, pick up, deliver, rate; and what the feeds say of it."""
    quote = tandem.quote()
    assert quote.promised_by - timedelta(minutes=quote.promised_min) >= START
    booked = TripStatus.model_validate_json(tandem.book(quote.trip_id).content)
    assert booked.state == "booked"
    assert booked.promised_by == booked.booked_at + timedelta(minutes=quote.promised_min)

    jobs = tandem.client.get("/api/courier/jobs", headers=tandem.courier()).json()
    job = Job.model_validate(jobs[0])
    assert (job.trip.trip_id, job.booked_at) == (quote.trip_id, booked.booked_at)

    picked_up, delivered = booked.booked_at + timedelta(seconds=40), booked.booked_at + timedelta(seconds=90)
    eventually(lambda: tandem.clock.now() > delivered, "city time has reached the delivery")
    tandem.report(quote.trip_id, "picked_up", picked_up)
    status = TripStatus.model_validate_json(tandem.report(quote.trip_id, "delivered", delivered).content)
    assert (status.state, status.late_min, status.compensation_eur) == ("delivered", 0.0, 0.0)

    rated = tandem.client.post(f"/api/trips/{quote.trip_id}/rating", json={"stars": 5, "comment": "my secret"})
    assert rated.json()["stars"] == 5
    assert tandem.client.get(f"/api/trips/{quote.trip_id}").json() == rated.json()
    assert tandem.client.get("/api/courier/jobs", headers=tandem.courier()).json() == []

    events = tandem.feed("trips")
    assert [event.type for event in events] == ["trip.quoted", "trip.booked", "trip.picked_up", "trip.delivered"]
    for event in events:
        PAYLOADS[event.type].model_validate(event.data)
    row = CompletedTrip.model_validate(events[-1].data)
    assert (row.picked_up_at, row.ended_at, row.duration_min) == (picked_up, delivered, 1.5)
    assert row.promised_by == booked.promised_by
    assert job.trip.model_dump().items() <= row.model_dump().items()
    [given] = tandem.feed("ratings")
    assert given.data == {"trip_id": quote.trip_id, "stars": 5, "late": False}
    assert "secret" not in tandem.client.get("/feeds/ratings").text


def test_a_parcel_is_quoted_booked_delivered_and_rated(tandem):
    walk(tandem)


@pytest.mark.slow
def test_and_on_postgres_too(tmp_path, stack):
    url = stack.enter_context(postgres(tmp_path))
    walk(a_tandem(tmp_path, stack, database_url=url))


def test_serving_is_asked_with_the_citys_columns_and_the_event_repeats_them(tandem):
    quote = tandem.quote()

    [asked] = tandem.serving.asked
    told = TripQuoted.model_validate(tandem.feed()[0].data)
    assert told.trip == asked.trips[0]
    assert (told.trip.rain_mm_h, told.trip.temperature_c, told.trip.city_pace) == (0.4, 17, 1.1)
    assert told.trip.trip_id == quote.trip_id
    assert told.estimate_id == f"est-{quote.trip_id}"


def test_a_second_booking_meets_the_first(tandem):
    trip = tandem.quote().trip_id
    first, second = tandem.book(trip).json(), tandem.book(trip).json()

    assert first["booked_at"] == second["booked_at"]
    assert [event.type for event in tandem.feed()] == ["trip.quoted", "trip.booked"]


def test_jobs_are_read_on_from_a_cursor(tandem):
    trips = [tandem.quote().trip_id for _ in range(3)]
    for trip in trips:
        tandem.book(trip)

    def jobs(**query):
        return tandem.client.get("/api/courier/jobs", params=query, headers=tandem.courier()).json()

    first, *_ = jobs(limit=1)
    assert [job["trip"]["trip_id"] for job in [first, *jobs(after=first["seq"])]] == trips


@pytest.mark.parametrize(
    ("does", "status", "says"),
    [
        (
            lambda t: t.client.post("/api/quotes", json=WISH | {"dropoff_zone": 999}),
            422,
            "zone 999 is not among the 24",
        ),
        (lambda t: t.client.post("/api/quotes", json=WISH | {"vehicle": "boat"}), 422, "vehicle"),
        (lambda t: t.client.post("/api/quotes", content="{", headers=JSON), 400, "JSON"),
        (lambda t: t.book("no-such-trip"), 404, "no-such-trip"),
        (lambda t: t.report(t.quote().trip_id, "delivered", t.clock.now()), 409, "must be booked"),
        (lambda t: t.client.get("/api/courier/jobs"), 401, "courier token"),
    ],
)
def test_faults_are_problems_that_name_the_value(shared, does, status, says):
    got = does(shared)

    assert got.status_code == status
    assert got.headers["content-type"] == "application/problem+json"
    assert says in got.json()["detail"]


def test_an_expired_quote_is_gone(tmp_path, stack):
    tandem = a_tandem(tmp_path, stack, quote_valid_min=0.1)
    quote = tandem.quote()
    eventually(lambda: tandem.clock.now() > quote.valid_until, "the quote has expired")

    got = tandem.book(quote.trip_id)
    assert got.status_code == 410
    assert "ask for a new quote" in got.json()["detail"]


def test_rating_waits_for_the_end_and_is_final(tandem):
    trip = tandem.quote().trip_id
    tandem.book(trip)

    def rate(stars):
        return tandem.client.post(f"/api/trips/{trip}/rating", json={"stars": stars}).status_code

    assert rate(4) == 409
    at = tandem.clock.now()
    eventually(lambda: tandem.clock.now() > at, "a moment has passed")
    tandem.report(trip, "cancelled", at)
    assert [rate(4), rate(4), rate(1)] == [200, 200, 409]
    assert len(tandem.feed("ratings")) == 1


def test_an_outcome_that_cannot_be_told_has_not_happened(tmp_path, stack):
    tandem = a_tandem(tmp_path, stack)
    trip = tandem.quote().trip_id
    tandem.book(trip)
    ledger_url = tandem.settings.database_url("product").removeprefix("sqlite:///")
    with sqlite3.connect(ledger_url) as side_door:  # the next append fails, in the middle of the transaction
        side_door.execute("CREATE TRIGGER full BEFORE INSERT ON feed_trips BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    at = tandem.clock.now()
    body = {"event": "delivered", "at": at.isoformat()}
    place = f"{tandem.client.base_url}/api/courier/trips/{trip}/reports"  # uvicorn drops a connection after a crash
    assert httpx.post(place, json=body, headers=tandem.courier()).status_code == 500
    assert tandem.client.get(f"/api/trips/{trip}").json()["state"] == "booked"

    with sqlite3.connect(ledger_url) as side_door:
        side_door.execute("DROP TRIGGER full")
    assert tandem.report(trip, "delivered", at).json()["state"] == "delivered"
    assert [event.id for event in tandem.feed()] == ["1", "2", "3"]

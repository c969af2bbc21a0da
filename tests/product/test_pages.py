"""What the pages answer, before any browser makes something of it."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from datetime import timedelta

from chassis.tokens import read_token
from contracts.feeds import TripQuoted
from tests.product.conftest import WISH, Tandem, a_tandem, eventually


def ended(tandem: Tandem) -> str:
    """A trip that waits for its rating."""
    trip = tandem.quote().trip_id
    tandem.book(trip)
    at = tandem.clock.now()
    eventually(lambda: tandem.clock.now() > at, "a moment has passed")
    assert tandem.report(trip, "delivered", at).status_code == 200
    return trip


def test_an_offer_leads_with_what_stays_true_however_long_it_is_read(tandem):
    page = tandem.client.post("/quotes", data=WISH, headers={"HX-Request": "true"}).text
    told = TripQuoted.model_validate(tandem.feed()[-1].data)

    [leads] = re.findall(r'<p class="by">(.+?)</p>', page)
    assert leads == f"Within <strong>{told.promised_min:.0f} minutes</strong> of booking"
    asked = told.trip.requested_at.astimezone(tandem.clock.zone)
    there = asked + timedelta(minutes=told.promised_min)
    assert f"Booked at {asked:%H:%M}, it is there by {there:%H:%M}." in page


def test_what_our_database_says_is_for_our_log_alone(tmp_path, stack, monkeypatch, caplog):
    monkeypatch.setattr("chassis.databases.WAITS_S", 0.1)
    tandem = a_tandem(tmp_path, stack)
    file = tandem.settings.database_url("product").removeprefix("sqlite:///")
    with closing(sqlite3.connect(file)) as somebody:
        somebody.execute("BEGIN IMMEDIATE")
        got = tandem.client.post("/quotes", data=WISH, headers={"HX-Request": "true"})

    assert got.status_code == 503
    assert got.headers["Retry-After"]
    assert "sql" not in got.text.lower()
    assert "This is our fault" in got.text
    [reference] = re.findall(r"tell us ([0-9a-f]{12})", got.text)
    [line] = [record for record in caplog.records if reference in record.getMessage()]
    assert "POST /quotes" in line.getMessage()
    assert "database is locked" in str(line.exc_info[1])


def test_what_the_customer_can_mend_is_still_said(tandem):
    got = tandem.client.post("/quotes", data=WISH | {"dropoff_zone": 999}, headers={"HX-Request": "true"})

    assert got.status_code == 422
    assert "zone 999 is not among the 24" in got.text


def test_a_comment_is_as_long_as_its_form_counted_it(tandem):
    trip = ended(tandem)
    lines = "\r\n".join(["x" * 40] * 12 + ["x" * 8])  # browsers count a line break as one, and send it as two

    assert len(lines.replace("\r\n", "\n")) == 500
    got = tandem.client.post(f"/trips/{trip}/rating", data={"stars": 5, "comment": lines})
    assert got.status_code == 303
    file = tandem.settings.database_url("product").removeprefix("sqlite:///")
    with closing(sqlite3.connect(file)) as database:
        [kept] = database.execute("SELECT comment FROM trips WHERE trip_id = ?", [trip]).fetchone()
    assert kept == lines.replace("\r\n", "\n")


def test_from_a_fault_at_a_trip_a_link_leads_back_to_it(tandem):
    trip = ended(tandem)
    back = f'<a href="/trips/{trip}">'

    assert back in tandem.client.post(f"/trips/{trip}/rating", data={"stars": 5, "comment": "x" * 501}).text
    assert tandem.client.post(f"/trips/{trip}/rating", data={"stars": 5}).status_code == 303
    assert back in tandem.client.post(f"/trips/{trip}/rating", data={"stars": 1}).text
    nowhere = tandem.client.post("/trips/no-such-trip/rating", data={"stars": 1}).text
    assert "no-such-trip" in nowhere
    assert 'href="/trips/' not in nowhere


def test_whoever_keeps_a_page_keeps_the_part_of_one_that_htmx_asks_for_apart(tandem):
    trip = ended(tandem)
    for path in ("/", f"/trips/{trip}", "/trips/no-such-trip", "/dispatch"):
        for headers in ({}, {"HX-Request": "true"}):
            assert tandem.client.get(path, headers=headers).headers["Vary"] == "HX-Request", path


def test_dispatchers_see_how_often_the_model_failed_and_an_audit_is_no_failure(tandem, monkeypatch):
    monkeypatch.setattr("product.desk.in_audit", lambda _trip, _share: True)
    for way in ("well", "well", "well", "out of scope"):
        tandem.serving.way = way
        tandem.quote()

    told = [TripQuoted.model_validate(event.data) for event in tandem.feed()]
    assert {quoted.source for quoted in told} == {"fallback"}
    failed = sum(not quoted.audit for quoted in told)  # on a busy machine an answer may be late, too
    assert 1 <= failed < 4
    staff = {"Authorization": f"Bearer {read_token(tandem.settings.tokens_file, 'staff')}"}
    board = tandem.client.get("/dispatch", headers=staff).text
    assert f"<dt>By the fallback, audits aside</dt><dd>{failed / 4:.0%}</dd>" in board

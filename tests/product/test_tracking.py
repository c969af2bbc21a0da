"""What reports that come twice, late or out of order do to a trip: nothing wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.bookings import CourierReport
from contracts.estimates import Quantiles
from contracts.feeds import TripQuoted
from contracts.trips import CompletedTrip, TripRequest
from product.tracking import (
    LONGEST,
    ImpossibleReport,
    NotBooked,
    QuoteExpired,
    Trip,
    book,
    late_min,
    rate,
    report,
    status,
)

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
FOREVER = NOON + timedelta(days=9)
BERLIN = ZoneInfo("Europe/Berlin")


def a_quote(promised_min: float = 30) -> Trip:
    trip = TripRequest(
        trip_id="t1", requested_at=NOON, pickup_zone=1, dropoff_zone=2, distance_km=3.2, vehicle="bike", rain_mm_h=1.0
    )
    quoted = TripQuoted(
        trip=trip,
        source="model",
        shown=Quantiles(p10_min=10, p50_min=18, p90_min=30),
        promised_min=promised_min,
        price_eur=8.0,
        audit_share=0.05,
        estimate_id="e1",
        bundle_version="v1",
    )
    return Trip(quoted, valid_until=NOON + timedelta(hours=4))


def a_booking() -> Trip:
    return book(a_quote(), NOON).trip


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def said(event: str, minutes: float) -> CourierReport:
    return CourierReport(event=event, at=at(minutes))


def after(trip: Trip, *reports: CourierReport) -> Trip:
    for one in reports:
        trip = report(trip, one, FOREVER).trip
    return trip


def test_the_promise_runs_from_the_booking_not_from_the_quote():
    change = book(a_quote(), at(100))

    assert change.trip.promised_by == at(130)
    assert (change.news.type, change.news.data.promised_by) == ("trip.booked", at(130))


def test_booking_twice_changes_nothing_and_too_late_is_refused():
    again = book(a_booking(), at(1))
    assert (again.trip, again.news) == (a_booking(), None)
    assert book(a_quote(), at(240)).news
    with pytest.raises(QuoteExpired, match="ask for a new quote"):
        book(a_quote(), at(240.1))


def test_the_usual_way():
    picked_up = report(a_booking(), said("picked_up", 6), FOREVER)
    assert (picked_up.trip.state, picked_up.news.type) == ("picked_up", "trip.picked_up")

    ended = report(picked_up.trip, said("delivered", 25), FOREVER)
    row = ended.news.data
    assert isinstance(row, CompletedTrip)
    assert (row.outcome, row.duration_min, row.picked_up_at, row.promised_by) == ("delivered", 25, at(6), at(30))
    assert (row.p10_min, row.p50_min, row.p90_min, row.rain_mm_h) == (10, 18, 30, 1.0)
    assert ended.news.time == at(25)


@pytest.mark.parametrize("outcome", ["cancelled", "lost"])
def test_a_trip_that_was_not_delivered_has_no_duration(outcome):
    row = report(a_booking(), said(outcome, 25), FOREVER).news.data

    assert (row.outcome, row.duration_min, row.picked_up_at) == (outcome, None, None)


def test_a_repeated_report_changes_nothing_and_tells_nobody():
    trip = after(a_booking(), said("picked_up", 6), said("delivered", 25))
    for one in (said("picked_up", 6), said("delivered", 25)):
        change = report(trip, one, FOREVER)
        assert (change.trip, change.news, change.ignored) == (trip, None, None)


def test_a_pickup_that_arrives_after_the_delivery_only_fills_its_time():
    trip = after(a_booking(), said("delivered", 25))
    change = report(trip, said("picked_up", 6), FOREVER)

    assert change.trip == replace(trip, picked_up_at=at(6))
    assert change.news.type == "trip.picked_up"


@pytest.mark.parametrize(
    "contradiction", [said("lost", 25), said("delivered", 26), said("picked_up", 7), said("cancelled", 9)]
)
def test_the_first_word_stands_and_a_contradiction_is_noted(contradiction):
    trip = after(a_booking(), said("picked_up", 6), said("delivered", 25))
    change = report(trip, contradiction, FOREVER)

    assert (change.trip, change.news) == (trip, None)
    assert str(contradiction.at) in change.ignored


@pytest.mark.parametrize(
    ("before", "one"),
    [
        ([], said("picked_up", 0)),
        ([], said("delivered", -3)),
        ([], CourierReport(event="delivered", at=NOON + LONGEST + timedelta(seconds=1))),
        ([said("picked_up", 6)], said("delivered", 5)),
    ],
)
def test_a_time_that_cannot_be_true_is_refused(before, one):
    with pytest.raises(ImpossibleReport):
        report(after(a_booking(), *before), one, FOREVER)


def test_what_has_not_happened_yet_cannot_be_reported():
    assert report(a_booking(), said("delivered", 20), latest=at(20)).news
    with pytest.raises(ImpossibleReport, match="has not come yet"):
        report(a_booking(), said("delivered", 20), latest=at(19.9))


def test_nobody_reports_on_a_mere_quote():
    with pytest.raises(NotBooked):
        report(a_quote(), said("picked_up", 5), FOREVER)


def test_the_longest_trip_we_accept_still_fits_the_contract():
    last = report(a_booking(), CourierReport(event="delivered", at=NOON + LONGEST), FOREVER)

    assert last.news.data.duration_min == LONGEST / timedelta(minutes=1)


reports = st.builds(said, st.sampled_from(["picked_up", "delivered", "cancelled", "lost"]), st.integers(-2, 9))


@given(st.lists(reports, max_size=12))
def test_whatever_couriers_say_a_trip_ends_once_and_its_news_agree_with_it(some):
    trip, told = a_booking(), []
    for one in some:
        try:
            change = report(trip, one, latest=at(7))
        except ImpossibleReport:
            continue
        assert (change.news is None) == (change.trip == trip)
        trip = change.trip
        told += [change.news] if change.news else []

    ends = [news.data for news in told if isinstance(news.data, CompletedTrip)]
    pickups = [news.time for news in told if news.type == "trip.picked_up"]
    assert [row.ended_at for row in ends] == ([trip.ended_at] if trip.ended_at else [])
    assert [row.outcome for row in ends] == ([trip.state] if trip.ended_at else [])
    assert pickups == ([trip.picked_up_at] if trip.picked_up_at else [])
    if trip.ended_at and trip.picked_up_at:
        assert NOON < trip.picked_up_at <= trip.ended_at <= at(7)


@pytest.mark.parametrize(
    ("reports", "now", "late", "back"),
    [
        ([], 29, None, 0),
        ([], 34, 4, 0),
        ([said("delivered", 25)], 90, 0, 0),
        ([said("delivered", 32)], 90, 2, 0.8),
        ([said("lost", 90)], 90, None, 8.0),
        ([said("cancelled", 90)], 90, None, 0),
    ],
)
def test_what_the_customer_sees_of_lateness(reports, now, late, back):
    trip = after(a_booking(), *reports)

    assert late_min(trip, at(now)) == late
    seen = status(trip, at(now), BERLIN)
    assert (seen.late_min, seen.compensation_eur) == (late, back)
    assert seen.promised_by.utcoffset() == timedelta(hours=2)


def test_a_rating_tells_whether_the_parcel_was_late_and_keeps_the_comment_at_home():
    in_time, late = (after(a_booking(), said("delivered", minutes)) for minutes in (30, 30.5))

    assert not rate(in_time, 5, "", FOREVER).news.data.late
    change = rate(late, 2, "ring twice", FOREVER)
    assert change.news.data.late
    assert change.trip.comment == "ring twice"
    assert "ring twice" not in change.news.data.model_dump_json()

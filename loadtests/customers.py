"""Customers: they wish, ask for a quote, book when the promise suits them, and some say how it was."""

from __future__ import annotations

import random
from datetime import timedelta
from urllib.parse import urlencode

import gevent  # type: ignore[import-untyped]
from locust import task
from pydantic import TypeAdapter

from contracts.bookings import FINAL_STATES, Quote, QuoteRequest, Rating, TripStatus
from contracts.conditions import Wish
from loadtests.people import People

WISHES = TypeAdapter(list[Wish])
MOST_LATE_WISH = timedelta(hours=1)  # whoever wished longer ago, while the city was away, went elsewhere


class Customers(People):
    """The city says who wants what and when; each customer comes then, and chooses with the promise in view."""

    def on_start(self) -> None:
        self.random = random.Random(self.settings.people_seed)
        self.known_until = self.clock.now()

    @task
    def live(self) -> None:
        """Fetch the wishes of the next moment and let each customer come when it is time."""
        ahead = timedelta(seconds=self.settings.look_ahead_s * self.clock.speed)
        now = self.clock.now()
        after, until = max(self.known_until, now - MOST_LATE_WISH), now + ahead
        query = urlencode({"after": after.isoformat(), "until": until.isoformat()})
        answer = self.ask("GET", f"{self.settings.url('city')}/v1/wishes?{query}", "city: wishes")
        if answer.status_code == 200:
            for wish in WISHES.validate_json(answer.content, extra="ignore"):
                gevent.spawn(self.shop, wish)
            self.known_until = until
        gevent.sleep(self.settings.look_ahead_s / 2)

    def shop(self, wish: Wish) -> None:
        """One customer's visit."""
        self.wait_until(wish.at)
        wanted = QuoteRequest(**wish.model_dump(exclude={"at", "patience_min"}))
        product = self.settings.url("product")
        answer = self.ask("POST", f"{product}/api/quotes", "quote", wanted)
        if answer.status_code != 200:
            return
        quote = Quote.model_validate_json(answer.content, extra="ignore")
        if quote.promised_min > wish.patience_min:
            return
        booked = self.insist("POST", f"{product}/api/trips/{quote.trip_id}", "book")
        if booked.status_code == 200 and self.random.random() < self.settings.rating_share:
            self.rate(TripStatus.model_validate_json(booked.content, extra="ignore"))

    def rate(self, trip: TripStatus) -> None:
        """Look at the trip from the promised time on, and rate it once it is delivered: the later, the fewer stars."""
        address = f"{self.settings.url('product')}/api/trips/{trip.trip_id}"
        look_at = trip.promised_by
        while trip.state not in FINAL_STATES:
            self.wait_until(look_at)
            look_at = self.clock.now() + timedelta(minutes=30)
            trip = TripStatus.model_validate_json(self.insist("GET", address, "track").content, extra="ignore")
        if trip.state == "delivered":
            late_min = max(0.0, trip.late_min or 0.0)
            stars = max(1, 4 - int(late_min / 5)) if late_min else self.random.choice((4, 5))
            self.insist("POST", f"{address}/rating", "rate", Rating(stars=stars))

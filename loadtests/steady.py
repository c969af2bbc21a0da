"""The load that requirements name: arrivals at a constant rate, whether or not the one before was answered."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from uuid import uuid4

import gevent  # type: ignore[import-untyped]
from locust import task

from contracts.bookings import Quote, QuoteRequest
from contracts.estimates import EstimatesRequest
from contracts.requirements import Load
from contracts.trips import VEHICLES, TripRequest
from loadtests.people import People


class SteadyPeople(People):
    """Sends somebody at a constant rate through warm-up and measurement."""

    abstract = True
    load: Load

    def on_start(self) -> None:
        self.random = random.Random(self.settings.people_seed)
        zones = self.insist("GET", f"{self.settings.url('product')}/api/zones", "zones").json()
        self.zones = [zone["id"] for zone in zones]

    @task
    def arrive(self) -> None:
        """One arrival every 1/rate seconds, by the schedule; a slow answer delays nobody."""
        started = time.monotonic()
        for number in range(round(self.load.arrivals_per_s * (self.load.warmup_s + self.load.duration_s))):
            gevent.sleep(max(0.0, started + number / self.load.arrivals_per_s - time.monotonic()))
            gevent.spawn(self.act)
        self.environment.runner.greenlet.join()  # done; the run ends when the time is over

    act: Callable[[], None]


class SteadyQuotes(SteadyPeople):
    """Customers who ask for a quote and go. `by_model` counts the quotes that the model's estimate was shown with."""

    by_model = 0

    def act(self) -> None:
        """Ask for one quote."""
        wish = QuoteRequest(
            pickup_zone=self.random.choice(self.zones),
            dropoff_zone=self.random.choice(self.zones),
            vehicle=self.random.choice(VEHICLES),
            parcel_kg=self.random.choice((None, 0.5, 2, 9)),
        )
        answer = self.ask("POST", f"{self.settings.url('product')}/api/quotes", "quote", wish)
        if answer.status_code == 200:
            SteadyQuotes.by_model += Quote.model_validate_json(answer.content, extra="ignore").source == "model"


class SteadyEstimates(SteadyPeople):
    """A second stream of the same rate, straight to serving: its latency as a client sees it."""

    def act(self) -> None:
        """Ask for one estimate."""
        trip = TripRequest(
            trip_id=f"load-{uuid4().hex}",
            requested_at=self.clock.now(),
            pickup_zone=self.random.choice(self.zones),
            dropoff_zone=self.random.choice(self.zones),
            distance_km=round(self.random.uniform(1, 9), 2),
            vehicle=self.random.choice(VEHICLES),
        )
        self.ask("POST", f"{self.settings.url('serving')}/v1/estimates", "estimate", EstimatesRequest(trips=[trip]))

"""Couriers: they take booked trips, and report each pickup and delivery when the city says that it happens."""

from __future__ import annotations

import logging
from typing import Literal

import gevent  # type: ignore[import-untyped]
from locust import task
from pydantic import TypeAdapter

from chassis.tokens import read_token
from contracts.bookings import CourierReport, Job
from contracts.conditions import TruthAnswer, TruthRequest
from contracts.trips import Instant
from loadtests.people import People

log = logging.getLogger(__name__)
JOBS = TypeAdapter(list[Job])
LOOK_AGAIN = 60  # every so many rounds all open jobs are read, so that none is missed for good


class Couriers(People):
    """One courier per job. After a restart they take up all open jobs again; reporting twice changes nothing."""

    def on_start(self) -> None:
        token = read_token(self.settings.tokens_file, "courier")
        self.badge = {"Authorization": f"Bearer {token}"}
        self.taken: set[str] = set()
        self.newest, self.round = 0, 0

    @task
    def look_for_jobs(self) -> None:
        """Send a courier to each job that nobody has yet."""
        if self.round % LOOK_AGAIN == 0:
            self.newest = 0
        address = f"{self.settings.url('product')}/api/courier/jobs?after={self.newest}"
        answer = self.ask("GET", address, "jobs", headers=self.badge)
        if answer.status_code == 200:
            self.round += 1
            for job in JOBS.validate_json(answer.content, extra="ignore"):
                self.newest = max(self.newest, job.seq)
                if job.trip.trip_id not in self.taken:
                    self.taken.add(job.trip.trip_id)
                    gevent.spawn(self.carry, job)
        gevent.sleep(self.settings.jobs_every_s)

    def carry(self, job: Job) -> None:
        """One trip from pickup to its end, at the true instants; those already past are reported at once."""
        try:
            asked = TruthRequest(trip=job.trip, booked_at=job.booked_at)
            address = f"{self.settings.url('city')}/v1/truth"
            answer = self.insist("POST", address, "city: truth", asked, headers=self.badge)
            if answer.status_code != 200:
                log.error("the city knows no truth of trip %s: %s", job.trip.trip_id, answer.text)
                return
            truth = TruthAnswer.model_validate_json(answer.content, extra="ignore")
            if truth.picked_up_at is not None:
                self.report(job, "picked_up", truth.picked_up_at)
            self.report(job, truth.outcome, truth.ended_at)
        finally:
            self.taken.discard(job.trip.trip_id)  # what has not ended is taken up again

    def report(self, job: Job, event: Literal["picked_up", "delivered", "cancelled", "lost"], at: Instant) -> None:
        """Tell product of an event, once it has happened, with its true time."""
        self.wait_until(at)
        address = f"{self.settings.url('product')}/api/courier/trips/{job.trip.trip_id}/reports"
        answer = self.insist("POST", address, "report", CourierReport(event=event, at=at), headers=self.badge)
        if answer.status_code >= 400:
            log.error("trip %s: %s at %s was refused: %s", job.trip.trip_id, event, at, answer.text)

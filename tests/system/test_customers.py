"""What customers live through, over real processes: a parcel from quote to rating; serving killed in mid-traffic."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest

from chassis.addresses import Addresses
from contracts.bookings import Quote, TripStatus
from contracts.estimates import EstimateAnswered
from contracts.feeds import payload
from contracts.measurements import Measurement, keep
from contracts.requirements import load
from contracts.trips import CompletedTrip
from tests.bundles import make_bundle
from tests.system.leaks import places_found
from tests.system.strangers import answering_strangers, published
from tests.system.tandem import SERVED_BY, Tandem, patiently, tandem

pytestmark = pytest.mark.timeout(170)
CHAMPION = "v0-by-hand"
WISH = {"pickup_zone": 3, "dropoff_zone": 17, "vehicle": "bike", "parcel_kg": 2.0}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tandem]:
    """A small city's Tandem with simulated customers and couriers. Its champion is a small bundle put in by hand: these
    tests are about what customers live through, and `test_loop.py` about how a model comes to serve."""
    with tandem(tmp_path_factory.mktemp("small") / "var", TANDEM_SPEED="300", TANDEM_HISTORY_WEEKS="1") as running:
        try:
            patiently("serving", lambda: running.live("serving"), within_s=90, every_s=0.5)
            patiently("product", lambda: running.ready("product"), within_s=60, every_s=0.5)
            make_bundle(running.var / "bundles", CHAMPION, minutes_per_km=4.0)
            command = {"action": "challenge", "version": CHAMPION, "reason": "a champion for a test"}
            answer = httpx.post(
                f"{running.url('serving')}/v1/rollout", json=command, headers=running.headers("control"), timeout=20
            )
            assert answer.status_code == 200, answer.text
            patiently("a quote by the model", lambda: quote(running).source == "model", within_s=60, every_s=0.5)
        except AssertionError as error:
            raise AssertionError(f"{error}; the launcher said: {running.what_it_said()}") from error
        yield running


def leave(requirement: str, value: float, note: str) -> None:
    """Leave a verdict where `make requirements` finds it, and insist on the limit."""
    limit = load()[requirement]
    verdict = Measurement.of(requirement, "system test", value, limit.passes(value), note)
    keep([verdict], Addresses().measured)
    assert verdict.passed, f"{limit.missed(value)}: {note}"


def quote(system: Tandem) -> Quote:
    answer = httpx.post(f"{system.url('product')}/api/quotes", json=WISH, timeout=10)
    assert answer.status_code == 200, answer.text
    return Quote.model_validate(answer.json())


def quote_by_model(system: Tandem) -> Quote | None:
    offered = quote(system)
    return offered if offered.source == "model" else None


def test_a_parcel_from_quote_to_rating(system: Tandem):
    offered = patiently("a quote by the model", lambda: quote_by_model(system), within_s=20)
    api = f"{system.url('product')}/api/trips/{offered.trip_id}"

    booked = TripStatus.model_validate(httpx.post(api).json())
    assert booked.state == "booked"
    assert booked.booked_at is not None
    assert booked.promised_by > booked.booked_at

    def ended() -> TripStatus | None:
        status = TripStatus.model_validate(httpx.get(api).json())
        return status if status.ended_at else None

    end = patiently("the parcel's end", ended, within_s=60)
    assert end.state in {"delivered", "cancelled", "lost"}
    assert httpx.post(f"{api}/rating", json={"stars": 4, "comment": "call me: 555-0100"}).status_code == 200

    ends = [event for event in system.reader("trips").fetch() if event.subject == offered.trip_id]
    completed = payload(ends[-1])
    assert isinstance(completed, CompletedTrip)
    assert completed.source == "model"
    assert completed.ended_at == end.ended_at
    estimates = [payload(event) for event in system.reader("estimates").fetch()]
    served = next(item for item in estimates if item.estimate_id == completed.estimate_id)
    assert isinstance(served, EstimateAnswered)
    assert served.trip.model_dump() == {name: getattr(completed, name) for name in type(served.trip).model_fields}
    ratings = [event for event in system.reader("ratings").fetch() if event.subject == offered.trip_id]
    assert [event.data["stars"] for event in ratings] == [4]
    feeds = [f"{system.url(service)}/feeds/{feed}" for feed, service in SERVED_BY.items()]
    leaks = places_found("555-0100", feeds, system.var)
    leave("personal-data-outside", len(leaks), ", ".join(leaks))


def test_no_service_lets_a_stranger_act(system: Tandem):
    guarded = 0
    strangers: list[str] = []
    for service in ("product", "serving", "monitoring", "city"):
        url = system.url(service)  # the city is the demo's alone: nobody publishes its interface
        openapi = httpx.get(f"{url}/openapi.json").json() if service == "city" else published(service)
        found, here = answering_strangers(url, openapi)
        assert here > 0, service
        strangers += found
        guarded += here
    leave("unguarded-routes", len(strangers), f"of {guarded} guarded; {', '.join(strangers)}")


@pytest.mark.slow
def test_serving_killed_in_mid_traffic_costs_no_quote_and_comes_back_by_itself(system: Tandem):
    answers: list[tuple[float, int, str]] = []
    stop = threading.Event()

    def customer() -> None:
        with httpx.Client(timeout=10) as client:
            while not stop.is_set():
                answer = client.post(f"{system.url('product')}/api/quotes", json=WISH)
                source = answer.json()["source"] if answer.status_code == 200 else answer.text
                answers.append((time.monotonic(), answer.status_code, source))
                stop.wait(0.05)

    customers = [threading.Thread(target=customer) for _ in range(3)]
    for thread in customers:
        thread.start()
    patiently("quotes by the model", lambda: any(source == "model" for _, _, source in answers), within_s=20)
    killed_at = time.monotonic()
    os.kill(process_of(system, "serving").pid, signal.SIGKILL)
    patiently(
        "a quote by the fallback",
        lambda: any(source == "fallback" for at, _, source in answers if at > killed_at),
        within_s=20,
    )
    patiently("serving's return", lambda: system.ready("serving"), within_s=30)
    back_at = time.monotonic()
    patiently(
        "a quote by the model again",
        lambda: any(source == "model" for at, _, source in answers if at > back_at),
        within_s=30,
    )
    stop.set()
    for thread in customers:
        thread.join(timeout=15)

    answered = sum(status == 200 for _, status, _ in answers) / len(answers)
    leave("quotes-without-serving", answered, str([item for item in answers if item[1] != 200][:3]))


def process_of(system: Tandem, module: str) -> psutil.Process:
    assert system.launcher is not None
    for process in psutil.Process(system.launcher.pid).children(recursive=True):
        if process.cmdline()[1:3] == ["-m", module]:
            return process
    raise AssertionError(f"no process `python -m {module}` below the launcher")

"""This version and the one before it, both ways: what was said then is understood, who was written then works."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, TypeAdapter, ValidationError
from sqlalchemy import MetaData

from chassis.databases import open_database
from chassis.followers import Follower
from contracts.bookings import CourierReport, Job, Quote, QuoteRequest, Rating, TripStatus
from contracts.estimates import EstimatesAnswer, EstimatesRequest
from contracts.feeds import PAYLOADS, Event, payload
from contracts.trips import VERSION
from tests.contracts import publish
from tests.contracts.previous.record import Tandems, tandems
from tests.product.conftest import eventually
from tests.servers import running

PREVIOUS = publish.PREVIOUS.parent
DESCRIBED: dict[str, Any] = json.loads(publish.PREVIOUS.read_text())
THEN = DESCRIBED["version"]
TRAFFIC: list[dict[str, Any]] = json.loads((PREVIOUS / "traffic.json").read_text())
EVENTS: list[dict[str, Any]] = json.loads((PREVIOUS / "events.json").read_text())

pytestmark = pytest.mark.skipif(
    VERSION.partition(".")[0] != THEN.partition(".")[0],
    reason=f"{VERSION} declares in docs/contract-changes.md that it breaks {THEN}",
)

# The recorded routes: path, what a request holds, what an answer holds.
ROUTES: list[tuple[str, type[BaseModel] | None, Any]] = [
    (r"POST /v1/estimates", EstimatesRequest, EstimatesAnswer),
    (r"POST /api/quotes", QuoteRequest, Quote),
    (r"POST /api/trips/[^/]+", None, TripStatus),
    (r"GET /api/trips/[^/]+", None, TripStatus),
    (r"POST /api/trips/[^/]+/rating", Rating, TripStatus),
    (r"GET /api/courier/jobs", None, list[Job]),
    (r"POST /api/courier/trips/[^/]+/reports", CourierReport, TripStatus),
]


def route_of(exchange: dict[str, Any]) -> tuple[type[BaseModel] | None, Any]:
    said = f"{exchange['method']} {exchange['path']}"
    return next((asked, answered) for pattern, asked, answered in ROUTES if re.fullmatch(pattern, said))


def test_what_clients_sent_then_is_taken_now():
    asked = [(route_of(exchange)[0], exchange["body"]) for exchange in TRAFFIC if exchange["body"] is not None]

    assert {model for model, _ in asked} == {EstimatesRequest, QuoteRequest, Rating, CourierReport}
    for model, sent in asked:
        model.model_validate(sent)


def test_what_services_answered_then_is_read_now():
    assert len(TRAFFIC) > 20
    for exchange in TRAFFIC:
        assert exchange["status"] == 200
        TypeAdapter(route_of(exchange)[1]).validate_python(exchange["answer"], extra="ignore")


def test_what_was_published_then_is_read_now(monkeypatch):
    monkeypatch.setitem(PAYLOADS, "thing.of_the_future", Rating)  # what came since, nobody published then
    assert {event["type"] for event in EVENTS} >= DESCRIBED["events"].keys() - {"batch.quarantined"}
    for event in EVENTS:
        payload(Event.model_validate(event))


def test_the_old_consumer_knows_nothing_of_us():
    tree = ast.parse((PREVIOUS / "consumer.py").read_text())
    imported = {item.module or "" for item in ast.walk(tree) if isinstance(item, ast.ImportFrom)}
    imported |= {name.name for item in ast.walk(tree) if isinstance(item, ast.Import) for name in item.names}
    assert imported <= {"__future__", "collections.abc", "datetime", "typing", "httpx", "pydantic"}


def use_everything(services: Tandems) -> None:
    """The old consumer does all it can do, and sees it in the feeds."""
    consumer = services.consumer
    consumer.estimates()
    ended = consumer.journey(services.wait_for)
    told = [event.type for event, _ in consumer.follow(services.product, "trips")]
    assert told == ["trip.quoted", "trip.booked", "trip.picked_up", "trip.delivered"]
    assert [answer.trip_id for _, answer in consumer.follow(services.product, "ratings")] == [ended.trip_id]
    eventually(
        lambda: ended.trip_id in [answer.trip.trip_id for _, answer in consumer.follow(services.serving, "estimates")],
        "serving has published the estimate behind the quote",
    )
    assert [event.type for event, _ in consumer.follow(services.serving, "rollout")] == ["rollout.changed"]


def test_an_old_consumer_works_with_todays_services(tmp_path):
    with tandems(tmp_path) as services:
        use_everything(services)


NEW = {"in_the_next_version": {"deep": [1, {"deeper": None}]}}


def with_news(said: Any) -> Any:
    """JSON as the next version may say it: every object holds one more field."""
    if isinstance(said, list):
        return [with_news(item) for item in said]
    return {name: with_news(item) for name, item in said.items()} | NEW if isinstance(said, dict) else said


@contextmanager
def next_version(url: str) -> Iterator[str]:
    """The service at `url` one version on: more fields in each answer and event, and a new type before each event."""
    app = FastAPI()
    service = httpx.AsyncClient(base_url=url, timeout=20)

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def pass_on(request: Request) -> Response:
        headers = {name: value for name, value in request.headers.items() if name in {"authorization", "content-type"}}
        path, body, query = request.url.path, await request.body(), request.query_params
        got = await service.request(request.method, path, content=body, params=query, headers=headers)
        if got.status_code != 200:
            return Response(got.content, got.status_code, media_type=got.headers["content-type"])
        said = with_news(got.json())
        if request.url.path.startswith("/feeds/"):
            said = [item for event in said for item in ({**event, "type": "thing.of_the_future"}, event)]
        return Response(json.dumps(said), media_type=got.headers["content-type"])

    with running(app) as newer:
        yield newer


def test_nobody_is_broken_by_what_the_next_version_adds(tmp_path):
    """Old consumers and today's product and followers, in front of services one version on."""
    with tandems(tmp_path, next_version) as services:
        body = services.serving.post("/v1/estimates", json=TRAFFIC[0]["body"]).content
        with pytest.raises(ValidationError, match="in_the_next_version"):
            EstimatesAnswer.model_validate_json(body)  # so there is something to pass over

        use_everything(services)

        # Today's product reads tomorrow's serving: not every time, for some quotes are audits and some answers late.
        eventually(lambda: services.tandem.quote().source == "model", "a quote rests on tomorrow's serving")
        url, seen = str(services.serving.base_url), []
        metadata = MetaData()
        engine = open_database(f"sqlite:///{tmp_path}/follower.db", metadata)
        follower = Follower(url, "estimates", engine, lambda _tx, events: seen.extend(events), limit=3)
        follower.drain()
        assert {event.type for event in seen} == {"estimate.answered"}
        for event in seen:
            PAYLOADS[event.type].model_validate(event.data)  # strict: what is new did not get this far


def test_a_cursor_moves_beyond_what_a_follower_does_not_know(tmp_path):
    app, asked = FastAPI(), []

    @app.get("/feeds/ratings")
    def feed(request: Request) -> list[dict[str, Any]]:
        after = int(request.query_params["lastEventId"])
        asked.append(after)
        known = next(event for event in EVENTS if event["type"] == "rating.given")
        told = [{**known, "id": "1"}, {**known, "id": "2", "type": "thing.of_the_future"}]
        return [event for event in told if int(event["id"]) > after]

    metadata = MetaData()
    engine = open_database(f"sqlite:///{tmp_path}/follower.db", metadata)
    seen: list[str] = []
    with running(app) as url:
        follower = Follower(url, "ratings", engine, lambda _tx, events: seen.extend(it.id for it in events))
        follower.step()
        follower.step()

    assert seen == ["1"]
    assert asked == [0, 2]


def test_requests_stay_strict():
    with pytest.raises(ValidationError, match="in_the_next_version"):
        EstimatesRequest.model_validate(with_news(TRAFFIC[0]["body"]))

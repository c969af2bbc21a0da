"""The short way and the route answer alike, and only what is plainly good goes the short way."""

from __future__ import annotations

import asyncio
import json

import pytest

from contracts.estimates import TIMEOUT_HEADER
from serving.settings import Settings
from serving.shortcut import Shortcut
from tests.bundles import a_trip

SHORT, BY_ROUTE = "application/json", "application/json; charset=utf-8"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
GOOD = {"trips": [a_trip().model_dump(mode="json")]}
LARGEST = Settings().serving_largest_body_bytes


def both_ways(service, body, **headers):
    """The answers to one request on both ways."""
    content = json.dumps(body)
    return [
        service.client.post("/v1/estimates", content=content, headers=headers | {"content-type": way})
        for way in (SHORT, BY_ROUTE)
    ]


def shape(value):
    """Names and types, without what differs from answer to answer."""
    if isinstance(value, dict):
        return {name: shape(it) for name, it in value.items()}
    return [shape(it) for it in value] if isinstance(value, list) else type(value)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (GOOD, 200),
        (GOOD | {"with_reasons": True}, 200),
        ({"trips": [a_trip(pickup_zone=900).model_dump(mode="json")] * 2}, 200),
        ({"trips": []}, 422),
        ({"trips": GOOD["trips"], "wind": 3}, 422),
    ],
)
def test_both_ways_answer_alike(shared_champion, body, status):
    ids = {"x-request-id": "quote-7", "traceparent": TRACE}
    short, by_route = both_ways(shared_champion, body, **ids)
    assert short.status_code == by_route.status_code == status
    assert shape(short.json()) == shape(by_route.json())
    assert short.headers.keys() == by_route.headers.keys()
    for name in ("content-type", "x-request-id"):
        assert short.headers[name] == by_route.headers[name]
    for answer in (short, by_route):
        assert answer.headers["x-request-id"] == "quote-7"
        version, trace, span, flags = answer.headers["traceparent"].split("-")
        assert (version, trace, flags) == tuple(TRACE.split("-")[at] for at in (0, 1, 3))
        assert span != TRACE.split("-")[2]


def test_without_a_trace_neither_way_makes_one_up(shared_champion):
    for answer in both_ways(shared_champion, GOOD):
        assert "traceparent" not in answer.headers
        assert len(answer.headers["x-request-id"]) == 32


def test_both_ways_refuse_alike(place):
    with place.serving() as service:
        short, by_route = both_ways(service, GOOD, **{"x-request-id": "quote-7"})
        assert short.status_code == 503
        assert short.json() == by_route.json()
        assert short.json()["type"] == "/problems/no-champion"
        assert {**short.headers} | {"date": ""} == {**by_route.headers} | {"date": ""}
        assert int(short.headers["retry-after"]) > 0
        assert service.metric('tandem_estimate_requests_total{code="503"}') == 2


class Desk:
    """Answers whatever it is asked."""

    async def answer(self, *_asked) -> str:
        return '{"by": "the short way"}'


class Noted:
    """Notes nothing."""

    def answered(self, *_seen) -> None:
        pass


async def route(_scope, receive, send) -> None:
    """What stands behind: says that it was asked, and with what."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    await send({"type": "http.response.body", "body": b'{"by": "the route"}', "heard": body})


def way(headers: dict[str, str], parts: list[bytes], method: str = "POST", path: str = "/v1/estimates"):
    """Which way a request goes, and with what body it comes to the route."""
    told = []
    messages = [
        {"type": "http.request", "body": part, "more_body": at < len(parts)} for at, part in enumerate(parts, 1)
    ]

    async def receive():
        return messages.pop(0)

    async def send(message) -> None:
        told.append(message)

    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": encoded}
    asyncio.run(Shortcut(route, Desk(), Noted(), LARGEST)(scope, receive, send))
    return json.loads(told[-1]["body"])["by"], told[-1].get("heard")


def headers_of(body: bytes, **changes: str | None) -> dict[str, str]:
    """The headers of a plain request, changed; None takes one away."""
    plain = {"content-type": SHORT, "content-length": str(len(body))}
    changed = plain | {name.replace("_", "-"): value for name, value in changes.items()}
    return {name: value for name, value in changed.items() if value is not None}


@pytest.mark.parametrize("changes", [{}, {TIMEOUT_HEADER.lower(): "250"}, {"x-request-id": "a b"}, {"accept": "*/*"}])
@pytest.mark.parametrize("cut", [None, 7])
def test_what_is_plainly_good_goes_the_short_way(changes, cut):
    body = json.dumps(GOOD).encode()
    parts = [body] if cut is None else [body[:cut], body[cut:]]
    assert way(headers_of(body) | changes, parts) == ("the short way", None)


@pytest.mark.parametrize(
    "changes",
    [
        {"content_type": BY_ROUTE}, {"content_type": "text/plain"}, {"content_type": None}, {"content_length": None},
        {"content_length": str(LARGEST + 1)}, {"content_length": "-5"}, {TIMEOUT_HEADER.lower(): "soon"},
        {TIMEOUT_HEADER.lower(): "0"}, {TIMEOUT_HEADER.lower(): "1000000"},
    ],
)  # fmt: skip
def test_whatever_is_unusual_about_a_request_it_comes_to_the_route_as_it_was(changes):
    body = json.dumps(GOOD).encode()
    assert way(headers_of(body, **changes), [body]) == ("the route", body)


@pytest.mark.parametrize("body", [b'{"trips": []}', b'{"trips": [', b"null", b'{"trips": 7}', b"\xff"])
@pytest.mark.parametrize("cut", [None, 2])
def test_a_body_that_is_not_as_contracted_comes_to_the_route_whole(body, cut):
    parts = [body] if cut is None else [body[:cut], body[cut:]]
    assert way(headers_of(body), parts) == ("the route", body)


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/estimates"), ("POST", "/v1/rollout"), ("POST", "/nowhere")])
def test_everything_else_is_the_routes_too(method, path):
    body = json.dumps(GOOD).encode()
    assert way(headers_of(body), [body], method, path) == ("the route", body)

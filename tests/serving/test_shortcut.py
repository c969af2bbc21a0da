"""The short way and the route answer alike, and only what is plainly good goes the short way."""

from __future__ import annotations

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

    def ask(self, _trips, _with_reasons, _caller, _timeout_ms, tell) -> None:
        tell("an answer")


class Noted:
    """Notes nothing."""

    def answered(self, *_seen) -> None:
        pass


def goes_short(headers: dict[str, str], body: bytes) -> bool:
    """Whether a request goes the short way, with all that is asked there."""
    told = []
    encoded = {name.encode(): value.encode() for name, value in headers.items()}
    taken = Shortcut(Desk(), Noted(), LARGEST).take(encoded, body, lambda *answer: told.append(answer))
    assert [(status, text) for status, _, text in told] == ([(200, b"an answer")] if taken else [])
    return taken


def headers_of(body: bytes, **changes: str | None) -> dict[str, str]:
    """The headers of a plain request, changed; None takes one away."""
    plain = {"content-type": SHORT, "content-length": str(len(body))}
    changed = plain | {name.replace("_", "-"): value for name, value in changes.items()}
    return {name: value for name, value in changed.items() if value is not None}


@pytest.mark.parametrize("changes", [{}, {TIMEOUT_HEADER.lower(): "250"}, {"x-request-id": "a b"}, {"accept": "*/*"}])
def test_what_is_plainly_good_goes_the_short_way(changes):
    body = json.dumps(GOOD).encode()
    assert goes_short(headers_of(body) | changes, body)


@pytest.mark.parametrize(
    "changes",
    [
        {"content_type": BY_ROUTE}, {"content_type": "text/plain"}, {"content_type": None},
        {TIMEOUT_HEADER.lower(): "soon"}, {TIMEOUT_HEADER.lower(): "0"}, {TIMEOUT_HEADER.lower(): "1000000"},
    ],
)  # fmt: skip
def test_whatever_is_unusual_about_a_request_is_left_to_the_route(changes):
    body = json.dumps(GOOD).encode()
    assert not goes_short(headers_of(body, **changes), body)


@pytest.mark.parametrize("body", [b'{"trips": []}', b'{"trips": [', b"null", b'{"trips": 7}', b"\xff"])
def test_a_body_that_is_not_as_contracted_is_left_to_the_route(body):
    assert not goes_short(headers_of(body), body)


def test_a_body_over_the_limit_is_left_to_the_route():
    body = json.dumps(GOOD).encode()
    assert not goes_short(headers_of(body), body.ljust(LARGEST + 1))

"""The way past the app, over raw sockets: answers come in the app's order and form, whatever callers do."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry

from chassis.http import Limits, Tell
from chassis.service import make_app
from tests.chassis.test_http import connected, heard, problem
from tests.servers import eventually, running

LIMITS = Limits(request_s=0.6)


class Echo:
    """Answers what it was sent, on `/later` after a moment; leaves to the app what starts with a question mark."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def wants(self, scope: Mapping[str, Any]) -> bool:
        return scope["path"] in ("/echo", "/later")

    def take(self, scope: Mapping[str, Any], body: bytes, tell: Tell) -> bool:
        if body.startswith(b"?"):
            return False
        self.taken.append(body)
        about = [(b"content-length", b"%d" % len(body)), (b"x-by", b"direct")]
        if scope["path"] == "/later":
            asyncio.get_running_loop().call_later(0.25, tell, 200, about, body)
        else:
            tell(200, about, body)
        return True


def an_app(direct: Echo) -> FastAPI:
    app = make_app("direct", CollectorRegistry(), ready=lambda: None, drain_s=0.5, direct=direct)

    @app.post("/echo")
    @app.post("/later")
    @app.post("/elsewhere")
    async def echo(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await request.body(), headers={"x-by": "app"})

    return app


@pytest.fixture(scope="module")
def direct() -> Echo:
    return Echo()


@pytest.fixture(scope="module")
def url(direct: Echo) -> Iterator[str]:
    with running(an_app(direct), LIMITS) as url:
        yield url


def asked(body: bytes, path: str = "/echo", *headers: bytes, version: bytes = b"1.1") -> bytes:
    """A request with a length."""
    lines = [b"POST %s HTTP/%s" % (path.encode(), version), b"Host: t", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


def parted(answers: bytes) -> list[tuple[str, bytes]]:
    """Who gave each answer, and what it was; all of them are 200."""
    found = []
    while answers:
        head, _, rest = answers.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        assert status == b"HTTP/1.1 200 OK"
        about = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
        assert {b"date", b"server"} <= about.keys()
        size = int(about[b"content-length"])
        found.append((about[b"x-by"].decode(), rest[:size]))
        answers = rest[size:]
    return found


@contextmanager
def told(url: str, sent: bytes, *more: bytes) -> Iterator[list[tuple[str, bytes]]]:
    """The answers to what is sent, part by part; the last of it ends the connection."""
    with connected(url) as sock:
        for part in (sent, *more):
            sock.sendall(part)
            time.sleep(0.02)
        yield parted(heard(sock))


LAST = b"Connection: close"


def test_a_request_is_answered_past_the_app_and_the_connection_is_kept(url):
    with told(url, asked(b"one"), asked(b"two"), asked(b"three", "/echo", LAST)) as answers:
        assert answers == [("direct", b"one"), ("direct", b"two"), ("direct", b"three")]


@pytest.mark.parametrize("cut", [1, 30, -3])
def test_a_request_in_parts_is_waited_for(url, cut):
    sent = asked(b"whole", "/echo", LAST)
    with told(url, sent[:cut], sent[cut:]) as answers:
        assert answers == [("direct", b"whole")]


def test_what_is_left_to_the_app_comes_there_whole(url):
    sent = asked(b"? and more", "/echo", LAST)
    with told(url, sent[:-4], sent[-4:]) as answers:
        assert answers == [("app", b"? and more")]


@pytest.mark.parametrize(
    "sent",
    [
        asked(b"x" * 70_000, "/echo", LAST),
        asked(b"waits", "/echo", b"Expect: 100-continue", LAST),
        b"POST /echo HTTP/1.1\r\nHost: t\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n0\r\n\r\n",
        asked(b"not wanted", "/elsewhere", LAST),
    ],
    ids=["more than is read at once", "waits to be told to go on", "without a length", "not wanted"],
)
def test_the_app_gets_what_needs_more_care(url, sent):
    with connected(url) as sock:
        sock.sendall(sent)
        answer = heard(sock).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert [by for by, _ in parted(answer)] == ["app"]


def test_requests_sent_without_waiting_are_answered_in_order_whoever_answers(url):
    ways = ["/later", "/echo", "/elsewhere", "/later", "/elsewhere", "/echo"]
    sent = [asked(b"%d" % number, path) for number, path in enumerate(ways)]
    with told(url, b"".join(sent) + asked(b"last", "/echo", LAST)) as answers:
        assert [body for _, body in answers] == [b"0", b"1", b"2", b"3", b"4", b"5", b"last"]
        assert [by for by, _ in answers] == ["direct", "direct", "app", "direct", "app", "direct", "direct"]


def test_an_older_caller_is_disconnected_after_its_answer(url):
    with told(url, asked(b"old", "/echo", version=b"1.0")) as answers:
        assert answers == [("direct", b"old")]


def test_who_hangs_up_before_the_answer_hurts_nobody(url, direct):
    with connected(url) as sock:
        sock.sendall(asked(b"gone", "/later"))
        eventually(lambda: b"gone" in direct.taken, "it is taken")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with told(url, asked(b"still here", "/later", LAST)) as answers:
        assert answers == [("direct", b"still here")]


def test_a_body_that_never_comes_is_not_waited_for(url, direct):
    with connected(url) as sock:
        sock.sendall(asked(b"x" * 10)[:-4])
        assert problem(heard(sock)) == (408, "/problems/request-too-slow")
    assert b"x" * 6 not in direct.taken


def test_who_reads_no_answers_gets_no_more_of_them_than_fit(url, direct):
    """Else a caller that sends and never reads could fill the memory."""
    before, body = len(direct.taken), b"x" * 50_000
    with connected(url) as sock:
        sock.setblocking(False)
        refused_at, sent = time.monotonic() + 2, 0
        request = asked(body)
        while time.monotonic() < refused_at and sent < 500 * len(request):
            try:
                sent += sock.send(request[sent % len(request) :])
            except BlockingIOError:
                time.sleep(0.01)
    assert len(direct.taken) - before < 300


def test_a_request_under_way_when_the_server_ends_is_answered():
    with ExitStack() as server, ExitStack() as caller:
        url = server.enter_context(running(an_app(Echo()), LIMITS))
        sock = caller.enter_context(connected(url))
        sock.sendall(asked(b"under way", "/later"))
        time.sleep(0.02)
        server.close()
        answer = heard(sock)
    assert parted(answer) == [("direct", b"under way")]
    assert b"connection: close" in answer

"""Limits of HTTP, tried over raw sockets: what one caller does costs no other anything."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry

from chassis.http import Limits
from chassis.problems import ProblemError
from chassis.service import make_app
from tests.chassis.small_service import get
from tests.servers import running

LIMITS = Limits(header_bytes=8_192, request_bytes=1_000_000, request_s=0.6, connections=60)
GET = b"GET /hello HTTP/1.1\r\nHost: t\r\n"
POST = b"POST /length HTTP/1.1\r\nHost: t\r\n"


def an_app() -> FastAPI:
    app = make_app("limits", CollectorRegistry(), ready=lambda: None)

    @app.get("/hello")
    async def hello() -> PlainTextResponse:
        return PlainTextResponse("hello")

    @app.post("/length")
    async def length(request: Request) -> int:
        return len(await request.body())

    @app.post("/busy")
    async def busy() -> None:
        """From now on every turn of the loop takes a while, until a hundred have been."""

        def turn() -> None:
            time.sleep(0.01)
            app.state.turns += 1
            if app.state.turns < 100:
                loop.call_soon(turn)

        loop, app.state.turns = asyncio.get_running_loop(), 0
        turn()

    @app.post("/early")
    async def early() -> None:
        raise ProblemError(503, "busy", "answered before the body has come", retry_after_s=1)

    @app.get("/fault")
    async def fault() -> None:
        raise ZeroDivisionError

    return app


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(an_app(), LIMITS) as url:
        yield url


@contextmanager
def connected(url: str, holds_bytes: int | None = None) -> Iterator[socket.socket]:
    """A connection; at most about so much of what comes waits on our side for being read, else what the system gives,
    on some machines tens of megabytes."""
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as sock:
        sock.settimeout(10)
        if holds_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, holds_bytes)
        sock.connect((host, int(port)))
        yield sock


def heard(sock: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def problem(answer: bytes) -> tuple[int, str]:
    """Status and type of the problem that the last answer is, and that it says it is the last."""
    head, _, body = answer[answer.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    told = json.loads(body)
    assert int(head.split()[1]) == told["status"]
    return told["status"], told["type"]


def test_fifty_that_never_finish_a_request_cost_another_nothing_and_are_shown_the_door(url):
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(url)) for _ in range(50)]
        for sock in slow:
            sock.sendall(GET[:10])
        began = time.monotonic()
        while time.monotonic() - began < LIMITS.request_s * 0.8:
            asked = time.monotonic()
            assert get(f"{url}/hello") == (200, "hello")
            assert time.monotonic() - asked < LIMITS.request_s / 2
            for sock in slow:
                sock.send(b"x")  # a byte now and then does not buy time
        answers = [heard(sock) for sock in slow]
    assert time.monotonic() - began < 10 * LIMITS.request_s
    assert {problem(answer) for answer in answers} == {(408, "/problems/request-too-slow")}


def test_of_many_who_connect_at_once_to_a_busy_service_several_are_taken_in_each_turn():
    app = an_app()
    with ExitStack() as stack:
        url = stack.enter_context(running(app, LIMITS))
        busy = stack.enter_context(connected(url))
        busy.sendall(b"POST /busy HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n")
        assert b"200 OK" in busy.recv(65536)
        sockets = [stack.enter_context(connected(url)) for _ in range(50)]
        for sock in sockets:
            sock.sendall(GET + b"\r\n")
        for sock in sockets:
            assert sock.recv(65536).endswith(b"hello")
        assert app.state.turns < 30


def test_a_body_that_never_comes_is_not_waited_for(url):
    with connected(url) as sock:
        sock.sendall(POST + b"Content-Length: 10\r\n\r\nhalf")
        assert problem(heard(sock)) == (408, "/problems/request-too-slow")


def test_a_connection_that_asks_nothing_is_closed_without_a_word(url):
    with connected(url) as sock:
        assert heard(sock) == b""


def test_a_kept_connection_may_idle_for_longer_than_a_request_may_take(url):
    with connected(url) as sock:
        for _ in range(2):
            sock.sendall(GET + b"\r\n")
            assert sock.recv(65536).endswith(b"hello")
            time.sleep(LIMITS.request_s * 2)


def test_a_request_in_parts_is_answered(url):
    with connected(url) as sock:
        for part in (GET[:10], GET[10:], b"\r", b"\n"):
            sock.sendall(part)
            time.sleep(0.02)
        assert sock.recv(65536).endswith(b"hello")


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("size", [9_000, 600_000])
@pytest.mark.parametrize("shape", ["one header", "many", "target"])
def test_oversized_headers_are_refused(url, size, shape, ends):
    sent = {
        "one header": GET + b"X: " + b"x" * size,
        "many": GET + b"X: xxxxxxxxxxxxxxxx\r\n" * (size // 20),
        "target": b"GET /" + b"x" * size,
    }[shape]
    end = b" HTTP/1.1\r\n\r\n" if shape == "target" else b"\r\n\r\n"
    with connected(url) as sock:
        sock.sendall(sent + (end if ends else b""))
        assert problem(heard(sock)) == (431, "/problems/headers-too-large")


def test_headers_up_to_the_limit_are_taken(url):
    room = LIMITS.header_bytes - len(GET + b"X: \r\n\r\n")
    with connected(url) as sock:
        sock.sendall(GET + b"X: " + b"x" * room + b"\r\n\r\n")
        assert sock.recv(65536).endswith(b"hello")
        sock.sendall(GET + b"X: " + b"x" * room + b"x\r\n\r\n")
        assert problem(heard(sock)) == (431, "/problems/headers-too-large")


@pytest.mark.parametrize("split_at", [0, 5, len(POST) + 25, len(POST) + 26, len(POST) + 30])
def test_a_body_does_not_count_as_headers_however_it_is_cut(url, split_at):
    request = POST + b"Content-Length: 050000\r\n\r\n" + b"x" * 50_000
    with connected(url) as sock:
        for _ in range(2):
            sock.sendall(request[:split_at])
            time.sleep(0.02)
            sock.sendall(request[split_at:])
            assert sock.recv(65536).endswith(b"50000")


@pytest.mark.parametrize("framing", ["length", "chunks", "trailers"])
def test_a_request_without_an_end_is_refused(url, framing):
    begin = {
        "length": b"Content-Length: 100000000\r\n\r\n",
        "chunks": b"Transfer-Encoding: chunked\r\n\r\n",
        "trailers": b"Transfer-Encoding: chunked\r\n\r\n0\r\n",
    }[framing]
    part = {"length": b"x" * 10_000, "chunks": b"1\r\nx\r\n" * 2_000, "trailers": b"X: x\r\n" * 2_000}[framing]
    with connected(url) as sock:
        sock.sendall(POST + begin)
        with pytest.raises(OSError):  # noqa: PT011  # reset or broken pipe, as the system likes
            for _ in range(10_000):
                sock.sendall(part)
                time.sleep(0.0001)
    assert get(f"{url}/hello") == (200, "hello")


def test_a_request_that_is_too_large_learns_why(url):
    with connected(url) as sock:
        sock.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        for _ in range(105):
            sock.sendall(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        assert problem(heard(sock)) == (413, "/problems/request-too-large")


def test_whoever_was_answered_before_the_end_of_its_request_is_not_answered_twice(url):
    with connected(url) as sock:
        sock.sendall(b"POST /early HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf")
        answer = heard(sock)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 503")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),  # TLS where there is none
        b"\x00" * 1000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: t\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: t\r\n\r\n",
        b"CONNECT t:443 HTTP/1.1\r\nHost: t\r\n\r\n",
        b"{}\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        GET + b"no colon\r\n\r\n",
        GET + b"X: a\x00b\r\n\r\n",
    ],
)
@pytest.mark.parametrize("before", [b"", GET + b"\r\n"])
def test_nonsense_is_answered_with_a_problem_and_hurts_nobody(url, garbage, before):
    with connected(url) as sock:
        if before:
            sock.sendall(before)
            assert sock.recv(65536).endswith(b"hello")
        sock.sendall(garbage)
        assert problem(heard(sock)) == (400, "/problems/malformed-http")
    assert get(f"{url}/hello") == (200, "hello")


def test_requests_sent_without_waiting_for_answers_are_answered_in_order(url):
    with connected(url) as sock:
        sock.sendall((GET + b"\r\n") * 20 + b"GET /nowhere HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
        answer = heard(sock)
    assert answer.count(b"HTTP/1.1 200 OK") == 20
    assert b"HTTP/1.1 404" in answer[answer.rindex(b"hello") :]


def test_one_connection_too_many_is_told_to_come_back(url):
    with ExitStack() as stack:
        for _ in range(LIMITS.connections):
            stack.enter_context(connected(url))
        time.sleep(0.05)
        with connected(url) as sock:
            answer = heard(sock)
    assert problem(answer) == (503, "/problems/too-many-connections")
    assert b"retry-after: 1\r\n" in answer
    time.sleep(0.05)
    assert get(f"{url}/hello") == (200, "hello")


@pytest.mark.parametrize("path", ["/hello", "/docs/", "/health/live", "/metrics", "/nowhere", "/fault"])
def test_every_answer_tells_browsers_what_they_may_not_do_with_it(url, path):
    told = httpx.get(url + path).headers

    assert told["x-content-type-options"] == "nosniff"
    assert told["content-security-policy"] == "frame-ancestors 'none'"
    assert told["referrer-policy"] == "same-origin"

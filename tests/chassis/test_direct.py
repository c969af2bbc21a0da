"""The way past the app, over raw sockets: answers come in the app's order and form, whatever callers do."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry

from chassis.direct import Tell
from chassis.http import Limits
from chassis.service import make_app
from tests.chassis.test_http import connected, heard, problem
from tests.servers import eventually, running

LIMITS = Limits(request_s=0.6)
WMEM = Path("/proc/sys/net/ipv4/tcp_wmem")
SENDS_BYTES = (
    int(WMEM.read_text().split()[2]) if WMEM.exists() else 2**24
)  # at most; the system takes them from a server


class Echo:
    """Answers what it was sent, after a moment if it says `X-Later`; leaves to the app what starts with a question
    mark."""

    path = "/echo"

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.headers: list[Mapping[bytes, bytes]] = []

    def take(self, headers: Mapping[bytes, bytes], body: bytes, tell: Tell) -> bool:
        if body.startswith(b"?"):
            return False
        self.taken.append(body)
        self.headers.append(headers)
        about = b"content-length: %d\r\nx-by: direct\r\n" % len(body)
        if b"x-later" in headers:
            asyncio.get_running_loop().call_later(0.25, tell, 200, about, body)
        else:
            tell(200, about, body)
        return True


def an_app(direct: Echo | None) -> FastAPI:
    app = make_app("direct", CollectorRegistry(), ready=lambda: None, drain_s=0.5, direct=direct)

    @app.post("/echo")
    @app.post("/elsewhere")
    async def echo(request: Request) -> PlainTextResponse:
        if "x-later" in request.headers:
            await asyncio.sleep(0.25)
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
    """A request with a length; `/later` stands for an echo after a moment."""
    if path == "/later":
        path, headers = "/echo", (b"X-Later: yes", *headers)
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


@pytest.mark.parametrize(("cut", "by"), [(1, "app"), (30, "app"), (-5, "direct"), (-3, "direct")])
def test_a_request_in_parts_is_waited_for_by_the_app_if_its_headers_are_in_parts(url, cut, by):
    sent = asked(b"whole", "/echo", LAST)
    with told(url, sent[:cut], sent[cut:]) as answers:
        assert answers == [(by, b"whole")]


def test_headers_come_as_they_were_sent_with_their_names_in_lower_case(url, direct):
    with told(url, asked(b"about", "/echo", b"X-Some: A b;  c", LAST)) as answers:
        assert answers == [("direct", b"about")]
    about = {b"host": b"t", b"content-length": b"5", b"x-some": b"A b;  c", b"connection": b"close"}
    assert direct.headers[-1] == about


def test_what_is_left_to_the_app_comes_there_whole_and_what_is_asked_later_does_not(url):
    sent = asked(b"? and more")
    with told(url, sent[:-4], sent[-4:], asked(b"direct again", "/echo", LAST)) as answers:
        assert answers == [("app", b"? and more"), ("direct", b"direct again")]


def test_a_request_inside_of_another_is_a_part_of_it(url, direct):
    inside = asked(b"smuggled")
    start = asked(inside, "/elsewhere", LAST)[: -len(inside)]
    with told(url, start, inside) as answers:
        assert answers == [("app", inside)]
    with connected(url) as sock:
        for part in (b"POST /elsewhere HTTP/1.1\r\nHost: t\r\n", inside):
            sock.sendall(part)
            time.sleep(0.02)
        assert problem(heard(sock)) == (400, "/problems/malformed-http")
    assert b"smuggled" not in direct.taken


def test_what_is_asked_while_the_app_works_waits_for_it(url):
    with told(url, asked(b"first", "/elsewhere", b"X-Later: yes"), asked(b"then", "/echo", LAST)) as answers:
        assert answers == [("app", b"first"), ("app", b"then")]


def test_more_than_is_held_for_anybody_is_the_apps(url):
    sent = asked(b"x" * 70_000, "/echo", LAST)
    with told(url, sent[:-69_000], sent[-69_000:]) as answers:
        assert [(by, len(body)) for by, body in answers] == [("app", 70_000)]


UNUSUAL = {
    "waits to be told to go on": asked(b"waits", "/echo", b"Expect: 100-continue", LAST),
    "chunks": b"POST /echo HTTP/1.1\r\nHost: t\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n0\r\n\r\n",
    "both a length and chunks": asked(b"3\r\nabc\r\n0\r\n\r\n", "/echo", b"Transfer-Encoding: chunked", LAST),
    "two lengths": asked(b"hello", "/echo", b"Content-Length: 2", LAST),
    "a length twice": asked(b"hello", "/echo", b"content-length: 5", LAST),
    "a length with a sign": b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: +5\r\nConnection: close\r\n\r\nhello",
    "a length with a zero": b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 05\r\nConnection: close\r\n\r\nhello",
    "no length": b"POST /echo HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
    "another path": asked(b"not wanted", "/elsewhere", LAST),
    "a query": asked(b"asks", "/echo?why", LAST),
    "an escaped path": asked(b"escapes", "/%65cho", LAST),
    "a whole address": asked(b"proxied", "http://t/echo", LAST),
    "another method": asked(b"put", "/echo", LAST).replace(b"POST", b"PUT"),
    "an older version": asked(b"old", "/echo", version=b"1.0"),
    "no such version": asked(b"new", "/echo", LAST, version=b"1.9"),
    "a line that goes on": asked(b"folded", "/echo", b"X-Some: a\r\n b", LAST),
    "a space before the colon": asked(b"smuggled", "/echo", b"Transfer-Encoding : chunked", LAST),
    "spaces before a value": asked(b"spaced", "/echo", b"X-Some:   a", LAST),
    "spaces behind a value": asked(b"spaced", "/echo", b"X-Some: a  ", LAST),
    "closing in capitals": asked(b"loud", "/echo", b"Connection: Close"),
    "no space before a value": asked(b"tight", "/echo", b"X-Some:a", LAST),
    "an empty value": asked(b"empty", "/echo", b"X-Some: ", LAST),
    "a name that is none": asked(b"(x)", "/echo", b"X(Some): a", LAST),
    "no name": asked(b"nameless", "/echo", b": a", LAST),
    "beyond ASCII": asked(b"caf\xe9", "/echo", b"X-Some: caf\xe9", LAST),
    "a zero in a value": asked(b"zero", "/echo", b"X-Some: a\0b", LAST),
    "lines without their first half": asked(b"bare", "/echo", LAST).replace(b"\r\n", b"\n"),
    "one line without it": asked(b"bare", "/echo", b"X-Some: a\nX-More: b", LAST),
    "a line's first half alone": asked(b"bare", "/echo", b"X-Some: a\rX-More: b", LAST),
    "another protocol": asked(b"up", "/echo", b"Upgrade: websocket", b"Connection: Upgrade, close"),
    "an empty line before": b"\r\n" + asked(b"late", "/echo", LAST),
    "nothing sensible": b"hello\r\n\r\n",
}


@pytest.fixture(scope="module")
def by_uvicorn() -> Iterator[str]:
    """The same app where nothing answers directly."""
    with running(an_app(None), LIMITS) as url:
        yield url


@pytest.mark.parametrize("sent", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_unusual_is_answered_as_uvicorn_alone_would(url, by_uvicorn, direct, sent):
    before, answers = len(direct.taken), []
    for server in (url, by_uvicorn):
        with connected(server) as sock:
            sock.sendall(asked(b"plain"))
            assert sock.recv(65536).endswith(b"plain")
            sock.sendall(sent)
            answers.append(without_dates(heard(sock)))
    assert answers[0] == answers[1]
    assert direct.taken[before:] == [b"plain"]


def without_dates(answers: bytes) -> bytes:
    """Answers with their headers in one order, and what differs from second to second left out."""
    parts = []
    for answer in answers.split(b"HTTP/1.1 ")[1:]:
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = sorted(line for line in head.split(b"\r\n") if not line.startswith((b"date", b"content-type: text")))
        parts.append(b"\n".join([*lines, b"", body]))
    return b"\n\n".join(parts)


def test_requests_sent_without_waiting_are_answered_in_order_whoever_answers(url):
    ways = ["/later", "/echo", "/elsewhere", "/later", "/elsewhere", "/echo"]
    sent = [asked(b"%d" % number, path) for number, path in enumerate(ways)]
    with told(url, b"".join(sent) + asked(b"last", "/echo", LAST)) as answers:
        assert [body for _, body in answers] == [b"0", b"1", b"2", b"3", b"4", b"5", b"last"]
        assert [by for by, _ in answers] == ["direct", "direct", *["app"] * 5]  # what comes behind the app's is its too


def test_very_many_that_wait_behind_one_are_answered_in_order(url):
    bodies = [b"%d" % number for number in range(600)]
    sent = asked(b"slow", "/later") + b"".join(asked(body) for body in bodies) + asked(b"last", "/echo", LAST)
    with told(url, sent) as answers:
        assert [body for _, body in answers] == [b"slow", *bodies, b"last"]


def test_who_hangs_up_before_the_answer_hurts_nobody(url, direct):
    with connected(url) as sock:
        sock.sendall(asked(b"gone", "/later"))
        eventually(lambda: b"gone" in direct.taken, "it is taken")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with told(url, asked(b"still here", "/later", LAST)) as answers:
        assert answers == [("direct", b"still here")]


@pytest.mark.parametrize("before", [b"", asked(b"before"), asked(b"before", "/elsewhere")])
def test_a_body_that_never_comes_is_not_waited_for(url, direct, before):
    with connected(url) as sock:
        if before:
            sock.sendall(before)
            assert sock.recv(65536).endswith(b"before")
        sock.sendall(asked(b"x" * 10)[:-4])
        assert problem(heard(sock)) == (408, "/problems/request-too-slow")
    assert b"x" * 6 not in direct.taken


def test_an_idle_connection_is_kept_as_long_as_uvicorn_keeps_it_and_then_closed():
    with running(an_app(Echo()), LIMITS, timeout_keep_alive=1) as url, connected(url) as sock:
        for _ in range(3):  # each time it is uvicorn's timer for another one
            sock.sendall(asked(b"still here"))
            assert sock.recv(65536).endswith(b"still here")
            time.sleep(LIMITS.request_s * 1.2)
        began = time.monotonic()
        assert sock.recv(65536) == b""
        assert time.monotonic() - began < 5


def test_who_sends_on_while_one_is_under_way_is_read_no_further_and_answered_in_the_end(url):
    first, rest = asked(b"slow", "/later"), asked(b"x" * 60_000) * 1000 + asked(b"last", "/echo", LAST)
    with connected(url) as sock:
        sock.sendall(first)
        sock.settimeout(0.15)  # it is under way for longer
        sent = 0
        with suppress(TimeoutError):
            while sent < len(rest):
                sent += sock.send(rest[sent : sent + 65_536])
        assert sent < len(rest) / 2
        sock.settimeout(10)
        sender = threading.Thread(target=sock.sendall, args=(rest[sent:],))
        sender.start()
        answers = parted(heard(sock))
        sender.join()
    assert len(answers) == 1002
    assert (answers[0], answers[-1]) == (("direct", b"slow"), ("direct", b"last"))


def test_a_server_that_ends_soon_says_so_with_each_answer():
    app = an_app(Echo())
    with running(app, LIMITS) as url, connected(url) as sock:
        app.state.life.draining = True
        sock.sendall(asked(b"one of the last"))
        assert b"connection: close" in heard(sock)


def test_who_reads_no_answers_gets_no_more_of_them_than_fit_until_it_reads(url, direct):
    """Else a caller that sends and never reads could fill the memory."""
    before, requests = len(direct.taken), asked(b"x" * 50_000) * 500 + asked(b"last", "/echo", LAST)
    with connected(url, holds_bytes=65_536) as sock:
        sender = threading.Thread(target=sock.sendall, args=(requests,))
        sender.start()
        sender.join(0.5)
        assert len(direct.taken) - before < SENDS_BYTES / 50_000 + 10
        answers = parted(heard(sock))
        sender.join()
    assert len(answers) == 501
    assert answers[-1][1] == b"last"


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


@pytest.mark.parametrize("direct", [Echo(), None], ids=["direct", "the app alone"])
def test_who_is_slow_is_told_so_whoever_would_have_answered(direct):
    whole = [asked(b"x"), b"GET /hello HTTP/1.1\r\n\r\n", asked(b"hello", "/elsewhere"), asked(b"hello")]
    with running(an_app(direct), LIMITS) as url, ExitStack() as stack:
        slow = [stack.enter_context(connected(url)) for _ in range(len(whole) * 2)]
        for sock, request in zip(slow, whole + [it[:10] for it in whole], strict=True):
            sock.sendall(request[:-2])
        assert [problem(heard(sock)) for sock in slow] == [(408, "/problems/request-too-slow")] * len(slow)

"""A way past uvicorn's request cycle and the app, for requests that can't afford them (docs/decisions/0011).

It is for plain requests: one path, the headers whole in one read of the socket and each of them once, a length, nothing
to negotiate. Whatever else comes over a connection uvicorn gets as it came, so that it alone decides what is HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Protocol

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from chassis.http import LimitedProtocol, Limits

Tell = Callable[[int, bytes, bytes], None]

NEGOTIATED = frozenset((b"transfer-encoding", b"expect", b"upgrade"))
CONNECTION = (b"keep-alive", b"close")
HEAD = re.compile(rb"POST ([!-~]++) HTTP/1\.1\r\n((?:[A-Za-z0-9-]++: (?! )[ -~]++(?<! )\r\n)++)\r\n")
END = b"\r\n\r\n"
LONGEST_HEAD, REMEMBERED = 2_048, 1_024  # bytes, heads: two megabytes at most
LENGTH = re.compile(rb"0|[1-9][0-9]{0,5}")


class Direct(Protocol):
    """Answers some POST requests for its `path` without the app, in the event loop's thread. It must not raise, and not
    take long."""

    path: str

    def take(self, headers: Mapping[bytes, bytes], body: bytes, tell: Tell) -> bool:
        """Take a whole request and `tell` its status, headers and body, now or later, once; or answer False, and the
        app gets it as it came. Names of headers are in lower case; those told are lines as they are sent, each with
        its end."""


class DirectProtocol(LimitedProtocol):
    """One connection. What it lets `direct` take is answered before anything behind it is looked at.

    Of uvicorn's own timer for idle connections only one runs: who asks on goes on, so that an idle one may be closed
    up to twice as late.
    """

    def __init__(self, direct: Direct, limits: Limits, **uvicorns: Any) -> None:
        super().__init__(limits, **uvicorns)
        self.direct, self.path = direct, direct.path.encode()
        self.asking = False  # a request is with `direct`
        self.held = b""  # what came and uvicorn has not got: a request in parts, or what came behind one under way
        self.keeps = True  # the connection, after the answer under way
        self.begun_by_timer = 0  # requests begun when uvicorn's timer was set
        self.usual: list[tuple[bytes, bytes]] = []  # headers of every answer: date and server
        self.usual_lines = b""

    def data_received(self, data: bytes) -> None:
        """Called with each read of the socket."""
        if self.refused:
            return
        if not (self.asking or self.held) and (self.within or self._busy()):
            super().data_received(data)
        elif self.asking or self.flow.write_paused:
            self.held += data
            if self.flow.write_paused or len(self.held) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
        else:
            self._take(self.held + data)

    def resume_writing(self) -> None:
        """Called by the transport once the caller has read most of the answers."""
        super().resume_writing()
        self.loop.call_soon(self._go_on)

    def shutdown(self) -> None:
        """Called by uvicorn when the server ends."""
        if self.asking:
            self.keeps = False
        else:
            self._leave(self.held)
            super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Called by uvicorn's timer for idle connections."""
        self.timeout_keep_alive_task = None
        if self.asking or self.held or self.begun != self.begun_by_timer:
            self._keep_alive()
        else:
            super().timeout_keep_alive_handler()

    def _take(self, data: bytes) -> None:
        """Answer the request that `data` begins with, or wait for the rest of it, or leave all to uvicorn."""
        start = data.find(END) + len(END)
        headers = _plain(self.path, data[:start]) if len(END) <= start <= LONGEST_HEAD else None
        if headers is None:
            self._leave(data)
            return
        end = start + int(headers[b"content-length"])
        if end > len(data):
            self._wait(data, end)
            return
        self.begun += 1
        self.asking, self.taken, self.held = True, 0, data[end:]
        self.keeps = headers.get(b"connection") != b"close"
        if not self.direct.take(headers, data[start:end], self._tell):
            self.asking = False
            self._leave(data)

    def _wait(self, data: bytes, end: int) -> None:
        """Wait for the rest of a body, unless it is more than anybody holds."""
        if end > HIGH_WATER_LIMIT:
            self._leave(data)
            return
        if not self.held:
            self.begun += 1
        self.held, self.taken = data, len(data)

    def _leave(self, data: bytes) -> None:
        """Leave to uvicorn what came, if anything did."""
        self.held, self.taken = b"", 0
        if data:
            super().data_received(data)

    def _tell(self, status: int, headers: bytes, body: bytes) -> None:
        """Write an answer and turn to what came behind its request."""
        self.asking = False
        if self.transport.is_closing():
            return
        if self.server_state.default_headers is not self.usual:  # uvicorn makes them anew each second
            self.usual = self.server_state.default_headers
            self.usual_lines = b"".join([b"%b: %b\r\n" % header for header in self.usual])
        keeps = self.keeps and not (self.life is not None and self.life.draining)
        last = b"\r\n" if keeps else b"connection: close\r\n\r\n"
        self.transport.write(b"".join((STATUS_LINE[status], self.usual_lines, headers, last, body)))
        self.server_state.total_requests += 1
        if not keeps:
            self.transport.close()
            return
        if self.timeout_keep_alive_task is None:
            self._keep_alive()
        if self.held:  # later: answered from within this answer, many of them would pile up on the stack
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self.held and not self.asking and not self.flow.write_paused:
            self.flow.resume_reading()
            behind, self.held = self.held, b""
            self._take(behind)

    def _keep_alive(self) -> None:
        """Look again whether anything was asked, once the time for which an idle connection is kept is over."""
        self.begun_by_timer = self.begun
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _busy(self) -> bool:
        return self.asking or super()._busy()

    def _too_slow(self) -> None:
        if self.held:
            self._leave(self.held)  # uvicorn's side knows how to refuse what has begun
        super()._too_slow()


@lru_cache(REMEMBERED)  # callers say the same again and again, and to read it takes as long as the body
def _plain(path: bytes, head: bytes) -> Mapping[bytes, bytes] | None:
    """The headers of a plain request for `path`, or None where it is none."""
    found = HEAD.fullmatch(head)
    if found is None or found[1] != path:
        return None
    headers, lines = {}, found[2].split(b"\r\n")[:-1]
    for line in lines:
        name, _, value = line.partition(b": ")
        headers[name.lower()] = value
    if len(headers) != len(lines) or LENGTH.fullmatch(headers.get(b"content-length", b"")) is None:
        return None
    if headers.get(b"connection", b"close") not in CONNECTION or not NEGOTIATED.isdisjoint(headers):
        return None
    return headers


def connection(limits: Limits, **uvicorns: Any) -> LimitedProtocol:
    """The protocol of a new connection to an app that has, or has not, something that answers directly."""
    direct: Direct | None = uvicorns["app_state"].get("direct")
    return LimitedProtocol(limits, **uvicorns) if direct is None else DirectProtocol(direct, limits, **uvicorns)

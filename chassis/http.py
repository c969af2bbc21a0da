"""HTTP as uvicorn speaks it, with limits to what one caller can take.

Without limits a request that is never sent to its end keeps its connection, and headers without an end keep growing in
memory.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from chassis.life import Life
from chassis.problems import ProblemError, answer

LINGER_S = 1.0  # how long we go on hearing whom we have refused: closed at once, our answer might not arrive


@dataclass(frozen=True, slots=True)
class Limits:
    """What callers may take: bytes of one request's headers, bytes of all of it, seconds from its first byte to its
    last, and open connections of this process."""

    header_bytes: int = 64 * 1024
    request_bytes: int = 16 * 1024 * 1024
    request_s: float = 10.0
    connections: int = 2_000


class LimitedProtocol(HttpToolsProtocol):
    """One connection. Who goes over a limit gets a problem and is disconnected.

    Time counts from the first byte of a request, on a new connection from its start, as nginx and h2o count it; while
    it is us who don't read, it does not count. Bytes are counted by reads of the socket: what of a request
    came in one read with the end of another before it is not counted.
    """

    def __init__(self, limits: Limits, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.limits = limits
        self.life: Life | None = self.app_state.get("life")
        self.begun = 0  # requests
        self.within = False  # whether the parser has seen a part of a request and not its end
        self.taken = 0  # bytes since the last request was complete
        self.looked = (0, 0.0)  # requests begun at the last look, and seconds waited for the last of them by then
        self.refused = False
        self.watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Called once, first."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            detail = f"{self.limits.connections} connections are open, as many as may be: come back in a moment"
            transport.write(self._problem(ProblemError(503, "too-many-connections", detail, retry_after_s=1)))
            self.refused = True
            transport.close()  # nothing was heard yet, so nothing makes this lose the answer
        else:
            self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called once, last."""
        if self.watch is not None:
            self.watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called with each read of the socket."""
        if self.refused:
            return
        self.taken += len(data)
        if self.taken > self.limits.header_bytes:
            self._weigh(data)
        else:
            super().data_received(data)

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self.begun += 1
        self.within = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self.taken, self.within = 0, False
        if self.life is not None and self.life.draining:
            self.cycle.keep_alive = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn where the parser gives up."""
        self._refuse(ProblemError(400, "malformed-http", f"{msg} Send HTTP/1.1."))

    def _weigh(self, data: bytes) -> None:
        """Take a read that may be too much: no more bytes as headers than the limit, and see if that was their end."""
        most, before = self.limits, self.taken - len(data)
        if before == 0:
            self.scope = None  # type: ignore[assignment]  # as uvicorn begins: nothing of this request was seen yet
        if self._in_body():
            if self.taken > most.request_bytes:
                detail = f"the request has more than {most.request_bytes} bytes: send less at once"
                self._refuse(ProblemError(413, "request-too-large", detail))
            else:
                super().data_received(data)
            return
        room = most.header_bytes - before
        super().data_received(data[:room])
        if self.taken > 0 and not self._in_body():
            detail = f"the headers have more than {most.header_bytes} bytes: send fewer or shorter ones"
            self._refuse(ProblemError(431, "headers-too-large", detail))
        elif not self.refused:
            super().data_received(data[room:])

    def _look(self) -> None:
        """Ten times in the time that a request may take: has the caller kept us waiting for that long?

        Looking costs less than reading the clock for each request.
        """
        if self.refused or self.transport.is_closing():
            return
        every_s = self.limits.request_s / 10
        begun, waited_s = self.looked
        waited_s = waited_s + every_s if self.begun == begun and self._awaited() else 0.0
        self.looked = (self.begun, waited_s)
        if waited_s > self.limits.request_s:
            self._too_slow()
        else:
            self.watch = self.loop.call_later(every_s, self._look)

    def _awaited(self) -> bool:
        """Whether it is the caller's turn to send more."""
        if self.flow.read_paused or (self._busy() and not self._in_body()):
            return False  # it waits for us
        unwatched = not self._busy() and self.timeout_keep_alive_task is None  # idle, but uvicorn has set no timer
        return self.taken > 0 or unwatched

    def _too_slow(self) -> None:
        if self.taken == 0:
            self.transport.close()  # it has asked for nothing
            return
        detail = f"the request was not complete after {self.limits.request_s:g} s: send it faster or in parts"
        self._refuse(ProblemError(408, "request-too-slow", detail))

    def _busy(self) -> bool:
        """Whether a request is being worked on."""
        return self.cycle is not None and not self.cycle.response_complete

    def _in_body(self) -> bool:
        """Whether the request that comes in, or came last, has had its headers read."""
        return self.scope is not None and "path" in self.scope

    def _refuse(self, problem: ProblemError) -> None:
        """Answer with the problem if an answer is still due, hear no more, and close."""
        if self.refused:
            return
        self.refused, busy = True, self._busy()
        if busy and not self._in_body():
            self.cycle.keep_alive = False  # an earlier request is being answered: its answer is the last
            return
        if busy:
            due = not self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        else:
            due = not self._in_body()  # else it has been answered before its end
        if due:
            self.transport.write(self._problem(problem))
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.abort)

    def _problem(self, problem: ProblemError) -> bytes:
        """The answer as bytes of HTTP."""
        told = answer(problem, self.scope["path"] if self._in_body() else None)
        headers = [*self.server_state.default_headers, *told.raw_headers, (b"connection", b"close")]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        return b"".join([STATUS_LINE[problem.status], *lines, b"\r\n", bytes(told.body)])

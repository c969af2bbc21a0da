"""The load, in a process of its own: prepared requests over kept-alive connections.

`python -m tests.benchmarks.serving.generator FOLDER` sends the `Burst` in FOLDER/burst.json for each line of standard
input, leaves what it `Heard` in FOLDER/heard.json and says so by a line on standard output.

Closed loop: every connection asks again as soon as it is answered. Open loop: arrivals at a constant rate, whether or
not those before were answered; latency counts from the instant an arrival was due, so that a stall is felt by everybody
who arrives in it. Of an answer it reads what it must: status, content-length, and whether a 503 says when to try again.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from contracts.problems import TandemError

HOST = "127.0.0.1"
BURST, HEARD = "burst.json", "heard.json"
LATE_S = 0.001  # an arrival sent later than this after it was due, though a connection was free, is our own fault
SPIN_S = 0.002  # the loop's timers are a millisecond coarse: just before an arrival we watch the clock instead
MOST_OPEN = 4096  # connections and other files: some systems allow 256 unless asked for more
LAST_ANSWERS_S = 10.0  # how long we listen once the last request is out


class Unreadable(TandemError):
    """An answer that this generator can't read."""


@dataclass(frozen=True)
class Stage:
    """So many seconds of closed loop or, with a rate in arrivals a second, of open loop."""

    seconds: float
    rate: float | None = None


@dataclass(frozen=True)
class Burst:
    """What to send: `requests` are whole HTTP/1.1 requests in ASCII, sent in turn over `connections` connections.

    Its stages are all of one kind. An open loop's arrival that finds no connection free waits at most `patience_s` for
    one, else it is given up.
    """

    port: int
    requests: list[str]
    connections: int
    stages: list[Stage]
    patience_s: float = LAST_ANSWERS_S


@dataclass
class Heard:
    """What came of a burst. The lists have an entry for each answer, in the order of the answers: when its request was
    due, in seconds since the burst began, how long after that the answer was whole, in seconds, and its status.

    `late` arrivals were sent late by the generator's own fault, `waited` ones found no connection free, `given_up` ones
    were never sent, `lost` ones were sent and not answered. `retry_after` counts the 503s that say when to try again.
    `busy` is the generator's share of its core. With a `fault` nothing here counts.
    """

    due_s: list[float] = field(default_factory=list)
    latency_s: list[float] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    late: int = 0
    waited: int = 0
    given_up: int = 0
    lost: int = 0
    retry_after: int = 0
    busy: float = 0.0
    fault: str = ""


class Caller(asyncio.Protocol):
    """One connection: sends a request, reads its answer, tells the crowd."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.due = 0.0
        self.waits = False
        self._head = b""
        self._missing = 0  # bytes of the answer under way

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, request: bytes, due: float) -> None:
        """Ask; the answer's latency counts from `due`."""
        self.due, self.waits = due, True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            data = self._head + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._head = data
                return
            self._head = b""
            try:
                self._status, length, self._again = read_head(data[:end])
            except Unreadable as error:
                self.crowd.fail(str(error))
                return
            self._missing = end + 4 + length - len(data)
        if self._missing == 0:
            self.waits = False
            self.crowd.answered(self, self._status, self._again)
        elif self._missing < 0:
            self.crowd.fail(f"an answer is {-self._missing} bytes longer than its content-length")

    def connection_lost(self, _error: Exception | None) -> None:
        self.crowd.left(self)


def read_head(head: bytes) -> tuple[int, int, bool]:
    """Status, content-length, and whether it is a 503 that says when to try again. Raises `Unreadable`."""
    lower = head.lower()
    _, found, rest = lower.partition(b"\r\ncontent-length:")
    if not found:
        raise Unreadable(f"an answer without content-length, and no other kind is read here: {head!r}")
    status = int(lower[9:12])
    return status, int(rest.partition(b"\r\n")[0]), status == 503 and b"\r\nretry-after:" in lower


def schedule(stages: list[Stage]) -> Iterator[float]:
    """When arrivals are due, in seconds since the start: one every 1/rate seconds, stage after stage."""
    start = 0.0
    for stage in stages:
        for number in range(round(stage.seconds * (stage.rate or 0))):
            yield start + number / (stage.rate or 1)
        start += stage.seconds


class Crowd:
    """The callers of one burst."""

    def __init__(self, burst: Burst) -> None:
        self.burst, self.loop = burst, asyncio.get_running_loop()
        self.requests = [request.encode() for request in burst.requests]
        self.heard = Heard()
        self.open_loop = burst.stages[0].rate is not None
        self.callers: set[Caller] = set()
        self.idle: deque[Caller] = deque()
        self.waiting: deque[float] = deque()  # arrivals for which no connection was free, by when they were due
        self.sent = self.under_way = 0
        self.over = False
        self.done = self.loop.create_future()

    async def run(self) -> Heard:
        """Connect, send for as long as the stages last, hear the last answers."""
        await asyncio.gather(*(self.join() for _ in range(self.burst.connections)))
        used, self.began = time.process_time(), time.perf_counter()
        if self.open_loop:
            self.arrivals = schedule(self.burst.stages)
            self.next_due = next(self.arrivals, None)
            self.look()
        else:
            self.loop.call_later(sum(stage.seconds for stage in self.burst.stages), self.end)
            while self.idle:
                self.ask(self.idle.popleft(), time.perf_counter())
        await self.done
        self.heard.busy = (time.process_time() - used) / (time.perf_counter() - self.began)
        for caller in self.callers:
            caller.transport.close()
        return self.heard

    async def join(self) -> None:
        """One more connection."""
        _, caller = await self.loop.create_connection(lambda: Caller(self), HOST, self.burst.port)
        self.callers.add(caller)
        self.free(caller)

    def look(self) -> None:
        """Send what is due, and look again in time for the next arrival."""
        now = time.perf_counter() - self.began
        while self.next_due is not None and self.next_due <= now:
            if self.idle:
                self.heard.late += now - self.next_due > LATE_S
                self.ask(self.idle.popleft(), self.began + self.next_due)
            else:
                self.heard.waited += 1
                self.waiting.append(self.began + self.next_due)
            self.next_due = next(self.arrivals, None)
            now = time.perf_counter() - self.began
        if self.next_due is None:
            self.end()
        elif self.next_due - now > SPIN_S:
            self.loop.call_later(self.next_due - now - SPIN_S, self.look)
        else:
            self.loop.call_soon(self.look)

    def ask(self, caller: Caller, due: float) -> None:
        """Send the next request."""
        caller.send(self.requests[self.sent % len(self.requests)], due)
        self.sent += 1
        self.under_way += 1

    def answered(self, caller: Caller, status: int, again: bool) -> None:
        """A caller has its whole answer."""
        now, heard = time.perf_counter(), self.heard
        heard.due_s.append(caller.due - self.began)
        heard.latency_s.append(now - caller.due)
        heard.status.append(status)
        heard.retry_after += again
        self.under_way -= 1
        if self.open_loop or self.over:
            self.free(caller)
            self.settle()
        else:
            self.ask(caller, now)

    def free(self, caller: Caller) -> None:
        """A connection over which nothing is asked goes to the arrival that has waited longest."""
        now = time.perf_counter()
        while self.waiting:
            due = self.waiting.popleft()
            if now - due <= self.burst.patience_s:
                self.ask(caller, due)
                return
            self.heard.given_up += 1
        self.idle.append(caller)

    def left(self, caller: Caller) -> None:
        """A connection is closed: while the burst lasts another takes its place."""
        self.callers.discard(caller)
        if caller.waits:
            self.heard.lost += 1
            self.under_way -= 1
        elif caller in self.idle:
            self.idle.remove(caller)
        if self.over:
            self.settle()
        else:
            self.loop.create_task(self.rejoin())

    async def rejoin(self) -> None:
        """Connect again; in a closed loop ask at once."""
        try:
            await self.join()
        except OSError as error:
            self.fail(f"port {self.burst.port} takes no connections any more: {error}")
            return
        if self.idle and not self.open_loop and not self.over:
            self.ask(self.idle.popleft(), time.perf_counter())

    def end(self) -> None:
        """Nothing more is due; what is under way may still be answered."""
        self.over = True
        self.loop.call_later(LAST_ANSWERS_S, self.give_up)
        self.settle()

    def give_up(self) -> None:
        """What is unanswered by now never will be."""
        self.heard.lost += self.under_way
        self.heard.given_up += len(self.waiting)
        self.stop()

    def fail(self, fault: str) -> None:
        """Nothing that was heard counts."""
        self.heard.fault = self.heard.fault or fault
        self.over = True
        self.stop()

    def stop(self) -> None:
        self.under_way = 0
        self.waiting.clear()
        self.settle()

    def settle(self) -> None:
        """The burst is done once it is over and nothing is under way."""
        if self.over and self.under_way <= 0 and not self.waiting and not self.done.done():
            self.done.set_result(None)


async def hear(burst: Burst) -> Heard:
    """Send a burst. A port that nobody listens on is its fault."""
    try:
        return await Crowd(burst).run()
    except OSError as error:
        return Heard(fault=f"port {burst.port}: {error}")


def main(folder: Path) -> None:
    """Burst after burst until standard input closes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, MOST_OPEN)), hard))
    for _ in sys.stdin:
        told = json.loads((folder / BURST).read_text())
        burst = Burst(**(told | {"stages": [Stage(**stage) for stage in told["stages"]]}))
        gc.collect()
        gc.disable()  # its pauses would be taken for the server's
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            heard = runner.run(hear(burst))
        gc.enable()
        (folder / HEARD).write_text(json.dumps(vars(heard)))
        sys.stdout.write("heard\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""The life of a service process: background work from its start to its end, and draining before the end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

Work = Callable[[threading.Event], None]
SWITCH_S = 0.0005  # for which a thread keeps the interpreter from others
YOUNG = 20_000  # objects that the collector waits for, more than the requests under way keep alive


def settle() -> None:
    """For a process that has made its app: let no pause of the interpreter's own keep a request waiting.

    A thread that computes lets the event loop go on after half a millisecond, instead of five. The collector of cycles
    passes over what there is by now, mostly modules, which would take it some 50 ms; and it does not look, every few
    requests, at what is gone with their answers.
    """
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)
    gc.collect()  # of nothing: full collections come by the number of objects that the last one found


class Life:
    """Runs each `background` function in a thread of its own; each returns soon after its flag is set.

    One that raises ends the process, so that the supervisor starts it afresh. A signal that ends the process makes it
    drain first: it says that it isn't ready and answers on for `drain_s`, until whoever watches its readiness has
    turned to others.
    """

    def __init__(self, name: str, background: Mapping[str, Work], drain_s: float) -> None:
        self.name, self.background, self.drain_s = name, background, drain_s
        self.draining = False
        self.failures: list[str] = []
        self.begun: set[str] = set()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._handlers: dict[int, Any] = {}

    def start(self) -> None:
        """Start the background work."""
        for name, work in self.background.items():
            thread = threading.Thread(target=self._run, args=(name, work), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def drain_on_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """Drain when the process is told to end. Does nothing outside the main thread, which alone gets signals."""
        if threading.current_thread() is threading.main_thread():
            for sig in (signal.SIGTERM, signal.SIGINT):
                self._drain_on(sig, loop)

    def end(self) -> None:
        """Stop the background work and wait for it, up to 10 s each."""
        for sig, handler in self._handlers.items():
            signal.signal(sig, handler)
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def why_not_started(self) -> str | None:
        """Which background work has not begun yet."""
        waiting = [name for name in self.background if name not in self.begun]
        return f"not begun yet: {', '.join(waiting)}" if waiting else None

    def why_not_ready(self) -> str | None:
        """What keeps this process from taking new requests, as far as its life goes."""
        if self.failures:
            return f"background {self.failures[0]} failed"
        return "draining: this process ends soon" if self.draining else None

    def _run(self, name: str, work: Work) -> None:
        self.begun.add(name)
        try:
            work(self._stop)
        except Exception:
            logging.getLogger(self.name).exception("background %s failed; the process ends to be started afresh", name)
            self.failures.append(name)
            os.kill(os.getpid(), signal.SIGINT)  # it ends this process alone

    def _drain_on(self, sig: int, loop: asyncio.AbstractEventLoop) -> None:
        end = signal.getsignal(sig)  # the server's own: it takes no new connections, ends requests, shuts down
        if not callable(end):
            return  # no server that could answer on

        def drain(got: int, frame: FrameType | None) -> None:
            if not self.draining:
                self.draining = True
                loop.call_soon_threadsafe(loop.call_later, self.drain_s, end, got, None)
            elif got == signal.SIGINT:  # a second Ctrl-C: somebody will not wait
                end(got, frame)

        self._handlers[sig] = signal.signal(sig, drain)

"""Time limits on what may never end: a run of a graph, a store that does not answer."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Lock, Thread
from typing import Any, TypeVar

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]

from contracts.bundle import OUTPUT
from contracts.problems import TandemError

GIVES_WAY = 10  # steps of niceness: about a tenth of a processor that others want, too
LOOK_S = 0.01  # by how much a run may exceed its limit
QUIET_S = 1.0  # after which a watchdog has nothing left to watch
T = TypeVar("T")


class TooSlow(TandemError):
    """There was no answer in time."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"no answer within {limit_s:g} s")


def within(limit_s: float, work: Callable[[], T]) -> T:
    """What `work` answers or raises, done in a thread of its own. Raises `TooSlow` after `limit_s`; the thread, a
    daemon, is then left to itself."""
    told = _apart(work)
    done, _ = wait([told], limit_s)
    if not done:
        raise TooSlow(limit_s)
    return told.result()


def giving_way(work: Callable[[], T]) -> T:
    """What `work` answers or raises, done in a thread that on Linux gives way to those that answer requests, as do the
    threads it makes: to load a graph computes for milliseconds, which on a busy processor they would wait for."""

    def work_gently() -> T:
        if sys.platform == "linux":  # elsewhere it would be the whole process
            os.nice(GIVES_WAY)
            os.sched_yield()  # what it was given as a new thread, which others wait for
        return work()

    return _apart(work_gently).result()


def _apart(work: Callable[[], T]) -> Future[T]:
    told: Future[T] = Future()

    def tell() -> None:
        try:
            told.set_result(work())
        except BaseException as error:  # whatever it is, it is for who waits
            told.set_exception(error)

    Thread(target=tell, name="apart", daemon=True).start()
    return told


class Watch:
    """The runs under way of all graphs, and the thread that looks through them for those that have taken too long.

    What a run pays is an entry in a dictionary. The thread comes with a run and ends by itself when it has seen none
    for a while. With a thread for each graph they would wake as often, and keep graphs in memory meanwhile.
    """

    def __init__(self, look_s: float = LOOK_S, quiet_s: float = QUIET_S) -> None:
        self.look_s, self.quiet_s = look_s, quiet_s
        self._until: dict[ort.RunOptions, float] = {}  # each run's end on time.monotonic()
        self._watched = False
        self._lock = Lock()

    def begin(self, limit_s: float) -> ort.RunOptions:
        """Watch a run with these options from now on; `end` it."""
        options = ort.RunOptions()
        with self._lock:
            self._until[options] = time.monotonic() + limit_s
            unwatched, self._watched = not self._watched, True
        if unwatched:
            Thread(target=self._look, name="watchdog", daemon=True).start()
        return options

    def end(self, options: ort.RunOptions) -> None:
        """The run is over."""
        del self._until[options]

    def _look(self) -> None:
        quiet_since = time.monotonic()
        while True:
            time.sleep(self.look_s)
            now, running = time.monotonic(), self._until.copy()  # in one step: others run meanwhile
            for options, until in running.items():
                if now > until:
                    options.terminate = True
            if running:
                quiet_since = now
            elif now - quiet_since > self.quiet_s:
                with self._lock:
                    self._watched = bool(self._until)
                    if not self._watched:
                        return


class Watchdog:
    """Runs a graph under a time limit. A run that takes longer is ended by onnxruntime, which asks before each node,
    those inside loops included, whether it shall go on; so no thread stays behind."""

    def __init__(self, session: ort.InferenceSession, watch: Watch) -> None:
        self.session, self.watch = session, watch

    def run(self, feed: dict[str, np.ndarray[Any, Any]], limit_s: float) -> np.ndarray[Any, Any]:
        """The graph's output, for inputs by name. Raises `TooSlow`, or what onnxruntime raises; any thread may call."""
        options = self.watch.begin(limit_s)
        try:
            answer: np.ndarray[Any, Any] = self.session.run([OUTPUT], feed, options)[0]
        except Exception as error:
            if options.terminate:
                raise TooSlow(limit_s) from error
            raise
        finally:
            self.watch.end(options)
        return answer

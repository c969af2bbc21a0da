"""What takes too long is stopped, and nothing else."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref

import numpy as np
import pytest

from contracts.trips import MODEL_INPUTS
from serving.bundles import Batch, load
from serving.watchdog import GIVES_WAY, QUIET_S, TooSlow, Watch, Watchdog, giving_way, within
from tests.bundles import SOUND_UP_TO_KM, a_trip, make_bundle

SLACK_S = 1.0  # what a busy machine may add


@pytest.fixture
def bundle(tmp_path):
    make_bundle(tmp_path, "1", misbehaves="hangs")
    return load(tmp_path, "1", None, Watch())


HANGING = [a_trip(distance_km=SOUND_UP_TO_KM + 1)]


def watchdogs() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "watchdog"]


def until(holds, what: str) -> None:
    patience = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < patience, f"waited in vain until {what}"
        time.sleep(0.01)


def test_an_endless_run_ends_at_its_limit(bundle):
    began = time.monotonic()
    with pytest.raises(TooSlow, match=r"no answer within 0\.2 s"):
        # Within a limit of its own, so that a broken watchdog fails the test and does not end it.
        within(5, lambda: bundle.minutes(Batch(HANGING), limit_s=0.2))
    assert 0.2 <= time.monotonic() - began < 0.2 + SLACK_S


def test_runs_beside_an_endless_one_go_on(bundle):
    ended = []

    def hang() -> None:
        with pytest.raises(TooSlow):
            bundle.minutes(Batch(HANGING), limit_s=0.5)
        ended.append(time.monotonic())

    thread = threading.Thread(target=hang)
    thread.start()
    answered = 0
    while thread.is_alive():
        assert bundle.minutes(Batch([a_trip()]), limit_s=5).shape == (1, 3)
        answered += 1
    assert ended
    assert answered > 20


@pytest.mark.slow
def test_the_watching_thread_ends_when_all_is_quiet_and_comes_back(bundle):
    until(lambda: not watchdogs(), "no other test's watchdog is left")
    bundle.minutes(Batch([a_trip()]))
    assert len(watchdogs()) == 1
    until(lambda: not watchdogs(), f"the watchdog ends, {QUIET_S} s after the last run")
    with pytest.raises(TooSlow, match=r"within 0\.1 s"):
        within(5, lambda: bundle.minutes(Batch(HANGING), limit_s=0.1))


def test_a_bundle_is_gone_as_soon_as_nobody_uses_it_and_one_thread_watches_all(tmp_path):
    before, watch = len(watchdogs()), Watch()
    bundles = [load(tmp_path, make_bundle(tmp_path, version).name, None, watch) for version in "12"]
    for bundle in bundles:
        bundle.minutes(Batch([a_trip()]))
    graphs = [weakref.ref(bundle.graph.session) for bundle in bundles]
    del bundle, bundles
    until(lambda: not any(graph() for graph in graphs), "the graphs are gone")
    assert len(watchdogs()) <= before + 1


class Endless:
    """A graph that does nothing but wait to be stopped."""

    terminate = False

    def run(self, _outputs, _feed, options):
        until(lambda: options.terminate, "the run is stopped")
        raise RuntimeError("stopped")


def test_a_run_that_comes_just_as_the_watching_thread_would_end_keeps_it():
    watch, late = Watch(look_s=0.001, quiet_s=0.01), Endless()
    with pytest.raises(TooSlow):
        Watchdog(Endless(), watch).run({}, 0.001)
    with watch._lock:
        time.sleep(0.1)  # by now the thread has seen enough quiet, and waits for the lock to end
        watch._until[late] = time.monotonic()
    until(lambda: late.terminate, "the late run is stopped")


def test_what_the_graph_raises_in_time_is_its_own(bundle):
    feed = {item.name: np.zeros(2, item.dtype) for item in MODEL_INPUTS if item.name != "vehicle"}
    with pytest.raises(ValueError, match="vehicle"):
        bundle.graph.run(feed, 5)


@pytest.mark.skipif(sys.platform != "linux", reason="only there threads differ in niceness")
def test_what_gives_way_to_who_answers_does_so_in_its_own_threads_too():
    ours = os.nice(0)
    assert giving_way(lambda: os.nice(0)) == min(ours + GIVES_WAY, 19)
    assert giving_way(lambda: within(5, lambda: os.nice(0))) == min(ours + GIVES_WAY, 19)
    assert within(5, lambda: os.nice(0)) == os.nice(0) == ours


def test_what_gives_way_answers_or_raises():
    assert giving_way(lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        giving_way(lambda: 1 / 0)


def test_within_answers_raises_or_gives_up():
    assert within(5, lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0)
    with pytest.raises(TimeoutError, match="the work's own"):
        within(5, the_works_own_timeout)
    began, go_on = time.monotonic(), threading.Event()
    with pytest.raises(TooSlow, match=r"no answer within 0\.05 s"):
        within(0.05, go_on.wait)
    assert time.monotonic() - began < SLACK_S
    go_on.set()


def the_works_own_timeout() -> None:
    raise TimeoutError("the work's own")

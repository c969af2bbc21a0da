"""More than can be answered, or callers who can't wait: who is let in, who is told what, and what is not worked on."""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import dataclass, field

import pytest

from chassis.clock import real_time
from chassis.drivers import DriverDatabase
from chassis.feed_store import FeedStore
from chassis.feed_writer import FeedWriter
from chassis.problems import ProblemError
from contracts import requirements
from contracts.estimates import TIMEOUT_HEADER, EstimatesAnswer, EstimatesRequest, Rollout
from serving.bundles import load
from serving.caller import Caller
from serving.conductor import Fleet
from serving.desk import EstimateDesk
from serving.engine import Engine, Patience, Question
from serving.metrics import Metrics
from serving.observation import Observation
from serving.shortcut import Shortcut
from serving.watchdog import Watch
from tests.bundles import SOUND_UP_TO_KM, a_trip, make_bundle, quantiles_of

METRICS = Metrics(requirements.load())
CALLER = Caller("request-1", None, None)


@dataclass
class StuckEngine:
    """Takes questions and answers none."""

    seconds_per_trip: float
    asked: list[Question] = field(default_factory=list)

    def ask(self, question: Question) -> None:
        self.asked.append(question)


def a_desk(seconds_per_trip: float, waiting: int, longest_answer_s: float = 0.5) -> EstimateDesk:
    """One that lets nobody wait longer than 100 ms for a turn."""
    return EstimateDesk(StuckEngine(seconds_per_trip), 512, 0.1, longest_answer_s, METRICS, waiting)


def refusal(desk: EstimateDesk, timeout_ms: int | None = None) -> tuple[str, float, float]:
    """Why a caller with one trip got no answer, when to try again, and after how many seconds that was told."""
    began = time.monotonic()
    with pytest.raises(ProblemError) as refused:
        asyncio.run(desk.answer([a_trip()], False, CALLER, timeout_ms))
    assert refused.value.status == 503
    return refused.value.slug, refused.value.retry_after_s or 0, time.monotonic() - began


@pytest.mark.parametrize(("waiting", "let_in"), [(0, True), (10, True), (11, False)])
def test_who_would_wait_longer_than_anybody_shall_is_told_so_at_once(waiting, let_in):
    desk = a_desk(seconds_per_trip=0.01, waiting=waiting)
    slug, again_s, told_s = refusal(desk)
    assert (slug, len(desk.engine.asked)) == (("too-late", 1) if let_in else ("queue-full", 0))
    assert again_s > 0
    assert (told_s >= 0.5) == let_in
    assert desk.waiting == waiting


def test_who_has_less_time_than_the_turn_would_take_is_told_so_at_once():
    desk = a_desk(seconds_per_trip=0.01, waiting=6)
    assert refusal(desk, timeout_ms=50)[0] == "queue-full"
    assert desk.engine.asked == []
    desk = a_desk(seconds_per_trip=0.01, waiting=4)
    slug, _, told_s = refusal(desk, timeout_ms=50)
    assert (slug, len(desk.engine.asked)) == ("too-late", 1)
    assert 0.05 <= told_s < 0.5


def test_with_nobody_waiting_one_is_let_in_however_slow_the_last_ones_were():
    assert refusal(a_desk(seconds_per_trip=60, waiting=0))[0] == "too-late"


def test_a_caller_with_a_millisecond_left_is_told_when_it_is_over_and_its_trips_wait_no_longer():
    desk = a_desk(seconds_per_trip=0, waiting=0, longest_answer_s=60)
    slug, again_s, told_s = refusal(desk, timeout_ms=1)
    assert (slug, again_s) == ("too-late", 1)
    assert told_s < 1
    assert desk.waiting == 0


@dataclass
class Serving:
    """An engine over a real bundle and a real feed."""

    folder: object
    how: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.feed = FeedStore(DriverDatabase(f"sqlite:///{self.folder}/feed.db"), "estimates")
        make_bundle(self.folder, "1", **self.how)
        self.bundle = load(self.folder, "1", None, Watch())
        self.fleet = Fleet(Rollout(champion="1"), {"champion": self.bundle})
        patience = [Patience(0.5, 1.0) for _ in range(3)]
        self.engine = Engine(self, FeedWriter(self.feed.database, "estimates", 0.1), real_time(), METRICS, *patience)

    def answers(self, *asked: tuple[str, float, float], with_reasons: bool = False) -> list[str]:
        """What callers get who ask at once, each for a trip by its id and length in km and with seconds of patience:
        the trip's id, or why there is no answer."""

        async def ask() -> list[str | ProblemError]:
            loop, now = asyncio.get_running_loop(), time.monotonic()
            answered = [loop.create_future() for _ in asked]
            for (name, km, patience_s), it in zip(asked, answered, strict=True):
                trips = [a_trip(name, distance_km=km)]
                self.engine.ask(Question(trips, with_reasons, CALLER, now + patience_s, it.set_result))
            return await asyncio.gather(*answered)

        told = asyncio.run(ask())
        return [
            it.slug if isinstance(it, ProblemError) else EstimatesAnswer.model_validate_json(it).estimates[0].trip_id
            for it in told
        ]

    def recorded(self) -> int:
        """How many estimates are in the feed."""
        return self.feed.last_id()


def test_who_has_given_up_before_the_turn_costs_no_work(tmp_path):
    serving = Serving(tmp_path)
    assert serving.answers(("late", 3, -0.001), ("in-time", 3, 60)) == ["too-late", "in-time"]
    assert serving.recorded() == 1
    assert serving.answers(("late", 3, -0.001)) == ["too-late"]
    assert serving.recorded() == 1


def test_who_has_given_up_is_told_so_while_a_canary_runs_too(tmp_path):
    serving = Serving(tmp_path)
    rollout = Rollout(champion="1", challenger="2", mode="canary", canary_share=0.5)
    serving.fleet = Fleet(rollout, {"champion": serving.bundle, "challenger": serving.bundle})
    assert serving.answers(("late", 3, -0.001)) == ["too-late"]
    assert serving.answers(("late", 3, -0.001), ("in-time", 3, 60)) == ["too-late", "in-time"]


def test_a_caller_that_cannot_be_told_costs_nobody_else_an_answer(tmp_path):
    serving, told = Serving(tmp_path), []

    def gone(_outcome: object) -> None:
        raise ConnectionResetError

    async def ask() -> None:
        until = time.monotonic() + 60
        for tell in (gone, told.append):
            serving.engine.ask(Question([a_trip()], False, CALLER, until, tell))
        while not told:
            await asyncio.sleep(0.001)

    asyncio.run(ask())
    assert serving.answers(("next", 3, 60)) == ["next"]


@pytest.mark.parametrize("fault", ["throws", "nan"])
def test_a_trip_that_the_graph_cannot_bear_costs_nobody_else_of_the_batch_an_answer(tmp_path, fault):
    serving = Serving(tmp_path, {"misbehaves": fault})
    told = serving.answers(("a", 3, 60), ("bad", SOUND_UP_TO_KM + 5, 60), ("b", 3, 60))
    assert told == ["a", "bundle-misbehaves", "b"]
    assert serving.recorded() == 2


def test_a_bundle_that_is_slow_to_explain_keeps_those_waiting_once_who_came_together(tmp_path):
    far = a_trip("typical", distance_km=SOUND_UP_TO_KM + 5)  # on mixtures with it the graph hangs
    serving = Serving(tmp_path, {"misbehaves": "hangs", "typical": far})
    began = time.monotonic()
    asked = [(f"trip-{number}", 3, 60) for number in range(10)]
    for _ in range(2):
        assert serving.answers(*asked, with_reasons=True) == [name for name, _, _ in asked]
    assert time.monotonic() - began < 2 * serving.engine.reasons.limit_s


def test_of_many_who_want_reasons_at_once_each_gets_their_own(tmp_path):
    serving, told = Serving(tmp_path), []

    async def ask() -> None:
        until = time.monotonic() + 60
        for km in (1, 4, 9):
            trips = [a_trip(f"km-{km}", distance_km=km), a_trip(f"km-{km + 1}", distance_km=km + 1)]
            serving.engine.ask(Question(trips, km != 4, CALLER, until, told.append))
        while len(told) < 3:
            await asyncio.sleep(0.001)

    asyncio.run(ask())
    estimates = [EstimatesAnswer.model_validate_json(it).estimates for it in told]
    for (first, second), km in zip(estimates, (1, 4, 9), strict=True):
        if km == 4:
            assert first.explanation is second.explanation is None
        else:
            for estimate, far in ((first, km), (second, km + 1)):
                minutes = estimate.explanation.typical_min + sum(it.minutes for it in estimate.explanation.reasons)
                assert minutes == pytest.approx(quantiles_of(far).p50_min, abs=1e-3)


@pytest.mark.parametrize("told", ["soon", "0", "-1", "1.5", "1e3", "1000000", ""])
def test_a_time_that_is_none_is_a_422_that_names_it(shared_champion, trip, told):
    answer = shared_champion.estimate(trip, headers={TIMEOUT_HEADER: told})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    (fault,) = answer.json()["errors"]
    assert TIMEOUT_HEADER.lower() in fault["field"].lower()


@pytest.mark.parametrize("told", ["1000", "999999", "0500"])
def test_a_time_that_is_enough_changes_nothing(shared_champion, trip, told):
    assert shared_champion.estimate(trip, headers={TIMEOUT_HEADER: told}).status_code == 200


def test_what_a_request_was_made_of_is_gone_with_its_answer(tmp_path):
    """Without waiting for the collector of cycles, whose passes would stop everybody for milliseconds."""
    serving, told = Serving(tmp_path), []
    desk = EstimateDesk(serving.engine, 512, 0.1, 1.0, METRICS)
    shortcut = Shortcut(desk, Observation(METRICS, None), 10_000)
    body = EstimatesRequest(trips=[a_trip("fleeting")]).model_dump_json().encode()

    async def ask() -> None:
        for number in range(100):
            shortcut.take({b"content-type": b"application/json"}, body, lambda *answer: told.append(answer))
            while len(told) <= number:
                await asyncio.sleep(0)

    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)  # what it would take away lies in `gc.garbage`
    try:
        asyncio.run(ask())
        gc.collect()
        left = [it for it in gc.garbage if isinstance(it, Question) and it.trips[0].trip_id == "fleeting"]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert {status for status, *_ in told} == {200}
    assert left == []

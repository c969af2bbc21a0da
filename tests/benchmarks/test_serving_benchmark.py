"""The benchmark of serving itself: its generator counts right, its verdicts can go either way, it leaves nobody out."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from rich.console import Console

from tests.benchmarks.goals import Verdict
from tests.benchmarks.serving import (
    batch,
    environments,
    goals,
    overload,
    profiling,
    questions,
    rivals,
    tail,
    throughput,
)
from tests.benchmarks.serving.bench import Bench, Plan
from tests.benchmarks.serving.bursts import Answers, BurstFailed, Cores, Generator, Spread, alternate, closed, on_core
from tests.benchmarks.serving.candidate import VERSIONS, a_place, serving
from tests.benchmarks.serving.generator import Burst, Stage
from tests.bundles import make_bundle
from tests.servers import free_port, running

UNPINNED = Cores(None, None)
SMALL = Plan(2, 0.3, 0.05, 2, 0.5, 2, 1, 0.5, 0.5, 200)
ASKED = [questions.post("/", f"{number:02}") for number in range(10)]


class Counting:
    """Answers every `refuses`th request by a 503, blocks for `stall_s` at the `stalls`th; counts what it is asked."""

    def __init__(self, refuses: int = 10**9, stalls: int = 0, stall_s: float = 0.0) -> None:
        self.refuses, self.stalls, self.stall_s = refuses, stalls, stall_s
        self.heard: Counter[str] = Counter()
        self.refused = 0

    async def __call__(self, _scope, receive, send) -> None:
        self.heard[(await receive())["body"].decode()] += 1
        if self.heard.total() == self.stalls:
            time.sleep(self.stall_s)
        refuse = self.heard.total() % self.refuses == 0
        self.refused += refuse
        headers = [(b"content-length", b"5"), *([(b"retry-after", b"1")] if refuse else [])]
        await send({"type": "http.response.start", "status": 503 if refuse else 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"hello"})


@contextmanager
def talking(talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> Iterator[int]:
    """A server that says just those bytes, on the port that this yields."""
    loop, port, stop = asyncio.new_event_loop(), free_port(), asyncio.Event()

    async def serve() -> None:
        async with await asyncio.start_server(talk, "127.0.0.1", port):
            up.set()
            await stop.wait()

    up = threading.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert up.wait(5)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)


@pytest.fixture(scope="module")
def generator() -> Iterator[Generator]:
    with Generator(UNPINNED) as found:
        yield found


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_each_answer_is_counted_under_its_status_and_requests_are_sent_in_turn(generator):
    app = Counting(refuses=7)
    with running(app) as url:
        found = generator.send(closed(port_of(url), ASKED, 4, 0.4))

    assert len(found.status) == app.heard.total() > 100
    assert (found.status == 503).sum() == app.refused == found.retry_after > 10
    assert found.failures == app.refused
    assert [app.heard[f"{number:02}"] for number in range(10)] == pytest.approx([app.heard.total() / 10] * 10, abs=1)
    assert found.rate(0.1, 0.3) == pytest.approx(app.heard.total() * 6 / 7 / 0.4, rel=0.5)
    assert 0 < found.busy < 1.2


def test_an_open_loop_sends_on_time_and_everybody_who_arrives_in_a_stall_feels_it(generator):
    app = Counting(stalls=40, stall_s=0.3)
    with running(app) as url:
        found = generator.send(Burst(port_of(url), ASKED, 100, [Stage(0.5, 200.0), Stage(0.5, 100.0)]))

    assert sorted(found.due_s) == pytest.approx([*np.arange(0, 0.5, 1 / 200), *np.arange(0.5, 1, 1 / 100)])
    hit = found.due_within(0.203, 0.348).latency_s  # arrivals 41 to 69, of a stall from 40 to 100
    assert len(hit) == 29
    assert hit.min() > 0.1
    assert found.due_within(0, 0.15).ms(50) < 50


def test_an_arrival_that_finds_no_connection_free_is_given_up_when_it_has_no_patience(generator):
    with running(Counting(stalls=1, stall_s=0.25)) as url:
        burst = Burst(port_of(url), ASKED, 1, [Stage(0.5, 100.0)], patience_s=0.0)
        hasty, patient = generator.send(burst), None
    with running(Counting(stalls=1, stall_s=0.25)) as url:
        patient = generator.send(replace(burst, port=port_of(url), patience_s=5.0))

    assert hasty.given_up >= 20
    assert len(hasty.status) + hasty.given_up == 50
    assert (patient.given_up, len(patient.status)) == (0, 50)
    assert patient.waited >= 20
    assert patient.ms(100) > 200


async def in_pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1000):
        for piece in (b"HTTP/1.1 200 OK\r\nConte", b"nt-Length: 4\r\n", b"\r\nab", b"cd"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.002)


async def leaves_after_three(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for _ in range(3):
        await reader.read(1000)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    await reader.read(1000)
    writer.close()


def test_an_answer_may_come_in_pieces(generator):
    with talking(in_pieces) as port:
        found = generator.send(closed(port, ASKED, 2, 0.3))
    assert len(found.status) > 10
    assert found.failures == 0


def test_a_connection_that_is_closed_is_replaced_and_its_request_lost(generator):
    with talking(leaves_after_three) as port:
        found = generator.send(closed(port, ASKED, 2, 0.3))
    assert found.lost > 2
    assert len(found.status) == pytest.approx(3 * found.lost, abs=6)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "without content-length"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhello", "3 bytes longer"),
    ],
)
def test_what_the_generator_cannot_read_is_no_measurement(generator, answer, fault):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(answer)

    with talking(talk) as port, pytest.raises(BurstFailed, match=fault):
        generator.send(closed(port, ASKED, 1, 0.2))


def test_a_port_that_nobody_listens_on_is_no_measurement(generator):
    with pytest.raises(BurstFailed, match="port"):
        generator.send(closed(free_port(), ASKED, 1, 0.2))


@pytest.mark.skipif(Cores.here().server == Cores.here().client, reason="no two cores to pin a process to")
def test_what_is_started_on_a_core_stays_there():
    before = os.sched_getaffinity(0)
    with on_core(max(before)):
        told = subprocess.run(
            [sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"],
            capture_output=True,
            text=True,
            check=True,
        )
    assert told.stdout.strip() == str({max(before)})
    assert os.sched_getaffinity(0) == before


def test_rounds_alternate_and_ratios_are_paired():
    class Recording:
        def __init__(self) -> None:
            self.sent: list[str] = []

        def send(self, burst: str) -> str:
            self.sent.append(burst)
            return burst

    found = Recording()
    alternate(found, {"a": "A", "b": "B"}, 3)
    assert "".join(found.sent) == "ABBAAB"
    # A machine that halves its speed halves both of a pair.
    assert Spread.of_ratios([50.0, 25.0, 60.0], [100.0, 50.0, 100.0]) == Spread(0.5, 0.5, 0.55)


def a_bench(folder: Path, generator: Generator, cores: Cores = UNPINNED) -> Bench:
    """With the small bundle of the tests."""
    return Bench(SMALL, cores, folder / "bundle" / "1", folder, folder / "keep", Console(), generator)


def states(verdicts: list[Verdict]) -> dict[str, str]:
    return {item.goal: item.state for item in verdicts}


def answers(latency_ms: float, count: int = 100, status: int = 200, **counts: int) -> Answers:
    """Answers due evenly over a second, all equally late."""
    return Answers(np.arange(count) / count, np.full(count, latency_ms / 1000), np.full(count, status), **counts)


def flat(*values: float) -> list[Spread]:
    return [Spread(value, value, value) for value in values]


@pytest.mark.parametrize(
    ("at_16", "at_64", "shadow", "busy", "failures", "expected"),
    [
        (0.46, 0.51, 0.81, 0.7, 0, ["passed", "passed", "passed", "passed", "passed"]),
        (0.44, 0.49, 0.79, 0.7, 1, ["passed", "failed", "failed", "failed", "failed"]),
        (0.46, 0.51, 0.81, 0.95, 0, ["failed", "passed", "void", "void", "passed"]),
    ],
)
def test_throughput_is_judged_and_void_where_the_generator_had_no_time_to_spare(
    tmp_path, at_16, at_64, shadow, busy, failures, expected
):
    share, of_shadow = dict(zip((16, 64), flat(at_16, at_64), strict=True)), dict.fromkeys((1, 16, 64), flat(shadow)[0])
    bench = a_bench(tmp_path, Generator(UNPINNED))
    found = throughput.verdicts(bench, share, of_shadow, dict.fromkeys((1, 16, 64), busy), failures)
    assert [item.state for item in found] == expected

    shared = replace(bench, cores=Cores(0, 0, "server and generator share one core"))
    found = throughput.verdicts(shared, share, of_shadow, dict.fromkeys((1, 16, 64), 0.5), 0)
    assert {item.state for item in found[2:]} == {"void"}


@pytest.mark.parametrize(
    ("alone_ms", "shadow_ms", "swaps_ms", "memory_mb", "status", "expected"),
    [
        (2.9, 3.1, 4.5, (100.0, 102.0), 200, ["passed"] * 5),
        (3.1, 3.5, 5.5, (100.0, 104.0), 500, ["failed"] * 5),
    ],
)
def test_tails_swaps_and_memory_are_judged(tmp_path, alone_ms, shadow_ms, swaps_ms, memory_mb, status, expected):
    of = {tail.ALONE: alone_ms, tail.SHADOW: shadow_ms, tail.SWAPS: swaps_ms}
    heard = {name: [answers(ms, status=status)] * 2 for name, ms in of.items()}
    part = tail.judged(a_bench(tmp_path, Generator(UNPINNED)), heard, memory_mb, 4)
    assert [item.state for item in part.verdicts] == expected


def overloaded(p99_ms: float, recovers_s: float, says_when: bool) -> Answers:
    """One second calm, one of overload at 300 arrivals/s of which a third is taken, then calm again."""
    calm, during = np.arange(0.01, 1, 1 / 50), np.arange(1, 2, 1 / 300)
    after = np.arange(2.01, 2 + overload.AFTER_S, 1 / 50)
    taken = np.where(np.arange(len(during)) % 3 == 0, 200, 503)
    status = np.concatenate([np.full(len(calm), 200), taken, np.full(len(after), 200)])
    latency = np.concatenate(
        [np.full(len(calm), 0.01), np.full(len(during), p99_ms / 1000), np.where(after < 2 + recovers_s, 1.0, 0.01)]
    )
    again = int((status == 503).sum()) if says_when else 0
    return Answers(np.concatenate([calm, during, after]), latency, status, retry_after=again)


@pytest.mark.parametrize(
    ("p99_ms", "recovers_s", "says_when", "late", "lost", "expected"),
    [
        (50, 0.5, True, 0, 0, ["passed"] * 6),
        (200, 2.5, False, 0, 1, ["passed", "failed", "failed", "failed", "failed", "failed"]),
        (50, 0.5, True, 200, 0, ["failed", "void", "void", "passed", "void", "passed"]),
    ],
)
def test_overload_is_judged(tmp_path, p99_ms, recovers_s, says_when, late, lost, expected):
    heard = replace(overloaded(p99_ms, recovers_s, says_when), late=late, lost=lost)
    load_of = overload.Load(capacity=100, begins_s=1, ends_s=2)
    part = overload.judged(a_bench(tmp_path, Generator(UNPINNED)), heard, load_of, asked_of=100, within_ms=150)
    assert [item.state for item in part.verdicts] == expected
    assert part.figures["recovery_s"] == pytest.approx(recovers_s)


def test_arrivals_that_were_given_up_after_an_overload_are_no_recovery():
    heard = overloaded(50, 0.0, True)
    gone = heard.due_within(0, 2.9)
    assert overload.recovery_s(heard, 2, 50, 0.15) == 0
    assert overload.recovery_s(gone, 2, 50, 0.15) == pytest.approx(overload.AFTER_S)


@pytest.mark.parametrize(("count", "state"), [(16, "passed"), (14, "failed")])
def test_a_batch_is_judged_by_its_trips(tmp_path, count, state):
    heard = {batch.BATCH: [answers(1, count)], batch.SINGLE: [answers(1, 200)], batch.CROWD: [answers(1, 400)]}
    bench = replace(a_bench(tmp_path, Generator(UNPINNED)), plan=Plan(burst_s=1.0, warm_s=0.0))
    part = batch.judged(bench, heard)
    assert [item.state for item in part.verdicts] == [state, "passed"]
    assert part.figures[batch.BATCH] == [256.0 * count]


@pytest.mark.parametrize(
    ("ratios", "missing", "expected"),
    [
        ((6.0, 11.0, 12.0), [], ["passed", "passed"]),
        ((4.9, 9.9, 12.0), [], ["failed", "failed"]),
        ((6.0, 11.0, 12.0), ["KServe"], ["void", "void"]),
    ],
)
def test_peers_are_judged_by_the_best_of_them_and_void_while_one_is_missing(tmp_path, ratios, missing, expected):
    best, slow = flat(*ratios), flat(30, 30, 30)
    lead = {count: {"best": best[place], "slow": slow[place]} for place, count in enumerate((1, 16, 64))}
    found = rivals.verdicts(a_bench(tmp_path, Generator(UNPINNED)), lead, missing)
    assert [item.state for item in found] == expected


def test_a_profile_tells_work_from_waiting_and_leaves_the_start_out():
    engine = [
        profiling.Row("put_together", 100, 0.2, 0.3),
        profiling.Row("<method 'acquire' of '_thread.lock' objects>", 100, 5.0, 5.0),
        profiling.Row("<built-in method marshal.loads>", 2, 0.9, 0.9),
    ]
    idle = [profiling.Row("<built-in method time.sleep>", 100, 9.0, 9.0), profiling.Row("look", 100, 0.001, 0.001)]
    (only,) = profiling.told({"engine": engine, "idle": idle}, requests=100).tables
    assert [list(column.cells) for column in only.columns] == [
        ["put_together"], ["1.00"], ["2000.0"], ["100%"], ["3000.0"]
    ]  # fmt: skip
    assert "engine: 2,000 µs of work" in only.title
    assert "50,000 µs in the event loop or waiting" in only.title


@pytest.fixture
def small(tmp_path, generator) -> Bench:
    """The whole benchmark's means, with the small bundle of the tests instead of a trained one."""
    make_bundle(tmp_path / "bundle", "1")
    return a_bench(tmp_path, generator)


@pytest.mark.slow
def test_an_environment_that_cannot_be_made_says_why_and_is_tried_again(tmp_path):
    asked = tmp_path / "requirements.txt"
    asked.write_text(f"{tmp_path}/no-such-package.whl\n")
    for _ in range(2):
        with pytest.raises(environments.NotInstalled, match=r"no-such-package\.whl"):
            environments.kept(tmp_path / "env", asked)

    asked.write_text("# nothing\n")
    python = environments.kept(tmp_path / "env", asked)
    assert environments.packages(python) == {}


@pytest.mark.slow
def test_a_peer_that_cannot_be_installed_is_told_of(small, tmp_path, monkeypatch):
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "requirements.txt").write_text(f"{tmp_path}/no-such-package.whl\n")
    monkeypatch.setattr(rivals, "FOLDER", tmp_path)
    part = rivals.measure(small, [replace(rivals.PEERS[0], name="Absent", folder="absent")])

    assert "not installed" in part.figures["Absent"]
    assert "no-such-package.whl" in part.figures["Absent"]
    assert {item.state for item in part.verdicts} == {"void"}
    assert all(item.note == "not measured: Absent" for item in part.verdicts)


@pytest.mark.slow
def test_a_peer_that_answers_something_else_is_not_measured(small, monkeypatch):
    monkeypatch.setattr(rivals.environments, "kept", lambda *_: Path(sys.executable))
    command = ("{bin}/python", "-m", "tests.benchmarks.serving.bare", "--port", "{port}", "--bytes", "20")
    liar = replace(rivals.PEERS[1], name="Liar", command=command, minutes=lambda _: [1.0, 2.0, 3.0])
    monkeypatch.setattr(rivals, "FOLDER", Path(__file__).parents[2])
    part = rivals.measure(small, [replace(liar, folder=".")])

    assert "not measured: Liar answers" in part.figures["Liar"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_part_measures_the_real_service(small):
    parts = [part.measure(small) for part in (throughput, tail, batch, overload)]
    for part in parts:
        assert states(part.verdicts)[goals.NOT_ANSWERED.statement] == "passed", part.figures
    rate = parts[0].figures["16"]["rates"]
    assert np.median(rate[throughput.BARE]) > np.median(rate[throughput.ALONE]) > 20

    found = profiling.measure(small)
    functions = [row["name"] for thread in found.figures["functions"].values() for row in thread]
    assert found.figures["requests"] > 20
    assert any("serving/" in name for name in functions)


@pytest.mark.slow
def test_a_swap_makes_another_bundle_champion(small, tmp_path):
    var, manifest = a_place(tmp_path, small.bundle)
    with serving(var, manifest, UNPINNED) as found:
        for number in range(4):
            found.swap(number)
            shown = httpx.get(f"http://127.0.0.1:{found.port}/v1/rollout").json()
            assert (shown["champion"], shown["previous"]) == (VERSIONS[(number + 1) % 3], VERSIONS[number % 3])
        assert 20 < found.server.memory_mb() < 400

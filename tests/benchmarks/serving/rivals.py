"""Other Python servers for models, each with the same graph behind a minimal application, beside ours.

What they are spared: nothing is validated beyond their own protocol, nothing is recorded, and the minute of the week is
worked out by the caller. Each is pinned to the servers' core as ours is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from contracts.bundle import GOLDEN_TOLERANCE_MIN
from contracts.estimates import EstimatesAnswer
from contracts.problems import TandemError
from contracts.trips import TripRequest
from tests.benchmarks.goals import Verdict
from tests.benchmarks.report import Part, steps
from tests.benchmarks.serving import environments, goals, questions
from tests.benchmarks.serving.bench import CONNECTIONS, Bench, bare, least, table
from tests.benchmarks.serving.bursts import Answers, Spread, alternate
from tests.benchmarks.serving.candidate import Candidate, champion_alone
from tests.benchmarks.serving.processes import NeverReady, Server, started
from tests.servers import free_port

FOLDER = Path(__file__).parent / "peers"
BARE, OURS = "bare uvicorn", "serving"
LONGEST_REASON = 200  # characters in the table; results.json has the whole


class AnswersOtherwise(TandemError):
    """A peer does not answer what the bundle answers: its figures would mean nothing."""


@dataclass(frozen=True)
class Peer:
    """A peer: the folder in `peers/` with its application and requirements, how it is started (`{bin}` and `{port}`
    filled in), where and how it is asked for one trip, what its answer says, and its settings in words."""

    name: str
    folder: str
    command: tuple[str, ...]
    path: str
    body: Callable[[TripRequest, ZoneInfo], str]
    minutes: Callable[[bytes], Sequence[float]]
    settings: str
    environment: Mapping[str, str]


def _v2_minutes(body: bytes) -> Sequence[float]:
    return json.loads(body)["outputs"][0]["data"]


V2 = "/v2/models/tandem/infer"
PEERS = (
    Peer(
        "MLServer", "mlserver", ("{bin}/mlserver", "start", "."), V2, questions.tensors, _v2_minutes,
        "`mlserver start`, debug off, parallel_workers 0 (in process: one core has no use for a pool), async runtime",
        {"MLSERVER_HTTP_PORT": "{port}", "MLSERVER_GRPC_PORT": "{free}", "MLSERVER_METRICS_PORT": "{free}"},
    ),
    Peer(
        "KServe", "kserve", ("{bin}/python", "server.py", "{port}"), V2, questions.tensors, _v2_minutes,
        "ModelServer, one worker (one core), gRPC, latency and access logs off, async predict", {},
    ),
    Peer(
        "BentoML", "bentoml", ("{bin}/bentoml", "serve", "service:Minutes", "--host", "127.0.0.1", "--port", "{port}"),
        "/estimate", lambda trip, zone: f'{{"columns": {questions.columns(trip, zone)}}}',
        lambda body: json.loads(body)[0],
        "`bentoml serve` without --development, one worker (one core), access log off, async API",
        {"BENTOML_DO_NOT_TRACK": "True"},
    ),
    Peer(
        "LitServe", "litserve", ("{bin}/python", "server.py", "{port}"), "/predict", questions.columns,
        lambda body: json.loads(body)["quantiles_min"][0],
        "fast_queue, one worker and one API server (one core), access log off", {},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """A peer's bursts, by connections and server, with its start in seconds and its memory in MB."""

    heard: Mapping[int, Mapping[str, Sequence[Answers]]]
    start_s: float
    memory_mb: float


def measure(bench: Bench, peers: Sequence[Peer] = PEERS) -> Part:
    """Ours, bare uvicorn and one peer after the other, in alternating bursts. What can't be installed or does not serve
    is told of."""
    found: dict[str, Measured | str] = {}
    with ExitStack() as up, steps(bench.console, "peers", len(peers)) as step:
        ours = up.enter_context(champion_alone(bench.folder / "peers", bench.bundle, bench.cores))
        reference = up.enter_context(bare(bench, len(ours.answer)))
        for peer in peers:
            step(peer.name)
            try:
                found[peer.name] = beside(bench, peer, ours, reference)
            except environments.NotInstalled as error:
                found[peer.name] = f"not installed: {error}"
            except (NeverReady, AnswersOtherwise) as error:
                found[peer.name] = f"not measured: {error}"
    return judged(bench, peers, found)


def beside(bench: Bench, peer: Peer, ours: Candidate, reference: Server) -> Measured:
    """One peer measured. Raises `environments.NotInstalled`, `processes.NeverReady` or `AnswersOtherwise`."""
    zone = ZoneInfo(ours.manifest.time_zone)
    trips = questions.trips(ours.manifest, questions.VARIANTS)
    asked = [questions.post(peer.path, peer.body(trip, zone)) for trip in trips]
    expected = EstimatesAnswer.model_validate_json(ours.answer, extra="ignore").estimates[0].quantiles
    with running(bench, peer, questions.post(peer.path, peer.body(ours.trip, zone))) as server:
        same = [expected.p10_min, expected.p50_min, expected.p90_min]
        if not np.allclose(peer.minutes(server.answer), same, rtol=0, atol=GOLDEN_TOLERANCE_MIN):
            raise AnswersOtherwise(f"{peer.name} answers {server.answer[:300]!r}, serving {same}")
        heard = {}
        for connections in CONNECTIONS:
            bursts = {
                BARE: bench.closed(reference.port, questions.estimates(trips), connections),
                OURS: bench.closed(ours.port, questions.estimates(trips), connections),
                peer.name: bench.closed(server.port, asked, connections),
            }
            heard[connections] = alternate(bench.generator, bursts, bench.plan.rounds)
        return Measured(heard, server.first_answer_s, server.memory_mb())


def running(bench: Bench, peer: Peer, first: str) -> AbstractContextManager[Server]:
    """A peer in an environment of its own, made unless it is there. Raises `environments.NotInstalled`."""
    place = FOLDER / peer.folder
    python = environments.kept(bench.keep / "peers" / peer.folder, place / "requirements.txt")
    port = free_port()
    filled = {"bin": str(python.parent.absolute()), "port": str(port)}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TANDEM_", "PYTHON"))}
    environment |= {name: value.format(**filled, free=free_port()) for name, value in peer.environment.items()}
    environment |= {"PEER_GRAPH": str(bench.bundle.absolute() / "model.onnx"), "PYTHONPATH": str(FOLDER.absolute())}
    command = [item.format(**filled) for item in peer.command]
    log = bench.folder / f"{peer.folder}.log"
    return started(peer.name, command, port, first, log, bench.cores.server, environment, place)


def judged(bench: Bench, peers: Sequence[Peer], found: Mapping[str, Measured | str]) -> Part:
    """A line a peer and number of connections, and what the quickest of them leaves of our lead."""
    part = Part("peers")
    made = table("peers; ratios of neighbouring bursts, median (quartiles)", "peer", "connections", "requests/s",
                 "share of bare", "ours over theirs", "not answered", "start, s", "memory, MB")  # fmt: skip
    lead: dict[int, dict[str, Spread]] = {connections: {} for connections in CONNECTIONS}
    for name, measured in found.items():
        if isinstance(measured, str):
            made.add_row(name, "not measured")
            part.figures[name] = measured
            continue
        for connections, heard in measured.heard.items():
            rate = {server: [item.rate(*bench.counted) for item in answers] for server, answers in heard.items()}
            lead[connections][name] = Spread.of_ratios(rate[OURS], rate[name])
            failures = sum(item.failures for item in heard[name])
            made.add_row(
                name, str(connections), f"{Spread.of(rate[name]).median:,.0f}",
                Spread.of_ratios(rate[name], rate[BARE]).text(".3f"), lead[connections][name].text(".1f"),
                str(failures), f"{measured.start_s:.2f}", f"{measured.memory_mb:.0f}",
            )  # fmt: skip
            part.figures.setdefault(name, {"start_s": measured.start_s, "memory_mb": measured.memory_mb})
            part.figures[name][str(connections)] = rate
    how = table("how each was run", "peer", "settings, or why it was not")
    for peer in peers:
        why = found[peer.name]
        how.add_row(peer.name, " ".join(why[:LONGEST_REASON].split()) if isinstance(why, str) else peer.settings)
    part.tables += [made, how]
    missing = [name for name, measured in found.items() if isinstance(measured, str)]
    part.verdicts = verdicts(bench, lead, missing)
    return part


def verdicts(bench: Bench, lead: Mapping[int, Mapping[str, Spread]], missing: Sequence[str]) -> list[Verdict]:
    """`lead` is, by connections and peer, how many times its throughput ours is. Void while one is `missing`: it may
    be the best."""
    void = f"not measured: {', '.join(missing)}" if missing else ""
    by_count = {count: least([spread.median for spread in of.values()]) for count, of in lead.items()}
    note = ", ".join(f"{ratio:.1f} at {count}" for count, ratio in by_count.items())
    busy = least([ratio for count, ratio in by_count.items() if count in goals.SHARE])
    return [
        bench.judge(goals.BEST_PEER, busy, note, void),
        bench.judge(goals.BEST_PEER_FLOOR, least(list(by_count.values())), note, void),
    ]

"""Checks under load: a real serving process and the load test's own users, for ten seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import onnx
from fastapi import FastAPI
from onnx import TensorProto, helper

from chassis.clock import Clock
from chassis.tokens import make_tokens, read_token
from contracts import requirements
from contracts.bundle import write_checksums
from contracts.measurements import Measurement
from tests.bundles import TRAINED_AT, make_bundle
from tests.saboteurs.faults import Saboteur, measured, spoiler
from tests.saboteurs.processes import service
from tests.saboteurs.proxy import flaky
from tests.servers import free_port, running

KINDS = ("load test",)
RECORD = requirements.load()
STEADY = RECORD.load["prove"]
VERSION = "v1-proven"


@dataclass
class Service:
    """Serving to be loaded. `bundle` edits its bundle, `meanwhile` acts on its process, `breaks_every` its network."""

    bundle: Callable[[Path], None] = lambda _folder: None
    meanwhile: Callable[[subprocess.Popen[bytes], threading.Event], None] = lambda _process, _over: None
    breaks_every: int | None = None


def stuttering_server(service: Service) -> None:
    """The serving process gets the processor for half the time only, in slices of a tenth of a second."""

    def stutter(process: subprocess.Popen[bytes], over: threading.Event) -> None:
        while not over.wait(0.08):
            _stop(process, 0.1)

    service.meanwhile = stutter


def rare_stall(service: Service) -> None:
    """The serving process stands still once, for a third of a second."""

    def stall(process: subprocess.Popen[bytes], over: threading.Event) -> None:
        if not over.wait(STEADY.warmup_s + STEADY.duration_s / 2):
            _stop(process, 0.35)

    service.meanwhile = stall


def flaky_network(service: Service) -> None:
    """Every sixth request is hung up on."""
    service.breaks_every = 6


def memory_hog(service: Service) -> None:
    """The bundle looks one number up in a table of 200 MB, small enough on disk to be let in."""

    def fatten(folder: Path) -> None:
        model = onnx.load(folder / "model.onnx")
        (answer,) = model.graph.output
        for node in model.graph.node:
            node.output[:] = ["lean" if name == answer.name else name for name in node.output]
        values = np.zeros(50_000_000, np.int8)
        model.graph.initializer.append(
            helper.make_tensor("packed", TensorProto.INT8, values.shape, values.tobytes(), raw=True)
        )
        model.graph.initializer.append(helper.make_tensor("last", TensorProto.INT64, [1], [1]))
        model.graph.node.extend(
            [
                helper.make_node("Cast", ["packed"], ["table"], to=TensorProto.FLOAT),  # done once, while it is loaded
                helper.make_node("Gather", ["table", "pickup_zone"], ["looked_up"]),
                helper.make_node("Unsqueeze", ["looked_up", "last"], ["looked_up_column"]),
                helper.make_node("Add", ["lean", "looked_up_column"], [answer.name]),
            ]
        )
        onnx.save(model, folder / "model.onnx")
        write_checksums(folder)

    service.bundle = fatten


SABOTEURS: dict[str, Saboteur[Service]] = {
    "stuttering-server": Saboteur("estimate-latency-p95", stuttering_server, frozenset({"estimate-latency-p99"})),
    "rare-stall": Saboteur("estimate-latency-p99", rare_stall),
    "flaky-network": Saboteur("estimate-throughput", flaky_network),
    "memory-hog": Saboteur("serving-memory", memory_hog),
}


def profile(saboteur: str | None) -> list[Measurement]:
    """Ten seconds of the steady load on one serving process; the load test's own verdicts."""
    loaded = Service()
    spoiler(SABOTEURS, saboteur)(loaded)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        var = Path(folder)
        process, port = stack.enter_context(_serving(var, loaded.bundle))
        seen_port = stack.enter_context(flaky(port, loaded.breaks_every)) if loaded.breaks_every else port
        shop = stack.enter_context(running(_shop()))
        crowd = subprocess.Popen(
            [sys.executable, "-m", "tests.saboteurs.crowd", str(process.pid)],
            env=os.environ | {"TANDEM_VAR": folder, "TANDEM_SERVING_PORT": str(seen_port), "TANDEM_PRODUCT_URL": shop},
            stdout=subprocess.PIPE,
        )
        stack.callback(crowd.kill)
        assert crowd.stdout is not None
        if crowd.stdout.readline() != b"ready\n":
            raise RuntimeError("the load test's users did not start; what they said is above")
        over = threading.Event()
        fault = threading.Thread(target=loaded.meanwhile, args=(process, over))
        fault.start()
        stack.callback(fault.join)
        stack.callback(over.set)
        told, _ = crowd.communicate(timeout=60)
        if crowd.returncode:
            raise RuntimeError(f"the load test's users ended with status {crowd.returncode}; what they said is above")
    return measured(RECORD, "load test", (tuple(line) for line in json.loads(told)))


def _shop() -> FastAPI:
    """As much of a product as the load test's users ask for: where one can go."""
    app = FastAPI()
    app.get("/api/zones")(lambda: [{"id": zone} for zone in range(1, 61)])
    return app


@contextmanager
def _serving(var: Path, edit: Callable[[Path], None]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A serving process whose champion is a bundle of ours; answers it and its port."""
    make_tokens(var / "tokens")
    Clock(time_zone="Europe/Berlin", city_start=TRAINED_AT, wall_start=time.time(), speed=1).save(var / "clock.json")
    edit(make_bundle(var / "bundles", VERSION))
    away = f"http://127.0.0.1:{free_port()}"  # model and monitoring have nothing to tell
    with service("serving", var, "live", model_url=away, monitoring_url=away) as (url, process):
        command = {"action": "challenge", "version": VERSION, "reason": "a champion to load"}
        token = {"Authorization": f"Bearer {read_token(var / 'tokens', 'control')}"}
        httpx.post(f"{url}/v1/rollout", json=command, headers=token, timeout=30).raise_for_status()
        yield process, int(url.rpartition(":")[2])


def _stop(process: subprocess.Popen[bytes], seconds: float) -> None:
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)

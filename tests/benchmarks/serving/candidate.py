"""The candidate: the real `python -m serving` with its default settings, in a var of its own, with bundles of the real
network's size that the model team's own code has trained."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl

from chassis.clock import Clock
from chassis.tokens import make_tokens, read_token
from contracts.bundle import Manifest, verify, write_checksums
from contracts.problems import TandemError
from contracts.trips import TripRequest, fingerprint
from data.city.reference import City
from data.history import LIVE_START, simulate
from data.settings import Settings as DataSettings
from tests.benchmarks.cost import history, train
from tests.benchmarks.serving import questions
from tests.benchmarks.serving.bursts import Cores
from tests.benchmarks.serving.processes import Server, asked, started
from tests.servers import free_port

MODEL = Path(__file__).parents[3] / "model"
TRIPS = 20_000  # trained on: the network's size does not depend on it
WEEKS = timedelta(weeks=8)
VERSIONS = ("bench-a", "bench-b", "bench-c")  # one graph under three names: three can take turns as champion
COMMAND = (sys.executable, "-m", "serving")
NOWHERE = "http://127.0.0.1:9"  # no feeds to follow: who serves is told by hand


class Refused(TandemError):
    """Serving refused a rollout command."""


def real_bundle(cache: Path) -> Path:
    """A bundle that `model.train` has sealed, from `cache` unless the model team's code or the contract has changed."""
    code = hashlib.sha256(fingerprint().encode())
    for file in sorted(MODEL.glob("*.py")):
        code.update(file.read_bytes())
    place = cache / f"bundle-{code.hexdigest()[:12]}"
    if not place.is_dir():
        half = place.with_suffix(".part")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        past = simulate(City(DataSettings().city_seed), LIVE_START - WEEKS, LIVE_START)
        snapshot = history(past.filter(pl.col("outcome") == "delivered"), TRIPS, half / "snapshot")
        train(snapshot, half / "var", TRIPS, seed=1)
        (sealed,) = [*half.glob("var/bundles/*/"), *half.glob("var/candidates/*/")]  # the gate's opinion is no matter
        sealed.rename(half / "bundle")
        shutil.rmtree(snapshot)
        shutil.rmtree(half / "var")
        half.rename(place)
    return place / "bundle"


def under_name(bundle: Path, root: Path, version: str) -> Manifest:
    """A copy of a bundle as `<root>/<version>/`, sealed anew; answers its manifest."""
    folder = shutil.copytree(bundle, root / version)
    manifest = json.loads((folder / "bundle.json").read_text()) | {"version": version}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return verify(folder, write_checksums(folder))


@dataclass
class Candidate:
    """A running serving process, the manifest of its bundles, and its control. `answer` is the body of an estimate of
    `trip`."""

    server: Server
    trip: TripRequest
    answer: bytes
    manifest: Manifest
    token: str

    @property
    def port(self) -> int:
        return self.server.port

    def control(self, action: str, version: str | None = None) -> dict[str, object]:
        """Change the rollout; answers the new one. Raises `Refused`."""
        told = {"action": action, "reason": "benchmark"} | ({"version": version} if version else {})
        status, answer = asked(self.port, questions.post("/v1/rollout", json.dumps(told), self.token))
        if status != 200:
            raise Refused(f"{action} of {version}: {status} {answer[:300]!r}")
        return json.loads(answer)

    def swap(self, number: int) -> None:
        """Make another bundle champion, as a release does: into shadow, loaded and warmed, then promoted."""
        self.control("challenge", VERSIONS[(number + 1) % len(VERSIONS)])
        self.control("promote")


def a_place(folder: Path, bundle: Path) -> tuple[Path, Manifest]:
    """A var for serving with clock, tokens and bundles under `VERSIONS`; and the manifest of one of them."""
    var = folder / "var"
    (var / "bundles").mkdir(parents=True)
    make_tokens(var / "tokens")
    manifest, *_ = [under_name(bundle, var / "bundles", version) for version in VERSIONS]
    Clock(time_zone=manifest.time_zone, city_start=LIVE_START, wall_start=time.time(), speed=1).save(var / "clock.json")
    return var, manifest


@contextmanager
def serving(
    var: Path, manifest: Manifest, cores: Cores, command: Sequence[str | Path] = COMMAND
) -> Iterator[Candidate]:
    """`python -m serving` in `var`, once it has answered an estimate; on its first start there the first bundle is made
    champion. `command` starts it another way."""
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    told = {
        "TANDEM_VAR": str(var),
        "TANDEM_SERVING_PORT": str(port),
        "TANDEM_MODEL_URL": NOWHERE,
        "TANDEM_MONITORING_URL": NOWHERE,
    }
    (trip,) = questions.trips(manifest, 1, seed=0)
    (question,) = questions.estimates([trip])
    fresh = not (var / "serving.db").exists()
    first = "GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" if fresh else question
    log = var.parent / "serving.log"
    with started("serving", command, port, first, log, cores.server, kept | told) as server:
        found = Candidate(server, trip, server.answer, manifest, read_token(var / "tokens", "control"))
        if fresh:
            found.control("challenge", VERSIONS[0])
            _, found.answer = asked(port, question)
        yield found


@contextmanager
def champion_alone(folder: Path, bundle: Path, cores: Cores) -> Iterator[Candidate]:
    """Serving with one bundle."""
    var, manifest = a_place(folder, bundle)
    with serving(var, manifest, cores) as found:
        yield found


@contextmanager
def with_shadow(folder: Path, bundle: Path, cores: Cores) -> Iterator[Candidate]:
    """Serving with a challenger in shadow."""
    with champion_alone(folder, bundle, cores) as found:
        found.control("challenge", VERSIONS[1])
        yield found

"""The training worker as a process of its own, between real feeds: it trains what is decided, once, whatever dies."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import polars as pl
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import MetaData

from chassis.clock import Clock
from chassis.databases import open_database
from chassis.feed_routes import feed_routes
from chassis.feed_store import Draft, FeedStore
from chassis.service import make_app
from contracts.bundle import BundleRefused, BundleReleased, Manifest, verify, write_checksums
from contracts.decisions import Decision
from contracts.estimates import Rollout, RolloutChanged
from contracts.snapshots import SnapshotMade
from model.registry import MODEL_NAME, connect
from tests.model import small_city
from tests.model.conftest import CHANGE
from tests.servers import free_port, running

NOW = CHANGE + timedelta(days=1)
PATIENCE_S = 150  # a training takes some ten seconds on an idle core


class Upstream:
    """Monitoring's decisions, data's snapshots and serving's rollout, served over HTTP."""

    def __init__(self, folder: Path) -> None:
        metadata = MetaData()
        self.engine = open_database(f"sqlite:///{folder}/upstream.db", metadata)
        self.decisions = FeedStore(self.engine, "decisions")
        self.snapshots = FeedStore(self.engine, "snapshots")
        self.rollout = FeedStore(self.engine, "rollout")

    def app(self):
        app = make_app("upstream", CollectorRegistry(), ready=lambda: None)
        app.include_router(feed_routes(self.decisions, self.snapshots, self.rollout))
        return app

    def decide(self, decision_id: str, kind: str, champion: str | None) -> None:
        said = Decision(
            decision_id=decision_id,
            kind=kind,
            at=NOW,
            reasons=["the test says so"],
            requirement_ids=[],
            rejected=[],
            evidence_digest="0",
            champion=champion,
        )
        with self.engine.begin() as tx:
            self.decisions.append(tx, [Draft("decision.made", NOW, decision_id, said)])

    def cut(self, made: SnapshotMade) -> None:
        with self.engine.begin() as tx:
            self.snapshots.append(tx, [Draft("snapshot.made", NOW, made.digest, made)])

    def serve(self, champion: str | None, challenger: str | None = None) -> None:
        after = Rollout(champion=champion, challenger=challenger)
        said = RolloutChanged(before=Rollout(), after=after, cause="control", reason="the test says so", at=NOW)
        with self.engine.begin() as tx:
            self.rollout.append(tx, [Draft("rollout.changed", NOW, "rollout", said)])


@contextmanager
def worker(var: Path, upstream_url: str, log: Path | None = None) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    env = os.environ | {
        "TANDEM_VAR": str(var),
        "TANDEM_MODEL_PORT": str(port),
        "TANDEM_MONITORING_URL": upstream_url,
        "TANDEM_DATA_URL": upstream_url,
        "TANDEM_SERVING_URL": upstream_url,
        "TANDEM_TRAINING_NICE": "0",  # on a busy machine a polite training would outlast any patience
    }
    with ExitStack() as entered:
        words = entered.enter_context(log.open("ab")) if log else None
        process = subprocess.Popen([sys.executable, "-m", "model.worker"], env=env, stderr=words)
        try:
            yield process, f"http://127.0.0.1:{port}/feeds/bundles"
        finally:
            process.terminate()
            process.wait(timeout=20)


def until(done: Callable[[], object]) -> object:
    """What `done` answers once that is something."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = done()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"nothing within {PATIENCE_S} s")


def events(url: str, count: int) -> list[dict]:
    """The bundles feed once it holds `count` events."""

    def look() -> list[dict]:
        try:
            found = httpx.get(url).json()
        except httpx.TransportError:
            return []  # not up yet
        return found if len(found) >= count else []

    return until(look)


def child_of(pid: int) -> int | None:
    """The training that a worker runs now."""
    found = subprocess.run(["pgrep", "-P", str(pid), "-f", "model.train"], capture_output=True, text=True, check=False)
    return int(found.stdout.split()[0]) if found.stdout else None


def alive(pid: int) -> bool:
    """Whether a process still runs (one that nobody has reaped does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def place(trained, tmp_path):
    """A var of its own that knows the champion, with a clock."""
    var = tmp_path / "var"
    for name in ("bundles", "model"):
        shutil.copytree(trained.settings.var / name, var / name)
    clock = Clock(time_zone="Europe/Berlin", city_start=NOW, wall_start=time.time(), speed=60)
    clock.save(var / "clock.json")
    return var


def a_snapshot(trained, var: Path, decision_id: str, count: int) -> SnapshotMade:
    new = small_city.trips(count, 0.8, seed=7, start=CHANGE, bridge_factor=1.45)
    return small_city.write_snapshot(var / "snapshots", pl.concat([trained.table, new]), CHANGE, decision_id)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_each_decided_snapshot_ends_as_one_event_though_the_worker_is_killed_in_mid_training(trained, place, tmp_path):
    upstream = Upstream(tmp_path)
    champion = trained.release.version
    upstream.decide("d-0", "watch", champion)
    upstream.decide("d-1", "retrain", champion)
    upstream.cut(a_snapshot(trained, place, "d-1", 500))
    with running(upstream.app()) as url:
        with worker(place, url) as (process, feed):
            events(feed, 1)
            upstream.cut(a_snapshot(trained, place, "d-2", 1090))
            upstream.decide("d-2", "retrain", champion)
            training = until(lambda: child_of(process.pid))
            process.send_signal(signal.SIGKILL)
            process.wait()
            until(lambda: not alive(training))  # a training dies with its worker
        assert [path.name for path in (place / "bundles").iterdir()] == [champion]

        with worker(place, url) as (_process, feed):
            upstream.cut(a_snapshot(trained, place, "d-1", 500))  # delivered again
            first, second = events(feed, 2)

    assert first["type"] == "bundle.refused"
    refused = BundleRefused.model_validate(first["data"])
    assert refused.decision_id == "d-1"
    assert "not enough truth yet" in refused.reasons[0]

    assert second["type"] == "bundle.released"
    told = BundleReleased.model_validate(second["data"])
    assert told.decision_id == "d-2"
    assert told.manifest.lineage.parent_version == champion
    assert told.version.startswith("v2-")
    assert verify(place / "bundles" / told.version, told.checksums_sha256) == told.manifest
    assert told.manifest.trained_at > NOW  # city time
    assert sorted(path.name for path in (place / "bundles").iterdir()) == sorted([champion, told.version])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_rows_refused_are_counted_as_data_told_this_decision(trained, place, tmp_path):
    """The same rows are sealed once, with what was refused until then; since then a fifth of all rows was."""
    upstream = Upstream(tmp_path)
    made = small_city.write_snapshot(place / "snapshots", trained.table)
    upstream.decide("d-1", "retrain", None)
    upstream.cut(made.model_copy(update={"decision_id": "d-1", "rows_quarantined": made.rows // 4}))
    with running(upstream.app()) as url, worker(place, url) as (_process, feed):
        (event,) = events(feed, 1)

    assert event["type"] == "bundle.refused"
    assert "snapshot-quarantine" in BundleRefused.model_validate(event["data"]).reasons[0]


def bundle_with(alias: str, var: Path) -> str | None:
    """The bundle that an alias names in MLflow's registry, None where it names none."""
    client = connect(f"sqlite:///{var}/mlflow.db")
    models = client.search_registered_models(f"name = '{MODEL_NAME}'")
    number = models[0].aliases.get(alias) if models else None
    return client.get_model_version(MODEL_NAME, number).tags["bundle"] if number else None


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_mlflow_shows_who_serves_though_it_failed_and_the_worker_was_killed(trained, place, tmp_path):
    upstream, log = Upstream(tmp_path), tmp_path / "worker.log"
    first = trained.release.version
    second = f"v2-{first.partition('-')[2]}"
    resealed(place / "bundles" / first, second)
    (place / "mlflow.db").write_bytes(b"this is no database, and MLflow can only fail on it")
    upstream.serve(first)
    with running(upstream.app()) as url:
        with worker(place, url, log) as (process, _feed):
            until(lambda: "MLflow did not take who serves" in log.read_text())
            assert process.poll() is None  # nobody else minds
            upstream.serve(first, challenger=second)
            until(lambda: log.read_text().count("MLflow did not take who serves") >= 2)
            process.send_signal(signal.SIGKILL)
            process.wait()

        (place / "mlflow.db").unlink()
        with worker(place, url, log):
            until(lambda: f"MLflow shows champion {first}, challenger {second}" in log.read_text())
            assert (bundle_with("champion", place), bundle_with("challenger", place)) == (first, second)
            upstream.serve(second)
            until(lambda: f"MLflow shows champion {second}, challenger None" in log.read_text())
            assert (bundle_with("champion", place), bundle_with("challenger", place)) == (second, None)


def resealed(bundle: Path, version: str) -> None:
    """The same bundle under another version beside it."""
    copy = shutil.copytree(bundle, bundle.with_name(version))
    manifest = Manifest.model_validate_json((copy / "bundle.json").read_bytes())
    (copy / "bundle.json").write_text(manifest.model_copy(update={"version": version}).model_dump_json())
    write_checksums(copy)


def test_the_worker_is_small_it_loads_no_library_of_training_or_tracking():
    heavy = {"torch", "onnx", "onnxruntime", "mlflow", "matplotlib", "polars", "pandas"}
    ask = f"import sys, model.worker; sys.exit(' '.join({heavy} & set(sys.modules)) or 0)"
    subprocess.run([sys.executable, "-c", ask], check=True)

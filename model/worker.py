"""The training worker:  python -m model.worker

Follows decisions and snapshots; each snapshot cut for a decision is trained once, in a process of its own, and ends as
a bundle released or refused on the bundles feed. Follows the rollout too, so that MLflow shows who serves.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter
from pydantic import TypeAdapter
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, String, Table, insert, select, update

from chassis.clock import Clock
from chassis.databases import open_database
from chassis.feed_routes import feed_routes
from chassis.feed_store import Draft, FeedStore
from chassis.followers import Follower
from chassis.logs import write_logs
from chassis.service import listen, make_app
from chassis.sql import reading
from contracts.bundle import BundleRefused, BundleReleased
from contracts.decisions import Decision
from contracts.feeds import Event, payload
from contracts.problems import plain_words
from contracts.snapshots import SnapshotMade
from model.releases import released_for
from model.roles import Roles, roles_table
from model.settings import Settings  # not model.train: this process has no need of torch

log = logging.getLogger(__name__)
LOOK_EVERY_S = 0.5
RESULT: TypeAdapter[BundleReleased | BundleRefused] = TypeAdapter(BundleReleased | BundleRefused)
TOLD_TO_END = (-signal.SIGTERM, -signal.SIGINT)  # a training told to end is not a failed one: it is run again

metadata = MetaData()
roles = roles_table(metadata)
decisions = Table(
    "decisions",
    metadata,
    Column("decision_id", String(120), primary_key=True),
    Column("champion", String(64)),
)
trainings = Table(
    "trainings",
    metadata,
    Column("decision_id", String(120), primary_key=True),
    Column("snapshot", String(80), nullable=False),
    Column("change_at", String(40)),
    Column("done", Integer, nullable=False, default=0),
)
refused_rows = Table(  # beside `trainings`, which databases of before hold without it
    "refused_rows",
    metadata,
    Column("decision_id", String(120), primary_key=True),
    Column("rows", Integer, nullable=False),
)


@dataclass(frozen=True)
class Order:
    """A training to run: the snapshot that was cut for a decision, how many rows intake had refused by then, and the
    champion the decision was about."""

    decision_id: str
    snapshot: str
    change_at: str | None
    rows_quarantined: int | None
    champion: str | None


def hear_decisions(tx: Connection, events: Sequence[Event]) -> None:
    """Remember who was champion when a retraining was decided."""
    for event in events:
        decision = payload(event)
        assert isinstance(decision, Decision)
        if decision.kind == "retrain" and not _known(tx, decisions, decision.decision_id):
            tx.execute(insert(decisions).values(decision_id=decision.decision_id, champion=decision.champion))


def hear_snapshots(tx: Connection, events: Sequence[Event]) -> None:
    """Order a training for each snapshot that was cut for a decision; seen again, it changes nothing."""
    for event in events:
        made = payload(event)
        if isinstance(made, SnapshotMade) and made.decision_id and not _known(tx, trainings, made.decision_id):
            change_at = made.change_at.isoformat() if made.change_at else None
            row = {"decision_id": made.decision_id, "snapshot": made.digest, "change_at": change_at, "done": 0}
            tx.execute(insert(trainings), row)
            if made.rows_quarantined is not None:
                refused = {"decision_id": made.decision_id, "rows": made.rows_quarantined}
                tx.execute(insert(refused_rows), refused)


def next_order(engine: Engine) -> Order | None:
    """A training still to run whose decision is known, too."""
    told = trainings.c.decision_id, trainings.c.snapshot, trainings.c.change_at
    query = (
        select(*told, refused_rows.c.rows, decisions.c.champion)
        .join(decisions, decisions.c.decision_id == trainings.c.decision_id)
        .outerjoin(refused_rows, refused_rows.c.decision_id == trainings.c.decision_id)
        .where(trainings.c.done == 0)
    )
    with reading(engine) as tx:
        row = tx.execute(query).first()
    return None if row is None else Order(*row)


class Worker:
    """Runs trainings one after the other and publishes how each ended."""

    def __init__(self, settings: Settings, engine: Engine, registry: CollectorRegistry) -> None:
        self.settings, self.engine = settings, engine
        self.bundles = FeedStore(engine, "bundles")
        self.roles = Roles(engine, roles, settings.training_nice)
        self.ended = Counter("tandem_trainings", "Trainings by how they ended", ["outcome"], registry=registry)

    def work(self, stop: threading.Event) -> None:
        """Train what is ordered until told to stop. A training cut off is run again after the next start. Who serves is
        shown between trainings: then MLflow has heard of every bundle released."""
        while not stop.is_set():
            self.roles.show(stop)
            order = next_order(self.engine)
            if order is None:
                stop.wait(LOOK_EVERY_S)
                continue
            sealed = released_for(self.settings.bundles, order.decision_id)
            if sealed is not None:  # a crash came between the release and its event
                self.publish(order, sealed)
            else:
                self.train(order, stop)

    def train(self, order: Order, stop: threading.Event) -> None:
        """One training in a process of its own, which dies with this one; its result is published as soon as it is
        there, while the training still tells MLflow. One that is told to end stays ordered."""
        log.info("training on snapshot %s for %s", order.snapshot[:12], order.decision_id)
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "result.json"
            command = [sys.executable, "-m", "model.train", "--snapshot", str(self.settings.snapshots / order.snapshot)]
            command += ["--bundles", str(self.settings.bundles), "--result", str(result)]
            command += ["--leash", "--decision", order.decision_id]
            command += ["--parent", order.champion] if order.champion else []
            command += ["--change-at", order.change_at] if order.change_at else []
            if order.rows_quarantined is not None:
                command += ["--rows-quarantined", str(order.rows_quarantined)]
            nice = ["nice", "-n", str(self.settings.training_nice), *command]
            process, published = subprocess.Popen(nice, stdin=subprocess.PIPE), False
            while process.poll() is None or (result.is_file() and not published):
                if result.is_file() and not published:
                    self.publish(order, RESULT.validate_json(result.read_bytes()))
                    published = True
                if stop.wait(LOOK_EVERY_S):
                    process.terminate()
                    process.wait(timeout=10)
                    return
        if not published and process.returncode not in TOLD_TO_END:
            reason = f"training ended with status {process.returncode}; its own words are in the model worker's log"
            self.publish(order, BundleRefused(decision_id=order.decision_id, reasons=[reason]))

    def publish(self, order: Order, result: BundleReleased | BundleRefused) -> None:
        """Tell how a training ended, in the transaction that marks it as done."""
        kind, subject = "bundle.refused", order.decision_id
        if isinstance(result, BundleReleased):
            kind, subject = "bundle.released", result.version
        with self.engine.begin() as tx:
            tx.execute(update(trainings).where(trainings.c.decision_id == order.decision_id).values(done=1))
            now = Clock.load(self.settings.clock_file).now()
            self.bundles.append(tx, [Draft(kind, now, subject, result)])
        self.ended.labels(kind.removeprefix("bundle.")).inc()
        log.info("%s %s", kind, subject)


def _known(tx: Connection, table: Table, decision_id: str) -> bool:
    return tx.execute(select(table.c.decision_id).where(table.c.decision_id == decision_id)).first() is not None


@plain_words()
def main() -> None:
    """Wire the worker and serve its feed."""
    settings, registry = Settings(), CollectorRegistry()
    write_logs("model", settings.log)
    engine = open_database(settings.database_url("model"), metadata)
    worker = Worker(settings, engine, registry)
    monitoring = Follower(settings.url("monitoring"), "decisions", engine, hear_decisions)
    data = Follower(settings.url("data"), "snapshots", engine, hear_snapshots)
    serving = Follower(settings.url("serving"), "rollout", engine, worker.roles.hear)
    background: dict[str, Callable[[threading.Event], None]] = {
        "decisions": monitoring.follow,
        "snapshots": data.follow,
        "rollout": serving.follow,
        "trainings": worker.work,
    }
    app = make_app("Tandem model worker", registry, lambda: None, background)
    app.include_router(feed_routes(worker.bundles))
    listen(app, settings.bind, settings.port("model"), "model")


if __name__ == "__main__":
    main()

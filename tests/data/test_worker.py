"""The data service: from product's feed into the lake without loss or doubling, and snapshots when told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response

from chassis.clock import Clock
from contracts.decisions import Decision
from contracts.feeds import Event, payload
from contracts.requirements import load
from contracts.snapshots import BatchJudged, SnapshotMade
from data.city.incidents import Started
from data.city.incidents import load as load_incident
from data.city.reference import City
from data.city.times import minutes_at
from data.desk import LARGEST_BATCH
from data.history import LIVE_START, events, simulate
from data.settings import Settings
from data.worker import Worker, build, service
from tests.data.publishers import Publisher, publisher
from tests.servers import free_port, running

SEED, POLICY = 7, load().policy
CLOSING = timedelta(minutes=POLICY.closing_min)


def ended(trips: pl.DataFrame) -> list[str]:
    """Events of these trips in order of their end."""
    return events(trips.sort("ended_at", "trip_id")).to_list()


@pytest.fixture(scope="module")
def trips() -> pl.DataFrame:
    """Three days that ended before the live clock starts."""
    past = simulate(City(SEED), LIVE_START - timedelta(days=3), LIVE_START)
    return past.filter(pl.col("ended_at") < pl.lit(LIVE_START).dt.convert_time_zone("UTC"))


@dataclass
class Stage:
    """Data between the feeds it follows, at a city time that the test sets."""

    var: Path
    trips: Publisher
    decisions: Publisher
    settings: Settings

    def at(self, minutes: float = 0) -> Worker:
        """A fresh process's worker, so many city minutes after the start of live time; the clock hardly moves."""
        now = LIVE_START + timedelta(minutes=minutes)
        clock = Clock(time_zone="Europe/Berlin", city_start=now, wall_start=time.time(), speed=0.001)
        clock.save(self.settings.clock_file)
        desk = build(self.settings)
        desk.recover()
        return Worker(desk)

    def told(self, worker: Worker) -> list[Any]:
        """What the snapshots feed says, typed."""
        found = [Event.model_validate_json(text) for text in worker.desk.book.snapshots.read(0, 5000)]
        for event in found:
            assert event.source == "/tandem/snapshots"
        return [payload(event) for event in found]

    def batches(self, worker: Worker) -> list[BatchJudged]:
        """Verdicts on batches."""
        return [item for item in self.told(worker) if isinstance(item, BatchJudged)]

    def snapshots(self, worker: Worker) -> list[SnapshotMade]:
        """Snapshots made."""
        return [item for item in self.told(worker) if isinstance(item, SnapshotMade)]


@pytest.fixture
def stage(tmp_path) -> Iterator[Stage]:
    with publisher(tmp_path, "trips") as trips_feed, publisher(tmp_path, "decisions") as decisions_feed:
        settings = Settings(
            var=tmp_path / "var", product_url=trips_feed.url, monitoring_url=decisions_feed.url, city_seed=SEED
        )
        yield Stage(tmp_path / "var", trips_feed, decisions_feed, settings)


def a_retrain(decision_id: str, at_min: float, change_at=None) -> Decision:
    return Decision(
        decision_id=decision_id,
        kind="retrain",
        at=LIVE_START + timedelta(minutes=at_min),
        reasons=["no champion yet"],
        requirement_ids=[],
        rejected=[],
        evidence_digest="0" * 64,
        change_at=change_at,
    )


def test_history_comes_in_as_large_batches_and_every_row_once(stage, trips):
    stage.trips.send_lines(ended(trips))
    worker = stage.at()
    worker.trips.drain()
    worker.desk.judge_waiting()

    batches = stage.batches(worker)
    assert trips.height > LARGEST_BATCH
    assert [batch.rows_accepted for batch in batches] == [LARGEST_BATCH, trips.height - LARGEST_BATCH]
    lake = worker.desk.accepted_before(None)
    assert lake.sort("trip_id").equals(trips.sort("trip_id"))
    assert worker.desk.reference.detour == pytest.approx(1.3, abs=0.02)
    assert stage.at().desk.reference == worker.desk.reference


def test_a_batch_is_cut_when_its_window_of_city_time_is_over(stage, trips):
    stage.trips.send_lines(ended(trips)[:30])
    early = stage.at(1)
    early.trips.drain()
    early.desk.close_window()
    assert stage.batches(early) == []

    late = stage.at(POLICY.cohort_min + 0.5)
    late.desk.close_window()
    late.desk.close_window()

    (batch,) = stage.batches(late)
    assert (batch.batch_id, batch.rows_accepted) == ("000000001-000000030", 30)


def test_bad_rows_go_to_quarantine_and_the_rest_of_the_batch_to_the_lake(stage, trips):
    lines = [json.loads(line) for line in ended(trips)[:10]]
    lines[2]["data"]["vehicle"] = "horse"
    lines[5]["data"]["p90_min"] = "soon"
    lines[7]["data"] = {"trip_id": {"not": "a trip"}}
    lines[8]["data"]["trip_id"] = "\x00"
    stage.trips.send_lines([json.dumps(line, separators=(",", ":")) for line in [*lines, lines[0]]])
    worker = stage.at()
    worker.trips.drain()
    worker.desk.judge_waiting()

    (batch,) = stage.batches(worker)
    assert (batch.rows_accepted, batch.rows_quarantined) == (6, 5)
    assert batch.reasons == {
        "vehicle.literal_error": 1,
        "p90_min.float_type": 1,
        "trip_id.string_type": 1,
        "trip_id.string_pattern_mismatch": 1,
        "duplicate_trip": 1,
    }
    kept = [item.row for item in worker.desk.quarantine.read()]
    assert lines[5]["data"] in kept
    assert worker.desk.accepted_before(None).height == 6
    with running(service(worker)) as url:
        metrics = httpx.get(f"{url}/metrics").text
    assert "tandem_data_rows_accepted_total 6.0" in metrics
    assert 'tandem_data_rows_quarantined_total{rule="duplicate_trip"} 1.0' in metrics


def test_a_trip_told_again_in_a_later_batch_is_not_taken_in_twice(stage, trips):
    stage.trips.send_lines(ended(trips)[:10])
    worker = stage.at()
    worker.trips.drain()
    worker.desk.judge_waiting()
    stage.trips.send_lines(ended(trips)[5:12])
    worker.trips.drain()
    worker.desk.judge_waiting()

    assert stage.batches(worker)[1].reasons == {"duplicate_trip": 5}
    assert worker.desk.accepted_before(None)["trip_id"].n_unique() == 12


def test_miles_are_refused_whole_and_not_lost(stage, trips):
    city, miles = City(SEED), [Started(load_incident("miles"), minutes_at(LIVE_START))]
    wrong = simulate(city, LIVE_START, LIVE_START + timedelta(hours=3), miles)
    stage.trips.send_lines([*ended(trips), *ended(wrong)])
    worker = stage.at(300)
    while worker.trips.step():
        worker.desk.judge_waiting()

    total = trips.height + wrong.height
    batches = stage.batches(worker)
    assert sum(batch.rows_accepted + batch.rows_quarantined for batch in batches) == total
    stage.trips.send_lines(ended(wrong.with_columns(pl.col("trip_id") + "-again")))
    worker.trips.drain()
    worker.desk.judge_waiting()
    refused = stage.batches(worker)[-1]
    assert (refused.rows_accepted, refused.reasons) == (0, {"route-ratio": wrong.height})
    assert "unit of distance_km" in refused.detail
    assert len([item for item in worker.desk.quarantine.read() if item.rule == "route-ratio"]) >= wrong.height


def test_a_retraining_gets_every_closed_row_under_its_decision_and_only_once(stage, trips):
    change = LIVE_START - timedelta(hours=20)
    stage.trips.send_lines(ended(trips))
    stage.decisions.decide(
        a_retrain("d-1", 0, change).model_copy(update={"kind": "watch"}), a_retrain("d-2", 0, change)
    )
    worker = stage.at(1)
    worker.decisions.drain()
    worker.desk.fulfil(worker.trips.drain)
    stage.decisions.decide(a_retrain("d-2", 0, change))
    worker.decisions.drain()
    worker.desk.fulfil(worker.trips.drain)

    (made,) = stage.snapshots(worker)
    closed = trips.filter(pl.col("booked_at") < pl.lit(LIVE_START - CLOSING).dt.convert_time_zone("UTC"))
    since = closed.filter(pl.col("requested_at") >= pl.lit(change).dt.convert_time_zone("UTC"))
    assert (made.decision_id, made.change_at, made.rows) == ("d-2", change, closed.height)
    assert made.rows_since_change == since.filter(pl.col("outcome") == "delivered").height > 0
    rows = pl.read_parquet(stage.settings.snapshots / made.digest / "trips.parquet")
    assert rows.equals(closed.sort("booked_at", "trip_id"))


def test_a_snapshot_holds_what_was_booked_before_the_closing_time_however_old_its_quote(stage, trips):
    """Of trips booked within the closing time only the quick ones have ended."""
    cut = LIVE_START.astimezone(UTC) - CLOSING
    asked = pl.when(pl.col("booked_at") >= cut).then(cut - timedelta(hours=1)).otherwise("requested_at")
    kept_quotes = trips.with_columns(asked.alias("requested_at").cast(trips.schema["requested_at"]))
    stage.trips.send_lines(ended(kept_quotes))
    stage.decisions.decide(a_retrain("d-1", 0))
    worker = stage.at(1)
    worker.decisions.drain()
    worker.desk.fulfil(worker.trips.drain)

    (made,) = stage.snapshots(worker)
    assert made.rows == trips.filter(pl.col("booked_at") < cut).height < trips.height


def test_a_decision_that_comes_before_any_trip_is_kept_until_there_are_some(stage, trips):
    stage.decisions.decide(a_retrain("d-1", 0))
    worker = stage.at(1)
    worker.decisions.drain()
    worker.desk.fulfil(worker.trips.drain)
    assert stage.snapshots(worker) == []

    stage.trips.send_lines(ended(trips)[:50])
    again = stage.at(2)
    again.desk.fulfil(again.trips.drain)
    assert [made.decision_id for made in stage.snapshots(again)] == ["d-1"]


DIES_BEFORE_THE_COMMIT = """
import os, signal, sys
from data.settings import Settings
from data.worker import Worker, build

worker = Worker(build(Settings()))
take, calls = worker.desk.take, []

def take_and_die(tx, events):
    take(tx, events)
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

worker.trips.handle = take_and_die
worker.trips.drain()
"""


@pytest.mark.slow
def test_a_process_killed_between_files_and_commit_neither_loses_nor_doubles_rows(stage, trips):
    more = trips.with_columns(pl.col("trip_id") + "-more")
    stage.trips.send_lines([*ended(trips), *ended(more)])
    stage.at()
    environment = {
        **os.environ,
        "TANDEM_VAR": str(stage.var),
        "TANDEM_PRODUCT_URL": stage.trips.url,
        "TANDEM_CITY_SEED": str(SEED),
    }
    died = subprocess.run([sys.executable, "-c", DIES_BEFORE_THE_COMMIT], env=environment, timeout=100, check=False)
    assert died.returncode == -signal.SIGKILL
    files = {path.stem for path in stage.settings.lake.rglob("*.parquet")}
    assert len(files) == 2  # the second batch's files are there, its verdict isn't

    stage.trips.send_lines(ended(trips.head(20).with_columns(pl.col("trip_id") + "-late")))
    worker = stage.at()
    assert {path.stem for path in stage.settings.lake.rglob("*.parquet")} == {"000000001-000005000"}
    worker.trips.drain()
    worker.desk.judge_waiting()

    lake = worker.desk.accepted_before(None)
    assert lake.height == lake["trip_id"].n_unique() == 2 * trips.height + 20
    assert sum(batch.rows_accepted for batch in stage.batches(worker)) == lake.height


@contextmanager
def service_process(stage: Stage, port: int, **urls: str) -> Iterator[str]:
    """`python -m data.worker` as a process of its own."""
    environment = {
        **os.environ,
        "TANDEM_VAR": str(stage.var),
        "TANDEM_DATA_PORT": str(port),
        "TANDEM_CITY_SEED": str(SEED),
        **urls,
    }
    process = subprocess.Popen([sys.executable, "-m", "data.worker"], env=environment)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) in (0, -signal.SIGINT)


@pytest.mark.slow
def test_the_service_waits_for_monitoring_and_then_does_as_it_is_told(stage, trips, tmp_path):
    Clock(time_zone="Europe/Berlin", city_start=LIVE_START, wall_start=time.time(), speed=600).save(
        stage.settings.clock_file
    )
    stage.trips.send_lines(ended(trips)[:40])
    stage.decisions.decide(a_retrain("d-1", 0))
    monitoring = free_port()
    urls = {
        "TANDEM_PRODUCT_URL": stage.trips.url,
        "TANDEM_MONITORING_URL": f"http://127.0.0.1:{monitoring}",
    }
    with service_process(stage, free_port(), **urls) as url:
        transport = httpx.HTTPTransport(retries=50)
        client = httpx.Client(base_url=url, transport=transport, timeout=60)
        deadline, seen = time.monotonic() + 60, []
        while not seen and time.monotonic() < deadline:  # the window is over within seconds at this speed
            seen = client.get("/feeds/snapshots", params={"timeout": 20}).json()
        assert [event["type"] for event in seen] == ["batch.accepted"]
        assert client.get("/health/ready").status_code == 200

        with forwarded(monitoring, stage.decisions.url):
            made = client.get("/feeds/snapshots", params={"timeout": 30, "lastEventId": 1}).json()
        assert [event["type"] for event in made] == ["snapshot.made"]
        assert made[0]["data"]["decision_id"] == "d-1"


@contextmanager
def forwarded(port: int, target: str) -> Iterator[None]:
    """Monitoring comes up at its port: whatever is asked there is answered by `target`."""
    app = FastAPI()

    @app.get("/{path:path}")
    def forward(path: str, request: Request) -> Response:
        answer = httpx.get(f"{target}/{path}", params=dict(request.query_params))
        return Response(answer.content, answer.status_code)

    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=15)

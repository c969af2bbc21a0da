"""The released bundle: sealed, whole, the same bytes again, blind to what it may not see."""

from __future__ import annotations

import json
import os
import shutil
import signal
from multiprocessing import get_context
from zoneinfo import ZoneInfo

import numpy as np
import onnxruntime
import polars as pl
import pytest
from rich.console import Console

from contracts.bundle import FILES, FINGERPRINT_KEY, OUTPUT, BundleError, BundleRefused, GoldenTrip, digest, verify
from contracts.trips import MODEL_INPUTS, NOT_FOR_THE_MODEL, TripRequest, fingerprint
from model.bundle import accept, arrays, scope, seal
from model.export import probe, run
from model.network import predict
from model.releases import released, released_for
from model.snapshot import Trips, read
from model.train import main, train
from tests.model import small_city


def test_the_release_is_what_lies_there(trained):
    assert verify(trained.folder, trained.release.checksums_sha256) == trained.release.manifest
    assert released(trained.folder) == trained.release
    assert trained.release.version == f"v1-{digest(trained.folder / 'model.onnx')[:8]}"


@pytest.mark.parametrize("shortest_km", [0.61, 0.63, 0.6123456789])  # as float32 above, below, and with digits lost
def test_the_shortest_and_the_longest_trip_trained_on_lie_in_its_scope(trained, shortest_km):
    table = small_city.trips(300, 7, seed=4)
    ends = {0: shortest_km, 1: shortest_km + 20}
    table = table.with_columns(
        distance_km=pl.Series([ends.get(row, 5.0) for row in range(table.height)], dtype=pl.Float64)
    )
    zone = ZoneInfo(trained.release.manifest.time_zone)
    trips = [TripRequest(**row) for row in table.select(*TripRequest.model_fields).to_dicts()]
    found = scope(Trips(np.array([]), arrays(trips, zone), np.array([]), {}))
    assert [found.reason_outside(trip, zone) for trip in trips] == [None] * len(trips)
    for km in (shortest_km - 0.01, shortest_km + 20.01):
        assert "distance_km" in str(found.reason_outside(trips[0].model_copy(update={"distance_km": km}), zone))


def test_evidence_tells_the_size_of_the_whole_bundle(trained):
    assert trained.release.evidence.bundle_bytes == sum(path.stat().st_size for path in trained.folder.iterdir())


def test_the_graph_takes_the_contracts_inputs_and_carries_its_fingerprint(trained):
    session = onnxruntime.InferenceSession(trained.folder / "model.onnx", providers=["CPUExecutionProvider"])
    kinds = {"tensor(int64)": "int64", "tensor(float)": "float32"}

    assert [(item.name, kinds[item.type]) for item in session.get_inputs()] == [
        (item.name, item.dtype) for item in MODEL_INPUTS
    ]
    assert [item.name for item in session.get_outputs()] == [OUTPUT]
    assert session.get_modelmeta().custom_metadata_map == {FINGERPRINT_KEY: fingerprint()}


@pytest.mark.parametrize("rows", [1, 300])
def test_the_graph_answers_as_torch_does_with_nulls_and_unknown_zones_too(trained, rows):
    inputs = probe(trained.windows.test.take(slice(0, rows)).inputs)
    assert np.isnan(inputs["rain_mm_h"]).any()
    assert np.abs(run(trained.folder / "model.onnx", inputs) - predict(trained.champion.network, inputs)).max() < 1e-3


def test_golden_trips_include_missing_weather_and_a_wrong_answer_is_refused(trained, tmp_path):
    golden = [GoldenTrip.model_validate(item) for item in json.loads((trained.folder / "golden.json").read_text())]
    assert len(golden) == 32
    assert any(item.trip.rain_mm_h is None for item in golden)
    copy = shutil.copytree(trained.folder, tmp_path / trained.release.version)
    accept(copy)

    wrong = json.loads((copy / "golden.json").read_text())
    wrong[0]["quantiles"]["p90_min"] += 1
    (copy / "golden.json").write_text(json.dumps(wrong))
    sums = "".join(f"{digest(copy / name)}  {name}\n" for name in FILES)
    (copy / "SHA256SUMS").write_text(sums)
    with pytest.raises(BundleError, match="golden trips are off"):
        accept(copy)


@pytest.mark.slow
def test_what_the_model_may_not_see_leaves_the_digest_unchanged(trained, tmp_path):
    rng = np.random.default_rng(9)
    shuffled = trained.table.with_columns(
        pl.col(name).gather(rng.permutation(trained.table.height)) for name in NOT_FOR_THE_MODEL
    )
    assert not shuffled.equals(trained.table)
    made = small_city.write_snapshot(tmp_path, shuffled)
    settings = trained.settings.model_copy(update={"var": tmp_path})
    again, _ = train(read(tmp_path / made.digest), settings.bundles, settings, None, 1, Console())

    assert digest(settings.bundles / again.version / "model.onnx") == digest(trained.folder / "model.onnx")


@pytest.mark.slow
def test_what_the_model_does_learn_from_changes_the_digest_and_nonsense_fails_the_gate(trained, tmp_path):
    rng = np.random.default_rng(2)
    nonsense = trained.table.filter(pl.col("outcome") == "delivered")
    nonsense = nonsense.with_columns(pl.col("duration_min").gather(rng.permutation(nonsense.height)))
    made = small_city.write_snapshot(tmp_path, nonsense)
    settings = trained.settings.model_copy(update={"var": tmp_path})
    snapshot = read(tmp_path / made.digest).asked_by("d-1", None)
    result, _ = train(snapshot, settings.bundles, settings, None, 1, Console())

    assert isinstance(result, BundleRefused)
    assert result.decision_id == "d-1"
    assert any(reason.startswith("loss-against-heuristic") for reason in result.reasons)
    assert list(settings.bundles.iterdir()) == []
    assert not settings.weights.exists()
    (candidate,) = (tmp_path / "candidates").glob("v1-*")
    assert digest(candidate / "model.onnx") != digest(trained.folder / "model.onnx")


def test_a_lost_parent_is_a_refusal_that_says_what_to_do(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("TANDEM_VAR", str(trained.settings.var))
    snapshot = trained.settings.snapshots / trained.snapshot.made.digest
    told = tmp_path / "result.json"
    status = main(["--snapshot", str(snapshot), "--parent", "v9-gone", "--decision", "d-2", "--result", str(told)])

    result = BundleRefused.model_validate_json(told.read_bytes())
    assert status == 3
    assert result.decision_id == "d-2"
    assert "no weights of champion v9-gone" in result.reasons[0]


def _seal_and_die(trained, waiting_room, bundles):
    def die(_bytes: int):
        os.kill(os.getpid(), signal.SIGKILL)

    golden = [GoldenTrip.model_validate(item) for item in json.loads((trained.folder / "golden.json").read_text())]
    seal(waiting_room, bundles, trained.folder / "model.onnx", golden, lambda _name: trained.release.manifest, die)


def test_a_training_killed_in_mid_seal_leaves_nothing_loadable(trained, tmp_path):
    rooms = (tmp_path / "candidates", tmp_path / "bundles")
    victim = get_context("fork").Process(target=_seal_and_die, args=(trained, *rooms))
    victim.start()
    victim.join(timeout=30)

    assert victim.exitcode == -signal.SIGKILL
    assert list(rooms[1].iterdir()) == []
    (half,) = rooms[0].glob(".half-*/*")
    assert (half / "model.onnx").is_file()  # it did die half-way
    with pytest.raises(BundleError):
        verify(half)


def test_a_release_is_found_again_by_its_decision_beside_what_nobody_can_read(trained, tmp_path, caplog):
    assert released_for(trained.settings.bundles, "d-none") is None
    (tmp_path / "v0-old").mkdir()
    (tmp_path / "v0-old" / "bundle.json").write_text('{"version": "v0-old"}')  # sealed under another contract, say
    copy = shutil.copytree(trained.folder, tmp_path / trained.release.version)
    manifest = trained.release.manifest
    lineage = manifest.lineage.model_copy(update={"decision_id": "d-7"})
    (copy / "bundle.json").write_text(manifest.model_copy(update={"lineage": lineage}).model_dump_json())
    (copy / "SHA256SUMS").write_text("".join(f"{digest(copy / name)}  {name}\n" for name in FILES))

    assert released_for(tmp_path, "d-7").decision_id == "d-7"
    assert "v0-old is passed over" in caplog.text

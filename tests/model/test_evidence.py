"""The evidence in a bundle: recomputed on a path of its own, and complete."""

from __future__ import annotations

from datetime import UTC
from itertools import pairwise

import numpy as np
import onnxruntime
import polars as pl
import pytest

from contracts import requirements
from contracts.tables import model_inputs
from contracts.trips import MODEL_INPUTS
from tests.model.small_city import BERLIN, ZONES


def test_evidence_is_what_anyone_finds_from_the_graph_and_the_snapshot(trained):
    """numpy, polars and onnxruntime on the sealed files; none of model/'s code."""
    evidence = trained.release.evidence
    table = pl.read_parquet(trained.settings.snapshots / trained.snapshot.made.digest / "trips.parquet")
    first, last = (at.astimezone(UTC) for at in (evidence.test_from, evidence.test_to))
    held_out = table.filter(
        (pl.col("outcome") == "delivered") & pl.col("requested_at").is_between(first, last, closed="both")
    )
    graph = onnxruntime.InferenceSession(trained.folder / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = model_inputs(held_out, BERLIN)
    feed = {item.name: inputs[item.name].to_numpy().astype(item.dtype) for item in MODEL_INPUTS}
    p10, p50, p90 = graph.run(None, feed)[0].astype(float).T
    took = held_out["duration_min"].to_numpy()

    def loss(answer: np.ndarray, level: float) -> np.ndarray:
        return np.where(took > answer, level * (took - answer), (1 - level) * (answer - took))

    losses = (loss(p10, 0.1) + loss(p50, 0.5) + loss(p90, 0.9)) / 3
    groups = held_out["pickup_zone"].replace_strict({zone.zone: zone.group for zone in ZONES}).to_numpy()
    vehicles = held_out["vehicle"].to_numpy()
    told = [(np.full(len(took), True), evidence.overall)]
    told += [(groups == name, found) for name, found in evidence.zone_groups.items()]
    told += [(vehicles == name, found) for name, found in evidence.slices["vehicle"].items()]
    assert len(told) > 6
    for here, found in told:
        assert found.rows == here.sum()
        assert found.pinball_min == pytest.approx(losses[here].mean(), abs=1e-4)
        assert found.coverage_p90 == pytest.approx((took <= p90)[here].mean(), abs=2 / here.sum())
        assert found.coverage_band == pytest.approx(((took <= p90) & (took >= p10))[here].mean(), abs=2 / here.sum())
        assert found.mean_p50_min == pytest.approx(p50[here].mean(), abs=1e-3)
    assert evidence.test_rows == len(took)
    assert evidence.ladder["candidate"] == pytest.approx(losses.mean(), abs=1e-4)


def test_every_slice_has_its_bounds_and_slices_add_up(trained):
    evidence = trained.release.evidence
    assert set(evidence.slices) == {"vehicle", "hour band", "weather", "distance band"}
    for slices in (evidence.zone_groups, *evidence.slices.values()):
        assert sum(found.rows for found in slices.values()) == evidence.test_rows
        for found in slices.values():
            low, high = found.bounds["coverage_p90"]
            assert low <= found.coverage_p90 <= high
    for name in ("pinball_ratio", "pinball_min", "coverage_p90", "coverage_band"):
        low, high = evidence.overall.bounds[name]
        assert low < high
    assert (evidence.block, evidence.blocks) == ("day", pytest.approx(7, abs=1))


def test_promising_more_is_late_less_and_p90_is_among_the_levels(trained):
    evidence = trained.release.evidence
    levels = evidence.promise_levels
    assert all(near.promised_min < far.promised_min for near, far in pairwise(levels))
    assert all(near.late_share >= far.late_share for near, far in pairwise(levels))
    assert levels[0].late_share == pytest.approx(0.5, abs=0.05)
    assert levels[-1].late_share < 0.05
    (p90,) = (level for level in levels if level.stretch == 1)
    assert p90.late_share == pytest.approx(1 - evidence.overall.coverage_p90, abs=1e-9)


def test_the_graph_behaves_and_each_kind_of_test_was_run(trained):
    found = trained.release.evidence.behaviour
    assert {item.kind for item in found} == {"invariance", "lever", "direction", "minimum function"}
    assert [item.name for item in found if not item.passed] == []
    assert any("rain" in item.name for item in found)


def test_cost_in_servings_runtime_and_noise_are_told(trained):
    evidence = trained.release.evidence
    assert evidence.runtime is not None
    assert 0 < evidence.runtime.one_trip_us < evidence.runtime.batch_us
    assert 1 < evidence.runtime.memory_mb < requirements.load()["serving-memory"].ceiling
    assert 1 < evidence.noisy_distance_ratio < 1.5
    assert evidence.ladder["candidate"] < evidence.ladder["heuristic"]

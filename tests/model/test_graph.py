"""The graph that serving runs: the network's own answers, and what holds of them for any weights, in few nodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from contracts.trips import MODEL_INPUTS, TripRequest
from model.export import ExportDiffers, export, run
from model.network import DurationNetwork, predict
from tests.model.test_network import a_network, some_inputs

SCHEMA = TripRequest.model_json_schema()["properties"]
NUMBERS = [item.name for item in MODEL_INPUTS if item.dtype == "float32"]


def ends(name: str) -> tuple[float, float]:
    """The least and the most that the contract allows of a number."""
    told = SCHEMA[name].get("anyOf", [SCHEMA[name]])[0]
    return told.get("minimum", 1e-3), told["maximum"]


def corrected(seed: int, scale: float = 1.0) -> DurationNetwork:
    """A network as it is after calibration and a correction."""
    network = a_network(seed, scale)
    network.calibration.copy_(torch.tensor([0.7, 1.6]))
    network.shift.uniform_(-0.5, 0.5)
    return network


def extreme_inputs(rows: int, seed: int) -> dict[str, np.ndarray]:
    """Random trips, a quarter of each number at the ends of its range."""
    inputs, rng = some_inputs(rows, seed), np.random.default_rng(seed)
    for name in NUMBERS:
        moved = rng.random(rows) < 0.25
        inputs[name] = np.where(moved, rng.choice(ends(name), rows), inputs[name]).astype(np.float32)
    return inputs


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("seed", range(3))
def test_it_answers_as_torch_does_on_any_trip(onnx_file, seed):
    network, inputs = corrected(seed), extreme_inputs(10_000, seed)
    export(network, onnx_file, inputs)
    meant = predict(network, inputs)

    assert np.abs(run(onnx_file, inputs) / meant - 1).max() < 1e-5


@pytest.mark.parametrize("rows", [1, 2, 255, 4096])
def test_a_trips_answer_is_the_same_in_any_company(onnx_file, rows):
    network, inputs = corrected(1), some_inputs(4096)
    export(network, onnx_file, inputs)
    few = run(onnx_file, {name: values[:rows] for name, values in inputs.items()})

    assert few.shape == (rows, 3)
    assert few == pytest.approx(run(onnx_file, inputs)[:rows], rel=1e-5)


@pytest.mark.parametrize("gaps", [0.5, -16.0])  # as usual, and so narrow that rounding could turn them round
@pytest.mark.parametrize("seed", range(3))
def test_quantiles_neither_cross_nor_shrink_on_a_longer_route_whatever_the_weights(onnx_file, seed, gaps):
    network, inputs = corrected(seed, scale=2.0), some_inputs(3000, seed)
    with torch.no_grad():
        network.head.bias[-4:] = gaps
    inputs["distance_km"] = np.minimum(inputs["distance_km"], 100).astype(np.float32)
    export(network, onnx_file, inputs)
    near = run(onnx_file, inputs)
    far = run(onnx_file, inputs | {"distance_km": inputs["distance_km"] * np.float32(1.2)})

    assert (near > 0).all()
    assert (np.diff(near, axis=1) >= 0).all()
    assert (far >= near * (1 - 1e-5)).all()
    assert (far > near).mean() > 0.9  # and the probe does move the answer


def test_the_same_weights_give_the_same_bytes(onnx_file, tmp_path):
    inputs = some_inputs(5)
    export(corrected(1), onnx_file, inputs)
    export(corrected(1), tmp_path / "again.onnx", inputs)
    export(corrected(2), tmp_path / "other.onnx", inputs)

    assert (tmp_path / "again.onnx").read_bytes() == onnx_file.read_bytes()
    assert (tmp_path / "other.onnx").read_bytes() != onnx_file.read_bytes()


def test_tables_are_worked_out_when_a_session_starts_not_for_each_trip(onnx_file, tmp_path):
    export(corrected(1), onnx_file, some_inputs(5))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(onnx_file, options, providers=["CPUExecutionProvider"])
    left = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]

    assert {"Sqrt", "Unsqueeze"} <= {node.op_type for node in onnx.load(onnx_file).graph.node}
    assert {"Gemm", "Gather"} <= set(left)
    assert not {"Sqrt", "Unsqueeze"} & set(left)


def test_a_graph_that_answers_otherwise_is_not_shipped(onnx_file, monkeypatch):
    network, inputs = corrected(1), some_inputs(200)
    monkeypatch.setattr("model.export.predict", lambda *_: 1.01 * predict(network, inputs))
    with pytest.raises(ExportDiffers, match=r"differs from torch by 0\.99%"):
        export(network, onnx_file, inputs)

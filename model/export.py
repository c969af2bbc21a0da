"""The network as an ONNX file: same numbers, same bytes for the same weights, the contract's fingerprint inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]

from contracts.bundle import FINGERPRINT_KEY, OUTPUT
from contracts.problems import TandemError
from contracts.trips import HIGHEST_ZONE, MODEL_INPUTS, fingerprint
from model.graph import graph_of
from model.network import DurationNetwork, predict
from model.snapshot import Inputs

LARGEST_BATCH = 4096
MOST_DIFFERENCE = 1e-4  # of the answer: float32 rounds in another order


class ExportDiffers(TandemError):
    """The ONNX graph does not answer as the torch network does."""


def export(network: DurationNetwork, path: Path, sample: Inputs) -> float:
    """Write the graph; answers the largest difference to torch on `sample`, in minutes. Raises `ExportDiffers`."""
    graph = graph_of(network)
    entry = graph.metadata_props.add()
    entry.key, entry.value = FINGERPRINT_KEY, fingerprint()
    path.write_bytes(graph.SerializeToString(deterministic=True))
    said, meant = run(path, sample), predict(network, sample)
    worst = float((np.abs(said - meant) / meant).max())
    if not worst <= MOST_DIFFERENCE:
        raise ExportDiffers(f"{path.name} differs from torch by {worst:.2%}: do not ship it, mend the export")
    return float(np.abs(said - meant).max())


def probe(inputs: Inputs) -> Inputs:
    """Real trips, and the same again with all that may be missing missing and with a zone nobody knows."""
    nullable = {item.name for item in MODEL_INPUTS if item.nullable}
    hidden = {name: np.full_like(values, np.nan) if name in nullable else values for name, values in inputs.items()}
    hidden["dropoff_zone"] = np.full_like(inputs["dropoff_zone"], HIGHEST_ZONE)
    return {name: np.concatenate([values, hidden[name]]) for name, values in inputs.items()}


def run(path: Path, inputs: Inputs) -> np.ndarray:
    """What the ONNX file answers, in minutes, shape (n, 3), from one thread as serving runs it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rows = len(inputs[MODEL_INPUTS[0].name])
    answers = [
        session.run([OUTPUT], {name: values[first : first + LARGEST_BATCH] for name, values in inputs.items()})[0]
        for first in range(0, rows, LARGEST_BATCH)
    ]
    return np.concatenate(answers).astype(np.float64)

"""What a bundle costs in serving's runtime:  python -m model.runtime FILE.onnx   (prints a `Runtime` as JSON)

In a process of its own, since memory is told by a whole process; with onnxruntime's settings as serving has them, and
without torch.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]

from contracts.bundle import OUTPUT, Runtime
from contracts.estimates import LARGEST_BATCH
from contracts.trips import MODEL_INPUTS

RUNS, WARM_UP = 300, 20


def measured(onnx_file: Path) -> Runtime:
    """Measure a graph in a process of its own."""
    told = subprocess.run(
        [sys.executable, "-m", "model.runtime", str(onnx_file)], check=True, capture_output=True, text=True
    )
    return Runtime.model_validate_json(told.stdout)


def resident_mb() -> float:
    """Resident memory of this process, in MB; where the system tells no present figure (macOS) its peak."""
    told = Path("/proc/self/statm")
    if told.is_file():
        return int(told.read_text().split()[1]) * resource.getpagesize() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def session(onnx_file: Path) -> onnxruntime.InferenceSession:
    """One thread that does not spin while it waits, as in serving."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(onnx_file), options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Measure from the command line."""
    before = resident_mb()
    graph = session(Path(sys.argv[1]))
    one, many = (_median_us(partial(graph.run, [OUTPUT], _feed(rows))) for rows in (1, LARGEST_BATCH))
    print(Runtime(one_trip_us=one, batch_us=many, memory_mb=resident_mb() - before).model_dump_json())  # noqa: T201


def _feed(rows: int) -> dict[str, np.ndarray]:
    return {item.name: np.ones(rows, item.dtype) for item in MODEL_INPUTS}


def _median_us(run: Callable[[], object]) -> float:
    took = []
    for _ in range(WARM_UP + RUNS):
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    return statistics.median(took[WARM_UP:]) * 1e6


if __name__ == "__main__":
    main()

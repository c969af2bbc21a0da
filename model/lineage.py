"""Where a bundle comes from: code, libraries, machine and what the training was told. Enough to build it again."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from contracts.bundle import Lineage
from contracts.snapshots import SnapshotMade

LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy", "polars")
CHANGED = "+changes"
UNKNOWN = "unknown"


def lineage(made: SnapshotMade, seed: int, threads: int, champion: str | None, corrects: str | None) -> Lineage:
    """The lineage of what this process trains; `champion` is what it was given, `corrects` what it started from."""
    return Lineage(
        code_revision=code_revision(),
        snapshot_digest=made.digest,
        seed=seed,
        parent_version=corrects,
        decision_id=made.decision_id,
        libraries=libraries(),
        champion_version=champion,
        change_at=made.change_at,
        threads=threads,
        machine=machine(),
    )


def code_revision() -> str:
    """The commit of the code that trains, `+changes` when the tree differs from it; `unknown` outside a checkout."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        dirty = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN
    return head.stdout.strip() + CHANGED * bool(dirty.stdout.strip())


def libraries() -> dict[str, str]:
    """Versions of what a training rests on, Python's among them."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def machine() -> str:
    """The kind of machine, as far as it bears on the bytes: system, processor, the vector instructions torch uses."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.processor()
    return f"{platform.system()} {platform.machine()}, {processor}, {torch.backends.cpu.get_cpu_capability()}"

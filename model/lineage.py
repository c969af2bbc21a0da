"""Where a bundle comes from: code, libraries, machine and what the training was told. Enough to build it again."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from contracts.bundle import Lineage
from contracts.snapshots import SnapshotMade
from model.parallel import Place

LIBRARIES = ("torch", "onnx", "onnxruntime", "numpy", "polars")
CHANGED = "+changes"
UNKNOWN = "unknown"


def lineage(
    made: SnapshotMade, seed: int, here: Place, threads: int, champion: str | None, corrects: str | None
) -> Lineage:
    """The lineage of what is trained here; the training was given `champion`, and started from `corrects`."""
    return Lineage(
        code_revision=code_revision(),
        snapshot_digest=made.digest,
        seed=seed,
        parent_version=corrects,
        decision_id=made.decision_id,
        libraries=libraries(),
        champion_version=champion,
        change_at=made.change_at,
        machine=machine(here.device),
        device="cuda" if here.device.type == "cuda" else "cpu",
        processes=here.world,
        threads=threads,
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


def machine(device: torch.device) -> str:
    """The kind of machine, as far as it bears on the bytes: system, processor, and the vector instructions that torch
    uses or the GPU."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.processor()
    computes = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return f"{platform.system()} {platform.machine()}, {processor}, {computes}"

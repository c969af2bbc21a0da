"""Torch weights of released bundles, kept beside them: a correction starts from the champion's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from pydantic import TypeAdapter

from contracts.bundle import verify
from contracts.problems import TandemError
from contracts.snapshots import SnapshotZone
from model.candidate import Champion
from model.network import DurationNetwork

ZONES = TypeAdapter(list[SnapshotZone])


class NoWeights(TandemError):
    """The champion's weights are not where training keeps them."""


def keep(network: DurationNetwork, path: Path) -> None:
    """Write a network's weights and zones in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    torch.save({"zones": ZONES.dump_json(network.zones).decode(), "state": network.state_dict()}, part)
    part.replace(path)


def load_champion(version: str | None, bundles: Path, weights: Path) -> Champion | None:
    """The champion's network and manifest; None when there is no champion. Raises `NoWeights` or `BundleError`."""
    if version is None:
        return None
    path = weights / f"{version}.pt"
    if not path.is_file():
        raise NoWeights(f"no weights of champion {version} at {path}: restore them, or train without --parent")
    kept = torch.load(path, weights_only=True)  # tensors and text only: nothing in the file can run
    network = DurationNetwork(ZONES.validate_python(json.loads(kept["zones"])))
    network.load_state_dict(kept["state"])
    return Champion(network, verify(bundles / version))

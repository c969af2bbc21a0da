"""One small training for the whole session: a snapshot of the small city, the released bundle and its network."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from filelock import FileLock
from rich.console import Console

from contracts.bundle import BundleReleased
from model.candidate import Champion
from model.settings import Settings
from model.snapshot import Snapshot, Windows, read, split
from model.train import train
from model.weights import load_champion
from tests.model import small_city

DAYS = 28
CHANGE = small_city.START + timedelta(days=DAYS)


@dataclass(frozen=True)
class Trained:
    """A var with a snapshot and the bundle released from it."""

    settings: Settings
    table: pl.DataFrame
    snapshot: Snapshot
    release: BundleReleased
    champion: Champion
    tell_mlflow: Callable[[], None]

    @property
    def folder(self) -> Path:
        return self.settings.bundles / self.release.version

    @property
    def windows(self) -> Windows:
        return split(self.snapshot.trips)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Trained:
    """Trained by the first process of pytest-xdist that needs it; the others wait and read it."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "trained"
    with FileLock(f"{folder}.lock"):
        kept = folder / "trained.pickle"
        if not kept.is_file():
            folder.mkdir(exist_ok=True)
            kept.write_bytes(pickle.dumps(_train(folder)))
        found = pickle.loads(kept.read_bytes())  # noqa: S301 our own, of this very run
    assert isinstance(found, Trained)
    return found


def _train(var: Path) -> Trained:
    settings = Settings(var=var)
    table = small_city.trips(10_500, DAYS, seed=2)
    made = small_city.write_snapshot(settings.snapshots, table)
    snapshot = read(settings.snapshots / made.digest)
    release, tell_mlflow = train(snapshot, settings.bundles, settings, None, 1, Console())
    assert isinstance(release, BundleReleased), release
    champion = load_champion(release.version, settings.bundles, settings.weights)
    assert champion is not None
    return Trained(settings, table, snapshot, release, champion, tell_mlflow)

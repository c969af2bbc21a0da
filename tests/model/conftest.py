"""One small training for the whole session: a snapshot of the small city, the released bundle and its network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
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
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    settings = Settings(var=tmp_path_factory.mktemp("var"))
    table = small_city.trips(10_500, DAYS, seed=2)
    made = small_city.write_snapshot(settings.snapshots, table)
    snapshot = read(settings.snapshots / made.digest)
    release, tell_mlflow = train(snapshot, settings.bundles, settings, None, 1, Console())
    assert isinstance(release, BundleReleased), release
    champion = load_champion(release.version, settings.bundles, settings.weights)
    assert champion is not None
    return Trained(settings, table, snapshot, release, champion, tell_mlflow)

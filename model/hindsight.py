"""Forecasts held against the trainings that came after them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from contracts.bundle import Evidence, Manifest
from contracts.problems import TandemError
from model.forecasts import Expected, Forecast
from model.snapshot import read, split


class NotComparable(TandemError):
    """A training says nothing of a forecast; the text says why."""


@dataclass(frozen=True)
class Training:
    """A training on all rows of a snapshot that ended with evidence, released or refused."""

    name: str
    source: str
    rows: int
    code_revision: str
    evidence: Evidence


@dataclass(frozen=True)
class Hindsight:
    """A forecast beside what one later training on more rows measured."""

    forecast: str
    expected: Expected
    training: Training
    measured: float
    same_code: bool

    @property
    def inside(self) -> bool:
        """Whether what was measured lies in the forecast's interval."""
        low, high = self.expected.bounds
        return low <= self.measured <= high


def trainings(places: Iterable[Path], snapshots: Path) -> tuple[list[Training], list[str]]:
    """Trainings among sealed bundles and refused candidates, and why each other one is left out.

    Refused ones count: were they left out, the forecast of a failure could never come true.
    """
    found, left_out = [], []
    for folder in sorted(file.parent for place in places for file in place.glob("v*/evidence.json")):
        try:
            found.append(_training(folder, snapshots))
        except (OSError, ValidationError, TandemError) as error:
            left_out.append(f"{folder.name}: {str(error).splitlines()[0]}")
    return found, left_out


def _training(folder: Path, snapshots: Path) -> Training:
    lineage = Manifest.model_validate_json((folder / "bundle.json").read_bytes()).lineage
    evidence = Evidence.model_validate_json((folder / "evidence.json").read_bytes())
    if lineage.parent_version is not None:
        raise NotComparable(f"corrects {lineage.parent_version}: what it knows is not from these rows alone")
    if not (snapshots / lineage.snapshot_digest).is_dir():
        raise NotComparable(
            f"snapshot {lineage.snapshot_digest[:12]} is gone from {snapshots}: nobody can count its rows"
        )
    snapshot = read(snapshots / lineage.snapshot_digest)
    windows = split(snapshot.trips)
    if len(windows.test) != evidence.test_rows:
        raise NotComparable("trained after a change, on windows of its own")
    return Training(folder.name, snapshot.made.source, len(windows.train), lineage.code_revision, evidence)


def hindsight(forecasts: Mapping[str, Forecast], found: Iterable[Training], group_outcomes: int) -> Iterator[Hindsight]:
    """Each forecast against each training on more rows of the same source, as far as the forecast reached."""
    done = list(found)
    for name, forecast in forecasts.items():
        later = [item for item in done if item.rows > forecast.rows and item.source == forecast.source]
        for training in later:
            expected = forecast.at_rows(training.rows)
            measured = measured_of(forecast, training.evidence, group_outcomes)
            if expected is not None and measured is not None:
                same_code = training.code_revision == forecast.code_revision
                yield Hindsight(name, expected, training, measured, same_code)


def measured_of(forecast: Forecast, evidence: Evidence, group_outcomes: int) -> float | None:
    """A forecast's metric in a bundle's evidence; for zone groups the one furthest from the middle of the limits, None
    where no group has `group_outcomes` trips."""
    if forecast.metric == "training_s":
        return evidence.training_s
    if forecast.metric == "pinball_ratio":
        return evidence.overall.pinball_min / evidence.overall.heuristic_pinball_min
    if not forecast.of_groups:
        return float(getattr(evidence.overall, forecast.metric))
    shares = [getattr(item, forecast.metric) for item in evidence.zone_groups.values() if item.rows >= group_outcomes]
    assert forecast.at_least is not None
    assert forecast.at_most is not None
    middle = (forecast.at_least + forecast.at_most) / 2
    return max(shares, key=lambda share: abs(share - middle), default=None)

"""The requirement record, typed. Whatever compares with a number asks here for it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from contracts.problems import TandemError
from contracts.trips import Team

RECORD = Path(__file__).with_name("requirements.toml")
CheckKind = Literal["gate", "load test", "monitor", "system test", "intake", "policy"]


class BadRecord(TandemError):
    """The requirement record cannot be read; the text names the entry and the fault."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Requirement(_Entry):
    """One agreed quality with its limit, in `unit`, for `population`. A monitor judges the `newest` of them."""

    id: str
    statement: str
    quality: str
    owner: Team
    asked_by: Team
    derived_from: str | None = None
    reason: str
    practices: list[str]
    metric: str
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    population: str
    newest: int | None = None
    checked_by: list[CheckKind]

    @model_validator(mode="after")
    def _has_a_limit(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError(f"requirement {self.id} has neither at_least nor at_most: give it a limit")
        return self

    def passes(self, measured: float) -> bool:
        """Whether a measured value keeps the limit. NaN never does."""
        low = -float("inf") if self.at_least is None else self.at_least
        high = float("inf") if self.at_most is None else self.at_most
        return low <= measured <= high

    def fails_for_sure(self, low: float, high: float) -> bool:
        """Whether the whole interval [low, high] of a measured value lies outside the limit."""
        return (self.at_least is not None and high < self.at_least) or (self.at_most is not None and low > self.at_most)

    @property
    def lookback(self) -> int:
        """How many of its population a monitor looks back over. Raises `BadRecord` where the record does not say."""
        if self.newest is None:
            raise BadRecord(f"requirement {self.id} has no newest: say how many a monitor looks back over")
        return self.newest

    @property
    def limit(self) -> str:
        """The limit in words, as tables print it."""
        parts = []
        if self.at_least is not None:
            parts.append(f"at least {self.at_least:,g}")
        if self.at_most is not None:
            parts.append(f"at most {self.at_most:,g}")
        return f"{', '.join(parts)} {self.unit}"

    @property
    def ceiling(self) -> float:
        """The upper limit. Raises `BadRecord` where there is none."""
        if self.at_most is None:
            raise BadRecord(f"requirement {self.id} has no at_most")
        return self.at_most

    @property
    def floor(self) -> float:
        """The lower limit. Raises `BadRecord` where there is none."""
        if self.at_least is None:
            raise BadRecord(f"requirement {self.id} has no at_least")
        return self.at_least


class Load(_Entry):
    """A load that requirements name as their population: constant arrivals after a warm-up."""

    arrivals_per_s: float
    warmup_s: float
    duration_s: float
    least_arrival_share: float
    least_samples: int


class PolicyFigures(_Entry):
    """Figures of the retraining policy and its monitors; `requirements.toml` says what each means."""

    cohort_min: int
    closing_min: int
    clean_cohorts: int
    retrain_cooldown_h: int
    tolerance: float
    trips_between_false_alarms: float
    verdict_alpha: float
    least_pairs: int
    most_pairs: int
    loss_clip_min: float
    audit_share: float


class Requirements(_Entry):
    """The whole record. `record["estimate-latency-p95"].ceiling` is a limit."""

    requirement: list[Requirement]
    load: dict[str, Load]
    policy: PolicyFigures

    @model_validator(mode="after")
    def _ids_are_sound(self) -> Self:
        ids = [item.id for item in self.requirement]
        for item in self.requirement:
            if ids.count(item.id) > 1:
                raise ValueError(f"requirement {item.id} is there twice: give each its own id")
            if item.derived_from is not None and item.derived_from not in ids:
                raise ValueError(f"requirement {item.id} derives from {item.derived_from}, which does not exist")
        return self

    def __getitem__(self, requirement_id: str) -> Requirement:
        for item in self.requirement:
            if item.id == requirement_id:
                return item
        raise BadRecord(f"no requirement {requirement_id!r} in {RECORD.name}: add it there or mend the name")

    def all(self) -> Iterator[Requirement]:
        """Every requirement, in the record's order."""
        return iter(self.requirement)


def load(path: Path = RECORD) -> Requirements:
    """Read the record. Raises `BadRecord`, naming the entry at fault."""
    try:
        return Requirements.model_validate(tomllib.loads(path.read_text()))
    except tomllib.TOMLDecodeError as error:
        raise BadRecord(f"{path.name}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadRecord(f"{path.name}: {where}: {first['msg']}, got {first['input']!r:.80}") from error

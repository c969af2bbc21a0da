"""The requirement record, typed. Whatever compares with a number asks here for it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from contracts.problems import TandemError
from contracts.trips import Team

RECORD = Path(__file__).with_name("requirements.toml")
CheckKind = Literal["gate", "load test", "monitor", "policy", "intake", "system test", "browser test"]
Quality = Literal[
    "loss", "coverage", "fairness", "robustness", "explainability", "latency", "throughput", "memory", "size",
    "training time", "freshness", "privacy", "security", "usability", "data quantity", "data quality", "availability",
    "cost", "reproducibility",
]  # fmt: skip
CHECKLIST: tuple[Quality, ...] = get_args(Quality)


FOLDERS = {"platform": "deploy", "city": "data"}  # teams whose charter lies in a folder of another name


class BadRecord(TandemError):
    """The requirement record cannot be read; the text names the entry and the fault."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Requirement(_Entry):
    """One agreed quality with its limit, in `unit`, for `population`. A monitor judges the `newest` of them.

    `saboteurs` are the seeded faults of `make prove` under which it must go red; `offers` tells the negotiation, each
    line opening with the team that speaks, the last what was agreed on that date.
    """

    id: str
    statement: str
    quality: Quality
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
    checked_by: Annotated[list[CheckKind], Field(min_length=1)]
    saboteurs: list[str]
    offers: Annotated[list[str], Field(min_length=1)]
    agreed: date
    review: date

    @model_validator(mode="after")
    def _has_a_limit(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError(f"requirement {self.id} has neither at_least nor at_most: give it a limit")
        return self

    @model_validator(mode="after")
    def _is_agreed(self) -> Self:
        spoke = {offer.partition(":")[0] for offer in self.offers}
        silent = {self.owner, self.asked_by} - spoke
        if strangers := spoke - set(get_args(Team)):
            raise ValueError(f"requirement {self.id}: an offer opens with {sorted(strangers)}, which is no team")
        if silent:
            raise ValueError(f"requirement {self.id}: its offers lack a line of {sorted(silent)}")
        if self.review <= self.agreed:
            raise ValueError(f"requirement {self.id}: review {self.review} is not after agreed {self.agreed}")
        return self

    def passes(self, measured: float) -> bool:
        """Whether a measured value keeps the limit. NaN never does."""
        low = -float("inf") if self.at_least is None else self.at_least
        high = float("inf") if self.at_most is None else self.at_most
        return low <= measured <= high

    def room(self, measured: float) -> float:
        """How far within its limits a measured value lies, in `unit`; below zero where it misses one."""
        low = -float("inf") if self.at_least is None else self.at_least
        high = float("inf") if self.at_most is None else self.at_most
        return min(measured - low, high - measured)

    def fails_for_sure(self, low: float, high: float) -> bool:
        """Whether the whole interval [low, high] of a measured value lies outside the limit."""
        return (self.at_least is not None and high < self.at_least) or (self.at_most is not None and low > self.at_most)

    @property
    def runbook(self) -> str:
        """Where the owner says what to do when it is missed."""
        return f"{FOLDERS.get(self.owner, self.owner)}/README.md"

    def missed(self, measured: float) -> str:
        """What a failing check prints: the limit, the value at fault, who answers for it and where to look."""
        return (
            f"{self.id}: {self.statement}; measured {measured:,.4g}, limit {self.limit}; "
            f"owner {self.owner}, runbook {self.runbook}"
        )

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
            parts.append(f"at least {self.at_least:,.12g}")
        if self.at_most is not None:
            parts.append(f"at most {self.at_most:,.12g}")
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


class Waiver(_Entry):
    """A quality that no requirement covers for now: who answers for that, why, and until when."""

    quality: Quality
    owner: Team
    reason: str
    agreed: date
    expires: date


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
    gain_clip_min: float
    group_outcomes: int
    audit_share: float


class Requirements(_Entry):
    """The whole record. `record["estimate-latency-p95"].ceiling` is a limit."""

    requirement: list[Requirement]
    waiver: list[Waiver]
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

    @model_validator(mode="after")
    def _every_quality_is_answered_for(self) -> Self:
        covered = {item.quality for item in self.requirement}
        for waiver in self.waiver:
            if waiver.quality in covered:
                raise ValueError(f"quality {waiver.quality} has a requirement and a waiver: take the waiver out")
        if missing := [name for name in CHECKLIST if name not in covered | {item.quality for item in self.waiver}]:
            raise ValueError(f"no requirement and no waiver for {', '.join(missing)}: agree on one")
        return self

    def overdue(self, today: date) -> list[str]:
        """What has passed its date by `today`: expired waivers and reviews that did not happen, a line each."""
        waivers = [
            f"the waiver for {item.quality} expired on {item.expires}: owner {item.owner} sets a limit or renews it"
            for item in self.waiver
            if item.expires < today
        ]
        return waivers + [
            f"requirement {item.id} was to be reviewed by {item.review}: owner {item.owner} and {item.asked_by} meet"
            for item in self.requirement
            if item.review < today
        ]

    def __getitem__(self, requirement_id: str) -> Requirement:
        for item in self.requirement:
            if item.id == requirement_id:
                return item
        raise BadRecord(f"no requirement {requirement_id!r} in {RECORD.name}: add it there or mend the name")

    def all(self) -> Iterator[Requirement]:
        """Every requirement, in the record's order."""
        return iter(self.requirement)


def load(path: Path = RECORD) -> Requirements:
    """Read the record. Raises `BadRecord`, naming file, line and entry at fault."""
    text = path.read_text()
    try:
        return Requirements.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadRecord(f"{path.name}: {error}: mend the line") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the record as a whole"
        at = f":{_line(text, first['loc'])}" if first["loc"] else ""
        message = f"{path.name}{at}: {where}: {first['msg']}"
        given = "" if isinstance(first["input"], dict | list) else f", got {first['input']!r:.80}"
        raise BadRecord(f"{message}{given}: see the head of the file for what each field means") from error


def _line(text: str, location: tuple[int | str, ...]) -> int:
    """The line at which the entry that `location` leads to starts, or its field where that is there."""
    table, rest = (location[0], location[1:]) if location else ("", ())
    lines = list(enumerate(text.splitlines(), 1))
    entries = [number for number, line in lines if line == f"[[{table}]]"]
    named = [number for number, line in lines if rest and line == f"[{table}.{rest[0]}]"]
    plain = [number for number, line in lines if line == f"[{table}]"]
    heads = entries or named or plain
    if not heads or not rest:
        return heads[0] if heads else 1
    at, field = (heads[rest[0]], rest[1:]) if isinstance(rest[0], int) else (heads[0], rest[1:] if named else rest)
    for number, line in enumerate(text.splitlines()[at:], at + 1):
        if line.startswith("["):
            break
        if field and line.startswith(f"{field[0]} ="):
            return number
    return at

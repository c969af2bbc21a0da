"""Where things stand against the requirement record: faults of the data, and a line per requirement we watch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from contracts.problems import TandemError
from contracts.requirements import Requirement, Requirements
from monitoring.coverage import OF_NOTHING, Share
from monitoring.evidence import Evidence, Health

Colour = Literal["red", "not enough truth", "green"]
COLOURS: tuple[Colour, ...] = get_args(Colour)  # the worst first


class Unwatched(TandemError):
    """The record asks monitoring for something it does not measure."""

    def __init__(self, requirement: Requirement) -> None:
        super().__init__(
            f"requirement {requirement.id} is checked by a monitor, none measures {requirement.metric}: add one"
        )


@dataclass(frozen=True, slots=True)
class Fault:
    """One reason not to believe the data, and the requirement it breaks."""

    requirement_id: str
    words: str


@dataclass(frozen=True, slots=True)
class Line:
    """One requirement, what was measured, and how it stands."""

    requirement: Requirement
    measured: float
    of: int  # trips, rows or groups measured
    colour: Colour
    note: str = ""


def faults(health: Health, record: Requirements) -> tuple[Fault, ...]:
    """Why the newest cohort must not be believed; empty when it may."""
    found = [
        Fault("quarantine-share", f"batch {batch.batch_id} was quarantined whole: {batch.detail}")
        for batch in health.refused
    ]
    quarantined = health.quarantined
    if quarantined.of and not record["quarantine-share"].passes(quarantined.value):
        words = f"{quarantined.value:.1%} of the rows in the newest batches are quarantined"
        found.append(Fault("quarantine-share", words))
    if record["outcome-join"].fails_for_sure(*health.joined.interval(record.policy.verdict_alpha)):
        lost = health.joined.of - health.joined.hits
        words = f"the estimates of {lost} of {health.joined.of} model-quoted trips in this cohort are missing"
        found.append(Fault("outcome-join", words))
    found += [Fault("feed-freshness", words) for words in health.silent]
    return tuple(found)


def standing(evidence: Evidence, record: Requirements, stalest_s: float = 0.0) -> tuple[Line, ...]:
    """A line for each requirement that the record says a monitor checks: where it has parts, their worst.

    `stalest_s` is wall time, measured by who looks: seconds since the feed silent for longest last answered.
    """
    enough, alpha = record.policy.group_outcomes, record.policy.verdict_alpha
    groups, rows = evidence.held.groups, evidence.health.quarantined

    def share(measured: Share, needed: int = enough, note: str = "") -> _Measured:
        return _Measured(measured.value, measured.interval(alpha), measured.of, needed, note)

    def exact(value: float, of: int = 1, note: str = "") -> _Measured:
        return _Measured(value, (value, value), of, 1, note)

    measured = {
        "late-promises": [share(evidence.late)],
        "coverage-p90": [share(evidence.held.overall.p90)],
        "coverage-band": [share(evidence.held.overall.band)],
        "group-coverage-p90": [share(held.p90, note=group) for group, held in groups.items()],
        "outcome-join": [share(evidence.joined, needed=1)],
        "feed-freshness": [exact(stalest_s)],
        "quarantine-share": [exact(rows.value, rows.of)],
        "missing-share": [exact(value, note=column) for column, value in evidence.missing.items()],
    }
    lines = []
    for requirement in record.all():
        if "monitor" in requirement.checked_by:
            if requirement.id not in measured:
                raise Unwatched(requirement)
            parts = [_line(requirement, part) for part in measured[requirement.id] or [share(OF_NOTHING)]]
            lines.append(min(parts, key=lambda line: (COLOURS.index(line.colour), requirement.room(line.measured))))
    return tuple(lines)


class _Measured(NamedTuple):
    """A value with its interval, of so many trips where `needed` are enough to judge it."""

    value: float
    interval: tuple[float, float]
    of: int
    needed: int
    note: str


def _line(requirement: Requirement, part: _Measured) -> Line:
    red = requirement.fails_for_sure(*part.interval)
    colour: Colour = "not enough truth" if part.of < part.needed else "red" if red else "green"
    return Line(requirement, part.value, part.of, colour, part.note)

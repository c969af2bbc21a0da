"""What a saboteur is, and what a class of checks offers the matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from contracts.measurements import Measurement
from contracts.requirements import CheckKind, Requirements

Scene = TypeVar("Scene")


@dataclass(frozen=True)
class Saboteur(Generic[Scene]):
    """A seeded fault: it spoils a scene before the class of checks runs over it.

    `breaks` is the requirement whose check must go red. `drags` names those that the fault breaks as well because they
    measure the same thing from another side; any other requirement of the class that goes red spoils the proof.
    """

    breaks: str
    spoil: Callable[[Scene], None]
    drags: frozenset[str] = frozenset()
    outlasts_a_limit: bool = False  # it mostly waits, so that others can be proven meanwhile

    @property
    def says(self) -> str:
        """What it does, in words."""
        return (self.spoil.__doc__ or "").strip()


def measured(
    record: Requirements, check: CheckKind, values: Iterable[tuple[str, float, bool, str]]
) -> list[Measurement]:
    """Verdicts (requirement, value, passed, note) as measurements."""
    return [
        Measurement.of(name, check, value, passed, note)
        for name, value, passed, note in values
        if check in record[name].checked_by
    ]


def do_nothing(_scene: object) -> None:
    """Spoil nothing."""


def spoiler(saboteurs: Mapping[str, Saboteur], name: str | None) -> Callable[[object], None]:
    """The fault of that name, or none."""
    return do_nothing if name is None else saboteurs[name].spoil

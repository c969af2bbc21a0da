"""What the checks of requirements last measured: one small file for each requirement and kind of check.

Whoever checks leaves it in `var/measured/`; `make requirements` and monitoring's page read it beside live figures.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from pydantic import ConfigDict

from contracts.requirements import CheckKind
from contracts.trips import Instant, Wire


class Measurement(Wire):
    """One verdict: what `check` measured of a requirement, at wall time `at`. `note` says of what."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")  # NaN: nothing to judge yet

    requirement: str
    check: CheckKind
    value: float
    passed: bool
    at: Instant
    note: str = ""

    @classmethod
    def of(cls, requirement: str, check: CheckKind, value: float, passed: bool, note: str = "") -> Self:
        """A verdict of this moment."""
        return cls(requirement=requirement, check=check, value=value, passed=passed, at=datetime.now(UTC), note=note)


def keep(found: Iterable[Measurement], folder: Path) -> None:
    """Leave the newest verdicts. Of several on one requirement a failed one counts, else the last."""
    worst: dict[tuple[str, str], Measurement] = {}
    for item in found:
        key = (item.requirement, item.check)
        if key not in worst or worst[key].passed:
            worst[key] = item
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # `var`, which is its owner's alone
    folder.mkdir(exist_ok=True)
    for item in worst.values():
        file = folder / f"{item.requirement}.{item.check.replace(' ', '-')}.json"
        part = file.with_suffix(f".{os.getpid()}.part")
        part.write_text(item.model_dump_json(indent=1))
        part.replace(file)


def kept(folder: Path) -> list[Measurement]:
    """Every verdict that lies there, by requirement and kind of check; nothing where there is no folder."""
    return [Measurement.model_validate_json(file.read_bytes()) for file in sorted(folder.glob("*.json"))]

"""What the contracts publish, and the check of what changed since the previous version.

python -m tests.contracts.publish            write contracts/published/
python -m tests.contracts.publish --check    is it up to date, what changed, was every break declared?
python -m tests.contracts.publish --release  record today's version as the previous one (tests/contracts/previous/)
"""

# ruff: noqa: T201  (a command line prints)
from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml
from fastapi import FastAPI

import monitoring.app
import monitoring.settings
import product.main
import product.settings
import serving.main
import serving.settings
from chassis.clock import Clock
from chassis.tokens import make_tokens
from contracts.changes import compare, undeclared
from contracts.description import Description, describe
from contracts.dictionary import HEADINGS, cells, tables
from contracts.trips import INSTANT, LABEL, VERSION
from deploy.odcs import odcs

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "contracts" / "published"
NOTES = ROOT / "docs" / "contract-changes.md"
PREVIOUS = Path(__file__).with_name("previous") / "description.json"


def serving_app(var: Path) -> FastAPI:
    return serving.main.build(serving.settings.Settings(var=var))


def product_app(var: Path) -> FastAPI:
    return product.main.build(product.settings.Settings(var=var))


def monitoring_app(var: Path) -> FastAPI:
    return monitoring.app.build(monitoring.settings.Settings(var=var))


SERVICES: dict[str, Callable[[Path], FastAPI]] = {
    "serving": serving_app,
    "product": product_app,
    "monitoring": monitoring_app,
}


@cache
def openapi(team: str) -> dict[str, Any]:
    """A service's OpenAPI document, asked of the real app, which is built but not started."""
    with tempfile.TemporaryDirectory() as folder:
        var = Path(folder)
        start = datetime(2026, 6, 1, tzinfo=UTC)
        Clock(time_zone="UTC", city_start=start, wall_start=time.time(), speed=1).save(var / "clock.json")
        make_tokens(var / "tokens")
        return SERVICES[team](var).openapi()


def openapi_text(team: str) -> str:
    return json.dumps(openapi(team), indent=1, ensure_ascii=False) + "\n"


def dictionary() -> str:
    """The data dictionary as Markdown."""

    def row(found: Sequence[str]) -> str:
        return f"| {' | '.join(found)} |"

    parts = [
        "# A trip, field by field",
        f"Derived from `contracts/trips.py`, version {VERSION}; not for editing. The label is {LABEL}.",
        f"A time is text like 2026-06-01T08:30:00+02:00, of the form `{INSTANT}`.",
    ]
    for title, fields in tables():
        rows = [row(cells(entry)) for entry in fields]
        parts += [f"## {title}", "\n".join([row(HEADINGS), f"|{'---|' * len(HEADINGS)}", *rows])]
    return "\n\n".join(parts) + "\n"


def odcs_text() -> str:
    return yaml.safe_dump(odcs(), sort_keys=False, allow_unicode=True, width=120)


PUBLISHED: dict[str, Callable[[], str]] = {
    **{f"{team}.openapi.json": partial(openapi_text, team) for team in SERVICES},
    "trips.odcs.yaml": odcs_text,
    "dictionary.md": dictionary,
}


def stale(folder: Path = FOLDER) -> list[str]:
    """Published files that are not what the contracts say today, and files nobody publishes."""
    there = {path.name for path in folder.iterdir()}
    old = [name for name, text in PUBLISHED.items() if name not in there or (folder / name).read_text() != text()]
    return sorted({*old, *(there - PUBLISHED.keys())})


def today() -> Description:
    """The contracts as they are now."""
    return describe({team: openapi(team) for team in SERVICES})


def described(contracts: Description) -> str:
    """A description as a file: a line for each field, route, event and requirement."""
    sections = []
    for name, parts in contracts.items():
        text = json.dumps(parts)
        if isinstance(parts, dict):
            lines = ",\n".join(f"{json.dumps(part)}: {json.dumps(said)}" for part, said in parts.items())
            text = f"{{\n{lines}\n}}"
        sections.append(f"{json.dumps(name)}: {text}")
    whole = ",\n".join(sections)
    return f"{{\n{whole}\n}}\n"


def check(old: Description, new: Mapping[str, Any], notes: str) -> list[str]:
    """Print what changed since the previous version; answers the faults."""
    changes = compare(old, dict(new))
    print(f"contracts {new['version']}: {len(changes)} changes since {old['version']}")
    for change in changes:
        print(f"  {change}")
    return undeclared(old, dict(new), notes)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.contracts.publish", description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 where a break was not declared or a file is stale")
    parser.add_argument("--release", action="store_true", help="record today's version as the previous one")
    asked = parser.parse_args()
    if asked.check:
        faults = check(json.loads(PREVIOUS.read_text()), today(), NOTES.read_text())
        faults += [f"contracts/published/{name} is stale: run python -m tests.contracts.publish" for name in stale()]
        print("\n".join(f"FAULT {fault}" for fault in faults) or "contracts: every break is declared, files are fresh")
        return 1 if faults else 0
    if asked.release:
        from tests.contracts.previous.record import record  # its services' fixtures take a while to import

        PREVIOUS.write_text(described(today()))
        record(PREVIOUS.parent)
    for name, text in PUBLISHED.items():
        (FOLDER / name).write_text(text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

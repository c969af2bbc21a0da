"""One number, one place: no code but the record states a limit."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.requirements import load

ROOT = Path(__file__).parents[2]
TEAMS = ("contracts", "chassis", "data", "model", "serving", "product", "monitoring", "loadtests", "deploy")
RECORD = load()
# Numbers so plain that they are met by chance; a comparison with one of them proves nothing.
PLAIN = {0.0, 0.5, 1.0, 2.0, 3.0, 4.0}
LIMITS = {
    limit: item.id for item in RECORD.all() for limit in (item.at_least, item.at_most) if limit not in PLAIN | {None}
} | {float(value): f"policy.{name}" for name, value in RECORD.policy if float(value) not in PLAIN}


def compared(source: str) -> Iterator[tuple[int, float]]:
    """Numbers that code compares something with, with their line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and "status" not in ast.unparse(node):  # 200 is also a status of HTTP
            for part in (node.left, *node.comparators):
                if isinstance(part, ast.Constant) and isinstance(part.value, int | float):
                    yield node.lineno, float(part.value)


def copies(source: str, file: str = "here.py") -> list[str]:
    """Comparisons with a number that the record owns."""
    return [
        f"{file}:{line} compares with {value:g}, the limit of {LIMITS[value]}: read it from contracts.requirements"
        for line, value in compared(source)
        if value in LIMITS
    ]


def test_no_code_compares_with_a_limit_of_its_own():
    found = []
    for team in TEAMS:
        for file in sorted((ROOT / team).rglob("*.py")):
            found += copies(file.read_text(), str(file.relative_to(ROOT)))
    assert found == []


@pytest.mark.parametrize("line", ["if p95_ms > 50: alarm()", "ok = 0.87 <= share", "while lag < 30.0: pass"])
def test_a_copied_limit_is_found(line):
    (fault,) = copies(line)
    assert "read it from contracts.requirements" in fault

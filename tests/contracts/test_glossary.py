"""One language: fields, metrics, requirements, pages and docstrings keep to the glossary."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.feeds import PAYLOADS
from contracts.requirements import load
from tests.contracts import glossary

ROOT = Path(__file__).parents[2]
TEAMS = ("contracts", "chassis", "data", "model", "serving", "product", "monitoring", "loadtests", "deploy")
WORDS = glossary.load()
PLACEHOLDER = re.compile(r"\{[{%].*?[%}]\}|<[^>]*>|<(script|style).*?</\1>", re.DOTALL)


def docstrings() -> Iterator[tuple[str, str]]:
    for team in TEAMS:
        for file in sorted((ROOT / team).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_":
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", f"{node.name} {ast.get_docstring(node) or ''}"


def fields() -> Iterator[tuple[str, str]]:
    for name, model in PAYLOADS.items():
        for field in model.model_fields:
            yield f"{name}.{field}", field


def metrics() -> Iterator[tuple[str, str]]:
    for team in TEAMS:
        for file in sorted((ROOT / team).rglob("*.py")):
            for name in re.findall(r'"(tandem_[a-z_]+)"', file.read_text()):
                yield f"{file.relative_to(ROOT)}: {name}", name


def promised() -> Iterator[tuple[str, str]]:
    for item in load().all():
        yield item.id, f"{item.id} {item.metric} {item.statement} {item.reason} {item.population}"


def pages() -> Iterator[tuple[str, str]]:
    for team in ("product", "monitoring"):
        for file in sorted((ROOT / team / "templates").glob("*.html")):
            yield str(file.relative_to(ROOT)), PLACEHOLDER.sub(" ", file.read_text())


@pytest.mark.parametrize("texts", [docstrings, fields, metrics, promised, pages])
def test_nobody_says_a_refused_word(texts):
    found = list(texts())
    assert len(found) > 5
    assert [f"{where}: {fault}" for where, text in found for fault in WORDS.faults(text)] == []


@pytest.mark.parametrize(
    "text",
    ["model_accuracy", "ModelAccuracy", "The Performance of it", "its score", "ETA of a trip", "tandem_score_total"],
)
def test_a_refused_word_is_found_with_what_to_say(text):
    (fault,) = WORDS.faults(text)
    assert "say " in fault


def test_words_that_only_look_alike_pass():
    assert list(WORDS.faults("underscore beta details Meta accurately")) == []


def test_every_term_says_what_it_is_not():
    assert {"trip", "estimate", "promise", "outcome", "champion", "coverage"} <= set(WORDS.term)
    for name, term in WORDS.term.items():
        assert term.meaning.endswith("."), name
        assert term.is_not, name
        assert term.replaces, name

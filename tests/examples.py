"""Runs consumers' examples (`contracts/examples/`) against a provider. That folder's README explains their language."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

FOLDER = Path(__file__).parent.parent / "contracts" / "examples"
MISSING = object()
ROUNDING = 0.001  # what a sum may be off by
TYPES: dict[str, Any] = {"string": str, "number": int | float, "boolean": bool, "list": list, "table": dict}
STEP_KEYS = {"request", "body", "status", "content_type", "headers", "holds", "some", "only", "keep"}


class BadExample(Exception):
    """An example is not written as its README says."""


@dataclass(frozen=True)
class Example:
    """One expectation of one consumer."""

    consumer: str
    provider: str
    name: str
    why: str
    given: str
    steps: Sequence[Mapping[str, Any]]

    def __str__(self) -> str:
        return f"{self.consumer} of {self.provider}: {self.name}"

    def run(self, client: httpx.Client, known: Mapping[str, Any] | None = None) -> None:
        """Ask the provider. `known` are names that its state gives a value, as "$name" in the steps."""
        names = dict(known or {})
        for number, step in enumerate(self.steps, 1):
            for fault in _faults(client, step, names):
                raise AssertionError(
                    f"{self.consumer} expects of {self.provider} (owner @tandem/{self.provider}): {self.name}\n"
                    f"because {self.why}\n"
                    f"given {self.given}, step {number}, {step['request']}: {fault}\n"
                    f"Mend {self.provider}/, or agree with @tandem/{self.consumer} on another expectation first."
                )


def examples_of(provider: str, folder: Path = FOLDER) -> list[Example]:
    """All that anyone expects of a provider."""
    return [example for example in every_example(folder) if example.provider == provider]


def every_example(folder: Path = FOLDER) -> list[Example]:
    """All examples. Raises `BadExample`."""
    found = []
    for path in sorted(folder.glob("*.toml")):
        told = tomllib.loads(path.read_text())
        if path.stem != f"{told['consumer']}-of-{told['provider']}":
            raise BadExample(f"{path.name} is of {told['consumer']} and {told['provider']}: rename it")
        for entry in told["example"]:
            for step in entry["step"]:
                if unknown := step.keys() - STEP_KEYS:
                    raise BadExample(f"{path.name}: {entry['name']}: no step has {sorted(unknown)}")
            steps = entry.pop("step")
            found.append(Example(told["consumer"], told["provider"], steps=steps, **entry))
    return found


def _faults(client: httpx.Client, step: Mapping[str, Any], names: dict[str, Any]) -> Iterator[str]:
    """What is not as expected; keeps values under their names."""
    method, _, path = step["request"].partition(" ")
    for name, value in names.items():
        path = path.replace(f"${name}", str(value))
    answer = client.request(method, path, json=step.get("body"))
    if answer.status_code != step["status"]:
        yield f"status {answer.status_code}, expected {step['status']}: {answer.text[:500]}"
        return
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if kind != step.get("content_type", kind):
        yield f"content type {kind}, expected {step['content_type']}"
    for name, expected in step.get("headers", {}).items():
        yield from _differs(f"header {name}", answer.headers.get(name, MISSING), expected, names)
    body = answer.json()
    if "only" in step:
        body = [item for item in body if not list(_holds(item, step["only"], names))]
    yield from _holds(body, step.get("holds", {}), names)
    for wanted in step.get("some", []):
        if all(list(_holds(item, wanted, names)) for item in body):
            closest = min((list(_holds(item, wanted, names)) for item in body), key=len, default=["there are none"])
            yield f"none of {len(body)} elements holds {wanted}; the closest: {'; '.join(closest)}"
    for name, place in step.get("keep", {}).items():
        names[name] = at(body, place)


def _holds(body: Any, expected: Mapping[str, Any], names: Mapping[str, Any]) -> Iterator[str]:
    for place, value in expected.items():
        yield from _differs(place or "the answer", at(body, place), value, names)


def at(body: Any, place: str) -> Any:
    """The value at a path, `MISSING` where there is none."""
    if not place:
        return body
    step, _, rest = place.partition(".")
    if step == "*":
        return [at(item, rest) for item in body] if isinstance(body, list) else MISSING
    if step.startswith("["):
        return [at(body, key) for key in step[1:-1].split(",")]
    if isinstance(body, list):
        return at(body[int(step)], rest) if int(step) < len(body) else MISSING
    return at(body[step], rest) if isinstance(body, dict) and step in body else MISSING


def _differs(place: str, got: Any, expected: Any, names: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(expected, str) and expected.startswith("$"):
        expected = {"equal": names[expected[1:]]}
    rules = expected if isinstance(expected, dict) else {"equal": expected}
    for rule, value in rules.items():
        if not matches(rule, value, got):
            shown = "nothing" if got is MISSING else repr(got)
            yield f"{place} is {shown[:300]}, expected {value!r}" + ("" if rule == "equal" else f" ({rule})")


def matches(rule: str, value: Any, got: Any) -> bool:
    """Whether a value keeps one rule. A value that is not there keeps none but `absent`."""
    if rule == "absent":
        return (got is MISSING or got is None) == value
    if got is MISSING or (isinstance(got, list) and MISSING in got):
        return False
    match rule:
        case "equal":
            return bool(got == value) and isinstance(got, bool) == isinstance(value, bool)
        case "type":
            return isinstance(got, TYPES[value]) and (value == "boolean" or not isinstance(got, bool))
        case "pattern":
            return isinstance(got, str) and re.fullmatch(value, got) is not None
        case "above":
            return matches("type", "number", got) and got > value
        case "at_most":
            return matches("type", "number", got) and got <= value
        case "length":
            return isinstance(got, list) and len(got) == value
        case "has":
            return isinstance(got, dict) and set(value) <= got.keys()
        case "rising":
            return None not in got and all(_comparable(a) <= _comparable(b) for a, b in pairwise(got)) == value
        case "distinct":
            return (len({repr(item) for item in got}) == len(got)) == value
        case "adds_up":
            *parts, total = (at(got, place) for place in value)
            numbers = [item for part in (*parts, total) for item in (part if isinstance(part, list) else [part])]
            known = all(matches("type", "number", item) for item in numbers)
            return known and abs(sum(numbers[:-1]) - total) <= ROUNDING
        case "counts_from":
            return bool(got) and [int(item) for item in got] == list(range(value, value + len(got)))
    raise BadExample(f"no rule {rule!r}: see contracts/examples/README.md")


def _comparable(value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) else value

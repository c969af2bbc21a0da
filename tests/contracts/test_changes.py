"""The differ: each labelled change of the contracts is judged as a careful owner would; undeclared breaks fail."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from contracts.changes import MOVES, ORDERED, RULES, TYPE_RULES, compare, undeclared
from contracts.description import Description, describe
from contracts.trips import OUTCOMES, VEHICLES, Column
from tests.contracts import publish

API = {team: json.loads((publish.FOLDER / f"{team}.openapi.json").read_text()) for team in publish.SERVICES}
TODAY = describe(API)
ESTIMATES = "serving POST /v1/estimates"
OASDIFF = os.environ.get("TANDEM_OASDIFF") or shutil.which("oasdiff")

Edit = Callable[[Any], object]


def body(contracts: Description) -> Any:
    """What product sends serving."""
    return contracts["routes"][ESTIMATES]["request"]["properties"]["body"]


def asked(contracts: Description) -> Any:
    """A trip as product sends it."""
    return body(contracts)["properties"]["trips"]["items"]


def answered(contracts: Description) -> Any:
    """An estimate as serving answers it."""
    return contracts["routes"][ESTIMATES]["answers"]["200 application/json"]["properties"]["estimates"]["items"]


def quantiles(contracts: Description) -> Any:
    """The quantiles in it."""
    return answered(contracts)["properties"]["quantiles"]["anyOf"][0]


def query(contracts: Description) -> Any:
    """What a follower asks of the trips feed."""
    return contracts["routes"]["product GET /feeds/trips"]["request"]


def ended(contracts: Description) -> Any:
    """The row that ends in the lake."""
    return contracts["events"]["trip.delivered"]["schema"]


def field(name: str, part: Callable[[Description], Any], **keywords: Any) -> Edit:
    """Set keywords of one field's schema."""
    return lambda contracts: part(contracts)["properties"][name].update(keywords)


def without(name: str, part: Callable[[Description], Any]) -> Edit:
    def edit(contracts: Description) -> None:
        del part(contracts)["properties"][name]
        part(contracts)["required"] = [item for item in part(contracts)["required"] if item != name]

    return edit


def replaced(name: str, part: Callable[[Description], Any], schema: dict[str, Any]) -> Edit:
    return lambda contracts: part(contracts)["properties"].update({name: schema})


def required(name: str, part: Callable[[Description], Any]) -> Edit:
    return lambda contracts: part(contracts)["required"].append(name)


def optional(name: str, part: Callable[[Description], Any]) -> Edit:
    return lambda contracts: part(contracts)["required"].remove(name)


def new(name: str, part: Callable[[Description], Any], *, needed: bool) -> Edit:
    def edit(contracts: Description) -> None:
        part(contracts)["properties"][name] = {"type": "string"}
        part(contracts)["required"] += [name] if needed else []

    return edit


def at(*path: str, **values: Any) -> Edit:
    """Set values of a part of the description."""

    def edit(contracts: Description) -> None:
        for name in path:
            contracts = contracts[name]
        contracts.update(values)

    return edit


def dropped(section: str, name: str) -> Edit:
    return lambda contracts: contracts[section].pop(name)


def swapped_inputs(contracts: Description) -> None:
    inputs = contracts["model"]["inputs"]
    inputs[0], inputs[1] = inputs[1], inputs[0]


PARCEL = {"type": "number", "exclusiveMinimum": 0, "maximum": 500}
RAIN = {"anyOf": [{"type": "number", "minimum": 0, "maximum": 200}, {"type": "null"}], "default": None}
LATENCY, COVERAGE = ("requirements", "estimate-latency-p95"), ("requirements", "coverage-p90")
TODAYS_CEILING = TODAY["requirements"]["estimate-latency-p95"]["at_most"]
TRIP, NEW_ROUTE = ("trip", "distance_km"), {"serving GET /v9": {"owner": "serving", "request": {}, "answers": {}}}
ROUTE, STATUS = ("routes", ESTIMATES), ("routes", "monitoring GET /v1/status", "answers", "200 application/json")

# What is changed, the edit, and the verdict: kinds, whom it breaks, whom it favours.
LABELLED: list[tuple[str, Edit, str, str, str]] = [
    ("request: a new optional field", new("floor", asked, needed=False), "optional field added", "nobody", "clients"),
    ("request: a new required field", new("floor", asked, needed=True), "required field added", "clients", "serving"),
    ("request: an optional field goes", without("parcel_kg", asked), "field removed", "clients", "serving"),
    ("request: a required field goes", without("vehicle", asked), "field removed", "clients", "serving"),
    ("request: shorter trips only", field("distance_km", asked, maximum=100), "range narrowed", "clients", "serving"),
    ("request: longer trips too", field("distance_km", asked, maximum=400), "range widened", "nobody", "clients"),
    ("request: no short trips", field("distance_km", asked, minimum=0.5), "range narrowed", "clients", "serving"),
    ("request: shorter trips too", field("distance_km", asked, minimum=0.01), "range widened", "nobody", "clients"),
    ("request: other zones, fewer and more", field("pickup_zone", asked, minimum=100, maximum=2000),
     "range narrowed, range widened", "clients", "serving"),
    ("request: no bikes", field("vehicle", asked, enum=VEHICLES[1:]), "value removed", "clients", "serving"),
    ("request: boats", field("vehicle", asked, enum=[*VEHICLES, "boat"]), "value added", "nobody", "clients"),
    ("request: the mass must be sent", required("parcel_kg", asked), "field made required", "clients", "serving"),
    ("request: the vehicle may stay out", optional("vehicle", asked), "field made optional", "nobody", "clients"),
    ("request: rain must be known", replaced("rain_mm_h", asked, {**RAIN["anyOf"][0], "default": None}), "null refused",
     "clients", "serving"),
    ("request: the distance may be null", replaced("distance_km", asked, {"anyOf": [
        {"type": "number", "minimum": 0.05, "maximum": 200}, {"type": "null"}]}), "null allowed", "nobody", "clients"),
    ("request: whole kilometres", field("distance_km", asked, type="integer"), "type narrowed", "clients", "serving"),
    ("request: zones by halves", field("pickup_zone", asked, type="number"), "type widened", "nobody", "clients"),
    ("request: zones by name", replaced("pickup_zone", asked, {"type": "string"}), "type narrowed, type widened",
     "clients", "serving"),
    ("request: smaller batches", field("trips", body, maxItems=64), "range narrowed", "clients", "serving"),
    ("request: larger batches", field("trips", body, maxItems=512), "range widened", "nobody", "clients"),
    ("request: shorter ids", field("trip_id", asked, maxLength=10), "range narrowed", "clients", "serving"),
    ("request: ids of digits", field("trip_id", asked, pattern="^[0-9]+$"), "form changed", "clients", "serving"),
    ("request: any id", lambda c: asked(c)["properties"]["trip_id"].pop("pattern"), "form freed", "nobody", "clients"),
    ("request: a form for vehicles", field("vehicle", asked, pattern="^[a-z]$"), "form demanded", "clients", "serving"),
    ("request: halves of kilometres", field("distance_km", asked, multipleOf=0.5), "form demanded", "clients",
     "serving"),
    ("request: no trip of three kilometres", field("distance_km", asked, **{"not": {"enum": [3]}}), "form demanded",
     "clients", "serving"),
    ("request: no trip twice", field("trips", body, uniqueItems=True), "form demanded", "clients", "serving"),
    ("request: three fields at least", lambda c: asked(c).update(minProperties=3), "form demanded", "clients",
     "serving"),
    ("request: fewer explained", lambda c: body(c)["then"]["properties"]["trips"].update(maxItems=1), "form changed",
     "clients", "serving"),
    ("request: any number explained", lambda c: (body(c).pop("if"), body(c).pop("then")), "form freed, form freed",
     "nobody", "clients"),
    ("request: halves of millimetres or nothing", lambda c: asked(c)["properties"]["rain_mm_h"].update(multipleOf=0.5),
     "form demanded", "clients", "serving"),
    ("request: anything for trips", lambda c: body(c)["properties"]["trips"].pop("items"), "form freed", "nobody",
     "clients"),
    ("request: unknown fields pass", lambda c: asked(c).update(additionalProperties=True), "unknown fields allowed",
     "nobody", "clients"),
    ("request: no unknown query", lambda c: query(c).update(additionalProperties=False), "unknown fields refused",
     "clients", "product"),
    ("request: another default", field("query limit", query, default=5), "default changed", "clients", "product"),
    ("request: a new optional query", new("query until", query, needed=False), "optional field added", "nobody",
     "clients"),
    ("request: a query that must come", required("query limit", query), "field made required", "clients", "product"),
    ("request: a query goes", without("query timeout", query), "field removed", "clients", "product"),
    ("request: a token is asked for", new("token staff", query, needed=True), "required field added", "clients",
     "product"),
    ("a route goes", dropped("routes", ESTIMATES), "route removed", "clients", "serving"),
    ("a new route", lambda c: c["routes"].update(NEW_ROUTE), "route added", "nobody", "consumers"),
    ("answer: a new field", new("seconds", answered, needed=True), "required field added", "nobody", "clients"),
    ("answer: a field goes", without("bundle_version", answered), "field removed", "consumers", "serving"),
    ("answer: an optional field goes", without("reason", answered), "field removed", "consumers", "serving"),
    ("answer: a third status", field("status", answered, enum=["estimated", "out_of_scope", "guessed"]), "value added",
     "consumers", "serving"),
    ("answer: one status less", field("status", answered, enum=["estimated"]), "value removed", "nobody", "clients"),
    ("answer: a field may stay away", optional("bundle_version", answered), "field made optional", "consumers",
     "serving"),
    ("answer: a field always comes", required("reason", answered), "field made required", "nobody", "clients"),
    ("answer: a null may come", replaced("trip_id", answered, {"anyOf": [
        TODAY["events"]["trip.booked"]["schema"]["properties"]["trip_id"], {"type": "null"}]}), "null allowed",
     "consumers", "serving"),
    ("answer: the reason is never null", replaced("reason", answered, {"type": "string"}), "null refused", "nobody",
     "clients"),
    ("answer: longer estimates", field("p90_min", quantiles, maximum=9999), "range widened", "consumers", "serving"),
    ("answer: no long estimates", field("p90_min", quantiles, maximum=600), "range narrowed", "nobody", "clients"),
    ("answer: minutes as text", replaced("p90_min", quantiles, {"type": "string"}), "type narrowed, type widened",
     "consumers", "serving"),
    ("answer: a new field now and then", new("seconds", answered, needed=False), "optional field added", "nobody",
     "clients"),
    ("answer: whole minutes", field("p90_min", quantiles, type="integer"), "type narrowed", "nobody", "clients"),
    ("answer: ids of digits", field("trip_id", answered, pattern="^[0-9]+$"), "form changed", "consumers", "serving"),
    ("answer: any id", lambda c: answered(c)["properties"]["trip_id"].pop("pattern"), "form freed", "consumers",
     "serving"),
    ("answer: a form of version", field("bundle_version", answered, pattern="v"), "form demanded", "nobody", "clients"),
    ("answer: another default", field("reason", answered, default="none"), "default changed", "nobody", "clients"),
    ("answer: unknown fields come", lambda c: answered(c).update(additionalProperties=True), "unknown fields allowed",
     "nobody", "clients"),
    ("answer: a map is closed", at(*STATUS, additionalProperties=False), "unknown fields refused", "nobody", "clients"),
    ("answer: the good one goes", lambda c: c["routes"][ESTIMATES]["answers"].pop("200 application/json"),
     "answer removed", "clients", "serving"),
    ("answer: one more refusal", at(*ROUTE, "answers", **{"418 -": {}}), "answer added", "nobody", "nobody"),
    ("answer: a refusal never comes", lambda c: c["routes"][ESTIMATES]["answers"].pop("503 application/problem+json"),
     "refusal removed", "nobody", "clients"),
    ("event: a type goes", dropped("events", "trip.lost"), "event removed", "consumers", "product"),
    ("event: a new type", at("events", **{"trip.returned": TODAY["events"]["trip.lost"]}), "event added", "nobody",
     "consumers"),
    ("event: a field goes", without("duration_min", ended), "field removed", "consumers", "product"),
    ("event: a new field", new("courier", ended, needed=True), "required field added", "nobody", "consumers"),
    ("event: a new outcome", field("outcome", ended, enum=[*OUTCOMES, "lent"]), "value added", "consumers", "product"),
    ("event: longer trips", field("distance_km", ended, maximum=400), "range widened", "consumers", "product"),
    ("event: no long trips", field("distance_km", ended, maximum=100), "range narrowed", "nobody", "consumers"),
    ("miles for kilometres", at(*TRIP, unit="mi"), "unit changed", "consumers", "nobody"),
    ("a metered route", at(*TRIP, meaning="Length of the metered route"), "meaning changed", "consumers", "nobody"),
    ("zones are nobody's secret", at("trip", "pickup_zone", personal="none"), "personal lowered", "customers",
     "consumers"),
    ("ids tell where one lives", at("trip", "trip_id", personal="location"), "personal raised", "nobody", "nobody"),
    ("null: not weighed", at("trip", "parcel_kg", missing="nobody weighed it"), "missing changed", "consumers",
     "product"),
    ("rain known at the end only", at("trip", "rain_mm_h", known="outcome"), "known later", "model", "city"),
    ("the outcome foretold", at("trip", "outcome", known="request"), "known earlier", "nobody", "consumers"),
    ("the model sees the promise", at("trip", "promised_by", model_input="promise"), "model_input changed", "model",
     "nobody"),
    ("an input's range", at("trip", "city_pace", values={"type": "number", "maximum": 5}), "values changed", "model",
     "city"),
    ("another owner", at("trip", "city_pace", owner="data"), "owner changed", "nobody", "nobody"),
    ("groups by dropoff", at("trip", "pickup_zone", fairness_group=None), "fairness_group changed", "consumers",
     "nobody"),
    ("rain is not watched", at("trip", "rain_mm_h", drift=False), "drift changed", "nobody", "nobody"),
    ("inputs in another order", swapped_inputs, "inputs changed", "model", "nobody"),
    ("one more input", lambda c: c["model"]["inputs"].append({"name": "snow"}), "inputs changed", "model", "nobody"),
    ("p95 for p90", at("model", levels=[0.1, 0.5, 0.95]), "levels changed", "model", "nobody"),
    ("the label begins at the pickup", at("model", label="from picked_up_at"), "label changed", "model", "nobody"),
    ("vehicles counted otherwise", at("model", vehicle_codes=["van"]), "vehicle_codes changed", "model", "nobody"),
    ("a slower estimate will do", at(*LATENCY, at_most=TODAYS_CEILING * 2), "limit loosened", "asker", "serving"),
    ("a quicker estimate", at(*LATENCY, at_most=TODAYS_CEILING / 2), "limit tightened", "nobody", "product"),
    ("any latency will do", at(*LATENCY, at_most=None), "limit loosened", "asker", "serving"),
    ("less coverage will do", at(*COVERAGE, at_least=0.5), "limit loosened", "asker", "model"),
    ("the band moves", at(*COVERAGE, at_least=0.9, at_most=0.99), "limit loosened, limit tightened", "asker", "model"),
    ("a floor beside the ceiling", at(*LATENCY, at_least=1), "limit tightened", "nobody", "product"),
    ("a promise is dropped", dropped(*LATENCY), "requirement removed", "asker", "serving"),
    ("a new promise", at("requirements", **{"more": TODAY["requirements"]["coverage-p90"]}), "requirement added",
     "nobody", "product"),
    ("another metric", at(*LATENCY, metric="latency_p50"), "requirement metric changed", "asker", "serving"),
    ("seconds for milliseconds", at(*LATENCY, unit="s"), "requirement unit changed", "asker", "serving"),
    ("a gentler load", at(*LATENCY, population="when idle"), "requirement population changed", "asker", "serving"),
    ("another window", at(*COVERAGE, newest=1), "requirement newest changed", "asker", "model"),
    ("another owner keeps it", at(*LATENCY, owner="platform"), "requirement owner changed", "nobody", "nobody"),
    ("the gate does not look", at(*COVERAGE, checked_by=["monitor"]), "requirement check removed", "asker", "model"),
    ("the gate looks, too", at(*LATENCY, checked_by=["gate", "load test"]), "requirement check added", "nobody",
     "product"),
    ("a tenth of the arrivals", at(*LATENCY, "load", "steady-quotes", arrivals_per_s=3), "requirement load changed",
     "asker", "serving"),
    ("monitors shrug", at("policy", tolerance=0.5), "policy loosened", "asker", "monitoring"),
    ("a zone group is never judged", at("policy", group_outcomes=400_000), "policy loosened", "asker", "monitoring"),
    ("an alarm a day", at("policy", trips_between_false_alarms=2000), "policy tightened", "nobody", "consumers"),
    ("a longer pause", at("policy", retrain_cooldown_h=48), "policy changed", "nobody", "nobody"),
    ("another team asks", at(*LATENCY, asked_by="monitoring"), "requirement asked_by changed", "nobody", "nobody"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("edit", "kinds", "breaks", "favours"), [case[1:] for case in LABELLED], ids=[case[0] for case in LABELLED]
)
def test_a_labelled_change_is_judged_right(edit, kinds, breaks, favours):
    changed = copy.deepcopy(TODAY)
    edit(changed)

    found = compare(TODAY, changed)

    assert ", ".join(change.kind for change in found) == kinds
    worst = next((change for change in found if not change.compatible), found[0])
    assert (worst.breaks, worst.favours) == (breaks, favours), worst


def test_nothing_changed_is_no_change():
    assert compare(TODAY, copy.deepcopy(TODAY)) == []


def test_every_kind_has_a_rule_and_every_rule_was_tried():
    facets = [f"{item.name} changed" for item in fields(Column) if item.name not in ORDERED]
    assert set(facets) | {f"{name} changed" for name in TODAY["model"]} <= set(RULES)
    tried = {kind for case in LABELLED for kind in case[2].split(", ")}
    assert RULES.keys() | MOVES.keys() <= tried, "label a change for each"
    assert {move for moves in MOVES.values() for move in moves} == {move for _, move in TYPE_RULES}


def test_a_condition_on_a_field_that_nobody_sent_yet_breaks_nobody():
    before = copy.deepcopy(TODAY)
    del body(before)["if"], body(before)["then"], body(before)["properties"]["with_reasons"]

    assert [change.kind for change in compare(before, TODAY)] == ["optional field added"]


def test_what_the_previous_version_did_not_describe_is_no_change():
    before = copy.deepcopy(TODAY)
    del before["policy"]
    for said in before["requirements"].values():
        said.pop("checked_by")
        said.pop("load", None)

    assert compare(before, TODAY) == []


LOOSER = copy.deepcopy(TODAY)
at(*LATENCY, at_most=TODAYS_CEILING * 2)(LOOSER)
RICHER = copy.deepcopy(TODAY)
new("floor", asked, needed=False)(RICHER)


@pytest.mark.parametrize(
    ("after", "version", "notes", "faults"),
    [
        (TODAY, "1.0.0", "", []),
        (RICHER, "1.0.0", "", []),
        (RICHER, "1.1.0", "", ["no change note"]),
        (LOOSER, "1.0.0", "## 1.0.0", ["raise it to 2.0.0"]),
        (LOOSER, "1.1.0", "## 1.1.0", ["raise it to 2.0.0"]),
        (LOOSER, "2.0.0", "about 2.0.0", ["no change note"]),
        (LOOSER, "2.0.0", "# Changes\n\n## 2.0.0\n\nslower", []),
    ],
)
def test_a_break_needs_a_raised_version_and_a_note(after, version, notes, faults):
    found = undeclared({**TODAY, "version": "1.0.0"}, {**after, "version": version}, notes)

    assert len(found) == len(faults)
    assert all(said in text for said, text in zip(faults, found, strict=True))


def test_today_is_declared(capsys):
    previous = json.loads(publish.PREVIOUS.read_text())

    assert publish.check(previous, TODAY, publish.NOTES.read_text()) == [], capsys.readouterr().out


def test_a_stranger_reads_owner_effect_and_reason():
    [change] = compare(TODAY, LOOSER)

    assert str(change) == (
        "serving: requirements/estimate-latency-p95: limit loosened: BREAKS asker, favours serving: "
        "the asker gets less than was agreed"
    )


def test_what_is_published_is_what_the_contracts_say():
    assert publish.stale() == []
    assert len(publish.PUBLISHED) <= 5


def test_a_changed_snapshot_is_noticed(tmp_path):
    shutil.copytree(publish.FOLDER, tmp_path / "published")
    (tmp_path / "published" / "dictionary.md").write_text("edited by hand")
    (tmp_path / "published" / "stray.json").write_text("{}")

    assert publish.stale(tmp_path / "published") == ["dictionary.md", "stray.json"]

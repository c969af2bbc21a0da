"""What derives from the definition of a trip for others: the data dictionary and the open data contract."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
import yaml
from jsonschema import Draft201909Validator

from contracts.dictionary import entries
from contracts.trips import DRIFT_COLUMNS, FAIRNESS_GROUPS, MODEL_INPUTS, CompletedTrip, columns
from deploy.odcs import odcs
from tests.contracts.publish import FOLDER, PUBLISHED, dictionary

STANDARD = json.loads((files("open_data_contract_standard") / "schema.json").read_text())


def faults(document: dict[str, Any]) -> list[str]:
    return [error.message for error in Draft201909Validator(STANDARD).iter_errors(document)]


def custom(properties: dict[str, Any]) -> dict[str, Any]:
    return {item["property"]: item["value"] for item in properties["customProperties"]}


def test_the_open_data_contract_keeps_the_standard():
    assert faults(odcs()) == []


@pytest.mark.parametrize("typo", ["lable", "requierd"])
def test_the_standard_would_see_a_typo(typo: str):
    document = odcs()
    document["schema"][0]["properties"][0][typo] = True

    assert faults(document)


def test_the_open_data_contract_carries_what_the_standard_has_no_field_for():
    properties = {item["name"]: item for item in odcs()["schema"][0]["properties"]}

    assert list(properties) == list(CompletedTrip.model_fields)
    for name, column in columns(CompletedTrip).items():
        told = custom(properties[name])
        assert (told["unit"], told["owner"], told["known"]) == (column.unit, column.owner, column.known), name
        assert (told["personalClass"], told["missingPolicy"]) == (column.personal, column.missing), name
    inputs = [custom(item)["modelInput"] for item in properties.values() if custom(item)["modelInput"]]
    assert inputs == [item.name for item in MODEL_INPUTS]
    assert tuple(name for name, item in properties.items() if custom(item)["driftWatched"]) == DRIFT_COLUMNS
    assert {name for name, item in properties.items() if custom(item)["fairnessGroup"]} == set(FAIRNESS_GROUPS)
    assert properties["distance_km"]["logicalTypeOptions"] == {"minimum": 0.05, "maximum": 200}
    assert not properties["parcel_kg"]["required"]


def test_the_dictionary_tells_of_every_field():
    told = dictionary()

    for entry in entries():
        assert entry.name in told
        assert entry.column.meaning in told, entry.name


def test_the_dictionarys_tables_have_as_many_cells_in_every_row():
    lines = [line for line in dictionary().splitlines() if line.startswith("|")]

    assert {line.count("|") for line in lines} == {12}
    assert len(lines) == len(CompletedTrip.model_fields) + 2 * 2  # two tables, each with its heading and rule
    assert "number from 0.05 up to 200" in dictionary()


@pytest.mark.parametrize("name", ["dictionary.md", "trips.odcs.yaml"])
def test_what_is_published_is_what_the_definition_says_today_to_the_byte(name: str):
    text = PUBLISHED[name]()

    assert text == PUBLISHED[name]()
    assert (FOLDER / name).read_bytes() == text.encode()


def test_the_yaml_says_what_the_document_says():
    assert yaml.safe_load(PUBLISHED["trips.odcs.yaml"]()) == odcs()

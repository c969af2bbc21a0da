"""Exports say what the record says; where MLTE's wheel is unpacked (TANDEM_MLTE), its own schemas judge them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest

from contracts.feeds import FEED_OWNERS
from contracts.measurements import Measurement
from contracts.requirements import load
from deploy.exports import catalogue, evidence, negotiation_card

RECORD = load()
LEFT = [
    Measurement.of("coverage-p90", "gate", 0.9, True, "3,000 trips"),
    Measurement.of("coverage-p90", "monitor", float("nan"), True),
]


def test_the_card_holds_every_requirement_with_its_limit():
    told = {item["identifier"]: item for item in negotiation_card(RECORD)["system_requirements"]}
    assert set(told) == {item.id for item in RECORD.all()}
    assert RECORD["coverage-p90"].limit in told["coverage-p90"]["measure"]


def test_evidence_is_exported_where_there_is_a_value():
    (name,) = evidence(LEFT, RECORD)
    assert name == "coverage-p90.gate"


def test_the_catalogue_gives_each_feed_one_owner():
    owners = {item["metadata"]["name"]: item["spec"]["owner"] for item in catalogue() if item["kind"] == "API"}
    assert owners == {f"feed-{feed}": owner for feed, owner in FEED_OWNERS.items()}
    provided = [api for item in catalogue() for api in item["spec"].get("providesApis", [])]
    assert sorted(provided) == sorted(owners)


@pytest.mark.skipif("TANDEM_MLTE" not in os.environ, reason="TANDEM_MLTE names no folder with MLTE's wheel unpacked")
@pytest.mark.parametrize("kind", ["negotiation", "evidence"])
def test_mltes_own_schema_takes_them(kind):
    file = Path(os.environ["TANDEM_MLTE"], f"mlte/schema/artifact/{kind}/v0.0.1/schema.json")
    judge = jsonschema.Draft202012Validator(json.loads(file.read_text()))
    documents = [negotiation_card(RECORD)] if kind == "negotiation" else list(evidence(LEFT, RECORD).values())
    for document in documents:
        judge.validate(document)
        spoilt = document | {"system" if kind == "negotiation" else "value": 7}
        assert not judge.is_valid(spoilt)

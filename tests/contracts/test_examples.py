"""The language of consumers' examples: every rule can be broken, and a broken example names who is concerned."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import httpx
import pytest
from fastapi import FastAPI

from contracts.trips import Team
from tests.examples import MISSING, BadExample, Example, at, every_example, matches
from tests.servers import running

EXAMPLES = every_example()


def test_teams_expect_things_of_each_other_and_each_says_why():
    pairs = Counter((example.consumer, example.provider) for example in EXAMPLES)
    assert {team for pair in pairs for team in pair} <= set(get_args(Team))
    assert pairs[("product", "serving")] >= 5
    assert pairs[("monitoring", "serving")] >= 3
    assert pairs[("data", "product")] >= 3
    assert len({str(example) for example in EXAMPLES}) == len(EXAMPLES)
    assert all(len(example.why.split()) >= 5 for example in EXAMPLES)


@pytest.mark.parametrize(
    ("rule", "value", "kept", "broken"),
    [
        ("equal", 1, 1.0, True),
        ("equal", "1", "1", 1),
        ("type", "number", 1.5, True),
        ("type", "boolean", False, 0),
        ("type", "string", "", None),
        ("pattern", "[a-z]+", "abc", "abc1"),
        ("above", 0, 0.1, 0),
        ("at_most", 3, 3, 3.1),
        ("at_most", 3, 3, "2"),
        ("length", 2, [1, 2], [1]),
        ("length", 2, [1, 2], [1, MISSING]),
        ("has", ["a"], {"a": None}, {"b": 1}),
        ("absent", True, None, 0),
        ("rising", True, [1, 2, 2], [2, 1]),
        ("rising", True, ["2026-01-01T10:00+02:00", "2026-01-01T09:00Z"], ["2026-01-01T10:00Z", "2026-01-01T09:00Z"]),
        ("rising", True, [1, 2], [1, None]),
        ("distinct", True, ["a", "b"], ["a", "a"]),
        ("counts_from", 3, ["3", "4"], ["3", "5"]),
        ("counts_from", 3, ["3", "4"], []),
        ("adds_up", ["a", "b.*.c", "all"], {"a": 4, "b": [{"c": 1.5}, {"c": -2}], "all": 3.5004},
         {"a": 4, "b": [], "all": 4.002}),
        ("adds_up", ["a", "all"], {"a": 0, "all": 0}, {"a": "0", "all": 0}),
        ("adds_up", ["b.*.c", "all"], {"b": [{"c": 1}], "all": 1}, {"b": [{"c": 1}, {}], "all": 1}),
        ("adds_up", ["a", "all"], {"a": 2, "all": 2}, {"all": 2}),
    ],
)  # fmt: skip
def test_every_rule_can_be_kept_and_broken(rule, value, kept, broken):
    assert matches(rule, value, kept)
    assert not matches(rule, value, broken)
    assert not matches(rule, value, MISSING) or rule == "absent"


def test_a_rule_that_nobody_knows_is_refused():
    with pytest.raises(BadExample, match="no rule 'roughly'"):
        matches("roughly", 1, 1)


def test_a_path_leads_to_a_value_or_to_nothing():
    body = {"a": [{"b": 1, "c": 2}, {"b": 3}]}
    assert at(body, "") == body
    assert at(body, "a.1.b") == 3
    assert at(body, "a.*.b") == [1, 3]
    assert at(body, "a.0.[b,c]") == [1, 2]
    assert at(body, "a.2.b") is MISSING
    assert at(body, "a.*.c") == [2, MISSING]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"status": 404}, "status 200, expected 404"),
        ({"content_type": "text/html"}, "content type application/json, expected text/html"),
        ({"headers": {"retry-after": "1"}}, "header retry-after is nothing"),
        ({"holds": {"0.id": "2"}}, "0.id is '1', expected '2'"),
        ({"some": [{"id": "1", "kind": "loud"}]}, "kind is 'quiet', expected 'loud'"),
        ({"only": {"kind": "loud"}, "holds": {"": {"length": 2}}}, "expected 2 (length)"),
        ({"holds": {"1.id": "$first"}}, "1.id is '2', expected '1'"),
    ],
)
def test_a_broken_example_names_consumer_provider_owner_and_difference(step, said):
    app = FastAPI()
    app.get("/things")(lambda: [{"id": "1", "kind": "quiet"}, {"id": "2", "kind": "loud"}])
    steps = [
        {"request": "GET /things", "status": 200, "keep": {"first": "0.id"}},
        {"request": "GET /things", "status": 200} | step,
    ]
    example = Example("data", "product", "things are loud", "we cannot hear quiet ones at all", "two things", steps)

    with running(app) as url, httpx.Client(base_url=url) as client, pytest.raises(AssertionError) as broken:
        example.run(client)

    text = str(broken.value)
    assert said in text
    for part in (
        "data expects of product",
        "owner @tandem/product",
        "we cannot hear quiet ones",
        "step 2",
        "@tandem/data",
    ):
        assert part in text

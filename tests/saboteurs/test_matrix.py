"""The matrix itself: a requirement without a saboteur, or a saboteur of nothing, spoils the proof."""

from __future__ import annotations

from contracts.measurements import Measurement
from contracts.requirements import load
from tests.saboteurs import door
from tests.saboteurs.__main__ import _judge, missing

RECORD = load()


def changed(**fields):
    items = [item.model_copy(update=fields) if item.id == "outcome-join" else item for item in RECORD.all()]
    return RECORD.model_copy(update={"requirement": items})


def verdict(requirement: str, passed: bool) -> Measurement:
    return Measurement.of(requirement, "intake", 1.0 if passed else 0.6, passed)


def test_every_check_of_every_requirement_has_a_saboteur():
    assert missing(RECORD) == []


def test_a_requirement_without_one_is_named():
    (fault, other) = missing(changed(saboteurs=[]))
    assert fault == "outcome-join is checked by monitor, and no saboteur of stream breaks it"
    assert other == "dropped-estimates breaks outcome-join, which does not name it"


def test_a_saboteur_that_does_not_exist_is_named():
    assert missing(changed(saboteurs=["dropped-estimates", "gremlins"])) == [
        "requirement record names saboteur gremlins, which does not exist"
    ]


def test_a_check_that_stays_green_and_one_that_has_nothing_to_do_with_it_are_named():
    honest = [verdict("route-ratio", True), verdict("outcome-join", True)]
    green = _judge("contract", "miles", door, honest, honest, RECORD, 1.0)
    assert "leaves route-ratio green: its check cannot fail" in green.faults[0]
    both = [verdict("route-ratio", False), verdict("outcome-join", False)]
    (unrelated,) = _judge("contract", "miles", door, honest, both, RECORD, 1.0).faults
    assert unrelated == "contract: miles turns outcome-join red, which it has nothing to do with"
    assert _judge("contract", "miles", door, honest, [both[0], honest[1]], RECORD, 1.0).faults == []

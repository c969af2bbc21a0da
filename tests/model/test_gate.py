"""The gate: limits from the record, verdicts from what was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contracts import requirements
from contracts.bundle import Slice
from model.gate import CannotJudge, Measured, judge, reasons

RECORD = requirements.load()


def a_slice(rows: int = 10_000, **changes: float) -> Slice:
    good = {"pinball_min": 1.7, "heuristic_pinball_min": 2.0, "coverage_p90": 0.9, "coverage_band": 0.8}
    return Slice(rows=rows, mean_p50_min=20.0, **good | changes)


GOOD = Measured(
    a_slice(),
    {"Harbour": a_slice(2000)},
    blind_ratio=1.05,
    weekly_rows={"Harbour": 900.0, "Mills": 800.0},
    training_s=20.0,
    bundle_bytes=130_000,
)


def failed(measured: Measured) -> set[str]:
    return {result.requirement for result in judge(measured, RECORD) if not result.passed}


def test_a_good_model_passes_and_every_requirement_of_the_gate_has_a_verdict():
    results = judge(replace(GOOD, since_change=1200), RECORD)
    asked = {item.id for item in RECORD.all() if "gate" in item.checked_by}

    assert {result.requirement for result in results} == asked
    assert reasons(results, RECORD) == []


@pytest.mark.parametrize(
    ("requirement", "measured"),
    [
        ("coverage-p90", replace(GOOD, overall=a_slice(coverage_p90=0.86))),
        ("coverage-p90", replace(GOOD, overall=a_slice(coverage_p90=0.94))),
        ("coverage-band", replace(GOOD, overall=a_slice(coverage_band=0.7))),
        ("group-coverage-p90", replace(GOOD, groups={"Mills": a_slice(2000, coverage_p90=0.82)})),
        ("group-coverage-band", replace(GOOD, groups={"Mills": a_slice(2000, coverage_band=0.70)})),
        ("loss-against-heuristic", replace(GOOD, overall=a_slice(pinball_min=1.9))),
        ("loss-without-weather", replace(GOOD, blind_ratio=1.3)),
        ("rows-per-week", replace(GOOD, weekly_rows={"Harbour": 300.0, "Mills": 400.0})),
        ("group-rows-per-week", replace(GOOD, weekly_rows={"Harbour": 3000.0, "Mills": 4.0})),
        ("training-time", replace(GOOD, training_s=1000.0)),
        ("bundle-size", replace(GOOD, bundle_bytes=9_000_000)),
        ("retrain-outcomes", replace(GOOD, since_change=999)),
    ],
)
def test_what_breaks_a_limit_is_named_and_nothing_else(requirement, measured):
    assert failed(measured) == {requirement}
    (reason,) = reasons(judge(measured, RECORD), RECORD)
    assert reason.startswith(f"{requirement}: ")
    assert f"owner {RECORD[requirement].owner}" in reason


def test_a_loss_that_is_not_a_number_never_passes():
    assert failed(replace(GOOD, overall=a_slice(pinball_min=float("nan")))) == {"loss-against-heuristic"}


def test_a_group_is_red_only_when_its_whole_interval_lies_outside():
    assert failed(replace(GOOD, groups={"Mills": a_slice(450, coverage_p90=0.83)})) == set()
    assert failed(replace(GOOD, groups={"Mills": a_slice(5000, coverage_p90=0.83)})) == {"group-coverage-p90"}


def test_a_small_group_is_no_verdict_but_is_told():
    results = judge(replace(GOOD, groups={"Mills": a_slice(399, coverage_p90=0.1, coverage_band=0.1)}), RECORD)

    assert reasons(results, RECORD) == []
    assert any("not enough truth, 399 of 400" in result.note for result in results)


def test_overall_coverage_on_few_trips_is_judged_by_its_interval():
    assert failed(replace(GOOD, overall=a_slice(200, coverage_p90=0.86))) == set()
    assert failed(replace(GOOD, overall=a_slice(200, coverage_p90=0.70))) == {"coverage-p90"}


def test_a_requirement_that_nobody_measures_is_an_error_not_a_pass():
    strange = RECORD["training-time"].model_copy(update={"metric": "beauty"})
    with pytest.raises(CannotJudge, match="beauty"):
        judge(GOOD, RECORD.model_copy(update={"requirement": [*RECORD.requirement, strange]}))

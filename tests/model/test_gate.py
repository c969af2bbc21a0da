"""The gate: limits from the record, verdicts from what was measured."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts import requirements
from contracts.bundle import Behaviour, Evidence, GateResult, Slice
from contracts.requirements import Requirements
from contracts.snapshots import SnapshotMade
from model.gate import CannotJudge, judge, reasons, sufficiency

RECORD = requirements.load()
NOW = datetime(2026, 6, 1, tzinfo=UTC)
WEEKLY = {"Harbour": 900.0, "Mills": 800.0}
MADE = SnapshotMade(
    digest="0" * 64,
    source="city",
    time_zone="UTC",
    rows=10_000,
    first_requested_at=NOW,
    last_requested_at=NOW + timedelta(weeks=8),
    rows_since_change=0,
    zone_groups={},
    rows_quarantined=10,
)


def a_slice(rows: int = 10_000, half_width: float = 0.005, **changes: float) -> Slice:
    """A good slice, each of its figures known to within `half_width`."""
    good = {"pinball_min": 1.7, "heuristic_pinball_min": 2.0, "coverage_p90": 0.9, "coverage_band": 0.8} | changes
    figures = good | {"pinball_ratio": good["pinball_min"] / good["heuristic_pinball_min"]}
    bounds = {name: (value - half_width, value + half_width) for name, value in figures.items()}
    return Slice(rows=rows, mean_p50_min=20.0, bounds=bounds, **good)


def evidence(**changes: Any) -> Evidence:
    good = {
        "overall": a_slice(),
        "zone_groups": {"Harbour": a_slice(2000)},
        "training_s": 20.0,
        "bundle_bytes": 130_000,
    }
    window = {"test_rows": 10_000, "test_from": NOW, "test_to": NOW, "onnx_matches_torch_min": 0.0, "gate": []}
    return Evidence.model_validate(window | good | changes)


def verdicts(
    blind: float = 1.05,
    since_change: int | None = 1200,
    weekly: dict[str, float] = WEEKLY,
    made: dict[str, Any] | None = None,
    record: Requirements = RECORD,
    **changes: Any,
) -> list[GateResult]:
    before = sufficiency(MADE.model_copy(update=made or {}), weekly, record)
    return before + judge(evidence(**changes), (blind, (blind - 0.01, blind + 0.01)), since_change, "", record)


def failed(**changes: Any) -> set[str]:
    return {result.requirement for result in verdicts(**changes) if not result.passed}


def test_a_good_model_passes_and_every_requirement_of_the_gate_has_a_verdict():
    results = verdicts()

    assert {result.requirement for result in results} == {it.id for it in RECORD.all() if "gate" in it.checked_by}
    assert reasons(results, RECORD) == []


ABSURD = Behaviour(name="rain helps", kind="direction", expected="never", measured=1, passed=False)


@pytest.mark.parametrize(
    ("requirement", "changes"),
    [
        ("coverage-p90", {"overall": a_slice(coverage_p90=0.86)}),
        ("coverage-p90", {"overall": a_slice(coverage_p90=0.94)}),
        ("coverage-p90", {"overall": a_slice(coverage_p90=0.872)}),  # inside, but not for sure
        ("coverage-band", {"overall": a_slice(coverage_band=0.7)}),
        ("group-coverage-p90", {"zone_groups": {"Mills": a_slice(2000, coverage_p90=0.82)}}),
        ("group-coverage-band", {"zone_groups": {"Mills": a_slice(2000, coverage_band=0.70)}}),
        ("loss-against-heuristic", {"overall": a_slice(pinball_min=1.9)}),
        ("loss-against-heuristic", {"overall": a_slice(pinball_min=1.795)}),  # inside, but not for sure
        ("loss-without-weather", {"blind": 1.3}),
        ("loss-without-weather", {"blind": 1.145}),
        ("behaviour-failures", {"behaviour": [ABSURD]}),
        ("rows-per-week", {"weekly": {"Harbour": 300.0, "Mills": 400.0}}),
        ("group-rows-per-week", {"weekly": {"Harbour": 3000.0, "Mills": 4.0}}),
        ("history-weeks", {"made": {"last_requested_at": NOW + timedelta(days=20)}}),
        ("snapshot-quarantine", {"made": {"rows_quarantined": 1000}}),
        ("training-time", {"training_s": 1000.0}),
        ("bundle-size", {"bundle_bytes": 9_000_000}),
        ("retrain-outcomes", {"since_change": 999}),
    ],
)
def test_what_breaks_a_limit_is_named_and_nothing_else(requirement, changes):
    assert failed(**changes) == {requirement}
    (reason,) = reasons(verdicts(**changes), RECORD)
    assert reason.startswith(f"{requirement}: ")
    assert f"owner {RECORD[requirement].owner}" in reason


def test_a_loss_that_is_not_a_number_never_passes():
    assert failed(overall=a_slice(pinball_min=float("nan"))) == {"loss-against-heuristic"}


def test_a_group_is_red_only_when_its_whole_interval_lies_outside():
    assert failed(zone_groups={"Mills": a_slice(450, 0.03, coverage_p90=0.83)}) == set()
    assert failed(zone_groups={"Mills": a_slice(5000, 0.01, coverage_p90=0.83)}) == {"group-coverage-p90"}


def test_a_small_group_is_no_verdict_but_is_told():
    results = verdicts(zone_groups={"Mills": a_slice(399, coverage_p90=0.1, coverage_band=0.1)})

    assert reasons(results, RECORD) == []
    assert any("not enough truth, 399 of 400" in result.note for result in results)


def test_overall_coverage_that_is_hardly_known_is_red_only_when_it_is_outside_for_sure():
    assert failed(overall=a_slice(200, 0.03, coverage_p90=0.86)) == set()
    assert failed(overall=a_slice(200, 0.03, coverage_p90=0.80)) == {"coverage-p90"}


def test_a_snapshot_that_does_not_tell_what_was_quarantined_is_not_judged_by_it():
    asked = {
        result.requirement for result in sufficiency(MADE.model_copy(update={"rows_quarantined": None}), WEEKLY, RECORD)
    }
    assert asked == {"rows-per-week", "group-rows-per-week", "history-weeks"}


def test_a_requirement_that_nobody_measures_is_an_error_not_a_pass():
    strange = RECORD["training-time"].model_copy(update={"metric": "beauty"})
    with pytest.raises(CannotJudge, match="beauty"):
        verdicts(record=RECORD.model_copy(update={"requirement": [*RECORD.requirement, strange]}))

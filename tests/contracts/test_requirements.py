"""The requirement record: readable, sound, and the only place that states a limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.requirements import RECORD, BadRecord, load


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = RECORD.read_text()
    assert old in text
    path = tmp_path / "requirements.toml"
    path.write_text(text.replace(old, new, 1))
    return path


def test_the_record_loads_and_answers_by_id():
    record = load()

    assert record["estimate-latency-p99"].ceiling == record["estimate-wait"].ceiling
    assert record["coverage-p90"].passes(0.9)
    assert not record["coverage-p90"].passes(float("nan"))
    assert record["coverage-p90"].room(0.92) == pytest.approx(0.01)
    assert record["coverage-p90"].room(0.86) == pytest.approx(-0.01)
    assert record["missing-share"].room(0.1) == pytest.approx(0.4)
    with pytest.raises(BadRecord, match="no requirement 'coverage-p99'"):
        record["coverage-p99"]


def test_an_interval_fails_only_when_it_lies_wholly_outside():
    requirement = load()["group-coverage-p90"]

    assert requirement.fails_for_sure(0.5, requirement.floor - 0.01)
    assert not requirement.fails_for_sure(0.5, requirement.floor)
    assert requirement.fails_for_sure(requirement.ceiling + 0.01, 1.0)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('owner = "product"', 'owner = "nobody"', "requirement.0.owner"),
        ("at_most = 0.13\n", "", "neither at_least nor at_most"),
        ('id = "quotes-without-serving"', 'id = "late-promises"', "is there twice"),
        ('derived_from = "late-promises"', 'derived_from = "wishes"', "derives from wishes"),
        ('quality = "explainability"', 'quality = "beauty"', "waiver.0.quality"),
        ('quality = "explainability"', 'quality = "loss"', "has a requirement and a waiver"),
        ('quality = "explainability"', 'quality = "cost"', "no requirement and no waiver for explainability"),
        ("review = 2027-05-22", "review = 2026-05-22", "is not after agreed"),
        ('"model: p90 holds', '"nobody: p90 holds', r"\['nobody'\], which is no team"),
        ('"product: asks for none"', '"platform: asks for none"', r"lack a line of \['product'\]"),
        ("[policy]", "[policy", "requirements.toml"),
        ("cohort_min = 15", "cohort_mins = 15", "policy.cohort_min"),
    ],
)
def test_a_broken_record_is_refused_with_the_entry_at_fault(tmp_path: Path, old: str, new: str, says: str):
    with pytest.raises(BadRecord, match=says):
        load(changed(tmp_path, old, new))


def test_the_line_at_fault_is_named(tmp_path: Path):
    path = changed(tmp_path, 'quality = "memory"', 'quality = "beauty"')
    line = 1 + path.read_text().splitlines().index('quality = "beauty"')
    with pytest.raises(BadRecord, match=rf"requirements.toml:{line}: requirement\.\d+\.quality"):
        load(path)
    path = changed(tmp_path, "duration_s = 10\n", 'duration_s = "soon"\n')
    line = 1 + path.read_text().splitlines().index('duration_s = "soon"')
    with pytest.raises(BadRecord, match=rf"requirements.toml:{line}: load\.prove\.duration_s"):
        load(path)


def test_every_requirement_names_an_owner_a_reason_and_a_practice():
    for requirement in load().all():
        assert requirement.reason, requirement.id
        assert requirement.practices, requirement.id
        assert requirement.checked_by, requirement.id

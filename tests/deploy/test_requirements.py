"""The table of requirements: both ways of the trace, and dates."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, timedelta

import pytest

from contracts.measurements import Measurement, keep, kept
from contracts.requirements import load
from deploy.requirements import newest_commit, untraced

RECORD = load()
ALL = [
    Measurement.of(item.id, check, item.at_least or item.at_most or 0, True)
    for item in RECORD.all()
    for check in item.checked_by
]


def printed(var, *arguments: str, **environment: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "deploy.requirements", *arguments]
    done = subprocess.run(
        command,
        env={"TANDEM_VAR": str(var), "PATH": "/usr/bin:/bin"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_when_every_check_left_a_verdict_nothing_is_untraced():
    assert untraced(RECORD, ALL) == []


def test_a_check_that_never_ran_and_one_that_nobody_asked_for_are_named():
    stray = Measurement.of("bundle-size", "load test", 1, True)
    never, unasked = untraced(RECORD, [*ALL[1:], stray])
    assert never.startswith(f"{ALL[0].requirement}: its {ALL[0].check} has never left a verdict: make ")
    assert unasked == "a load test judged bundle-size, which does not ask for it"


def test_a_missed_limit_names_owner_and_runbook_and_fails(tmp_path):
    keep(ALL, tmp_path / "measured")
    assert printed(tmp_path, "--complete")[0] == 0
    keep([Measurement.of("bundle-size", "gate", 9e6, False)], tmp_path / "measured")
    status, said = printed(tmp_path)
    assert status == 1
    assert "owner model, runbook model/README.md" in said.replace("\n", " ")


def test_incomplete_is_told_and_fails_only_where_asked(tmp_path):
    assert printed(tmp_path)[0] == 0
    assert printed(tmp_path, "--complete")[0] == 1


def test_of_several_verdicts_at_once_the_failed_one_counts(tmp_path):
    keep([Measurement.of("bundle-size", "gate", 9e6, False), Measurement.of("bundle-size", "gate", 1, True)], tmp_path)
    (left,) = kept(tmp_path)
    assert (left.value, left.passed) == (9e6, False)
    keep([Measurement.of("bundle-size", "gate", 1, True)], tmp_path)
    assert kept(tmp_path)[0].passed


def test_dates_are_judged_by_the_day_that_is_given():
    first_review = min(item.review for item in RECORD.all())
    expiry = min(waiver.expires for waiver in RECORD.waiver)
    assert RECORD.overdue(min(first_review, expiry)) == []
    assert any("was to be reviewed" in line for line in RECORD.overdue(first_review + timedelta(days=1)))
    assert any("expired on" in line for line in RECORD.overdue(expiry + timedelta(days=1)))
    assert isinstance(newest_commit(), date)


def test_what_only_an_incident_measures_is_not_awaited_from_a_run_without_one():
    lines = [line for line in untraced(RECORD, []) if "retrain-outcomes" in line]

    assert len(lines) == 2  # gate and policy
    assert all("make incident NAME=bridge-closed" in line for line in lines)


@pytest.mark.parametrize(
    ("value", "shown"), [(13970.2, "13,970"), (158_123, "158,123"), (1234.5, "1,234"), (0.89612, "0.8961")]
)
def test_values_are_shown_as_people_write_them(value, shown, tmp_path):
    keep([Measurement.of("bundle-size", "gate", value, True)], tmp_path / "measured")

    assert f" {shown} " in printed(tmp_path)[1]

"""What must lie in `var` before a start, and who may read it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from contracts.measurements import Measurement, keep
from deploy import prepare as preparation
from deploy.prepare import prepare
from deploy.settings import DeploySettings


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def var(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(preparation, "_run", lambda *_: None)  # a history of no trips
    return tmp_path / "some" / "var"


def test_what_people_said_of_their_parcels_is_for_the_owner_of_var_alone(var):
    prepare(DeploySettings(var=var))

    assert mode(var) == 0o700


def test_so_it_is_where_a_check_came_before_the_first_start(var):
    keep([Measurement.of("bundle-size", "gate", 1, True)], DeploySettings(var=var).measured)

    assert mode(var) == 0o700


def test_a_var_that_is_there_keeps_the_mode_that_somebody_gave_it(var):
    var.mkdir(parents=True)
    var.chmod(0o750)
    prepare(DeploySettings(var=var))

    assert mode(var) == 0o750

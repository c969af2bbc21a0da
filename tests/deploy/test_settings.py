"""How Tandem is started: what a setting may be is known before anything is written."""

from __future__ import annotations

import pytest

from chassis.addresses import UnsoundSetting
from deploy.settings import DeploySettings


@pytest.mark.parametrize("speed", ["0", "-1", "1e9", "nan", "inf"])
def test_a_speed_that_no_clock_can_have_is_unsound(speed, monkeypatch):
    monkeypatch.setenv("TANDEM_SPEED", speed)

    with pytest.raises(UnsoundSetting, match=f"TANDEM_SPEED is '{speed}': Input should be "):
        DeploySettings()


@pytest.mark.parametrize("weeks", ["0", "-1"])
def test_a_history_of_no_weeks_is_unsound(weeks, monkeypatch):
    monkeypatch.setenv("TANDEM_HISTORY_WEEKS", weeks)

    with pytest.raises(UnsoundSetting, match=f"TANDEM_HISTORY_WEEKS is '{weeks}': Input should be "):
        DeploySettings()


def test_the_bounds_themselves_are_sound():
    assert (DeploySettings(speed=100_000).speed, DeploySettings(history_weeks=1).history_weeks) == (100_000, 1)

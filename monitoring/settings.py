"""Monitoring's settings, read once from the environment (`TANDEM_*`)."""

from __future__ import annotations

from typing import Literal

from chassis.addresses import Addresses


class Settings(Addresses):
    """`approval=ask` makes promote, roll_back and retrain wait for a person."""

    approval: Literal["none", "ask"] = "none"
    monitoring_poll_s: float = 0.5  # wall seconds between two looks at the feeds

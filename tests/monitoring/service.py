"""The real service in a `var` of its own, over recorded feeds."""

from __future__ import annotations

import time

from chassis.clock import Clock
from chassis.tokens import make_tokens, read_token
from monitoring.app import build
from monitoring.settings import Settings
from tests.monitoring.recorded import LIVE


def a_service(tmp_path, url, hours, **settings):
    """The real service in its own `var`, its clock standing `hours` after LIVE."""
    var = tmp_path / "var"
    Clock(time_zone="Europe/Berlin", city_start=LIVE, wall_start=time.time() - hours * 3600, speed=1).save(
        var / "clock.json"
    )
    make_tokens(var / "tokens")
    urls = {f"{team}_url": url for team in ("product", "serving", "data", "model")}
    return build(Settings(var=var, monitoring_poll_s=0.05, **urls, **settings)), read_token(var / "tokens", "staff")


def until(look, what: str):
    """Ask again until there is an answer."""
    patience = time.monotonic() + 30
    while time.monotonic() < patience:
        if answer := look():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come within 30 s")

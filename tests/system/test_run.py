"""The launcher: ports, a start from nothing, Ctrl-C, a warm start, the check at the end of `--for`."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from chassis.clock import Clock
from contracts.bookings import Quote
from data.history import LIVE_START
from deploy.settings import DeploySettings
from tests.servers import free_port
from tests.system.tandem import SERVICES, Tandem, patiently

pytestmark = [pytest.mark.slow, pytest.mark.timeout(170)]
WISH = {"pickup_zone": 3, "dropoff_zone": 17, "vehicle": "bike"}


def a_tandem(var: Path, **settings: str) -> Tandem:
    ports = {f"TANDEM_{service.upper()}_PORT": str(free_port()) for service in SERVICES}
    return Tandem(var, {**os.environ, **ports, "TANDEM_VAR": str(var), "TANDEM_HISTORY_WEEKS": "1", **settings})


def launch(system: Tandem, *arguments: str, within_s: float = 160) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.run", *arguments]
    return subprocess.run(
        command, check=False, env=system.environment, capture_output=True, text=True, timeout=within_s
    )


def left_behind(var: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TANDEM_VAR") == str(var) and process.pid != os.getpid():
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue  # ended in between, or not ours
    return found


def quote(system: Tandem) -> Quote | None:
    try:
        answer = httpx.post(f"{system.url('product')}/api/quotes", json=WISH, timeout=5)
    except httpx.HTTPError:
        return None
    return Quote.model_validate(answer.json()) if answer.status_code == 200 else None


def test_the_live_clock_starts_where_the_history_ends():
    assert DeploySettings().city_start == LIVE_START
    assert DeploySettings().time_zone == str(LIVE_START.tzinfo)


def test_a_taken_port_is_named_with_what_to_set(tmp_path):
    system = a_tandem(tmp_path / "var")
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(system.environment["TANDEM_SERVING_PORT"])))
        other.listen()
        ended = launch(system)

    assert ended.returncode == 1
    said = re.sub(r"\s+", " ", ended.stdout)
    assert f"port {system.environment['TANDEM_SERVING_PORT']}, meant for serving, is taken" in said
    assert "set TANDEM_SERVING_PORT to a free port" in said
    assert not (tmp_path / "var" / "clock.json").exists()


def test_from_nothing_to_a_quote_ended_by_ctrl_c_then_warm_and_checked(tmp_path):
    system = a_tandem(tmp_path / "var")
    system.start()
    try:
        first = patiently("a first quote", lambda: quote(system), within_s=100)
        assert first.source == "fallback"  # there is no model yet, and the product sells all the same
        assert left_behind(system.var)
    finally:
        assert system.stop() == 0
    assert left_behind(system.var) == []
    left_at = Clock.load(system.var / "clock.json").seen
    assert left_at is not None
    assert left_at > LIVE_START

    ended = launch(system, "--for", "1")

    assert Clock.load(system.var / "clock.json").city_start >= left_at
    assert ended.returncode == 1  # one second is too short for outcomes
    verdicts = [line for line in ended.stdout.splitlines() if "kept" in line or "MISSED" in line]
    assert any("quotes-without-serving" in line and "kept" in line for line in verdicts)
    assert any("outcome-join" in line and "MISSED" in line for line in verdicts)
    assert left_behind(system.var) == []


def test_a_second_start_in_the_same_var_is_refused_and_who_stops_the_first_is_told_so(tmp_path):
    system, second = a_tandem(tmp_path / "var"), a_tandem(tmp_path / "var")
    system.start()
    try:
        patiently("product", lambda: system.live("product"), within_s=100)
        started = system.clock.wall_start
        refused = launch(second)
        assert refused.returncode == 1
        assert f"a Tandem runs in {system.var} already" in re.sub(r"\s+", " ", refused.stdout)
        assert system.clock.wall_start == started
        command = [sys.executable, "-m", "deploy.control", "stop"]
        subprocess.run(command, check=True, env=system.environment)
        assert system.launcher.wait(timeout=60) == 0
    finally:
        system.stop()
    assert "Tandem was stopped" in system.what_it_said()
    assert left_behind(system.var) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_left_alone_it_closes_the_loop_and_says_so(tmp_path):
    system = a_tandem(tmp_path / "var", TANDEM_SPEED="300", TANDEM_HISTORY_WEEKS="6")
    ended = launch(system, "--for", "240", within_s=500)

    assert ended.returncode == 0, ended.stdout
    assert "MISSED" not in ended.stdout
    assert left_behind(tmp_path / "var") == []

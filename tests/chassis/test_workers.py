"""Several workers on one socket: counted together, replaced when they die or hang, ended together."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.chassis.small_service import answers, get, small_service
from tests.servers import eventually

pytestmark = pytest.mark.slow


def pids(url: str) -> set[int]:
    """Workers that answer: who among so many asked on new connections has not answered is not there."""
    return {int(get(f"{url}/work?ms=5")[1]) for _ in range(40)}


def metric(url: str, name: str) -> float:
    lines = (line.rpartition(" ") for line in get(f"{url}/metrics")[1].splitlines())
    return next((float(value) for found, _, value in lines if found == name), -1)


def test_what_workers_count_adds_up_and_survives_the_worker(tmp_path):
    (tmp_path / "metrics" / "small-4194304").mkdir(parents=True)  # no process has this number: a killed start's folder
    with small_service(tmp_path, workers=2) as (url, process):
        eventually(lambda: metric(url, "small_workers") == 2, "both workers are there")
        before = metric(url, "small_asked_total")
        workers = pids(url)
        assert metric(url, "small_asked_total") == before + 40
        assert metric(url, 'small_info{name="small"}') == 1
        assert [folder.name for folder in (tmp_path / "metrics").iterdir()] == [f"small-{process.pid}"]

        os.kill(min(workers), signal.SIGKILL)
        eventually(lambda: metric(url, "small_workers") == 1, "the dead worker is not counted")
        eventually(lambda: metric(url, "small_workers") == 2, "another worker is there")
        assert metric(url, "small_asked_total") >= before + 40
        assert min(workers) not in pids(url)
    assert list((tmp_path / "metrics").iterdir()) == []
    assert not answers(url)


def test_workers_end_with_a_killed_supervisor_and_free_the_port(tmp_path):
    with small_service(tmp_path, workers=2) as (url, process):
        process.kill()
        process.wait()
        eventually(lambda: not answers(url), "the workers have ended", within_s=10)


@pytest.mark.parametrize(
    ("fails", "said"), [("on purpose", "parts are missing: order some"), ("by a bug", "ZeroDivisionError")]
)
def test_workers_that_cannot_start_end_the_service_with_the_reason(tmp_path, fails, said):
    with small_service(tmp_path, workers=2, fails=fails) as (_, process):
        assert process.wait(timeout=20) == 1
    told = (tmp_path / "log").read_text()
    assert said in told
    assert ("Traceback" in told) == (fails == "by a bug")
    assert "small: a worker could not start" in told


def test_a_worker_that_cannot_be_replaced_costs_the_others_nothing(tmp_path):
    with small_service(tmp_path, workers=2, needs=tmp_path / "parts") as (_, process):
        assert process.wait(timeout=20) == 1  # the first start
    (tmp_path / "parts").touch()
    with small_service(tmp_path, workers=2, needs=tmp_path / "parts") as (url, process):
        eventually(lambda: len(pids(url)) == 2, "both workers answer")
        before = pids(url)
        (tmp_path / "parts").unlink()
        os.kill(min(before), signal.SIGKILL)
        eventually(lambda: (tmp_path / "log").read_text().count("another one is tried") >= 2, "two more have failed")
        assert pids(url) == {max(before)}
        assert process.poll() is None
        (tmp_path / "parts").touch()
        eventually(lambda: len(pids(url)) == 2, "there are two again")
        assert max(before) in pids(url)


def test_a_worker_that_hangs_is_replaced(tmp_path):
    with small_service(tmp_path, workers=2) as (url, process):
        workers = pids(url)
        os.kill(min(workers), signal.SIGSTOP)
        eventually(lambda: not there(min(workers)), "the worker that hangs has been killed")
        eventually(lambda: answers(url), "the service answers")
        assert min(workers) not in pids(url)
        assert process.poll() is None


def there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() if Path("/proc/self").exists() else _by_ps(pid)


def _by_ps(pid: int) -> bool:
    return subprocess.run(["ps", "-p", str(pid)], capture_output=True, check=False).returncode == 0

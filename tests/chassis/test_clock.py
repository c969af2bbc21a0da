"""City time: one straight line, resumed where it was last seen."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from chassis.clock import Clock, NoClock, real_time

EIGHT = datetime.fromisoformat("2026-06-01T08:00+02:00")


def a_clock(**changes) -> Clock:
    return Clock(**({"time_zone": "Europe/Berlin", "city_start": EIGHT, "wall_start": 1000.0, "speed": 120} | changes))


def test_city_time_runs_at_speed():
    assert a_clock().at(1030.0) == EIGHT + timedelta(hours=1)


def test_a_warm_start_goes_on_from_the_last_instant_seen():
    stopped = a_clock().seen_at(EIGHT + timedelta(hours=5))

    resumed = stopped.resumed(wall=9000.0, speed=600)

    assert resumed.at(9000.0) == EIGHT + timedelta(hours=5)
    assert resumed.at(9001.0) == EIGHT + timedelta(hours=5, minutes=10)


def test_the_file_keeps_the_clock_and_a_missing_one_says_what_to_do(tmp_path: Path):
    path = tmp_path / "clock.json"
    with pytest.raises(NoClock, match="make run"):
        Clock.load(path)
    a_clock().save(path)
    assert Clock.load(path).at(1030.0) == EIGHT + timedelta(hours=1)
    assert Clock.load(path).now().tzinfo == a_clock().zone


def test_a_reader_never_sees_half_a_clock(tmp_path: Path):
    path = tmp_path / "clock.json"
    a_clock().save(path)
    done = threading.Event()

    def keep() -> None:
        for step in range(300):
            a_clock().seen_at(EIGHT + timedelta(minutes=step)).save(path)
        done.set()

    keeper = threading.Thread(target=keep)
    keeper.start()
    reads = 0
    while not done.is_set() or reads == 0:
        Clock.load(path)
        reads += 1
    keeper.join()
    assert reads > 0


def test_a_real_deployments_clock_is_the_wall_clock():
    clock = real_time("Europe/Berlin")
    assert abs(clock.at(clock.wall_start + 5).timestamp() - clock.wall_start - 5) < 0.001

"""City time: one straight line, resumed where it was last seen."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import ValidationError

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


@pytest.mark.parametrize("broken", ["", "{", '{"time_zone": "Europe/Berlin"}', b"\xff", '{"speed": 0}'])
def test_a_file_that_holds_no_clock_is_named_with_what_to_do(tmp_path: Path, broken: str | bytes):
    path = tmp_path / "clock.json"
    path.write_bytes(broken if isinstance(broken, bytes) else broken.encode())
    with pytest.raises(NoClock, match=f"{path} is no clock .*make clean"):
        Clock.load(path)


@pytest.mark.parametrize("speed", [0, -1, 1e9])
def test_no_clock_goes_on_at_a_speed_that_is_none(speed: float):
    with pytest.raises(ValidationError, match="speed"):
        a_clock().resumed(wall=9000.0, speed=speed)


@pytest.mark.parametrize("change", ["2026-10-25T01:00+00:00", "2027-03-28T01:00+00:00"])  # Berlin's, to winter and back
def test_city_time_runs_on_when_the_clocks_are_changed(tmp_path: Path, change: str):
    changes = datetime.fromisoformat(change)
    a_clock(city_start=changes - timedelta(minutes=90), wall_start=0, speed=60).save(tmp_path / "clock.json")
    clock = Clock.load(tmp_path / "clock.json")

    told = [clock.at(second) for second in range(180)]  # a city minute each

    assert [at.astimezone(UTC) - changes for at in told] == [timedelta(minutes=n - 90) for n in range(180)]
    assert [after - before for before, after in pairwise(told)] == [timedelta(minutes=1)] * 179
    assert [at.utcoffset() for at in told] == [at.astimezone(clock.zone).utcoffset() for at in told]
    assert told[10] + timedelta(minutes=120) == told[130]  # a promise made before and due after
    assert told[0].utcoffset() != told[-1].utcoffset()
    assert clock.wall_seconds_until(told[130]) == pytest.approx(130 - time.time(), abs=1)


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

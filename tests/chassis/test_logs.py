"""Logs: a line of JSON per event or text for people, ours and libraries', with the ids of the request at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SAY = """
import asyncio, logging, sys
from chassis.logs import about_request, write_logs
write_logs("small", sys.argv[1])
log = logging.getLogger("serving.desk")

async def request(number):
    about_request(f"r{number}", "0af7651916cd43dd8448eb211c80319c")
    await asyncio.sleep(0.01)
    log.warning("trip %s\\nis %d km", "t1", number)
    await asyncio.to_thread(log.error, "in a thread")

async def main():
    await asyncio.gather(*map(request, range(3)))

asyncio.run(main())
logging.getLogger("uvicorn.error").error("a library's")
logging.getLogger("httpx").info("not to be heard")
logging.getLogger("small").debug("not to be heard")
log.info({"any": object})
try:
    1 / 0
except ZeroDivisionError:
    log.exception("a fault in %(what)s", {"what": "Überlauf"})
"""


def lines(form: str) -> list[str]:
    """What a process that logs all sorts of things leaves on stderr."""
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    said = subprocess.run(
        [sys.executable, "-c", SAY, form], capture_output=True, encoding="utf-8", env=environment, check=True
    )
    assert said.stdout == ""
    assert "not to be heard" not in said.stderr
    return said.stderr.splitlines()


def test_json_is_a_line_per_event_with_the_ids_of_its_request():
    events = [json.loads(line) for line in lines("json")]

    of_requests, rest = events[:6], events[6:]
    assert sorted((it["request_id"], it["message"]) for it in of_requests) == sorted(
        (f"r{number}", text) for number in range(3) for text in (f"trip t1\nis {number} km", "in a thread")
    )
    assert {it["trace_id"] for it in of_requests} == {"0af7651916cd43dd8448eb211c80319c"}
    assert [(it["logger"], it["level"], it["message"]) for it in rest] == [
        ("uvicorn.error", "error", "a library's"),
        ("serving.desk", "info", "{'any': <class 'object'>}"),
        ("serving.desk", "error", "a fault in Überlauf"),
    ]
    assert not any("request_id" in it for it in rest)
    assert rest[-1]["exception"].startswith("Traceback")
    assert rest[-1]["exception"].endswith("ZeroDivisionError: division by zero")
    assert all(it["service"] == "small" and it["timestamp"].endswith("Z") for it in events)


def test_text_is_for_people():
    said = lines("text")
    [error] = [line for line in said if "request_id=r2" in line and "in a thread" in line]
    assert "error" in error
    assert "service=small" in error
    assert said[-1] == "ZeroDivisionError: division by zero"
    assert "\x1b" not in "".join(said)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_running_service_logs_nothing_for_a_good_request_and_json_for_a_fault(tmp_path, workers):
    from tests.chassis.small_service import get, small_service

    with small_service(tmp_path, workers=workers) as (url, _):
        for number in range(5):
            assert get(f"{url}/work") != 0
            assert get(f"{url}/log?request_id=r{number}") == (200, f'"r{number}"')
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(it["request_id"], it["message"], it["logger"]) for it in events] == [
        (f"r{number}", "2 lines\nbroken", "small.part") for number in range(5)
    ]

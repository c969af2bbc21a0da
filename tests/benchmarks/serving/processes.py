"""Server processes under measurement: started on their core, awaited, weighed and ended, with whatever they started."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from contracts.problems import TandemError
from tests.benchmarks.serving.bursts import on_core
from tests.benchmarks.serving.generator import HOST

PATIENCE_S = 90.0  # for the first answer; peers take seconds
LOOK_S = 0.005


class NeverReady(TandemError):
    """A server ended, or gave no good answer in time."""


@dataclass
class Server:
    """A running server. `first_answer_s` is the time from its start to its first good answer, `answer` that body."""

    name: str
    port: int
    process: psutil.Process
    first_answer_s: float
    answer: bytes

    def memory_mb(self) -> float:
        """Resident memory in MB, that of the processes it started included."""
        return sum(item.memory_info().rss for item in [self.process, *self.process.children(recursive=True)]) / 1e6


def asked(port: int, request: str, timeout_s: float = 5.0) -> tuple[int, bytes]:
    """Send one whole request; status and body. Raises `OSError` or `HTTPException` where there is no answer."""
    head, _, body = request.partition("\r\n\r\n")
    line, *fields = head.split("\r\n")
    method, path, _ = line.split(" ")
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request(method, path, body, dict(field.split(": ", 1) for field in fields))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@contextmanager
def started(
    name: str,
    command: Sequence[str | Path],
    port: int,
    first: str,
    log: Path,
    core: int | None,
    environment: Mapping[str, str],
    folder: Path | None = None,
) -> Iterator[Server]:
    """A server that has answered the request `first` well. Raises `NeverReady` with the end of its log."""
    began = time.perf_counter()
    with log.open("ab") as said, on_core(core):
        child = subprocess.Popen(
            [*map(str, command)], stdout=said, stderr=said, env={**environment}, cwd=folder, start_new_session=True
        )
    try:
        answer = _first_answer(child, name, port, first, log, began)
        yield Server(name, port, psutil.Process(child.pid), time.perf_counter() - began, answer)
    finally:
        _end(child)


def _first_answer(child: subprocess.Popen[bytes], name: str, port: int, first: str, log: Path, began: float) -> bytes:
    heard = "no answer yet"
    while time.perf_counter() - began < PATIENCE_S:
        if child.poll() is not None:
            raise NeverReady(f"{name} ended with status {child.returncode}: {log.read_text()[-2000:]}")
        try:
            status, body = asked(port, first)
        except (OSError, http.client.HTTPException) as error:
            heard = repr(error)
        else:
            if status == 200:
                return body
            heard = f"{status} {body[:300]!r}"
        time.sleep(LOOK_S)
    raise NeverReady(f"{name} gave no good answer within {PATIENCE_S:g} s ({heard}): {log.read_text()[-2000:]}")


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ask it to end, then end its whole session."""
    child.terminate()
    try:
        child.wait(timeout=15)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    try:
        os.killpg(child.pid, signal.SIGKILL)  # what it started and did not end
    except ProcessLookupError:
        return

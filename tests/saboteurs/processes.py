"""Service processes that a profile starts, spoils and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.servers import free_port

UP_WITHIN_S = 30


@contextmanager
def service(
    module: str, var: Path, health: str = "ready", **addresses: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`python -m module` in `var` until leaving; answers its URL and process once its `health` check passes.

    `addresses` are other services' URLs, as `serving_url="http://..."`.
    """
    port = free_port()
    settings = {"VAR": str(var), f"{module.upper()}_PORT": str(port)}
    settings |= {name.upper(): url for name, url in addresses.items()}
    environment = os.environ | {f"TANDEM_{name}": value for name, value in settings.items()}
    with (var / f"{module}.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", module], env=environment, stdout=log, stderr=log)
    try:
        _until_up(f"http://127.0.0.1:{port}/health/{health}", process)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.send_signal(signal.SIGCONT)  # a saboteur may have stopped it
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_up(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + UP_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass  # not up yet
        time.sleep(0.05)
    raise RuntimeError(f"{url} did not answer within {UP_WITHIN_S} s")

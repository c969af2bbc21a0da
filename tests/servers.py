"""Real servers for tests: an app on an ephemeral port, over real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from chassis.http import Limits
from chassis.service import server_config, several


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextmanager
def running(app: FastAPI, limits: Limits | None = None, **more: Any) -> Iterator[str]:
    """Serve an app in a thread, as it is served in production; answers its base URL. `more` are uvicorn's settings."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = uvicorn.Server(server_config(app, limits, **{"timeout_graceful_shutdown": 1, **more}))
    thread = threading.Thread(target=server.run, kwargs={"sockets": several(sock)}, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the app under test did not start; see its log above")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=15)


def eventually(holds: Callable[[], bool], what: str, within_s: float = 20) -> None:
    """Wait until something holds."""
    patience = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < patience, f"waited in vain until {what}"
        time.sleep(0.02)

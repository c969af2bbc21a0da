"""A load balancer: it watches the readiness of backends and sends each new connection to one that was ready."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx

LOOK_EVERY_S = 0.1


class Balancer:
    """Passes bytes on, in a thread of its own."""

    def __init__(self, backends: list[str]) -> None:
        self.backends, self.ready = backends, list(backends)
        self.passed = dict.fromkeys(backends, 0)
        self.url = ""
        self._started = threading.Event()

    async def serve(self, stop: threading.Event) -> None:
        """Balance until told to stop."""
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, httpx.AsyncClient(timeout=1) as client:
            while not stop.is_set():
                self.ready = [backend for backend in self.backends if await _is_ready(client, backend)]
                self._started.set()
                await asyncio.sleep(LOOK_EVERY_S)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        backend = min(self.ready, key=self.passed.__getitem__)
        self.passed[backend] += 1
        at = urlsplit(backend)
        try:
            theirs, ours = await asyncio.open_connection(at.hostname, at.port)
            await asyncio.gather(_copy(reader, ours), _copy(theirs, writer))
            ours.close()
        except OSError:
            pass  # the client sees a connection that ends without an answer
        writer.close()

    def wait_until_started(self) -> None:
        """Return once it listens."""
        assert self._started.wait(10)


async def _is_ready(client: httpx.AsyncClient, backend: str) -> bool:
    try:
        return (await client.get(f"{backend}/health/ready")).status_code == 200
    except httpx.HTTPError:
        return False


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.write_eof()


@contextmanager
def balancing(backends: list[str]) -> Iterator[Balancer]:
    """A running balancer."""
    balancer, stop = Balancer(backends), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(balancer.serve(stop)), daemon=True)
    thread.start()
    balancer.wait_until_started()
    yield balancer
    stop.set()
    thread.join(timeout=10)

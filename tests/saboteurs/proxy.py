"""Proxies that saboteurs put between a client and a service: one that breaks connections, one that edits pages."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator

import httpx
from fastapi import FastAPI, Request, Response

HOP_BY_HOP = {"content-length", "transfer-encoding", "connection", "content-encoding", "host"}


@contextlib.contextmanager
def flaky(port: int, break_every: int) -> Iterator[int]:
    """A TCP proxy to a local port that hangs up on every so-many-th POST instead of passing it on; answers its port."""
    loop = asyncio.new_event_loop()
    posts = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal posts
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, breaks: bool) -> None:
            nonlocal posts
            with contextlib.suppress(ConnectionError):
                while chunk := await source.read(65536):
                    if breaks and chunk.startswith(b"POST"):
                        posts += 1
                        if posts % break_every == 0:
                            break
                    sink.write(chunk)
                    await sink.drain()
            for end in (writer, there_writer):
                end.close()

        await asyncio.gather(pump(reader, there_writer, True), pump(there_reader, writer, False))

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5)


def editing(
    target: str,
    request_headers: dict[str, str] | None = None,
    instead: Callable[[Request, bytes], Response | None] = lambda _request, _body: None,
    edit: Callable[[str], str] = lambda page: page,
) -> FastAPI:
    """An HTTP proxy: adds headers to requests, answers some itself, edits the HTML of the rest."""
    app = FastAPI(openapi_url=None)
    client = httpx.AsyncClient(base_url=target, timeout=20)

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def forward(path: str, request: Request) -> Response:
        body = await request.body()
        if own := instead(request, body):
            return own
        headers = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP}
        answer = await client.request(
            request.method,
            f"/{path}",
            params=request.query_params,
            content=body,
            headers=headers | (request_headers or {}),
        )
        kept = {name: value for name, value in answer.headers.items() if name not in HOP_BY_HOP}
        html = "text/html" in answer.headers.get("content-type", "")
        return Response(edit(answer.text) if html else answer.content, answer.status_code, kept)

    return app

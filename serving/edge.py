"""The outermost layer of the service: request ids, the limit on bodies, and how long estimates take."""

from __future__ import annotations

import re
import time
import uuid

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.metrics import Metrics

ESTIMATES = "/v1/estimates"
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class Edge:
    """Plain ASGI: Starlette's own middleware class would cost more than the estimate."""

    def __init__(self, app: ASGIApp, metrics: Metrics, largest_body_bytes: int) -> None:
        self.app, self.metrics, self.largest = app, metrics, largest_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        taken, status = 0, 500

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.largest:
                raise HTTPException(413, f"the body has more than {self.largest} bytes: send fewer trips at once")
            return message

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        try:
            await self.app(scope, limited, named)
        finally:
            if scope["path"] == ESTIMATES:
                self.metrics.requests.labels(str(status)).inc()
                if status == 200:  # a quick refusal must not make the answers look quick
                    self.metrics.seconds.observe(time.perf_counter() - started)


def _request_id(scope: Scope) -> bytes:
    """The caller's id where it is a sound one, else a new one."""
    sent: bytes = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return sent if REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex.encode()

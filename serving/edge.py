"""What surrounds every route: the caller's ids, the limit on bodies, and how long estimates take."""

from __future__ import annotations

import time

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.logs import about_request
from serving.caller import Caller
from serving.observation import ESTIMATES, Observation


class Edge:
    """Plain ASGI: Starlette's own middleware class would cost more than the estimate. It leaves the `Caller` in the
    scope, as `caller`."""

    def __init__(self, app: ASGIApp, observation: Observation, largest_body_bytes: int) -> None:
        self.app, self.observation, self.largest = app, observation, largest_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        caller = scope["caller"] = Caller.of(dict(scope["headers"]))
        about_request(caller.request_id, caller.span.trace_id if caller.span else "")
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
                message["headers"] = [*message["headers"], *caller.headers()]
            await send(message)

        try:
            await self.app(scope, limited, named)
        finally:
            if scope["path"] == ESTIMATES:
                self.observation.answered(caller, status, began)

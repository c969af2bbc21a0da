"""The short way to an estimate, past FastAPI's routing, which takes longer than the estimate itself.

Only what is plainly good goes this way: any other request is handed on as it came, so that one place alone, the route,
decides how bad requests are answered (docs/decisions/0011).
"""

from __future__ import annotations

import re
import time

from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.problems import ProblemError, answer
from contracts.estimates import TIMEOUT_HEADER, EstimatesRequest
from serving.caller import Caller, Headers
from serving.desk import EstimateDesk
from serving.observation import ESTIMATES, Observation

WHOLE = re.compile(rb"[1-9][0-9]{0,5}")
JSON = (b"content-type", b"application/json")
_TIMEOUT = TIMEOUT_HEADER.lower().encode()


class Shortcut:
    """Plain ASGI in front of all layers of the app: answers good requests for estimates itself."""

    def __init__(self, app: ASGIApp, desk: EstimateDesk, observation: Observation, largest_body_bytes: int) -> None:
        self.app, self.desk, self.observation, self.largest = app, desk, observation, largest_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == ESTIMATES and scope["method"] == "POST":
            headers = dict(scope["headers"])
            if self._plain(headers):
                await self._estimate(headers, scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _plain(self, headers: Headers) -> bool:
        """Whether nothing about a request but its body can be wrong."""
        return (
            headers.get(b"content-type") == b"application/json"
            and WHOLE.fullmatch(length := headers.get(b"content-length", b"")) is not None
            and int(length) <= self.largest
            and WHOLE.fullmatch(headers.get(_TIMEOUT, b"1")) is not None
        )

    async def _estimate(self, headers: Headers, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        message = await receive()
        body = message.get("body", b"")
        while message.get("more_body", False):
            message = await receive()
            body += message.get("body", b"")
        if message["type"] == "http.disconnect":
            return
        try:
            asked = EstimatesRequest.model_validate_json(body)
        except ValidationError:
            await self.app(scope, _again(body, receive), send)
            return
        caller, timeout = Caller.of(headers), headers.get(_TIMEOUT)
        try:
            told = await self.desk.answer(
                asked.trips, asked.with_reasons, caller, None if timeout is None else int(timeout)
            )
        except ProblemError as problem:
            refusal = answer(problem, ESTIMATES)
            refusal.raw_headers += caller.headers()
            self.observation.answered(caller, refusal.status_code, began)
            await refusal(scope, receive, send)
            return
        body = told.encode()
        size = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [JSON, size, *caller.headers()]})
        await send({"type": "http.response.body", "body": body})
        self.observation.answered(caller, 200, began)


def _again(body: bytes, receive: Receive) -> Receive:
    """The body once more, for somebody who has not read it."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay

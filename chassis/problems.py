"""Errors become RFC 9457 problems here, once, for every service."""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from chassis.sql import DatabaseAway
from contracts.problems import FieldFault, Problem, TandemError

MEDIA_TYPE = "application/problem+json"
LONGEST_VALUE = 200
SOON_S = 2.0  # when to try again after a 503 whose error does not know
log = logging.getLogger(__name__)


class ProblemError(TandemError):
    """A problem to answer with: HTTP status, a slug that names its type, and the detail for people."""

    def __init__(
        self,
        status: int,
        slug: str,
        detail: str,
        errors: list[FieldFault] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.slug, self.errors, self.retry_after_s = status, slug, errors or [], retry_after_s


def answer(error: ProblemError, instance: str | None) -> Response:
    """The problem as a response, with Retry-After where the error knows when to try again."""
    problem = Problem(
        type=f"/problems/{error.slug}",
        title=error.slug.replace("-", " ").capitalize(),
        status=error.status,
        detail=_sendable(str(error)),
        instance=None if instance is None else _sendable(instance),
        errors=error.errors,
        retry_after_s=error.retry_after_s,
    )
    headers = {} if error.retry_after_s is None else {"Retry-After": str(math.ceil(error.retry_after_s))}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(problem.model_dump_json(exclude_none=True), error.status, headers, MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for the problems a route may answer with."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": "Problem", "model": Problem, "content": content} for status in statuses}


def faults(error: RequestValidationError) -> list[FieldFault]:
    """What was wrong with a request: field, value, rule."""
    found = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"] if part != "body") or "body"
        found.append(FieldFault(field=_sendable(place), value=_shown(fault.get("input")), rule=_sendable(fault["msg"])))
    return found


def _shown(value: Any) -> Any:
    """A value as a problem may show it: plain numbers as they are, anything else as short text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    text = _sendable(value if isinstance(value, str) else repr(value))
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…"


def _sendable(text: str) -> str:
    r"""Text as UTF-8 can carry it: a caller may send half a surrogate pair as `"\ud800"`, and we must name it."""
    return text.encode("utf-8", "backslashreplace").decode()


def log_fault(request: Request, error: Exception) -> str:
    """Log what is our fault, and answer the reference that finds it in the log: all that a caller is told of it."""
    reference = uuid.uuid4().hex[:12]
    log.error("fault %s at %s %s", reference, request.method, request.url.path, exc_info=error)
    return reference


def translate_errors(app: FastAPI, statuses: Mapping[type[TandemError], int] | None = None) -> None:
    """Make an app answer with problems. `statuses` is the service's own table from error class to HTTP status."""
    table = statuses or {}

    @app.exception_handler(ProblemError)
    async def on_problem(request: Request, error: ProblemError) -> Response:
        return answer(error, request.url.path)

    @app.exception_handler(TandemError)
    async def on_purpose(request: Request, error: TandemError) -> Response:
        status = next((code for kind, code in table.items() if isinstance(error, kind)), None)
        if status is None:  # raised on purpose, but not for this caller: what it says may be none of their business
            return await on_fault(request, error)
        wait_s = SOON_S if status == 503 else None
        problem = ProblemError(status, _slug(type(error).__name__), str(error), retry_after_s=wait_s)
        return answer(problem, request.url.path)

    @app.exception_handler(DatabaseAway)
    async def on_database_away(request: Request, error: DatabaseAway) -> Response:
        reference = log_fault(request, error)
        detail = f"our database does not answer: try again in a moment; if it stays so, tell its owners {reference}"
        return answer(ProblemError(503, "database-away", detail, retry_after_s=SOON_S), request.url.path)

    @app.exception_handler(RequestValidationError)
    async def on_bad_request(request: Request, error: RequestValidationError) -> Response:
        found = faults(error)
        broken_json = any(fault["type"] == "json_invalid" for fault in error.errors())
        first = found[0]
        detail = f"{first.field}: {first.rule} (got {first.value!r})"
        slug, status = ("malformed-json", 400) if broken_json else ("invalid-request", 422)
        return answer(ProblemError(status, slug, detail, found), request.url.path)

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        response = answer(
            ProblemError(error.status_code, f"http-{error.status_code}", str(error.detail)), request.url.path
        )
        response.headers.update(error.headers or {})
        if error.status_code == 405:  # the router names the methods of one route only
            response.headers["Allow"] = ", ".join(_methods_here(app, request))
        return response

    @app.exception_handler(Exception)
    async def on_fault(request: Request, error: Exception) -> Response:
        reference = log_fault(request, error)
        detail = f"this is our fault, not yours: tell the service's owners {reference}, which their log has"
        response = answer(ProblemError(500, "fault", detail), request.url.path)
        response.headers["Connection"] = "close"  # the server drops it, and the caller's next request must not be on it
        return response


def _methods_here(app: FastAPI, request: Request) -> list[str]:
    """Every method that some route takes at the request's path."""
    return [
        method
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in app.routes)
    ]


def _slug(name: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")

"""One way to write logs: a line of JSON per event in production, text for people elsewhere; libraries' logs as well.

Nothing is logged for a request that went well. What is logged while one is worked on carries its ids.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, Literal

import structlog
from structlog.typing import Processor

Form = Literal["text", "json"]
_request: ContextVar[tuple[str, str] | None] = ContextVar("request", default=None)


def about_request(request_id: str, trace_id: str) -> None:
    """What this task and the threads it calls log from now on is about this request."""
    _request.set((request_id, trace_id))


def write_logs(service: str, form: Form) -> None:
    """Send all logs to stderr, which the supervisor collects, with time (UTC), level, service and logger."""

    def of_service(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service
        return event

    known: list[Processor] = [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        of_service,
        _add_request,
    ]
    written: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if form == "json":
        written += [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
        ]
    else:
        plain = structlog.dev.plain_traceback
        written += [structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, exception_formatter=plain)]
    handler = logging.StreamHandler()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=known, processors=written))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)


def _add_request(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    ids = _request.get()
    if ids is not None:
        event["request_id"], event["trace_id"] = ids
    return event

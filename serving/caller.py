"""Who asks: the ids that a request carries through answers, logs, traces and the feed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from chassis.ids import new_id
from chassis.tracing import Traceparent, child_of, parse

Headers = Mapping[bytes, bytes]
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class Caller(NamedTuple):
    """The request's id and, where it is part of a trace (W3C Trace Context), the caller's span and ours."""

    request_id: str
    parent: Traceparent | None
    span: Traceparent | None

    @classmethod
    def of(cls, headers: Headers) -> Caller:
        """Read a request's headers. A sound id is kept, else a new one made; an unsound trace is none."""
        sent, trace = headers.get(b"x-request-id"), headers.get(b"traceparent")
        request_id = new_id() if sent is None or not REQUEST_ID.fullmatch(sent) else sent.decode()
        parent = None if trace is None else parse(trace)
        return cls(request_id, parent, None if parent is None else child_of(parent))

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The ids as headers of the answer."""
        named = [(b"x-request-id", self.request_id.encode())]
        return named if self.span is None else [*named, (b"traceparent", str(self.span).encode())]

    def lines(self) -> bytes:
        """The same as they are sent."""
        traced = "" if self.span is None else f"traceparent: {self.span}\r\n"
        return f"x-request-id: {self.request_id}\r\n{traced}".encode()

"""Who asks: the ids that a request carries through answers, logs, traces and the feed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from chassis.ids import new_id
from chassis.tracing import Traceparent, child_of, parse

Headers = Mapping[bytes, bytes]
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True)
class Caller:
    """The request's id, the caller's span if we were told one, and ours (W3C Trace Context)."""

    request_id: str
    span: Traceparent
    parent: Traceparent | None

    @classmethod
    def of(cls, headers: Headers) -> Caller:
        """Read a request's headers: a sound id and a sound trace are kept, others are made anew."""
        sent, trace = headers.get(b"x-request-id"), headers.get(b"traceparent")
        request_id = new_id() if sent is None or not REQUEST_ID.fullmatch(sent) else sent.decode()
        parent = None if trace is None else parse(trace)
        return cls(request_id, child_of(parent), parent)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The ids as headers of the answer."""
        return [(b"x-request-id", self.request_id.encode()), (b"traceparent", str(self.span).encode())]

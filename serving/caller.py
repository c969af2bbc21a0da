"""Who asks: the ids that a request carries through answers, logs and the feed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from chassis.ids import new_id
from chassis.tracing import child

Headers = Mapping[bytes, bytes]
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True)
class Caller:
    """The request's id, and our place in the caller's trace (W3C Trace Context)."""

    request_id: str
    traceparent: str

    @classmethod
    def of(cls, headers: Headers) -> Caller:
        """Read a request's headers: a sound id and a sound trace are kept, others are made anew."""
        sent = headers.get(b"x-request-id")
        request_id = new_id() if sent is None or not REQUEST_ID.fullmatch(sent) else sent.decode()
        return cls(request_id, child(headers.get(b"traceparent", b"")))

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The ids as headers of the answer."""
        return [(b"x-request-id", self.request_id.encode()), (b"traceparent", self.traceparent.encode())]

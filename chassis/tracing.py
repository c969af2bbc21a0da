"""Our place in a caller's trace, as W3C Trace Context has it: https://www.w3.org/TR/trace-context/#traceparent-header

00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01      version, trace id, id of the caller's span, flags
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from chassis.ids import new_id

HEADER = re.compile(
    rb"(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)
RECORDED = 1  # the only flag that version 00 defines: whoever sent this may have recorded its span


class Traceparent(NamedTuple):
    """A span's place: `trace_id` is 32 hex digits that all spans of a trace share, `span_id` 16 of this one."""

    trace_id: str
    span_id: str
    recorded: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.recorded else '00'}"


class SpanData(NamedTuple):
    """A piece of work that has ended. Times are nanoseconds since 1970; `parent` is the caller's span, if told."""

    name: str
    here: Traceparent
    parent: Traceparent | None
    start_ns: int
    end_ns: int
    failed: bool = False
    attributes: Mapping[str, str | bool | int | float] = {}


def parse(header: bytes) -> Traceparent | None:
    """The caller's span, or None where the header is missing or unsound, which is to be treated as missing.

    Of a version that we don't know the first four fields hold, whatever follows them.

    >>> parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").trace_id
    '4bf92f3577b34da6a3ce929d0e0e4736'
    >>> parse(b"00-00000000000000000000000000000000-00f067aa0ba902b7-01")
    """
    found = HEADER.fullmatch(header)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if more is not None and version == b"00":
        return None
    return Traceparent(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & RECORDED))


def child_of(parent: Traceparent | None) -> Traceparent:
    """A span of our own: in the caller's trace and recorded if the caller's is, else the first of a new trace."""
    if parent is None:
        return Traceparent(new_id(), new_id(16), True)
    return Traceparent(parent.trace_id, new_id(16), parent.recorded)


def child(traceparent: bytes) -> str:
    """The header that answers a caller's, sound or not: it names a span of our own."""
    return str(child_of(parse(traceparent)))

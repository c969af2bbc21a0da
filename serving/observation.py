"""What is noted of each request for estimates: counted, timed, and told to whoever follows traces."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from chassis.tracing import SpanData, child_of
from serving.caller import Caller
from serving.metrics import Metrics

ESTIMATES = "/v1/estimates"


@dataclass(frozen=True, slots=True)
class Observation:
    """Where requests are noted; `export` is None where nobody follows traces."""

    metrics: Metrics
    export: Callable[[SpanData], None] | None

    def answered(self, caller: Caller, status: int, began: float) -> None:
        """Note an answer to a request that came at `began`, a `time.perf_counter()`."""
        seconds = time.perf_counter() - began
        if status == 200:
            self.metrics.answered.inc()
            self.metrics.seconds.observe(seconds)  # a quick refusal must not make the answers look quick
        else:
            self.metrics.requests.labels(str(status)).inc()
        if self.export is not None:
            now = time.time_ns()
            start = now - int(seconds * 1e9)
            span = caller.span or child_of(None)  # the first of a trace that begins here
            self.export(SpanData(f"POST {ESTIMATES}", span, caller.parent, start, now, status >= 500))

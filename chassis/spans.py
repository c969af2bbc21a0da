"""Spans to an OpenTelemetry collector, where `TANDEM_OTLP_ENDPOINT` names one; else nothing is even imported."""

from __future__ import annotations

from threading import Event

from chassis.addresses import Addresses
from chassis.tracing import SpanData, Traceparent
from contracts.problems import TandemError

LONGEST_S = 2  # for a batch, retries included; a process that ends waits no longer for its last one


class NoTracing(TandemError):
    """An endpoint is set, and what could send to it is not installed."""


def exporter(settings: Addresses, service: str) -> Exporter | None:
    """What takes the spans of answered requests, or None where nobody wants them. Raises `NoTracing`."""
    return Exporter(settings.otlp_endpoint, service) if settings.otlp_endpoint else None


class Exporter:
    """Call it with spans, from one thread. It never waits: a thread of OpenTelemetry's SDK sends them in batches, over
    HTTP to `<endpoint>/v1/traces`, and drops what it can't. Not recorded is what the caller does not record."""

    def __init__(self, endpoint: str, service: str) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.id_generator import IdGenerator
        except ImportError as error:
            what = f"TANDEM_OTLP_ENDPOINT is {endpoint}, but {error}: unset it or install the extra `tracing`"
            raise NoTracing(what) from error

        class Given(IdGenerator):
            """Hands out the ids of the span at hand: the caller has been told them already."""

            here = Traceparent("", "", False)

            def generate_trace_id(self) -> int:
                return int(self.here.trace_id, 16)

            def generate_span_id(self) -> int:
                return int(self.here.span_id, 16)

        self._trace, self._ids = trace, Given()
        resource = Resource.create({"service.name": f"tandem-{service}"})
        self._provider = TracerProvider(id_generator=self._ids, resource=resource)
        sender = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=LONGEST_S)
        self._provider.add_span_processor(BatchSpanProcessor(sender))
        self._tracer = self._provider.get_tracer("tandem")

    def __call__(self, span: SpanData) -> None:
        """Take a span that has ended."""
        trace, context = self._trace, None
        if span.parent is not None:
            ids = (int(span.parent.trace_id, 16), int(span.parent.span_id, 16))
            parent = trace.SpanContext(*ids, is_remote=True, trace_flags=trace.TraceFlags(span.parent.recorded))
            context = trace.set_span_in_context(trace.NonRecordingSpan(parent))
        self._ids.here = span.here
        told = self._tracer.start_span(
            span.name, context, trace.SpanKind.SERVER, span.attributes, start_time=span.start_ns
        )
        if span.failed:
            told.set_status(trace.StatusCode.ERROR)
        told.end(span.end_ns)

    def close_after(self, stop: Event) -> None:
        """Background work of a service: once it stops, sends what waits."""
        stop.wait()
        self.close()

    def close(self) -> None:
        """Send what waits, and end. Takes up to `LONGEST_S`, or a little more."""
        self._provider.shutdown()

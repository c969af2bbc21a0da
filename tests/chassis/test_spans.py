"""Spans reach a collector over HTTP, under the ids that callers were told; unset costs nothing, not even an import."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec

import pytest

from chassis.addresses import Addresses
from chassis.spans import NoTracing, exporter
from chassis.tracing import SpanData, Traceparent, child_of, parse
from tests.servers import free_port

CALLER = parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
INSTALLED = find_spec("opentelemetry") is not None and find_spec("opentelemetry.exporter") is not None
needs_tracing = pytest.mark.skipif(not INSTALLED, reason="the extra `tracing` is not installed: pip install .[tracing]")


@pytest.fixture
def collector():
    """A collector of OpenTelemetry: its URL, and the bodies that it was sent by path."""
    bodies: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def a_span(parent: Traceparent | None, **changes: object) -> SpanData:
    span = SpanData("POST /v1/estimates", child_of(parent), parent, 1_000_000_000, 1_002_500_000)
    return span._replace(**changes)


@needs_tracing
def test_spans_arrive_under_the_ids_that_callers_were_told(collector):
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    url, bodies = collector
    export = exporter(Addresses(otlp_endpoint=url), "serving")
    sent = [a_span(CALLER, attributes={"trips": 3}), a_span(None, failed=True)]
    for span in [*sent, a_span(CALLER._replace(recorded=False))]:  # the last caller records nothing, so neither do we
        export(span)
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    export.close_after(stop)

    [(path, body)] = bodies
    assert path == "/v1/traces"
    [resource] = ExportTraceServiceRequest.FromString(body).resource_spans
    assert "tandem-serving" in {it.value.string_value for it in resource.resource.attributes}
    [scope] = resource.scope_spans
    assert [(it.trace_id.hex(), it.span_id.hex(), it.parent_span_id.hex()) for it in scope.spans] == [
        (sent[0].here.trace_id, sent[0].here.span_id, CALLER.span_id),
        (sent[1].here.trace_id, sent[1].here.span_id, ""),
    ]
    first, second = scope.spans
    assert (first.name, first.end_time_unix_nano - first.start_time_unix_nano) == ("POST /v1/estimates", 2_500_000)
    assert {it.key: it.value.int_value for it in first.attributes} == {"trips": 3}
    assert (first.status.code, second.status.code) == (0, 2)


@pytest.mark.slow
@needs_tracing
def test_a_collector_that_is_away_keeps_nobody_waiting():
    export = exporter(Addresses(otlp_endpoint=f"http://127.0.0.1:{free_port()}"), "serving")
    began = time.monotonic()
    for _ in range(3000):  # more than the queue holds
        export(a_span(CALLER))
    taken = time.monotonic()
    export.close()
    assert taken - began < 5
    assert time.monotonic() - taken < 10  # a batch under way and the last one, each with its retries


@pytest.mark.skipif(INSTALLED, reason="the extra `tracing` is installed")
def test_without_the_extra_an_endpoint_is_refused_with_what_to_install():
    with pytest.raises(NoTracing, match="tracing"):
        exporter(Addresses(otlp_endpoint="http://127.0.0.1:4318"), "serving")


def test_without_an_endpoint_nothing_is_imported():
    ask = (
        "import sys; from chassis.addresses import Addresses; from chassis.spans import exporter;"
        "assert exporter(Addresses(), 'serving') is None; print('opentelemetry' in ' '.join(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"

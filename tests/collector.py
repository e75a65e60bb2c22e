"""A small OpenTelemetry collector on loopback: OTLP over HTTP, everything kept for the test."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A span as it came over the wire; ids in hexadecimal."""

    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, str | int]
    failed: bool


@dataclass(slots=True)
class Collector:
    """What came in so far."""

    address: str = ""
    raw: list[bytes] = field(default_factory=list)

    def spans(self) -> list[Seen]:
        found = []
        for body in self.raw:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    found += [
                        Seen(
                            name=span.name,
                            trace=span.trace_id.hex(),
                            id=span.span_id.hex(),
                            parent=span.parent_span_id.hex(),
                            attributes={
                                each.key: each.value.string_value or each.value.int_value
                                for each in span.attributes
                            },
                            failed=span.status.code == 2,
                        )
                        for span in scope.spans
                    ]
        return found

    def until(self, there: Callable[[list[Seen]], bool], within_s: float = 30) -> list[Seen]:
        """The spans once they are `there`: they come in batches, from several processes."""
        end = time.monotonic() + within_s
        while not there(self.spans()):
            assert time.monotonic() < end, [span.name for span in self.spans()]
            time.sleep(0.05)
        return self.spans()


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens until the end of the block."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            packed = self.headers.get("Content-Encoding") == "gzip"
            found.raw.append(gzip.decompress(body) if packed else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield found
        finally:
            server.shutdown()

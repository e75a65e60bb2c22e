"""OpenTelemetry traces for a site that asks: a span a request, a job and each of its stages.

Where none are asked for, nothing of the SDK is imported. A span holds route templates, numbers and
words of ours, never what a caller or a file says: of a request its `traceparent` alone is taken (no
`tracestate`, no baggage), of an error its code.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

from app.errors import TelemetryMissing

EXPORT_S = 5.0
DELAY_MS = 500.0
"""How long an ended span waits for others to go with: as much as a killed worker can lose."""

_request: ContextVar[str | None] = ContextVar("traceparent", default=None)
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """Where a job's spans go and which span they are children of; crosses any process boundary."""

    endpoint: str
    parent: str


class Span:
    """Something that has begun; without traces it is nothing."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    @property
    def traceparent(self) -> str | None:
        """This span as W3C Trace Context writes it, for what is done because of it."""
        if self._span is None:
            return None
        own = self._span.get_span_context()
        return f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"

    def end(
        self,
        attributes: Mapping[str, str | int] | None = None,
        *,
        name: str | None = None,
        error: str | None = None,
    ) -> None:
        """Ends it, under another name if what it was is known by now."""
        if self._span is None:
            return
        if name is not None:
            self._span.update_name(name)
        self._span.set_attributes(attributes or {})
        if error is not None:
            from opentelemetry.trace import StatusCode

            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class Traces:
    """Makes this process's spans and sends them, or makes none.

    Raises TelemetryMissing for an endpoint without the packages.
    """

    def __init__(self, endpoint: str | None = None) -> None:
        self.endpoint = endpoint
        self._provider = None if endpoint is None else _provider(endpoint)

    def begin(self, name: str, *, parent: str | None = None, serves: bool = False) -> Span:
        """A span that has begun: a child of the one that `parent` names, or a trace of its own."""
        if self._provider is None:
            return Span()
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        given = {} if parent is None else {"traceparent": parent}
        return Span(
            self._provider.get_tracer("sonodose").start_span(
                name,
                context=TraceContextTextMapPropagator().extract(given, Context()),
                kind=SpanKind.SERVER if serves else SpanKind.INTERNAL,
            )
        )

    @contextmanager
    def job(
        self, parent: str | None, attributes: Mapping[str, str | int]
    ) -> Iterator[Trail | None]:
        """The span of a job, with what its worker needs to go on with it."""
        span = self.begin("job", parent=parent)
        own = span.traceparent
        trail = None
        if self.endpoint is not None and own is not None:
            trail = Trail(endpoint=self.endpoint, parent=own)
        try:
            yield trail
        except Exception as error:
            span.end(attributes, error=_code_of(error))
            raise
        span.end(attributes)

    def close(self) -> None:
        """Sends what still waits."""
        if self._provider is not None:
            self._provider.shutdown()


def begin_request(traces: Traces, headers: Mapping[bytes, bytes]) -> Span:
    """The span of a request, a child of its caller's; what is enqueued from now on hangs on it."""
    given = headers.get(b"traceparent")
    span = traces.begin(
        "request", parent=None if given is None else given.decode("latin-1"), serves=True
    )
    _request.set(span.traceparent)
    return span


def traceparent() -> str | None:
    """The span of the request at work, as it is kept with a job; None without traces."""
    return _request.get()


@contextmanager
def stage_spans(trail: Trail | None) -> Iterator[Callable[[str], None]]:
    """To be called with the name of each stage as it begins, which ends the one before."""
    traces = Traces() if trail is None else _of_worker(trail.endpoint)
    parent = None if trail is None else trail.parent
    span = Span()

    def begin(stage: str) -> None:
        nonlocal span
        span.end()
        span = traces.begin(stage, parent=parent)

    try:
        yield begin
    except Exception as error:
        span.end(error=_code_of(error))
        raise
    span.end()


def _code_of(error: Exception) -> str:
    """The code of a refusal, the kind of any other error: its words may name somebody."""
    return str(getattr(error, "code", type(error).__name__))


@cache
def _of_worker(endpoint: str) -> Traces:
    try:
        return Traces(endpoint)
    except TelemetryMissing as missing:
        # The machine of a Dask worker: its jobs are done all the same.
        log.warning("%s %s", missing.message, missing.remedy)
        return Traces()


def _provider(endpoint: str) -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as missing:
        raise TelemetryMissing(
            "Traces are asked for, and the packages that make them are not installed.",
            remedy="Install them with `pip install 'sonodose[telemetry]'`, or unset "
            "SONODOSE_OTLP_ENDPOINT.",
        ) from missing
    # Ours alone, never the process's global one, which other libraries would write into.
    provider = TracerProvider(resource=Resource.create({"service.name": "sonodose"}))
    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=DELAY_MS))
    return provider

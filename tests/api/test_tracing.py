"""Traces over the wire: a request, its job and its stages in one, and no patient in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.tracing import Traces, traceparent
from tests.api.conftest import ANALYSES, Serve, parts_of, post
from tests.api.test_privacy import FIELDS, PLANTED, TAGS
from tests.app import studies, workloads
from tests.app.conftest import until
from tests.collector import Collector, Seen, collecting

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
STAGES = ["decode", "calibrate", "segment", "measure", "plan", "render"]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


def named(spans: list[Seen], name: str) -> Seen:
    (found,) = [span for span in spans if span.name == name]
    return found


def test_a_request_its_job_and_the_stages_are_one_trace(serve: Serve, collector: Collector) -> None:
    """The caller's trace goes through the request and the job into the worker process."""
    client = serve(workloads.staged, otlp_endpoint=collector.address)
    answer = post(client, headers={"traceparent": CALLER, "Prefer": "wait=60"})
    assert answer.status_code == 200, answer.text
    last = {f"POST {ANALYSES}", "job", "render"}
    spans = collector.until(lambda seen: last <= {span.name for span in seen})
    request, job = named(spans, f"POST {ANALYSES}"), named(spans, "job")
    _, trace, caller, _ = CALLER.split("-")
    stages = [span for span in spans if span.name in STAGES]
    assert {span.trace for span in (request, job, *stages)} == {trace}
    assert (request.parent, job.parent) == (caller, request.id)
    assert [span.name for span in stages] == STAGES
    assert {span.parent for span in stages} == {job.id}
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["http.route"] == ANALYSES
    assert job.attributes["sonodose.analysis"] == answer.json()["id"]
    assert not any(span.failed for span in spans)


@pytest.mark.parametrize(
    ("run", "error"),
    [(workloads.unreadable, "unreadable_file"), (workloads.defective, "RuntimeError")],
)
def test_no_name_is_in_a_trace(serve: Serve, collector: Collector, run: Any, error: str) -> None:
    """Whoever a study is of, and whatever a search or an error says: nothing of it is sent."""
    client = serve(run, otlp_endpoint=collector.address)
    state = {"tracestate": f"a={PLANTED}", "baggage": f"name={PLANTED}", "traceparent": CALLER}
    body = post(client, studies.dicom_still(**TAGS), name=f"{PLANTED}.dcm", headers=state, **FIELDS)
    until(parts_of(client), body.json()["id"], "failed")
    client.get("/dicom-web/studies", params={"PatientName": PLANTED}, headers=state)
    client.get(ANALYSES, params={"search": PLANTED}, headers=state)
    client.get(f"{ANALYSES}/{PLANTED}", headers=state)
    client.request(PLANTED.upper(), "/dicom-web/studies", headers={"traceparent": PLANTED})
    spans = collector.until(lambda seen: {"job", "(other) (none)"} <= {span.name for span in seen})
    assert named(spans, "job").attributes["error.type"] == error
    assert named(spans, "job").failed
    assert PLANTED.lower().encode() not in b"".join(collector.raw).lower()


def test_the_framework_makes_no_spans_of_its_own(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FastAPI's own spans hold path and query: they are off, whatever the process traces."""
    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: provider)
    answer = serve().get("/dicom-web/studies", params={"PatientName": PLANTED})
    assert answer.status_code in (200, 204)
    assert kept.get_finished_spans() == ()


def test_a_collector_that_is_away_harms_nothing(serve: Serve) -> None:
    """Without anybody to take the spans, studies are planned as ever."""
    client = serve(otlp_endpoint="http://127.0.0.1:9")
    assert post(client, headers={"Prefer": "wait=60"}).status_code == 200


def run(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 -- our own program
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def test_without_the_setting_nothing_is_made_or_imported() -> None:
    """Off is off: no span, no context with a job, and the SDK is not even imported."""
    assert Traces().begin("request", parent=CALLER).traceparent is None
    assert traceparent() is None
    look = "import sys, api.main, app.jobs.worker; print('opentelemetry.sdk' in sys.modules)"
    assert run(look).stdout.split() == ["False"]


def test_without_the_packages_the_service_says_what_to_do(tmp_path: Path) -> None:
    """Traces asked for without sonodose[telemetry]: two plain lines, and no start."""
    without = (
        "import sys; sys.modules['opentelemetry.sdk'] = None; "
        "from api.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = ("serve", "--port", "0", "--data-dir", str(tmp_path))
    ended = run(without, *command, SONODOSE_OTLP_ENDPOINT="http://127.0.0.1:4318")
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "sonodose: Traces are asked for, and the packages that make them are not installed.",
        "  Install them with `pip install 'sonodose[telemetry]'`, or unset SONODOSE_OTLP_ENDPOINT.",
    ]

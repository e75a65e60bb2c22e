"""The service does what its OpenAPI document says, and nothing sent to it makes it fail."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings

from api.main import create_app
from app.services import open_services
from app.settings import Settings
from tests.app import workloads

schemathesis = pytest.importorskip("schemathesis")


@schemathesis.serializer("multipart/related")
def one_part(ctx: Any, value: Any) -> dict[str, Any]:
    """Whatever was made up, as the only part of a STOW request."""
    data = value if isinstance(value, bytes) else str(value).encode()
    return {
        "data": b"--b\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n--b--\r\n",
        "headers": {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'},
    }


REFUSALS = ["304", "400", "403", "404", "406", "409", "412", "413", "415", "422", "428", "503"]
"""What may be answered to what fits the schema: random bytes are no image, random names no muscle,
and the document cannot say so."""


@schemathesis.check
def what_fits_is_understood(ctx: Any, response: Any, case: Any) -> None:
    """What fits the schema is never called malformed, but for PS3.18's unknown attribute."""
    if case.meta is not None and case.meta.generation.mode.is_positive:
        attribute = case.path.startswith("/dicom-web/") and "DICOM attribute" in response.text
        assert response.status_code != 400 or attribute, response.text


SLOW = bool(os.environ.get("SONODOSE_SLOW"))
EXAMPLES = int(os.environ.get("SONODOSE_EXAMPLES", "50" if SLOW else "4"))
"""Of each operation."""


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The document of a service behind a real socket."""
    given = Settings(data_dir=tmp_path_factory.mktemp("data"), workers=1, drain_s=0)
    app = create_app(open_services(given, run=workloads.quick, warm=None))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", server_header=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    found = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/api/v1/openapi.json")
    found.config.checks.positive_data_acceptance.expected_statuses = ["2xx", *REFUSALS]
    yield found
    server.should_exit = True
    thread.join(30)


def test_every_operation_keeps_its_word(schema: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is sent, the status, the headers and the body are as documented, and never 5xx."""
    failures, operations, answers = [], 0, Counter[str]()
    began = time.monotonic()
    for found in schema.get_all_operations():
        operation = found.ok()
        operations += 1

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            answers[f"{case.call_and_validate().status_code // 100}xx"] += 1

        try:
            check()
        except (Exception, BaseExceptionGroup) as error:  # a group of schemathesis's own
            failures.append(f"{operation.label}: {error}")
    if SLOW:
        with capsys.disabled():
            kinds = ", ".join(f"{count} of {kind}" for kind, count in sorted(answers.items()))
            print(
                f"\nTOTAL {operations} operations, {answers.total()} valid answers ({kinds}), "
                f"{len(failures)} operations failed; {time.monotonic() - began:.0f} s"
            )
    assert not failures, "\n\n".join(failures)

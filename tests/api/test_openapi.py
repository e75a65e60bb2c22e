"""The service does what its OpenAPI document says, and nothing sent to it makes it fail."""

from __future__ import annotations

import os
import threading
import time
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

from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402


@schemathesis.serializer("multipart/related")
def one_part(ctx: Any, value: Any) -> dict[str, Any]:
    """Whatever was made up, as the only part of a STOW request."""
    data = value if isinstance(value, bytes) else str(value).encode()
    return {
        "data": b"--b\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n--b--\r\n",
        "headers": {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'},
    }


# Left out: that what fits the schema is accepted. Random bytes are no image, random names no
# muscle, and the document cannot say so.
EXAMPLES = 50 if os.environ.get("SONODOSE_SLOW") else 4


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
    yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/api/v1/openapi.json")
    server.should_exit = True
    thread.join(30)


def test_every_operation_keeps_its_word(schema: Any) -> None:
    """Whatever is sent, the status, the headers and the body are as documented, and never 5xx."""
    failures = []
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            case.call_and_validate(excluded_checks=[positive_data_acceptance])

        try:
            check()
        except (Exception, BaseExceptionGroup) as error:  # a group of schemathesis's own
            failures.append(f"{operation.label}: {error}")
    assert not failures, "\n\n".join(failures)

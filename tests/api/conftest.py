from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

from api.main import create_app
from app.services import Services, open_services
from app.settings import Settings
from app.store.rows import DeliveryRow, Row
from tests.app import studies, workloads
from tests.app.conftest import of_the_environment

Serve = Callable[..., TestClient]
ANALYSES = "/api/v1/analyses"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A client of a service over a fresh folder, with a stand-in for the analysis."""
    environment = of_the_environment()
    with ExitStack() as stack:

        def start(run: Any = workloads.quick, **changes: Any) -> TestClient:
            given = {"data_dir": tmp_path / "data", "workers": 1, **environment, **changes}
            settings = Settings(**given)
            app = create_app(open_services(settings, run=run, warm=None))
            return stack.enter_context(TestClient(app, base_url="http://127.0.0.1"))

        yield start


@pytest.fixture
def client(serve: Serve) -> TestClient:
    return serve()


def parts_of(client: TestClient) -> Services:
    found: Services = client.app.state.services
    return found


def post(
    client: TestClient,
    data: bytes | None = None,
    *,
    name: str = "still.dcm",
    request: Any = None,
    headers: dict[str, str] | None = None,
    **changes: Any,
) -> Any:
    """The answer to a study of one file; `changes` are members of the usual request."""
    asked = {**studies.REQUEST, **changes} if request is None else request
    text = asked if isinstance(asked, str) else json.dumps(asked)
    return client.post(
        ANALYSES,
        data={"request": text},
        files=[("files", (name, studies.dicom_still() if data is None else data))],
        headers=headers or {},
    )


def draft(client: TestClient, **changes: Any) -> dict[str, Any]:
    """A finished analysis."""
    answer = post(client, headers={"Prefer": "wait=30"}, **changes)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def contents(client: TestClient) -> dict[str, int]:
    """How many rows and files the store holds; the audit, and events nobody has taken up, aside."""
    parts = parts_of(client)
    with parts.store.read() as session:
        rows = {
            name: session.scalar(select(func.count()).select_from(table)) or 0
            for name, table in Row.metadata.tables.items()
            if name not in ("audit", "deliveries")
        }
        # The courier takes an announcement up at any moment: it is there or gone by chance.
        addressed = select(func.count()).where(DeliveryRow.kind != "event")
        rows["deliveries"] = session.scalar(addressed) or 0
    return {
        **rows,
        "(blobs)": len(list(parts.blobs.digests())),
        "(staging)": len(list(parts.blobs.staging.iterdir())),
    }


def filled(path: str) -> str:
    """The address of a route's template: ids that nobody has, number 0, any UID."""
    known = {"analysis_id": "0" * 32, "number": "0", "frames": "1"}
    return re.sub(r"\{(\w+)[^}]*\}", lambda found: known.get(found[1], "1.2.3"), path)


def assert_problem(answer: Any, status: int, code: str | None = None) -> dict[str, Any]:
    """The problem document of an answer, checked for all that each must have."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["type"] == f"/problems/{body['code']}"
    for member in ("title", "detail", "remedy", "instance", "request_id"):
        assert body[member], member
    if code is not None:
        assert body["code"] == code
    return body

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

from app.intake.examine import Upload, examine
from app.jobs.runner import Run
from app.planning.request import AnalysisRequest
from app.services import Services, open_services
from app.settings import Settings
from app.store import records
from app.store.records import AnalysisRecord
from app.submission import submit
from tests.app import studies, workloads

POSTGRES = "SONODOSE_TEST_POSTGRES"
"""An environment variable with the URL of a PostgreSQL server: the same tests run on it then."""


def of_the_environment() -> dict[str, Any]:
    """The settings of a new store on the servers of the environment; none: on this machine."""
    return {**fresh_database(), **fresh_blobs(), **fresh_jobs()}


def fresh_blobs() -> dict[str, Any]:
    """The settings of an empty place in the object store of the environment; none: a folder."""
    url = os.environ.get("SONODOSE_TEST_BLOB_URL")
    return {} if url is None else {"blob_url": f"{url}/t{uuid.uuid4().hex}"}


def fresh_jobs() -> dict[str, Any]:
    """The settings of jobs on the environment's Dask cluster; none: processes of our own."""
    address = os.environ.get("SONODOSE_TEST_DASK")
    return {} if address is None else {"executor": "dask", "dask_scheduler": address}


def fresh_database() -> dict[str, Any]:
    """The settings of a new database on the server of the environment; none: SQLite."""
    server = os.environ.get(POSTGRES)
    if server is None:
        return {}
    name = f"t{uuid.uuid4().hex}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = make_url(server).set(database=name)
    return {"database_url": url.render_as_string(hide_password=False)}


Opener = Callable[..., Services]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    """Services over a fresh folder, started, with a stand-in for the analysis."""
    environment = of_the_environment()
    with ExitStack() as stack:

        def opener(run: Run = workloads.quick, *, start: bool = True, **changes: Any) -> Services:
            given = {"data_dir": tmp_path / "data", "workers": 1, **environment, **changes}
            parts = open_services(Settings(**given), run=run, warm=None)
            stack.callback(parts.close if start else parts.store.close)
            if start:
                parts.start()
            return parts

        yield opener


def send(parts: Services, data: bytes | None = None, *, key: str | None = None) -> str:
    """The id of an analysis of one still, submitted as the API does it."""
    request = AnalysisRequest.model_validate(studies.REQUEST)
    with parts.blobs.incoming() as incoming:
        incoming.write(studies.dicom_still() if data is None else data)
        incoming.finish()
        files = examine(
            [Upload(name="still.dcm", incoming=incoming)], door=parts.door, limits=parts.limits
        )
        submitted = submit(
            files,
            request,
            principal="tester",
            idempotency_key=key,
            store=parts.store,
            blobs=parts.blobs,
            door=parts.door,
            settings=parts.settings,
        )
    parts.runner.wake()
    return submitted.analysis_id


def state_of(parts: Services, analysis_id: str) -> AnalysisRecord:
    with parts.store.read() as session:
        return records.load(session, analysis_id)


def until(parts: Services, analysis_id: str, *states: str, within_s: float = 60) -> AnalysisRecord:
    """The analysis once it is in one of these states."""
    end = time.monotonic() + within_s
    while True:
        record = state_of(parts, analysis_id)
        if record.state in states:
            return record
        assert time.monotonic() < end, f"still {record.state}"
        time.sleep(0.02)

"""Names planted in every tag and field are nowhere but in the analysis itself."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from app.store.rows import AuditRow
from tests.api.conftest import ANALYSES, Serve, assert_problem, parts_of, post
from tests.app import studies, workloads

PLANTED = "Zzyzx"
UNKNOWN = "0" * 32
TAGS = {
    "PatientName": f"{PLANTED}^Name",
    "PatientID": f"{PLANTED}-1",
    "StudyDescription": f"{PLANTED} study",
    "SeriesDescription": f"{PLANTED} series",
    "AccessionNumber": f"{PLANTED}-9",
    "PatientComments": f"{PLANTED} comment",
    "ReferringPhysicianName": f"{PLANTED}^Doctor",
    "Manufacturer": f"{PLANTED} works",
}
FIELDS: dict[str, Any] = {
    "patient": {"id": f"{PLANTED}-1", "name": f"{PLANTED} Name", "age_years": 54, "weight_kg": 72}
}


@pytest.mark.parametrize("run", [workloads.quick, workloads.unreadable, workloads.defective])
def test_no_name_leaves_the_analysis(
    serve: Serve, caplog: pytest.LogCaptureFixture, run: Any
) -> None:
    """Logs, metrics, refusals and the audit tell nothing of whom a study is, however it ends."""
    caplog.set_level(logging.DEBUG)
    client = serve(run)
    data = studies.dicom_still(**TAGS)
    name = f"{PLANTED}.dcm"
    body = post(client, data, name=name, headers={"Prefer": "wait=60"}, **FIELDS)
    refusals = [
        post(client, data, name=name, side=PLANTED),
        post(client, data, name=name, muscle_length_mm=PLANTED, **FIELDS),
        client.get(f"{ANALYSES}/{PLANTED}"),
        client.get(ANALYSES, params={"limit": PLANTED}),
        client.patch(
            f"{ANALYSES}/{'0' * 32}", json={"patient": PLANTED}, headers={"If-Match": "*"}
        ),
    ]
    for answer in refusals:
        problem = assert_problem(answer, answer.status_code)
        assert PLANTED not in str({k: v for k, v in problem.items() if k != "instance"})
    if body.status_code != 200:
        assert PLANTED not in body.text
    parts = parts_of(client)
    parts.views.flush()
    with parts.store.read() as session:
        rows = session.query(AuditRow).all()
        audit = " ".join(f"{r.principal} {r.action} {r.subject} {r.detail}" for r in rows)
    assert rows
    assert PLANTED not in audit
    assert PLANTED not in client.get("/metrics").text
    ours = [r for r in caplog.records if not r.name.startswith(("httpx", "asyncio"))]
    assert PLANTED not in " ".join(r.getMessage() for r in ours)

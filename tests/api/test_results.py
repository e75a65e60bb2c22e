"""Results over REST: every object, the wrapped plain picture, reports that follow one another."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from starlette.testclient import TestClient

from app.jobs.worker import run_analysis
from tests.api.conftest import ANALYSES, Serve, assert_problem, draft
from tests.api.test_deliveries import ANSWERED
from tests.api.test_review import CLINICIAN, WAIT
from tests.app import studies
from tests.app.plans import PATIENT, stored_plan

OBJECTS = ("seg.dcm", "sr.dcm", "sc.dcm", "pr.dcm", "ko.dcm")
SCALE = {"row_mm_per_px": 0.2, "column_mm_per_px": 0.2}
STUDY = {"instance_uid": "1.2.3.4", "date": "2026-11-25"}


@pytest.fixture
def client(serve: Serve) -> TestClient:
    """A service that really analyses."""
    return serve(run_analysis)


def fetch(client: TestClient, body: dict[str, Any], name: str) -> Dataset:
    answer = client.get(f"{ANALYSES}/{body['id']}/{name}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/dicom"
    return pydicom.dcmread(io.BytesIO(answer.content))


def patch(client: TestClient, body: dict[str, Any], **change: Any) -> dict[str, Any]:
    answer = client.patch(
        f"{ANALYSES}/{body['id']}", json=change, headers={"If-Match": body["etag"], **WAIT}
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_plain_picture_gets_objects_once_it_is_named(client: TestClient) -> None:
    """409 says what to give; after PATCH all objects are there, in the named study."""
    body = draft(client, data=studies.png_still(), name="a.png", calibration=SCALE)
    for name in ("image.dcm", *OBJECTS):
        problem = assert_problem(client.get(f"{ANALYSES}/{body['id']}/{name}"), 409, "no_object")
        assert "study.instance_uid" in problem["remedy"]
    named = patch(client, body, patient=PATIENT, study=STUDY)
    image = fetch(client, named, "image.dcm")
    assert image.StudyDate == "20261125"
    for name in OBJECTS:
        assert fetch(client, named, name).StudyInstanceUID == "1.2.3.4"
    moved = patch(client, named, severity={"value": "3"})
    assert fetch(client, moved, "image.dcm") == image


def test_a_named_picture_stands_in_our_archive_with_its_objects(client: TestClient) -> None:
    """One object asked for brings the picture it refers to: our DICOMweb lists and serves both."""
    body = draft(
        client,
        data=studies.png_still(),
        name="a.png",
        calibration=SCALE,
        patient=PATIENT,
        study=STUDY,
    )
    seg = fetch(client, body, "seg.dcm")
    listed = client.get("/dicom-web/studies/1.2.3.4/instances").json()
    uids = {each["00080018"]["Value"][0] for each in listed}
    (referred,) = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert uids == {seg.SOPInstanceUID, referred.ReferencedSOPInstanceUID}


@pytest.mark.parametrize("bad", ["1.2.", "01.2", "x", "1." + "2" * 63])
def test_a_study_is_named_by_a_uid(client: TestClient, bad: str) -> None:
    """What is no UID is refused at once."""
    answer = client.post(
        ANALYSES,
        data={"request": json.dumps({**studies.REQUEST, "study": {"instance_uid": bad}})},
        files=[("files", ("a.png", studies.png_still()))],
    )
    assert_problem(answer, 422, "invalid_request")


def test_reports_follow_one_another(client: TestClient) -> None:
    """Revision 2 names revision 1's report, the confirmed one both; each stays as it was sent."""
    first = draft(client, **ANSWERED)
    one = fetch(client, first, "sr.dcm")
    second = patch(client, first, severity={"value": "3"})
    two = fetch(client, second, "sr.dcm")
    client.post(
        f"{ANALYSES}/{first['id']}/confirmation",
        json={"revision": 2, "clinician": CLINICIAN},
    )
    final = fetch(client, second, "sr.dcm")
    assert "PredecessorDocumentsSequence" not in one
    assert before(two) == [one.SOPInstanceUID]
    assert before(final) == [one.SOPInstanceUID, two.SOPInstanceUID]
    assert final.VerificationFlag == "VERIFIED"
    assert len({each.SeriesInstanceUID for each in (one, two, final)}) == 3
    assert len({each.StudyInstanceUID for each in (one, two, final)}) == 1
    assert fetch(client, second, "sr.dcm") == final


def before(report: Dataset) -> list[str]:
    return [
        sop.ReferencedSOPInstanceUID
        for study in report.PredecessorDocumentsSequence
        for series in study.ReferencedSeriesSequence
        for sop in series.ReferencedSOPSequence
    ]


def test_a_clip_moves_and_any_frame_is_shown(client: TestClient, tmp_path: Any) -> None:
    """The animation of a clip, and the picture of a frame that was left out."""
    stored = stored_plan(tmp_path, frames=4)
    data = Path(stored.sources[0].path).read_bytes()
    request = {**stored.request, "outlines": stored.request["outlines"][:3]}
    body = draft(client, data=data, name="clip.dcm", request=request)
    answer = client.get(f"{ANALYSES}/{body['id']}/overlay.webp")
    assert answer.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(answer.content)).n_frames == 3
    assert client.get(f"{ANALYSES}/{body['id']}/overlay.png?frame=3").status_code == 200
    assert_problem(client.get(f"{ANALYSES}/{body['id']}/overlay.png?frame=4"), 409, "no_object")
    assert_problem(client.get(f"{ANALYSES}/{body['id']}/mask.png?frame=3"), 409, "no_object")
    listed = client.get(f"{ANALYSES}/{body['id']}/objects").json()["objects"]
    assert {"ko.dcm", "overlay.webp", "image.dcm"} <= {each["name"] for each in listed}

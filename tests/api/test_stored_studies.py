"""A stored study is analysed by reference, and what is made of it is found in the study."""

from __future__ import annotations

import io
import json
from typing import Any

from pydicom import dcmread
from pydicom.uid import generate_uid
from starlette.testclient import TestClient

from app.jobs.worker import run_analysis
from tests.api.conftest import ANALYSES, Serve, assert_problem, contents
from tests.api.test_dicomweb_store import STUDIES, stow
from tests.app import studies

WAIT = {"Prefer": "wait=60"}


def analyse(client: TestClient, key: str | None = None, **images: Any) -> Any:
    headers = {**WAIT, **({} if key is None else {"Idempotency-Key": key})}
    parts = {
        "request": (None, json.dumps(studies.REQUEST), "application/json"),
        "stored": (None, json.dumps(images), "application/json"),
    }
    return client.post(ANALYSES, files=parts, headers=headers)


def canonical(client: TestClient, answer: Any) -> str:
    assert answer.status_code == 200, answer.text
    return json.dumps(answer.json()["plan"], sort_keys=True)


def test_by_rest_and_by_stow_the_plan_is_the_same(serve: Serve) -> None:
    """The canonical JSON of the plan is equal, whichever door the study came by."""
    client = serve(run=run_analysis)
    data = studies.dicom_still()
    ds = dcmread(io.BytesIO(data))
    stow(client, data)
    stored = analyse(client, study_instance_uid=ds.StudyInstanceUID)
    sent = client.post(
        ANALYSES,
        data={"request": json.dumps(studies.REQUEST)},
        files=[("files", ("left arm.dcm", data))],
        headers=WAIT,
    )
    assert canonical(client, stored) == canonical(client, sent)
    assert stored.json()["state"] == "draft"


def test_a_series_is_analysed_in_its_own_order(serve: Serve) -> None:
    """Stills of one series come in the order of their instances, however they were uploaded, and
    a request may name each by its upload or as the plan does."""
    client = serve(run=run_analysis)
    study, series = generate_uid(), generate_uid()
    names = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
    stills = [studies.dicom_still(n, InstanceNumber=n, **names) for n in (3, 1, 2)]
    uids = [str(dcmread(io.BytesIO(data)).SOPInstanceUID) for data in stills]
    stow(client, *stills)
    (outline,) = studies.REQUEST["outlines"]
    ours = [{**outline, "file": f"{uid}.dcm"} for uid in uids]
    uploads = [(f"IM{n}.dcm", data) for n, data in enumerate(stills)]
    theirs = [{**outline, "file": name} for name, _ in uploads]
    answers = [
        client.post(
            ANALYSES,
            data={"request": json.dumps({**studies.REQUEST, "outlines": outlines})},
            files=[("files", upload) for upload in uploads],
            headers=WAIT,
        )
        for outlines in (ours, theirs)
    ]
    parts = {
        "request": (None, json.dumps({**studies.REQUEST, "outlines": ours})),
        "stored": (None, json.dumps({"study_instance_uid": study})),
    }
    answers.append(client.post(ANALYSES, files=parts, headers=WAIT))
    assert len({canonical(client, answer) for answer in answers}) == 1
    frames = answers[0].json()["plan"]["frames"]
    assert [frame["sop_instance_uid"] for frame in frames] == [uids[1], uids[2], uids[0]]
    assert [f["name"] for f in answers[0].json()["files"]] == ["IM1.dcm", "IM2.dcm", "IM0.dcm"]


def test_each_image_of_another_size_has_its_own_segmentation(serve: Serve) -> None:
    """The list of objects names them by their frames, and each can be had."""
    client = serve(run=run_analysis)
    study, series = generate_uid(), generate_uid()
    names = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
    stow(
        client,
        studies.dicom_still(1, InstanceNumber=1, **names),
        studies.dicom_still(2, InstanceNumber=2, rows=280, **names),
    )
    answer = analyse(client, study_instance_uid=study)
    listed = client.get(answer.json()["links"]["objects"]).json()["objects"]
    for name in ("seg.dcm", "pr.dcm", "sc.dcm"):
        hrefs = [each["href"] for each in listed if each["name"] == name]
        made = [dcmread(io.BytesIO(client.get(href).content)) for href in hrefs]
        assert len({ds.SOPInstanceUID for ds in made}) == len(hrefs) == 2, name
        assert len({ds.SeriesInstanceUID for ds in made}) == 1, name
    assert_problem(client.get(f"{hrefs[0]}?frame=7"), 409, "no_object")


def test_the_same_image_twice_is_refused(client: TestClient) -> None:
    """Two files with one SOP Instance UID would be one image for every object: send it once."""
    data = studies.dicom_still()
    answer = client.post(
        ANALYSES,
        data={"request": json.dumps(studies.REQUEST)},
        files=[("files", (name, data)) for name in ("a.dcm", "b.dcm")],
    )
    assert_problem(answer, 422, "request_conflict")


def test_objects_stand_in_their_study(serve: Serve) -> None:
    """SEG, SR, SC and state are series of the image's study, the same bytes, and never analysed."""
    client = serve(run=run_analysis)
    data = studies.dicom_still()
    ds = dcmread(io.BytesIO(data))
    stow(client, data)
    study = ds.StudyInstanceUID
    home = f"{ANALYSES}/{analyse(client, study_instance_uid=study).json()['id']}"
    made = {}
    for name in ("seg.dcm", "sr.dcm", "sc.dcm", "pr.dcm"):
        made[name] = client.get(f"{home}/{name}")
        assert made[name].status_code == 200, made[name].text
    series = client.get(f"{STUDIES}/{study}/series").json()
    modalities = sorted(row["00080060"]["Value"][0] for row in series)
    assert modalities == ["OT", "PR", "SEG", "SR", "US"]
    (row,) = client.get(f"{STUDIES}?StudyInstanceUID={study}").json()
    assert row["00201208"]["Value"] == [5]
    seg = dcmread(io.BytesIO(made["seg.dcm"].content))
    address = f"{STUDIES}/{study}/series/{seg.SeriesInstanceUID}/instances/{seg.SOPInstanceUID}"
    fetched = client.get(address, headers={"Accept": "application/dicom; transfer-syntax=*"})
    assert fetched.content == made["seg.dcm"].content
    again = stow(client, made["seg.dcm"].content, made["sr.dcm"].content)
    assert again.status_code == 200
    only = analyse(client, study_instance_uid=study, series_instance_uid=seg.SeriesInstanceUID)
    assert_problem(only, 422, "request_conflict")
    whole = analyse(client, study_instance_uid=study)
    assert [file["name"] for file in whole.json()["files"]] == [f"{ds.SOPInstanceUID}.dcm"]


def test_a_deleted_analysis_takes_its_objects_along(serve: Serve) -> None:
    """What was made for it goes; the image that came as part of a study stays."""
    client = serve(run=run_analysis)
    data = studies.dicom_still()
    study = dcmread(io.BytesIO(data)).StudyInstanceUID
    stow(client, data)
    home = f"{ANALYSES}/{analyse(client, study_instance_uid=study).json()['id']}"
    client.get(f"{home}/seg.dcm")
    assert len(client.get(f"{STUDIES}/{study}/series").json()) == 2
    gone = client.post(f"{home}/deletion", json={"reason": "a test of deletion"})
    assert gone.status_code == 204, gone.text
    (series,) = client.get(f"{STUDIES}/{study}/series").json()
    assert series["00080060"]["Value"] == ["US"]
    sent = client.post(
        ANALYSES,
        data={"request": json.dumps(studies.REQUEST)},
        files=[("files", ("a.dcm", studies.dicom_still()))],
        headers=WAIT,
    )
    assert len(client.get(STUDIES).json()) == 2
    client.post(f"{ANALYSES}/{sent.json()['id']}/deletion", json={"reason": "a test"})
    assert len(client.get(STUDIES).json()) == 1


def test_what_cannot_be_analysed_is_told(client: TestClient) -> None:
    """No such study, no such image, files as well, two patients, nonsense: nothing is made."""
    study, series = generate_uid(), generate_uid()
    names = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
    stow(client, studies.dicom_still(1, **names), studies.dicom_still(2, PatientID="P-2", **names))
    assert_problem(analyse(client, study_instance_uid="1.2.3"), 404, "not_found")
    assert_problem(
        analyse(client, study_instance_uid=study, sop_instance_uids=["1.2.3"]),
        422,
        "request_conflict",
    )
    assert_problem(analyse(client, study_instance_uid=study), 422, "mixed_patients")
    assert_problem(analyse(client, study_instance_uid="../x"), 422, "invalid_request")
    assert_problem(analyse(client), 422, "invalid_request")
    both = client.post(
        ANALYSES,
        data={"request": json.dumps(studies.REQUEST), "stored": "{}"},
        files=[("files", ("a.dcm", studies.dicom_still()))],
    )
    assert_problem(both, 400, "bad_request")
    assert contents(client)["analyses"] == 0


def test_a_key_stands_for_one_stored_study(client: TestClient) -> None:
    """The same key and study give the same analysis; the same key and another study is refused."""
    first, second = studies.dicom_still(1), studies.dicom_still(2)
    stow(client, first, second)
    one, two = (dcmread(io.BytesIO(d)).StudyInstanceUID for d in (first, second))
    made = analyse(client, key="k", study_instance_uid=one)
    again = analyse(client, key="k", study_instance_uid=one)
    assert again.json()["id"] == made.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert_problem(analyse(client, key="k", study_instance_uid=two), 422, "idempotency_conflict")

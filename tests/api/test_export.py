"""A study leaves without its person: over REST, and from the command line."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from pathlib import Path

import pytest
from pydicom import dcmread
from starlette.testclient import TestClient

from api.cli import main
from app.store.rows import AuditRow
from tests.api.conftest import ANALYSES, assert_problem, draft, parts_of, post
from tests.app import studies
from tests.imaging.test_deidentify import PLANTED, picture_file


def exported(client: TestClient, analysis_id: str, **query: str) -> zipfile.ZipFile:
    answer = client.get(f"{ANALYSES}/{analysis_id}/deidentified", params=query)
    assert answer.status_code == 200, answer.text
    assert PLANTED not in str(answer.headers)
    return zipfile.ZipFile(io.BytesIO(answer.content))


def test_a_study_leaves_without_its_person(client: TestClient, tmp_path: Path) -> None:
    """Images and report in one ZIP, no name in a byte of it; the audit knows, the disk is clean."""
    names = {"PatientName": PLANTED, "PatientID": f"{PLANTED}-1", "StudyDescription": PLANTED}
    data = picture_file(tmp_path, box=(120, 60, 520, 440), **names).read_bytes()
    answer = post(client, data, name=f"{PLANTED}.dcm", headers={"Prefer": "wait=30"})
    made = answer.json()["id"]
    archive = exported(client, made)
    assert sorted(archive.namelist()) == ["images/0001.dcm", "report.json"]
    for name in archive.namelist():
        assert PLANTED.encode() not in archive.read(name)
    ds = dcmread(io.BytesIO(archive.read("images/0001.dcm")))
    assert ds.PatientIdentityRemoved == "YES"
    report = json.loads(archive.read("report.json"))
    assert report["images"][0]["report"]["patient"] == ds.PatientID
    assert "(0010,0010)" in str(report["images"][0]["report"]["elements"])
    again = dcmread(io.BytesIO(exported(client, made, dates="shifted").read("images/0001.dcm")))
    assert again.StudyInstanceUID == ds.StudyInstanceUID
    assert again.StudyDate < "20260102"
    parts = parts_of(client)
    assert list(parts.blobs.staging.iterdir()) == []
    with parts.store.read() as session:
        noted = session.query(AuditRow).filter_by(action="analysis.exported").all()
    assert [(row.principal, row.subject) for row in noted] == [("operator", made)] * 2
    key = parts.settings.data_dir / "deidentification.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_all_leave_or_none(client: TestClient) -> None:
    """An image that cannot be made safe, or is no DICOM, keeps the study in the house."""
    flat = studies.dicom_still(calibrated=False)
    made = post(client, flat, headers={"Prefer": "wait=30"}).json()["id"]
    answer = client.get(f"{ANALYSES}/{made}/deidentified")
    assert_problem(answer, 422, "picture_not_found")
    png = post(client, studies.png_still(), name="x.png", headers={"Prefer": "wait=30"}).json()
    answer = client.get(f"{ANALYSES}/{png['id']}/deidentified")
    assert_problem(answer, 422, "request_conflict")
    assert list(parts_of(client).blobs.staging.iterdir()) == []


def test_a_damaged_key_is_told(client: TestClient) -> None:
    """A damaged key is never replaced by a new one: patients would get other pseudonyms."""
    body = draft(client)
    (parts_of(client).settings.data_dir / "deidentification.key").write_text("not a key")
    answer = client.get(f"{ANALYSES}/{body['id']}/deidentified")
    assert_problem(answer, 422, "request_conflict")


def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`sonodose deidentify IN OUT` cleans a folder, names what stays, and exits 1 then."""
    monkeypatch.setenv("SONODOSE_DATA_DIR", str(tmp_path / "data"))
    source = tmp_path / "in"
    source.mkdir()
    picture_file(source, box=(120, 60, 520, 440), PatientName=PLANTED)
    assert main(["deidentify", str(source), str(tmp_path / "good")]) == 0
    (source / "notes.txt").write_text("no image")
    assert main(["deidentify", str(source), str(tmp_path / "out")]) == 1
    told = capsys.readouterr()
    assert "notes.txt stays" in told.err
    assert "1 of 2 images" in told.out
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["0002.dcm", "report.json"]
    for path in (tmp_path / "out").iterdir():
        assert PLANTED.encode() not in path.read_bytes()
    assert main(["deidentify", str(source), str(tmp_path / "out")]) == 1
    assert "not empty" in capsys.readouterr().err

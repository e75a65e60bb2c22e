"""STOW-RS: what is stored, what is refused, and that nothing stays half-stored."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any
from xml.etree import ElementTree

import pytest
from pydicom import dcmread
from pydicom.uid import RLELossless, generate_uid
from sqlalchemy import select
from starlette.testclient import TestClient

from app.store.rows import AuditRow, InstanceRow
from tests.api.conftest import Serve, assert_problem, contents, parts_of
from tests.app import studies

STUDIES = "/dicom-web/studies"
KIND = 'multipart/related; type="application/dicom"; boundary=XYZ'
REFERENCED, FAILED, OTHER = "00081199", "00081198", "0008119A"
FAILURE, WARNING, INSTANCE = "00081197", "00081196", "00081155"


def body_of(*objects: bytes, kind: str = "application/dicom") -> bytes:
    parts = [
        b"--XYZ\r\nContent-Type: " + kind.encode() + b"\r\n\r\n" + data + b"\r\n"
        for data in objects
    ]
    return b"".join([*parts, b"--XYZ--\r\n"])


def stow(client: TestClient, *objects: bytes, study: str = "", accept: str = "") -> Any:
    headers = {"Content-Type": KIND, **({"Accept": accept} if accept else {})}
    home = f"{STUDIES}/{study}" if study else STUDIES
    return client.post(home, content=body_of(*objects), headers=headers)


def still(**changes: Any) -> tuple[bytes, Any]:
    """(the bytes of a still, its data set)."""
    data = studies.dicom_still(**changes)
    return data, dcmread(io.BytesIO(data))


def reasons(answer: Any) -> list[int]:
    said = answer.json()
    items = [*said.get(FAILED, {}).get("Value", []), *said.get(OTHER, {}).get("Value", [])]
    return [item[FAILURE]["Value"][0] for item in items]


def held(client: TestClient) -> tuple[int, int, int]:
    """How many instances, blobs and files on their way the store holds."""
    found = contents(client)
    return found["instances"], found["(blobs)"], found["(staging)"]


def test_objects_are_stored_once(client: TestClient) -> None:
    """Each object is referenced with its address; the same bytes again change nothing."""
    (one, ds), (two, _) = still(), still()
    answer = stow(client, one, two)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    items = answer.json()[REFERENCED]["Value"]
    assert len(items) == 2
    assert items[0][INSTANCE]["Value"] == [ds.SOPInstanceUID]
    assert FAILED not in answer.json()
    before = contents(client)
    again = stow(client, one, two)
    assert (again.status_code, again.json()) == (200, answer.json())
    assert contents(client) == before
    assert held(client) == (2, 2, 0)


def test_xml_is_answered_where_it_is_asked_for(client: TestClient) -> None:
    """The same module as native XML, and no other form than these two."""
    data, ds = still()
    answer = stow(client, data, accept="application/dicom+xml")
    assert answer.headers["content-type"] == "application/dicom+xml"
    root = ElementTree.fromstring(answer.content)  # noqa: S314 -- our own answer
    values = [value.text for value in root.iter() if value.tag.endswith("Value")]
    assert str(ds.SOPInstanceUID) in values
    assert_problem(stow(client, data, accept="text/html"), 406, "not_acceptable")


def test_an_object_of_another_study_is_refused(client: TestClient) -> None:
    """Under the address of a study only its own objects are stored: 202, and 409 for none."""
    (one, ds), (two, other) = still(), still()
    answer = stow(client, one, two, study=ds.StudyInstanceUID)
    assert answer.status_code == 202
    assert reasons(answer) == [0xA901]
    assert answer.json()[FAILED]["Value"][0][INSTANCE]["Value"] == [other.SOPInstanceUID]
    assert held(client) == (1, 1, 0)
    assert stow(client, two, study=ds.StudyInstanceUID).status_code == 409


def cut(data: bytes) -> bytes:
    return data[:-1000]


def longer(data: bytes) -> bytes:
    """The pixel data says it is longer than it is."""
    size = studies.ROWS * studies.COLUMNS
    at = data.rindex(b"\xe0\x7f\x10\x00")
    return data[: at + 8] + struct.pack("<I", size * 2) + data[at + 12 :]


def syntax(data: bytes) -> bytes:
    return data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0", 1)


def changed(**changes: Any) -> bytes:
    return studies.dicom_still(**changes)


BAD = {
    "empty": (b"", 0xC000),
    "text": (b"no image at all", 0xC000),
    "only a preamble": (b"\0" * 128 + b"DICM", 0xC000),
    "cut off": (cut(studies.dicom_still()), 0xC000),
    "a length that lies": (longer(studies.dicom_still()), 0xC000),
    "unknown syntax": (syntax(studies.dicom_still()), 0xC122),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_object_is_refused_alone(client: TestClient, kind: str) -> None:
    """It gets its reason, the good one beside it is stored, and nothing of it stays."""
    good, _ = still()
    bad, reason = BAD[kind]
    answer = stow(client, bad, good)
    assert (answer.status_code, reasons(answer)) == (202, [reason])
    assert held(client) == (1, 1, 0)
    assert stow(client, bad).status_code == 409
    assert held(client) == (1, 1, 0)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
@pytest.mark.parametrize("uid", ["1.2..3", "1." * 100 + "1", "../../etc/passwd", ""])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_uid_that_is_none_is_refused(client: TestClient, keyword: str, uid: str) -> None:
    """Two dots in a row, 200 characters, a path or nothing: refused, and nothing is stored."""
    ds = dcmread(io.BytesIO(studies.dicom_still()))
    setattr(ds, keyword, uid)
    file = io.BytesIO()
    ds.save_as(file)
    answer = stow(client, file.getvalue())
    assert (answer.status_code, reasons(answer)) == (409, [0xC000])
    assert held(client) == (0, 0, 0)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_class_of_nobody_is_refused(client: TestClient) -> None:
    """An object of no storage SOP class is answered 0122."""
    answer = stow(client, changed(SOPClassUID="1.2.840.10008.1.1"))
    assert (answer.status_code, reasons(answer)) == (409, [0x0122])


@pytest.mark.parametrize("setting", ["keep_first", "refuse"])
def test_a_rewritten_header_is_accepted_with_a_warning(serve: Serve, setting: str) -> None:
    """Other bytes, same pixels: stored beside under both settings, and the first stays."""
    client, uid = serve(on_conflict=setting), generate_uid()
    first, ds = still(SOPInstanceUID=uid)
    ds.InstitutionName = "Rewritten"
    ds.compress(RLELossless, encoding_plugin="pylibjpeg")
    file = io.BytesIO()
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid
    ds.save_as(file)
    assert stow(client, first).status_code == 200
    answer = stow(client, file.getvalue())
    assert answer.status_code == 202
    assert answer.json()[REFERENCED]["Value"][0][WARNING]["Value"] == [0xB000]
    (found,) = client.get(f"/dicom-web/instances?SOPInstanceUID={uid}").json()
    assert found["00083002"]["Value"] == ["1.2.840.10008.1.2.1"]
    assert held(client) == (2, 2, 0)


def test_other_pixels_under_a_known_uid(serve: Serve) -> None:
    """keep_first stores them beside with a warning and finds the first; refuse answers 0111."""
    uid = generate_uid()
    names = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    first = studies.dicom_still(1, SOPInstanceUID=uid, **names)
    other = studies.dicom_still(2, SOPInstanceUID=uid, **names)
    client = serve()
    stow(client, first)
    answer = stow(client, other)
    assert answer.status_code == 202
    assert answer.json()[REFERENCED]["Value"][0][WARNING]["Value"] == [0xB00E]
    home = "/".join((STUDIES, names["StudyInstanceUID"], "series", names["SeriesInstanceUID"]))
    kept = client.get(f"{home}/instances/{uid}", headers={"Accept": "application/dicom"})
    assert kept.content == first
    with parts_of(client).store.read() as session:
        rows = session.scalars(select(InstanceRow)).all()
    assert sorted(row.same_pixels is False for row in rows) == [False, True]


def test_other_pixels_are_refused_by_the_setting(serve: Serve) -> None:
    """on_conflict=refuse: 0111, also for two in one request, and nothing of it stays."""
    uid = generate_uid()
    first, other = (studies.dicom_still(n, SOPInstanceUID=uid) for n in (1, 2))
    client = serve(on_conflict="refuse")
    answer = stow(client, first, other)
    assert (answer.status_code, reasons(answer)) == (202, [0x0111])
    assert stow(client, other).status_code == 409
    assert held(client) == (1, 1, 0)


def test_a_body_that_breaks_stores_nothing(client: TestClient) -> None:
    """A body without its end, a foreign type or a foreign part leaves nothing behind."""
    good, _ = still()
    for content, kind, status in (
        (body_of(good)[:-20], KIND, 400),
        (body_of(good), "multipart/related; type=application/dicom", 400),
        (body_of(good), KIND.replace("/dicom", "/json"), 415),
        (body_of(good), "application/dicom", 415),
        (body_of(good, kind="text/plain"), KIND, 415),
    ):
        answer = client.post(STUDIES, content=content, headers={"Content-Type": kind})
        assert_problem(answer, status)
        assert held(client) == (0, 0, 0)


@pytest.mark.parametrize(
    "limit", [{"max_body_bytes": 50_000}, {"max_file_bytes": 50_000}, {"max_files": 1}]
)
def test_limits_hold_before_work(serve: Serve, limit: dict[str, int]) -> None:
    """Too many bytes, too large a part and too many parts are 413, with nothing stored."""
    client, (good, _) = serve(**limit), still()
    assert_problem(stow(client, good, good), 413, "too_large")
    assert held(client) == (0, 0, 0)


def test_a_deflated_bomb_is_refused(client: TestClient) -> None:
    """What inflates beyond the limits is refused before it is inflated whole."""
    data, _ = still()
    at = data.index(b"\x08\x00\x05\x00") if b"\x08\x00\x05\x00" in data else None
    head = 132 + 12 + int.from_bytes(data[140:144], "little")
    assert at is None or at >= head
    meta = data[:head].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"[:20], 1)
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = deflater.compress(data[head:] + b"\0" * 50_000_000) + deflater.flush()
    answer = stow(client, meta + bomb)
    assert answer.status_code == 409


def test_what_was_stored_is_in_the_audit(client: TestClient) -> None:
    """The object's hash, who sent it, and the request stand in the audit; no name does."""
    data, ds = still()
    stow(client, data, study=ds.StudyInstanceUID)
    parts_of(client).views.flush()
    with parts_of(client).store.read() as session:
        rows = list(session.scalars(select(AuditRow)))
    assert {"instance.stored", "POST /dicom-web/studies/{study}"} <= {row.action for row in rows}
    assert any(row.subject == ds.StudyInstanceUID for row in rows)
    assert not any("Example" in row.detail or "P-1" in row.detail for row in rows)

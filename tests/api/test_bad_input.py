"""Bad input is a 4xx problem with a way out, and the store stays as it was."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.intake.examine import harmless_name
from tests.api.conftest import ANALYSES, Serve, assert_problem, contents, post
from tests.app import studies, workloads

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


def two_gigabyte_element() -> bytes:
    """A still whose pixel data claims 2 GB that are not there."""
    data = studies.dicom_still()
    tag = (
        b"\xe0\x7f\x10\x00OB\x00\x00"
        if b"\xe0\x7f\x10\x00OB" in data
        else b"\xe0\x7f\x10\x00OW\0\0"
    )
    at = data.index(tag) + len(tag)
    return data[:at] + struct.pack("<I", 0x7FFFFFFE) + data[at + 4 :]


def two_gigabyte_rows() -> bytes:
    """A still that claims 46341 × 46341 pixels, which is 2 GB."""
    return studies.dicom_still(Rows=46341, Columns=46341)


FILES: list[tuple[str, Callable[[], bytes], int, str | None]] = [
    ("empty file", lambda: b"", 422, "unreadable_file"),
    ("not DICOM", lambda: b"%PDF-1.4 a letter, not an image" * 20, 422, "unreadable_file"),
    ("text with DICOM's mark", lambda: b"\0" * 128 + b"DICM" + b"no dataset", 422, None),
    (
        "not ultrasound",
        lambda: studies.dicom_still(SOPClassUID=CT_IMAGE, Modality="CT"),
        422,
        "not_ultrasound",
    ),
    ("2 GB of rows and columns", two_gigabyte_rows, 413, "too_large"),
    ("half a PNG", lambda: studies.png_still()[:20], 422, "unreadable_file"),
]


@pytest.mark.parametrize(("what", "make", "status", "code"), FILES, ids=[f[0] for f in FILES])
def test_a_bad_file_is_refused_at_once(
    client: TestClient, what: str, make: Callable[[], bytes], status: int, code: str | None
) -> None:
    """A file that cannot be used is answered by a problem, and nothing of it is stored."""
    before = contents(client)
    assert_problem(post(client, make()), status, code)
    assert contents(client) == before


REQUESTS: list[tuple[str, dict[str, Any], str]] = [
    ("unknown muscle", {"muscle": "bicep"}, "unknown_muscle"),
    ("unknown product", {"product": "BOTULEX"}, "unknown_product"),
    (
        "product not for the indication",
        {"product": "DAXXIFY", "indication": "upper_limb_spasticity"},
        "product_not_for_indication",
    ),
    ("child without weight", {"patient": {"age_years": 6}}, "missing_patient_fact"),
    ("unknown member", {"muscel": "biceps_brachii"}, "invalid_request"),
    ("NaN length", {"muscle_length_mm": float("nan")}, "invalid_request"),
    ("MAS 5", {"severity": {"scale": "MAS", "value": "5"}}, "invalid_request"),
]


@pytest.mark.parametrize(("what", "changes", "code"), REQUESTS, ids=[r[0] for r in REQUESTS])
def test_a_bad_request_is_refused_at_once(
    client: TestClient, what: str, changes: dict[str, Any], code: str
) -> None:
    """What can be judged at once is judged at once, and nothing is stored."""
    before = contents(client)
    assert_problem(post(client, **changes), 422, code)
    assert contents(client) == before


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "[" * 100_000])
def test_a_request_that_is_no_json_object(client: TestClient, text: str) -> None:
    """Text that is no JSON object is a 400 with the way to an example."""
    assert_problem(post(client, request=text), 400, "bad_request")


def test_the_pixels_that_a_header_promises_are_missing(serve: Serve) -> None:
    """A 2 GB pixel element in a small file never becomes a plan, nor an error of the service."""
    client = serve(workloads.unreadable)
    answer = post(client, two_gigabyte_element(), headers={"Prefer": "wait=30"})
    assert_problem(answer, answer.status_code)
    assert 400 <= answer.status_code < 500


def test_a_failure_of_the_worker_answers_as_a_refusal_would(serve: Serve) -> None:
    """With Prefer: wait a decode failure is that problem, and the analysis keeps the same one."""
    client = serve(workloads.unreadable)
    answer = post(client, headers={"Prefer": "wait=30"})
    body = assert_problem(answer, 422, "unreadable_file")
    kept = client.get(answer.headers["location"]).json()
    assert kept["state"] == "failed"
    same = ("type", "title", "status", "detail", "code", "remedy")
    assert [kept["problem"][m] for m in same] == [body[m] for m in same]


def test_two_patients_in_one_request(client: TestClient) -> None:
    """Files of two patients are refused before anything is stored."""
    before = contents(client)
    files = [("files", (f"{i}.dcm", studies.dicom_still(PatientID=f"P-{i}"))) for i in range(2)]
    answer = client.post(ANALYSES, data={"request": "{}"}, files=files)
    assert_problem(answer, 422, "invalid_request")
    answer = client.post(ANALYSES, data={"request": json.dumps(studies.REQUEST)}, files=files)
    assert_problem(answer, 422, "mixed_patients")
    assert contents(client) == before


def test_files_over_the_limits(serve: Serve) -> None:
    """Sizes are counted while the bytes come in: file, body, number of files, JSON."""
    client = serve(max_file_bytes=50_000, max_body_bytes=200_000, max_files=3, max_json_bytes=5000)
    before = contents(client)
    assert_problem(post(client, b"x" * 60_000), 413, "too_large")
    many = [("files", (f"{i}.png", b"x" * 100)) for i in range(4)]
    assert_problem(client.post(ANALYSES, data={"request": "{}"}, files=many), 413, "too_large")
    large = [("files", (f"{i}.png", b"x" * 49_000)) for i in range(5)]
    assert_problem(client.post(ANALYSES, files=large), 413, "too_large")
    assert_problem(post(client, request=" " * 6000), 413, "too_large")
    answer = client.post(
        "/api/v1/what-if", content=b" " * 6000, headers={"Content-Type": "application/json"}
    )
    assert_problem(answer, 413, "too_large")
    assert contents(client) == before


def test_a_body_without_a_length_is_counted_too(serve: Serve) -> None:
    """A chunked upload without Content-Length is stopped at the limit, too."""
    client = serve(max_body_bytes=100_000, max_file_bytes=100_000)
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    answer = client.post(
        ANALYSES,
        content=iter([head, *[b"x" * 10_000] * 20]),
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert_problem(answer, 413, "too_large")


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"", 415),
        ("multipart/form-data; boundary=b", b"--b\r\nnonsense", 400),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nhalf',
            400,
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--b--\r\n',
            400,
        ),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"A" * 9000 + b": 1\r\n\r\n", 400),
    ],
)
def test_a_broken_upload(client: TestClient, content_type: str, body: bytes, status: int) -> None:
    """A body that is no upload, or half of one, is a problem and leaves nothing."""
    before = contents(client)
    answer = client.post(ANALYSES, content=body, headers={"Content-Type": content_type})
    assert_problem(answer, status)
    assert contents(client) == before


def test_a_file_name_is_never_a_path(client: TestClient) -> None:
    """Folders and control characters of a sent name are dropped."""
    answer = post(client, name="../../etc/passwd", headers={"Prefer": "wait=30"})
    assert answer.json()["files"][0]["name"] == "passwd"
    assert harmless_name("C:\\scans\\a\x00\x1b[2J\u202e.dcm", 1) == "a[2J.dcm"
    assert harmless_name("..", 3) == "file-3"
    assert harmless_name(None, 4) == "file-4"

"""ZIP uploads: files by their real sizes, and nothing that an archive can do to harm."""

from __future__ import annotations

import io
import json
import time
import zipfile
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.api.conftest import ANALYSES, Serve, assert_problem, contents, parts_of
from tests.app import studies


def packed(*entries: tuple[Any, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return file.getvalue()


def send(client: TestClient, data: bytes, name: str = "study.zip", **request: Any) -> Any:
    return client.post(
        ANALYSES,
        data={"request": json.dumps({**studies.REQUEST, **request})},
        files=[("files", (name, data))],
    )


def test_a_zip_is_its_files(client: TestClient) -> None:
    """Every image in it is a file of the analysis; what a PACS puts beside them is passed over."""
    inside = [(f"IMAGES/I{n}.dcm", studies.dicom_still(n)) for n in (1, 2)]
    data = packed(*inside, ("DICOMDIR", b"x"), ("__MACOSX/._I1.dcm", b"x"), ("IMAGES/", b""))
    answer = send(client, data)
    assert answer.status_code == 202, answer.text
    files = answer.json()["files"]
    assert [file["name"] for file in files] == ["I1.dcm", "I2.dcm"]
    fetched = client.get(f"{ANALYSES}/{answer.json()['id']}/files/1")
    assert fetched.content == inside[1][1]
    found = contents(client)
    blobs = found["(blobs)"] - found["masks"]  # the job may have ended
    assert (found["instances"], blobs, found["(staging)"]) == (2, 2, 0)


def encrypted() -> bytes:
    """The flag of encryption set on an entry, in its header and in the directory."""
    data = bytearray(packed(("a.dcm", studies.dicom_still())))
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def link() -> bytes:
    entry = zipfile.ZipInfo("a.dcm")
    entry.external_attr = 0o120777 << 16
    return packed((entry, b"/etc/passwd"))


def lying() -> bytes:
    """An entry of megabytes of zeros that the directory calls a few bytes."""
    data = bytearray(packed(("a.dcm", bytes(30_000_000))))
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")
    return bytes(data)


def endless_directory() -> bytes:
    data = bytearray(packed(("a.dcm", b"x")))
    at = data.rindex(b"PK\x05\x06")
    data[at + 12 : at + 16] = (1 << 30).to_bytes(4, "little")
    return bytes(data)


def before_its_begin() -> bytes:
    """A directory that says it begins later than it does, so that its files lie before byte 0."""
    data = bytearray(packed(("a.dcm", studies.dicom_still())))
    at = data.rindex(b"PK\x05\x06") + 16
    data[at : at + 4] = (int.from_bytes(data[at : at + 4], "little") + 100).to_bytes(4, "little")
    return bytes(data)


HARM = {
    "encrypted": encrypted,
    "a path out of it": lambda: packed(("../../etc/a.dcm", studies.dicom_still())),
    "a path of another system": lambda: packed(("..\\..\\a.dcm", studies.dicom_still())),
    "an absolute path": lambda: packed(("/etc/a.dcm", studies.dicom_still())),
    "a drive": lambda: packed(("C:\\a.dcm", studies.dicom_still())),
    "a link": link,
    "a zip in it": lambda: packed(("a.zip", packed(("a.dcm", studies.dicom_still())))),
    "another packing": lambda: packed(("a.dcm", studies.dicom_still()), method=zipfile.ZIP_LZMA),
    "nothing in it": lambda: packed(),
    "no image in it": lambda: packed(("DICOMDIR", b"x")),
    "cut off": lambda: packed(("a.dcm", studies.dicom_still()))[:-2000],
    "damaged": lambda: packed(("a.dcm", studies.dicom_still())).replace(b"a.dcm", b"b.dcm", 1),
    "an endless directory": endless_directory,
    "a lying directory": lying,
    "a file before its begin": before_its_begin,
}


@pytest.mark.parametrize("kind", HARM)
def test_a_harmful_zip_is_refused(client: TestClient, kind: str) -> None:
    """Refused with the reason, and nothing of it stays."""
    answer = send(client, HARM[kind]())
    assert answer.status_code in (413, 422), answer.text
    assert_problem(answer, answer.status_code)
    found = contents(client)
    assert (found["instances"], found["(blobs)"], found["(staging)"]) == (0, 0, 0)


@pytest.mark.parametrize(
    "name",
    ["a\0b.dcm", "a\nb.dcm", "CON", "NUL:", "?*|<>.dcm", " ", ".", "\u202egnp.dcm", "x" * 60_000],
)
def test_a_name_that_no_file_may_have(client: TestClient, name: str) -> None:
    """What a ZIP calls its files is no path anywhere: they are taken under a harmless name, or the
    ZIP is refused, and the next one is taken."""
    answer = send(client, packed((name, studies.dicom_still())))
    if answer.status_code == 202:
        (file,) = answer.json()["files"]
        assert file["name"].isprintable()
        assert 0 < len(file["name"]) <= 200
    else:
        assert_problem(answer, 422, "unreadable_file")
    end = time.monotonic() + 30
    while contents(client)["(staging)"]:  # a running job may have its picture there for a moment
        assert time.monotonic() < end
        time.sleep(0.05)
    assert send(client, packed(("a.dcm", studies.dicom_still(2)))).status_code == 202


def test_a_bomb_is_refused_by_what_comes_out(client: TestClient) -> None:
    """A ratio that no image has, whatever the directory says, is refused before it is out."""
    answer = send(client, packed(("a.dcm", bytes(400_000_000))))
    assert_problem(answer, 413, "too_large")
    assert list(parts_of(client).blobs.staging.iterdir()) == []


@pytest.mark.parametrize("limit", [{"max_files": 2}, {"max_file_bytes": 50_000}])
def test_the_limits_of_an_upload_hold_inside(serve: Serve, limit: dict[str, int]) -> None:
    """Three files of one ZIP are three files, and a large one in it is a large one."""
    data = packed(*((f"{n}.dcm", studies.dicom_still(n)) for n in range(3)))
    if "max_file_bytes" in limit:
        data = packed(("a.dcm", bytes(60_000)))
    answer = send(serve(**limit), data)
    assert_problem(answer, 413, "too_large")

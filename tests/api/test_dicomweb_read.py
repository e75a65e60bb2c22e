"""QIDO-RS and WADO-RS: what is stored is found and comes back, in the form that was asked for."""

from __future__ import annotations

import io
from email import message_from_bytes
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.uid import JPEG2000Lossless, generate_uid
from starlette.testclient import TestClient

from tests.api.conftest import Serve, assert_problem
from tests.api.test_dicomweb_store import STUDIES, stow
from tests.api.test_edge import bearer, key
from tests.app import studies

NAME, PATIENT, STUDY, DATE = "00100010", "00100020", "0020000D", "00080020"
SERIES, INSTANCE = "0020000E", "00080018"
FRAMES = 3


def clip(compressed: bool = False) -> tuple[bytes, np.ndarray]:
    """(a clip of three frames, its pixels)."""
    pixels = np.stack([studies.speckle(seed) for seed in range(FRAMES)])
    data = studies.dicom_still(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.3.1",
        NumberOfFrames=FRAMES,
        FrameTime=40,
        PixelData=pixels.tobytes(),
    )
    if compressed:
        ds = dcmread(io.BytesIO(data))
        ds.compress(JPEG2000Lossless, generate_instance_uid=False)
        file = io.BytesIO()
        ds.save_as(file)
        data = file.getvalue()
    return data, pixels


def home_of(data: bytes) -> str:
    ds = dcmread(io.BytesIO(data), stop_before_pixels=True)
    return "/".join(
        (
            STUDIES,
            ds.StudyInstanceUID,
            "series",
            ds.SeriesInstanceUID,
            "instances",
            ds.SOPInstanceUID,
        )
    )


def parts_of_answer(answer: Any) -> list[tuple[str, bytes]]:
    """(media type, body) of each part of a multipart answer, read by another reader than ours."""
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    found = message_from_bytes(head + answer.content)
    assert found.is_multipart()
    boundary = found.get_boundary()
    assert boundary is not None
    pieces = answer.content.split(f"--{boundary}".encode())[1:-1]
    parts = []
    for piece in pieces:
        header, _, body = piece.partition(b"\r\n\r\n")
        fields = message_from_bytes(header.strip() + b"\r\n\r\n")
        parts.append((str(fields["Content-Type"]), body[:-2]))
    return parts


@pytest.fixture
def filled(client: TestClient) -> TestClient:
    """A store of four studies of three patients."""
    for number, (patient, name, date) in enumerate(
        (
            ("P-1", "Example^Ada", "20260102"),
            ("P-1", "Example^Ada", "20260304"),
            ("P-2", "Müller^Jörg", "20260405"),
            ("P-3", "Yamada^Tarou=山田^太郎", "20250101"),
        )
    ):
        data = studies.dicom_still(
            SpecificCharacterSet="ISO_IR 192",
            PatientID=patient,
            PatientName=name,
            StudyDate=date,
            AccessionNumber=f"A{number}",
            StudyDescription="Arm, right",
        )
        assert stow(client, data).status_code == 200
    return client


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 4),
        ("PatientID=P-1", 2),
        ("00100020=P-1", 2),
        ("PatientID=P-?", 4),
        ("PatientID=p_1", 0),
        ("PatientName=*ada*", 3),
        ("PatientName=example^ada", 2),
        ("PatientName=Mull*", 1),
        ("00100010=*山田*", 1),
        ("StudyDate=20260102", 1),
        ("StudyDate=20260101-20261231", 3),
        ("StudyDate=-20260102", 2),
        ("StudyDate=20260304-", 2),
        ("StudyTime=1011-1012", 4),
        ("AccessionNumber=A2", 1),
        ("StudyDescription=Arm*", 4),
        ("ModalitiesInStudy=US", 4),
        ("ModalitiesInStudy=CT", 0),
        ("ModalitiesInStudy=CT%5CUS", 4),
        ("PatientID=*&StudyDescription=", 4),
        ("PatientID=%25", 0),
        ("limit=2", 2),
        ("offset=3", 1),
        ("limit=101&offset=0&fuzzymatching=false&includefield=00081030,00080060", 4),
        ("includefield=all", 4),
        ("StudyInstanceUID=1.2.3%5C4.5.6", 0),
        ("Modality=US", 4),
    ],
)
def test_studies_are_found(filled: TestClient, query: str, count: int) -> None:
    """Values, wildcards, ranges and lists, by keyword or tag; [] where nothing matches."""
    answer = filled.get(f"{STUDIES}?{query}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/dicom+json"
    assert len(answer.json()) == count


def test_a_study_shows_what_a_work_list_needs(filled: TestClient) -> None:
    """Newest first, with every attribute of the standard's table, names in their groups."""
    rows = filled.get(STUDIES).json()
    assert [row[DATE]["Value"][0] for row in rows] == [
        "20260405",
        "20260304",
        "20260102",
        "20250101",
    ]
    needed = "0020000D 00080020 00080030 00080050 00100020 00100010 00100030 00201208 00081030"
    for tag in (*needed.split(), "00080061", "00201206", "00081190"):
        assert tag in rows[0], tag
    assert rows[0]["00080061"] == {"vr": "CS", "Value": ["US"]}
    assert rows[3][NAME]["Value"] == [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}]
    # pydicom's own reader of the model takes every row.
    assert Dataset.from_json(rows[3]).PatientName.ideographic == "山田^太郎"


def test_what_a_search_cannot_do_is_said(filled: TestClient) -> None:
    """Fuzzy matching and unknown keys are passed over with a Warning, nonsense is refused."""
    fuzzy = filled.get(f"{STUDIES}?fuzzymatching=true&PatientName=exampel")
    assert fuzzy.headers["warning"].startswith("299 ")
    over = filled.get(f"{STUDIES}?PatientComments=x")
    assert "PatientComments" in over.headers["warning"]
    assert len(over.json()) == 4
    assert "offset=2" in filled.get(f"{STUDIES}?limit=2").headers["warning"]
    for query in ("Patientt=1", "StudyDate=yesterday", "includefield=Nonsense", "0010zzzz=1"):
        assert_problem(filled.get(f"{STUDIES}?{query}"), 400, "bad_request")
    assert_problem(filled.get(f"{STUDIES}?limit=-1"), 422)


def test_series_and_instances_are_found(filled: TestClient) -> None:
    """At every level that the standard names, with the attributes of the levels above."""
    (row,) = filled.get(f"{STUDIES}?AccessionNumber=A1").json()
    study = row[STUDY]["Value"][0]
    (series,) = filled.get(f"{STUDIES}/{study}/series?includefield=00080021").json()
    assert series["00201209"]["Value"] == [1]
    (instance,) = filled.get(
        f"{STUDIES}/{study}/series/{series[SERIES]['Value'][0]}/instances"
    ).json()
    assert instance["00280010"]["Value"] == [studies.ROWS]
    assert instance["00280008"]["Value"] == [1]
    assert filled.get(f"{STUDIES}/{study}/instances").json() == [instance]
    assert len(filled.get("/dicom-web/series?Modality=US").json()) == 4
    assert len(filled.get("/dicom-web/instances?PatientID=P-1").json()) == 2
    assert filled.get(f"{STUDIES}/1.2.3/series").json() == []
    as_xml = filled.get(
        f"{STUDIES}?limit=1", headers={"Accept": 'multipart/related; type="application/dicom+xml"'}
    )
    ((kind, body),) = parts_of_answer(as_xml)
    assert kind == "application/dicom+xml"
    assert b"FamilyName" in body


@pytest.mark.parametrize(
    "accept",
    [
        'multipart/related; type="application/dicom"; transfer-syntax=*',
        "multipart/related; type=application/dicom; transfer-syntax=*",
        "*/*",
        "",
    ],
)
def test_objects_come_back_byte_for_byte(client: TestClient, accept: str) -> None:
    """A study, a series and an instance, as they were sent, their syntax named."""
    data, _ = clip(compressed=True)
    stow(client, data)
    home = home_of(data)
    for address in (home, home.rpartition("/instances")[0], home.partition("/series")[0]):
        answer = client.get(address, headers={"Accept": accept})
        ((kind, body),) = parts_of_answer(answer)
        assert kind == f"application/dicom; transfer-syntax={JPEG2000Lossless}"
        assert body == data
        assert int(answer.headers["content-length"]) == len(answer.content)


def test_an_object_is_decoded_where_no_syntax_is_named(client: TestClient) -> None:
    """application/dicom means explicit little endian; another syntax than the stored is 406."""
    data, pixels = clip(compressed=True)
    stow(client, data)
    home = home_of(data)
    answer = client.get(home, headers={"Accept": "application/dicom"})
    assert (
        answer.headers["content-type"] == "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
    )
    ds = dcmread(io.BytesIO(answer.content))
    assert np.array_equal(ds.pixel_array, pixels)
    assert ds.SOPInstanceUID == home.rpartition("/")[2]
    other = "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.50"
    assert_problem(client.get(home, headers={"Accept": other}), 406, "not_acceptable")
    assert_problem(client.get(home, headers={"Accept": "text/html"}), 406, "not_acceptable")


def test_metadata_name_bulk_data(client: TestClient) -> None:
    """The whole header, regions and frames among it; pixels at an address that answers."""
    data, pixels = clip()
    stow(client, data)
    home = home_of(data)
    (found,) = client.get(f"{home}/metadata").json()
    ds = Dataset.from_json(found, lambda *_: b"")
    assert ds.SequenceOfUltrasoundRegions[0].PhysicalDeltaX == 0.02
    assert int(ds.NumberOfFrames) == FRAMES
    address = found["7FE00010"]["BulkDataURI"]
    assert address == f"http://127.0.0.1{home}/bulkdata/7FE00010"
    ((_, body),) = parts_of_answer(client.get(address))
    assert body == pixels.tobytes()
    single = client.get(address, headers={"Accept": "application/octet-stream"})
    assert single.content == pixels.tobytes()
    assert_problem(client.get(address.replace("7FE00010", "00100010")), 404, "not_there")


@pytest.mark.parametrize("compressed", [False, True])
def test_frames_come_decoded_or_as_stored(client: TestClient, compressed: bool) -> None:
    """transfer-syntax=* gives the stored coding and names it; else explicit little endian."""
    data, pixels = clip(compressed)
    stow(client, data)
    home = home_of(data)
    octets = "multipart/related; type=application/octet-stream"
    answer = client.get(f"{home}/frames/3,1", headers={"Accept": octets})
    found = parts_of_answer(answer)
    assert [body for _, body in found] == [pixels[2].tobytes(), pixels[0].tobytes()]
    assert {kind for kind, _ in found} == {
        "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
    }
    stored = client.get(f"{home}/frames/2", headers={"Accept": f"{octets}; transfer-syntax=*"})
    ((kind, body),) = parts_of_answer(stored)
    if compressed:
        assert kind == f"application/octet-stream; transfer-syntax={JPEG2000Lossless}"
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(body))), pixels[1])
        image = client.get(f"{home}/frames/2", headers={"Accept": "image/jp2"})
        assert image.content == body
    else:
        assert body == pixels[1].tobytes()
    assert_problem(client.get(f"{home}/frames/4"), 404, "not_there")
    assert_problem(client.get(f"{home}/frames/0"), 422)


def test_pictures_are_rendered(client: TestClient) -> None:
    """JPEG, or PNG with the very pixels; a thumbnail is small; a frame is the one asked for."""
    data, pixels = clip()
    stow(client, data)
    home = home_of(data)
    jpeg = client.get(f"{home}/rendered")
    assert jpeg.headers["content-type"] == "image/jpeg"
    png = client.get(f"{home}/frames/2/rendered", headers={"Accept": "image/png"})
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png.content))), pixels[1])
    small = client.get(f"{home}/rendered?viewport=100,100")
    assert Image.open(io.BytesIO(small.content)).size == (100, 75)
    for address in (home, home.rpartition("/instances")[0], home.partition("/series")[0]):
        thumbnail = client.get(f"{address}/thumbnail")
        assert max(Image.open(io.BytesIO(thumbnail.content)).size) == 256


def test_nothing_is_given_to_strangers(serve: Serve) -> None:
    """Reading asks for `read`, storing for `submit`; what is not there is 404."""
    client = serve(auth="keys", api_keys=(key("reader", ["read"]), key("sender", ["submit"])))
    data = studies.dicom_still()
    assert_problem(client.get(STUDIES), 401)
    assert_problem(stow(client, data), 401)
    client.headers.update(bearer("reader"))
    assert_problem(stow(client, data), 403)
    assert client.get(STUDIES).json() == []
    assert_problem(client.get(f"{STUDIES}/1.2.3"), 404, "not_found")
    assert_problem(client.get(f"{STUDIES}/1.2.3/metadata"), 404, "not_found")
    assert_problem(client.get(f"{STUDIES}/..%2f..%2fetc/metadata"), 404)
    assert_problem(client.get(f"{STUDIES}/{'1.' * 100}1/metadata"), 422)
    client.headers.update(bearer("sender"))
    assert stow(client, data).status_code == 200
    assert_problem(client.get(STUDIES), 403)


def test_a_preflight_needs_no_key(serve: Serve) -> None:
    """A page of an allowed origin may ask first; of another origin nothing is allowed."""
    origin = "https://viewer.example"
    client = serve(auth="keys", api_keys=(key("reader", ["read"]),), cors_origins=(origin,))
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization,accept,content-type",
    }
    answer = client.options(STUDIES, headers=asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    got = client.get(STUDIES, headers={**bearer("reader"), "Origin": origin})
    assert got.headers["access-control-allow-origin"] == origin
    foreign = client.options(STUDIES, headers={**asked, "Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in foreign.headers


def test_an_object_without_pixels_is_served(client: TestClient) -> None:
    """A report of others is stored with its study, shown by its metadata, and has no frames."""
    report = Dataset.from_json(
        Dataset.to_json(dcmread(io.BytesIO(studies.dicom_still()), stop_before_pixels=True))
    )
    report.SOPClassUID, report.Modality = "1.2.840.10008.5.1.4.1.1.88.33", "SR"
    report.SOPInstanceUID = generate_uid()
    for keyword in ("Rows", "Columns", "SequenceOfUltrasoundRegions"):
        del report[keyword]
    file = io.BytesIO()
    report.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=True)
    answer = stow(client, file.getvalue())
    assert answer.status_code == 200, answer.text
    home = home_of(file.getvalue())
    assert client.get(f"{home}/metadata").json()[0]["00080060"]["Value"] == ["SR"]
    for address in (f"{home}/frames/1", f"{home}/rendered", f"{home}/thumbnail"):
        assert_problem(client.get(address), 404, "not_there")

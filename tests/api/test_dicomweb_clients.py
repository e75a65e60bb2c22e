"""Other people's DICOMweb programs against a running service: dicomweb-client and Orthanc."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from pydicom import Dataset, dcmread
from pydicom.uid import JPEG2000Lossless, RLELossless

from api.main import create_app
from app.jobs.worker import run_analysis
from app.services import open_services
from app.settings import Settings
from tests.api.conftest import ANALYSES
from tests.api.test_dicomweb_read import FRAMES, clip
from tests.app import studies
from tests.orthanc import orthanc

dicomweb_client = pytest.importorskip("dicomweb_client")


@contextmanager
def running(folder: Path, **changes: Any) -> Iterator[str]:
    """The origin of a service behind a real socket."""
    given = Settings(data_dir=folder, workers=1, drain_s=0, **changes)
    app = create_app(open_services(given, run=run_analysis, warm=None))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", server_header=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[str]:
    with running(tmp_path / "ours") as found:
        yield found


def test_dicomweb_client_stores_searches_and_retrieves(origin: str) -> None:
    """All that dicomweb-client does works: store, search, metadata, instances, frames, pictures."""
    client = dicomweb_client.DICOMwebClient(f"{origin}/dicom-web")
    plain, _ = clip()
    packed, pixels = clip(compressed=True)
    files = [dcmread(io.BytesIO(data)) for data in (plain, packed)]
    answer = client.store_instances(files)
    assert len(answer.ReferencedSOPSequence) == 2
    ds = files[1]
    names = (ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
    found = client.search_for_studies(search_filters={"PatientID": "P-1"}, fields=["StudyDate"])
    assert {row["0020000D"]["Value"][0] for row in found} == {f.StudyInstanceUID for f in files}
    assert client.search_for_series(names[0])[0]["00080060"]["Value"] == ["US"]
    assert client.search_for_instances(names[0])[0]["00280008"]["Value"] == [FRAMES]
    assert client.search_for_studies(search_filters={"PatientID": "nobody"}) == []
    (header,) = client.retrieve_study_metadata(names[0])
    assert Dataset.from_json(header, lambda *_: b"").SOPInstanceUID == ds.SOPInstanceUID
    stored = client.retrieve_instance(*names, media_types=(("application/dicom", "*"),))
    assert np.array_equal(stored.pixel_array, pixels)
    assert stored.file_meta.TransferSyntaxUID == JPEG2000Lossless
    decoded = client.retrieve_instance(*names)
    assert np.array_equal(decoded.pixel_array, pixels)
    (series,) = client.retrieve_series(*names[:2])
    assert series.SOPInstanceUID == ds.SOPInstanceUID
    frames = client.retrieve_instance_frames(*names, frame_numbers=[1, 3])
    assert frames == [pixels[0].tobytes(), pixels[2].tobytes()]
    (bulk,) = client.retrieve_bulkdata(header["7FE00010"]["BulkDataURI"])
    assert len(bulk) > 0
    rendered = client.retrieve_instance_rendered(*names, media_types=("image/png",))
    assert rendered.startswith(b"\x89PNG")


def test_a_real_orthanc_pushes_and_fetches_back(tmp_path: Path, origin: str) -> None:
    """Orthanc pushes a study by STOW, and fetches our SEG and SR of it back, byte for byte."""
    original = studies.dicom_still()
    ds = dcmread(io.BytesIO(original))
    packed = dcmread(io.BytesIO(studies.dicom_still(2, StudyInstanceUID=ds.StudyInstanceUID)))
    packed.compress(RLELossless, generate_instance_uid=False)
    file = io.BytesIO()
    packed.save_as(file)
    with orthanc(tmp_path / "pacs") as pacs:
        for data in (original, file.getvalue()):
            pacs.send("POST", "/instances", data)
        pacs.send("PUT", "/dicom-web/servers/ours", {"Url": f"{origin}/dicom-web/"})
        (study,) = json.loads(pacs.get("/studies"))
        work = {"Resources": [study], "Synchronous": True}
        pacs.send("POST", "/dicom-web/servers/ours/stow", work)
        rows = httpx.get(f"{origin}/dicom-web/studies/{ds.StudyInstanceUID}/instances").json()
        assert len(rows) == 2
        syntaxes = {row["00083002"]["Value"][0] for row in rows}
        assert syntaxes == {"1.2.840.10008.1.2.1", RLELossless}
        pacs.send("POST", "/dicom-web/servers/ours/stow", work)
        again = httpx.get(f"{origin}/dicom-web/studies/{ds.StudyInstanceUID}/instances").json()
        assert len(again) == 2
        made = httpx.post(
            f"{origin}{ANALYSES}",
            files={
                "request": (None, json.dumps(studies.REQUEST)),
                "stored": (
                    None,
                    json.dumps(
                        {
                            "study_instance_uid": ds.StudyInstanceUID,
                            "sop_instance_uids": [ds.SOPInstanceUID],
                        }
                    ),
                ),
            },
            headers={"Prefer": "wait=60"},
            timeout=90,
        )
        assert made.status_code == 200, made.text
        home = f"{origin}{ANALYSES}/{made.json()['id']}"
        objects = [httpx.get(f"{home}/{name}", timeout=60) for name in ("seg.dcm", "sr.dcm")]
        pacs.send(
            "POST",
            "/dicom-web/servers/ours/retrieve",
            {"Resources": [{"Study": ds.StudyInstanceUID}]},
        )
        kept = pacs.files()
        assert len(kept) == 4
        for answer in objects:
            assert answer.status_code == 200, answer.text
            uid = dcmread(io.BytesIO(answer.content)).SOPInstanceUID
            assert kept[str(uid)] == answer.content

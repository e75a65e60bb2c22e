"""Batches and label exports from the command line: real files in, a table or a collection out."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import httpx
import pytest
from pyarrow import parquet
from pydicom import dcmread
from starlette.testclient import TestClient

from api import cli
from app.jobs.worker import run_analysis
from models.training.paired import read_paired
from models.training.train import TrainSettings, train
from tests.api.conftest import Serve, draft, parts_of
from tests.api.test_cli import serving
from tests.api.test_kill import multipart
from tests.app import studies

REQUEST = json.dumps(studies.REQUEST)


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "measurements.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_batch_measures_all_goes_on_and_tells_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image has its row or its error; a second run does only what is new or failed."""
    monkeypatch.setenv("SONODOSE_WORKERS", "1")
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(2):
        (source / f"{number}.dcm").write_bytes(studies.dicom_still(number))
    (source / "broken.dcm").write_bytes(b"DICM no")
    arguments = ["batch", str(source), "--request", REQUEST, "--out", str(out)]
    assert cli.main(arguments) == 1
    rows = {row["image"]: row for row in rows_of(out)}
    assert set(rows) == {"0.dcm", "1.dcm", "broken.dcm"}
    # An outline of 160 × 120 px at 0.2 mm a pixel.
    assert float(rows["0.dcm"]["area_mm2"]) == pytest.approx(768, rel=0.02)
    assert rows["0.dcm"]["calibration"] == "ultrasound_region"
    assert rows["broken.dcm"]["error"].startswith("unreadable_file")
    (source / "broken.dcm").write_bytes(studies.dicom_still(5))
    before = (out / "done.jsonl").read_text().count('"0.dcm"')
    assert cli.main([*arguments, "--table", "parquet"]) == 0
    assert (out / "done.jsonl").read_text().count('"0.dcm"') == before
    table = parquet.read_table(out / "measurements.parquet").to_pylist()
    assert [row["error"] for row in table] == [None] * 3
    other = json.dumps({**studies.REQUEST, "side": "right"})
    assert cli.main(["batch", str(source), "--request", other, "--out", str(out)]) == 1


def test_a_batch_reads_what_a_search_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over DICOMweb the images of the studies found are fetched, bit for bit, and measured."""
    monkeypatch.setenv("SONODOSE_WORKERS", "1")
    with serving(tmp_path / "pacs", "--workers", "1") as (_, address):
        for seed in range(2):
            body, headers = multipart(studies.dicom_still(seed))
            httpx.post(
                f"{address}/api/v1/analyses", content=body, headers=headers, timeout=60
            ).raise_for_status()
        search = f"{address}/dicom-web/studies?PatientID=P-1"
        out = tmp_path / "out"
        assert cli.main(["batch", "--qido", search, "--request", REQUEST, "--out", str(out)]) == 0
    assert [float(row["area_mm2"]) for row in rows_of(out)] == pytest.approx([768] * 2, rel=0.02)


def test_labels_are_a_collection_to_train_on(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drawn outline becomes picture and mask under pseudonyms; training takes a step on it."""
    client: TestClient = serve(run_analysis)
    for seed in range(2):
        draft(client, data=_framed(seed))
    settings = parts_of(client).settings
    monkeypatch.setenv("SONODOSE_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("SONODOSE_DATABASE_URL", settings.database)
    if settings.blob_url:
        monkeypatch.setenv("SONODOSE_BLOB_URL", settings.blob_url)
    out = tmp_path / "labels"
    assert cli.main(["export-labels", "--out", str(out)]) == 0
    samples = list(read_paired(out / "confirmed-short_axis"))
    assert len(samples) == 2
    assert len({sample.group for sample in samples}) == 1  # both are of one patient
    told = " ".join(str(path) for path in out.rglob("*")) + " ".join(
        path.read_text() for path in out.rglob("*.json")
    )
    assert "P-1" not in told
    assert "Ada" not in told
    # As long as one step of it takes; what training is like is tests/models' concern.
    done = train(
        TrainSettings(
            data=out, out=tmp_path / "run", steps=1, batch=2, scenes=2, negatives=4, small_share=0
        )
    )
    assert done.steps == 1


def _framed(seed: int) -> bytes:
    """A still whose ultrasound stands inside a black margin, as on a scanner's screen."""
    file = io.BytesIO(studies.dicom_still(seed))
    ds = dcmread(file)
    pixels = ds.pixel_array.copy()
    pixels[:20], pixels[-20:], pixels[:, :30], pixels[:, -30:] = 0, 0, 0, 0
    region = ds.SequenceOfUltrasoundRegions[0]
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 30, 20
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 289, 219
    ds.PixelData = pixels.tobytes()
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()

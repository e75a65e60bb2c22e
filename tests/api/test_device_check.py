"""The device doctor says step by step what works of a new scanner's file, and keeps nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from starlette.testclient import TestClient

from tests.api.conftest import assert_problem, contents
from tests.app import studies

SAMPLES = Path(__file__).parents[2] / "sample_dicoms"


def check(client: TestClient, data: bytes, name: str = "new.dcm") -> Any:
    return client.post("/api/v1/device-check", files=[("files", (name, data))])


def test_a_good_file_works_in_every_step(client: TestClient) -> None:
    """A calibrated image works up to the network's word, and no row or file is left of it."""
    before = contents(client)
    said = check(client, (SAMPLES / "biceps_short_axis.dcm").read_bytes()).json()
    assert {step: said[step]["works"] for step in said} == {
        "file": True,
        "regions": True,
        "decoding": True,
        "calibration": False,  # the sample's scale is made up, and says so
        "sector": True,
        "quality": True,
        "network": True,
    }
    assert said["calibration"]["provenance"] == "nominal"
    assert said["network"]["weights"]
    assert contents(client) == before


def test_a_down_sampled_image_is_found_out(client: TestClient) -> None:
    """A region that reaches outside the image is named as what keeps the scale from counting."""
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 799, 599
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.02
    still = studies.dicom_still(SequenceOfUltrasoundRegions=Sequence([region]))
    said = check(client, still).json()
    assert not said["regions"]["works"]
    assert "outside" in said["regions"]["all"][0]["problem"]
    assert not said["calibration"]["works"]
    assert said["decoding"]["works"]


@pytest.mark.parametrize("data", [b"no image at all", studies.dicom_still()[:900]])
def test_a_bad_file_is_told_and_not_an_error(client: TestClient, data: bytes) -> None:
    """What cannot be read ends the check at its step, with the way out."""
    said = check(client, data).json()
    last = list(said.values())[-1]
    assert not last["works"]
    assert last["remedy"]


def test_one_file_is_asked_for(client: TestClient) -> None:
    """Two files are refused."""
    files = [("files", (name, studies.png_still())) for name in ("a.png", "b.png")]
    assert_problem(client.post("/api/v1/device-check", files=files), 400, "bad_request")

"""Phantoms of known geometry, through the real service: what comes out is what went in."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.main import create_app
from app.services import open_services
from app.settings import Settings
from imaging.dicom.instance import NewInstance, derived_uid
from imaging.dicom.ultrasound import StudyFacts, write_ultrasound
from imaging.phantom import SweepPhantom, cone_sweep, ellipsoid_sweep


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The service as it is shipped: its own worker process, tables and network."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("service"), workers=1)
    with TestClient(create_app(open_services(settings)), base_url="http://127.0.0.1") as client:
        yield client


def planned(client: TestClient, name: str, phantom: SweepPhantom, **changes: Any) -> Any:
    """The finished plan of a phantom sent as a multi-frame DICOM image with its outlines."""
    image = write_ultrasound(
        phantom.frames,
        facts=StudyFacts(
            patient_id="PHANTOM",
            patient_name="Phantom",
            study_instance_uid=derived_uid("phantom", name),
        ),
        instance=NewInstance(
            series_instance_uid=derived_uid("phantom", name, "series"),
            sop_instance_uid=derived_uid("phantom", name, "instance"),
            series_number=1,
            created=dt.datetime(2026, 11, 25, tzinfo=dt.UTC),
            software_version="test",
        ),
        calibration=phantom.calibration,
    )
    request = {
        "muscle": "biceps_brachii",
        "side": "left",
        "view": "short_axis",
        "sweep": {"spacing_mm": phantom.spacing_mm},
        "outlines": [
            {"frame": index, "points": [[p.column, p.row] for p in outline]}
            for index, outline in enumerate(phantom.outlines)
        ],
        **changes,
    }
    answer = client.post(
        "/api/v1/analyses",
        data={"request": json.dumps(request)},
        files=[("files", ("phantom.dcm", image))],
        headers={"Prefer": "wait=60"},
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["plan"]


def test_an_ellipsoid_comes_out_as_it_is(client: TestClient) -> None:
    """Each area is within 1 per cent, the swept volume within 2 per cent of the truth."""
    phantom = ellipsoid_sweep(width_mm=44, thickness_mm=26, length_mm=160)
    plan = planned(client, "ellipsoid", phantom)
    areas = [frame["section"]["area_mm2"] for frame in plan["frames"]]
    assert areas == pytest.approx(phantom.true_areas_mm2, rel=0.01)
    truth_ml = math.pi / 6 * 44 * 26 * 160 / 1000
    assert plan["volume"]["volume_ml"] == pytest.approx(truth_ml, rel=0.02)


def test_the_sections_of_a_cone_come_out_as_they_are(client: TestClient) -> None:
    """Each area of a truncated cone is within 1 per cent of the truth."""
    phantom = cone_sweep()
    plan = planned(client, "cone", phantom)
    areas = [frame["section"]["area_mm2"] for frame in plan["frames"]]
    assert areas == pytest.approx(phantom.true_areas_mm2, rel=0.01)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_body_twice_as_large_has_eight_times_the_volume(
    client: TestClient, factor: float
) -> None:
    """The same picture at k times the scale and spacing gives k³ times the volume."""
    phantom = ellipsoid_sweep(sections=9)
    once = planned(client, "once", phantom)
    scale = phantom.calibration.row_mm_per_px * factor
    scaled = planned(
        client,
        "once",
        phantom,
        sweep={"spacing_mm": phantom.spacing_mm * factor},
        calibration={"row_mm_per_px": scale, "column_mm_per_px": scale, "override": True},
    )
    ratio = scaled["volume"]["volume_ml"] / once["volume"]["volume_ml"]
    assert ratio == pytest.approx(factor**3, rel=1e-3)


def test_the_documented_sample_is_within_two_per_cent(client: TestClient) -> None:
    """The phantom in the repository, posted as its README says, gives its stated volume."""
    samples = Path(__file__).resolve().parents[2] / "sample_dicoms"
    answer = client.post(
        "/api/v1/analyses",
        data={"request": (samples / "phantom_sweep.json").read_text("utf-8")},
        files=[("files", ("phantom_sweep.dcm", (samples / "phantom_sweep.dcm").read_bytes()))],
        headers={"Prefer": "wait=60"},
    )
    assert answer.json()["plan"]["volume"]["volume_ml"] == pytest.approx(95.84, rel=0.02)

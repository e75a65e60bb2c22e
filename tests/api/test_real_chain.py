"""The samples through the real service: real decoding, network, plan and objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.main import create_app
from app.services import open_services
from app.settings import Settings
from tests.api.conftest import ANALYSES, assert_problem
from tests.app import studies

SAMPLES = Path(__file__).parents[2] / "sample_dicoms"
OBJECTS = ("overlay.png", "overlay.svg", "mask.png", "seg.dcm", "sr.dcm", "plan.pdf", "fhir")
WAIT = {"Prefer": "wait=60"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One real service for all of them, a worker and the network in it."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), workers=1)
    with TestClient(create_app(open_services(settings)), base_url="http://127.0.0.1") as made:
        yield made


def send(client: TestClient, data: bytes, name: str, request: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(
        ANALYSES,
        data={"request": json.dumps(request)},
        files=[("files", (name, data))],
        headers=WAIT,
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def objects_of(client: TestClient, body: dict[str, Any]) -> dict[str, int]:
    """The status of each object, each refusal checked to be a problem with a way out."""
    found = {}
    for name in OBJECTS:
        answer = client.get(f"{ANALYSES}/{body['id']}/{name}")
        found[name] = answer.status_code
        if answer.status_code != 200:
            assert_problem(answer, 409, "no_object")
    return found


@pytest.mark.parametrize("sample", sorted(p.stem for p in SAMPLES.glob("*.json")))
def test_every_sample_ends_with_objects_or_reasons(client: TestClient, sample: str) -> None:
    """Each sample ends in a state of its own, and each object is there or says why not."""
    file = next(p for p in SAMPLES.glob(f"{sample}.*") if p.suffix != ".json")
    request = json.loads((SAMPLES / f"{sample}.json").read_text("utf-8"))
    body = send(client, file.read_bytes(), file.name, request)
    assert body["state"] in ("draft", "abstained", "needs_calibration"), body["problem"]
    found = objects_of(client, body)
    assert found["overlay.png"] == found["mask.png"] == 200
    if body["state"] == "draft":
        assert set(found.values()) == {200}


def test_an_outline_becomes_its_area_volume_and_dose(client: TestClient) -> None:
    """A 160 × 120 pixel outline at 0.2 mm a pixel is 768 mm², and the whole chain follows."""
    body = send(client, studies.dicom_still(), "s.dcm", studies.REQUEST)
    assert body["state"] == "draft"
    plan = body["plan"]
    assert plan["frames"][0]["section"]["area_mm2"] == pytest.approx(768, rel=0.01)
    assert plan["volume"]["known"]
    assert plan["dose"]["planned"]
    assert set(objects_of(client, body).values()) == {200}


def test_without_a_scale_there_is_a_mask_and_nothing_else(client: TestClient) -> None:
    """A plain frame gives the mask in pixels; millimetres, millilitres and Units are refused."""
    body = send(client, studies.png_still(), "s.png", studies.REQUEST)
    assert body["state"] == "needs_calibration"
    assert body["plan"]["frames"][0]["section"]["area_mm2"] is None
    assert not body["plan"]["volume"]["known"]
    assert not body["plan"]["dose"]["planned"]
    found = objects_of(client, body)
    assert found["mask.png"] == 200
    assert found["seg.dcm"] == found["sr.dcm"] == 409


def test_a_scale_given_later_continues_it(client: TestClient) -> None:
    """PATCH with the operator's scale makes a draft of what waited for one."""
    body = send(client, studies.png_still(3), "s.png", studies.REQUEST)
    answer = client.patch(
        f"{ANALYSES}/{body['id']}",
        json={"calibration": {"row_mm_per_px": 0.2, "column_mm_per_px": 0.2}},
        headers={"If-Match": body["etag"], **WAIT},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "draft"
    assert answer.json()["plan"]["dose"]["planned"]


def test_the_same_study_gives_the_same_plan(client: TestClient) -> None:
    """Two runs of one study differ in nothing but ids and times."""
    data = studies.dicom_still()
    plans = [send(client, data, "s.dcm", studies.REQUEST)["plan"] for _ in range(2)]
    assert plans[0] == plans[1]


def test_damage_behind_a_good_header_fails_with_a_way_out(client: TestClient) -> None:
    """A file cut off in its pixels, or one that claims 2 GB of them, is a 4xx, never a 5xx."""
    whole = studies.dicom_still()
    at = whole.index(b"\xe0\x7f\x10\x00O") + 8
    lie = whole[:at] + (0x7FFFFFFE).to_bytes(4, "little") + whole[at + 4 : -5000]
    for name, data in (("cut.dcm", whole[: len(whole) // 2]), ("lie.dcm", lie)):
        answer = client.post(
            ANALYSES,
            data={"request": json.dumps(studies.REQUEST)},
            files=[("files", (name, data))],
            headers=WAIT,
        )
        assert 400 <= answer.status_code < 500, name
        assert_problem(answer, answer.status_code)


def test_a_session_adds_up_under_joint_caps(client: TestClient) -> None:
    """Two sides of one patient add up; together over a cap, the cap says so."""
    ids = [
        send(client, studies.dicom_still(), "s.dcm", {**studies.REQUEST, "side": side})["id"]
        for side in ("left", "right")
    ]
    answer = client.post("/api/v1/sessions", json={"analyses": ids})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["total_units"] == sum(a["units"] for a in body["analyses"])
    assert body["caps"]
    assert body["allowed"] is not any(cap["exceeded"] for cap in body["caps"])
    assert_problem(
        client.post("/api/v1/sessions", json={"analyses": ids, "priorities": {ids[0]: 0}}), 422
    )
    assert_problem(client.post("/api/v1/sessions", json={"analyses": ["0" * 32]}), 404)

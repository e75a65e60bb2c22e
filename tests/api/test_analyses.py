"""The life of an analysis over REST: sent, waited for, listed, followed, looked at."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from tests.api.conftest import ANALYSES, Serve, assert_problem, contents, draft, parts_of, post
from tests.app import studies, workloads


def test_a_study_is_accepted_at_once(serve: Serve) -> None:
    """Without Prefer: wait the answer is 202 with the address, and the study waits or runs."""
    client = serve(workloads.slow, drain_s=0)
    answer = post(client)
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"{ANALYSES}/{body['id']}" == body["links"]["self"]
    assert body["state"] in ("queued", "running")
    assert body["plan"] is None
    assert_problem(client.get(f"{ANALYSES}/{body['id']}/overlay.png"), 409, "no_object")


def test_waiting_gives_the_plan(client: TestClient) -> None:
    """With Prefer: wait the answer is 200 with the plan, and says that it waited."""
    answer = post(client, headers={"Prefer": "respond-async, wait=30"})
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=30"
    assert answer.json()["plan"] == dict(workloads.DONE.plan)


def test_waiting_has_an_end(serve: Serve) -> None:
    """A plan that is not ready in time is a 202, to be asked for again."""
    client = serve(workloads.slow, drain_s=0)
    began = time.monotonic()
    assert post(client, headers={"Prefer": "wait=1"}).status_code == 202
    assert 0.9 < time.monotonic() - began < 5


def test_an_idempotency_key_makes_one_analysis(client: TestClient) -> None:
    """The same key and study twice is one analysis; the same key for another one is refused."""
    data = studies.dicom_still()
    headers = {"Idempotency-Key": "k-1", "Prefer": "wait=30"}
    first = post(client, data, headers=headers)
    before = contents(client)
    second = post(client, data, headers=headers)
    assert second.json()["id"] == first.json()["id"]
    assert second.headers["idempotency-replayed"] == "true"
    assert contents(client) == before
    assert_problem(post(client, data, headers=headers, side="right"), 422, "idempotency_conflict")
    assert contents(client) == before


def test_an_etag_saves_the_second_download(client: TestClient) -> None:
    """A GET with the ETag of what is known is answered 304, until something changes."""
    body = draft(client)
    home = f"{ANALYSES}/{body['id']}"
    tag = client.get(home).headers["etag"]
    assert tag == body["etag"]
    assert client.get(home, headers={"If-None-Match": tag}).status_code == 304
    client.patch(home, json={"side": "right"}, headers={"If-Match": tag, "Prefer": "wait=30"})
    assert client.get(home, headers={"If-None-Match": tag}).status_code == 200


def test_the_work_list_is_paged_newest_first(client: TestClient) -> None:
    """`next` leads through all analyses once, and filters narrow them."""
    ids = [draft(client, patient={"age_years": 50, "id": f"P{i % 2}"})["id"] for i in range(5)]
    seen: list[str] = []
    address: str | None = f"{ANALYSES}?limit=2"
    while address is not None:
        page = client.get(address).json()
        seen += [line["id"] for line in page["analyses"]]
        address = page["next"]
    assert seen == ids[::-1]
    some = client.get(ANALYSES, params={"patient_id": "P1", "state": "draft"}).json()
    assert [line["id"] for line in some["analyses"]] == [ids[3], ids[1]]
    assert client.get(ANALYSES, params={"muscle": "soleus"}).json()["analyses"] == []


def test_events_tell_states_and_stages(serve: Serve) -> None:
    """The event stream tells each state and stage and ends with the last state."""
    client = serve(workloads.brief)
    location = post(client).headers["location"]
    told: list[tuple[str, dict[str, Any]]] = []
    with client.stream("GET", f"{location}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                told.append((name, json.loads(line.removeprefix("data: "))))
    states = [data["state"] for name, data in told if name == "state"]
    assert states[-1] == "draft"
    assert ("progress", {"stage": "segment"}) in told


def test_objects_are_the_same_bytes_each_time(client: TestClient) -> None:
    """What was drawn once is sent again as it was, with its media type and an ETag."""
    body = draft(client)
    first = client.get(f"{ANALYSES}/{body['id']}/mask.png")
    assert first.headers["content-type"] == "image/png"
    assert first.content == dict(workloads.DONE.masks)["0"]
    again = client.get(
        f"{ANALYSES}/{body['id']}/mask.png", headers={"If-None-Match": first.headers["etag"]}
    )
    assert again.status_code == 304


def test_a_stored_file_comes_back_byte_for_byte(client: TestClient) -> None:
    """The source can be downloaded as it was sent; another number is a 404."""
    data = studies.dicom_still()
    body = post(client, data, headers={"Prefer": "wait=30"}).json()
    answer = client.get(f"{ANALYSES}/{body['id']}/files/0")
    assert answer.content == data
    assert answer.headers["content-type"] == "application/dicom"
    assert_problem(client.get(f"{ANALYSES}/{body['id']}/files/1"), 404, "not_found")
    frame = client.get(f"{ANALYSES}/{body['id']}/frames/0.png")
    assert frame.content[:8] == b"\x89PNG\r\n\x1a\n"
    assert_problem(client.get(f"{ANALYSES}/{body['id']}/frames/1.png"), 404, "not_found")


def test_other_bytes_under_a_known_uid(serve: Serve, client: TestClient) -> None:
    """By default the newer file is analysed with a warning; a site may refuse it."""
    for settings in ({}, {"on_conflict": "refuse"}):
        mine = serve(**settings)
        uid = f"1.2.3.{len(settings)}"
        post(mine, studies.dicom_still(1, SOPInstanceUID=uid), headers={"Prefer": "wait=30"})
        other = post(
            mine, studies.dicom_still(2, SOPInstanceUID=uid), headers={"Prefer": "wait=30"}
        )
        if settings:
            assert_problem(other, 409, "instance_conflict")
        else:
            assert "stored first" in other.json()["files"][0]["warning"]


def test_many_at_once_end_once(serve: Serve) -> None:
    """Studies sent by several clients at once all end, each once."""
    client = serve(workers=2)
    answers: list[int] = []

    def send() -> None:
        answers.extend(post(client, headers={"Prefer": "wait=60"}).status_code for _ in range(4))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 16
    page = client.get(ANALYSES, params={"limit": 100}).json()["analyses"]
    assert [line["state"] for line in page] == ["draft"] * 16


def test_a_dose_without_an_image(client: TestClient) -> None:
    """/what-if gives the dose of clinical inputs and a measured volume, with every adjustment."""
    asked = {k: v for k, v in studies.REQUEST.items() if k != "outlines"}
    answer = client.post("/api/v1/what-if", json={"request": asked, "volume": {"volume_ml": 140}})
    assert answer.status_code == 200, answer.text
    more = client.post(
        "/api/v1/what-if", json={"request": asked, "volume": {"volume_ml": 200}}
    ).json()
    assert answer.json()["dose"]["planned"]
    assert more["dose"]["units"] >= answer.json()["dose"]["units"]
    wrong = {"request": asked, "volume": {"volume_ml": 140, "interval_ml": [1, 2]}}
    assert_problem(client.post("/api/v1/what-if", json=wrong), 422, "invalid_input")


def test_the_catalogue_names_its_sources(client: TestClient) -> None:
    """Muscles, products and tables come with version, hash and sources."""
    muscles = client.get("/api/v1/muscles").json()["muscles"]
    assert "biceps_brachii" in {m["name"] for m in muscles}
    products = client.get("/api/v1/products").json()["products"]
    assert all(p["sources"] for p in products)
    tables = client.get("/api/v1/tables").json()
    assert len(tables["sha256"]) == 64
    assert all(row["sources"] and row["grade"] for row in tables["dose_rows"])
    assert {fact["table"] for fact in tables["missing"]} >= {"dose_rows", "caps", "muscles"}
    for name in ("site_margin_mm", "avoid_margin_mm", "site_spacing_mm", "needle_clearance_mm"):
        entry = tables["policy"][name]
        assert entry["value"] > 0
        assert entry["grade"] == "judgement"
        assert entry["why"]
        assert entry["unit"].startswith("mm")
    assert "models" in client.get("/api/v1/models").json()


def test_the_work_list_finds_by_words(client: TestClient) -> None:
    """Parts of names, ids, muscles and sides, whatever case and accents; `next` keeps them."""
    who = {"id": "Q_7%", "name": "García Núñez, José", "age_years": 50}
    ids = [draft(client, patient=who)["id"] for _ in range(3)]
    draft(client, patient={"id": "Q-8", "age_years": 50}, side="right")

    def found(words: str, **more: Any) -> list[str]:
        lines = client.get(ANALYSES, params={"search": words, **more}).json()["analyses"]
        return [line["id"] for line in lines]

    assert found("garcia NUNEZ biceps") == ids[::-1]
    assert found("garcia right") == []
    assert found("q 7%") == ids[::-1]
    assert found("%") == ids[::-1]
    assert len(found("biceps_brachii")) == 4
    assert found("garcia", state="failed") == []
    page = client.get(ANALYSES, params={"search": "josé", "limit": 2}).json()
    assert [line["patient_name"] for line in page["analyses"]] == [who["name"]] * 2
    rest = client.get(page["next"]).json()
    assert ([line["id"] for line in rest["analyses"]], rest["next"]) == (ids[:1], None)


def test_the_work_list_says_what_failed_and_what_waits(serve: Serve) -> None:
    """A failed line has its reason and the way out; a waiting one its place in the queue."""
    broken = serve(workloads.unreadable)
    assert post(broken, headers={"Prefer": "wait=30"}).status_code >= 400
    line = broken.get(ANALYSES).json()["analyses"][0]
    assert line["state"] == "failed"
    assert line["problem"]["detail"]
    assert line["problem"]["remedy"]


def test_a_search_looks_at_its_index_alone(client: TestClient) -> None:
    """Words are compared in the index that is read in the order of the list."""
    with parts_of(client).store.read() as session:
        if session.get_bind().dialect.name != "sqlite":
            pytest.skip("asks SQLite for its plan")
        steps = session.execute(
            text(
                "EXPLAIN QUERY PLAN SELECT id FROM analyses WHERE id < 'f' "
                "AND sought LIKE '%a%' ORDER BY id DESC LIMIT 50"
            )
        ).all()
    assert [step.detail for step in steps] == [
        "SEARCH analyses USING COVERING INDEX ix_analyses_sought (id<?)"
    ]

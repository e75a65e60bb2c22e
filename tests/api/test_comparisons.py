"""Volumes side by side, and what was given before: one patient's analyses know of each other."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.main import create_app
from app.services import open_services
from app.settings import Settings
from tests.api.conftest import ANALYSES, assert_problem
from tests.app import studies


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One real service for all of them."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), workers=1)
    with TestClient(create_app(open_services(settings)), base_url="http://127.0.0.1") as made:
        yield made


def analysed(
    client: TestClient, of: str = "P-1", day: str = "20260102", **changes: Any
) -> dict[str, Any]:
    """A finished analysis of an outlined still of this patient and day."""
    data = studies.dicom_still(PatientID=of, StudyDate=day)
    answer = client.post(
        ANALYSES,
        data={"request": json.dumps({**studies.REQUEST, "prior_treatments": [], **changes})},
        files=[("files", ("still.dcm", data))],
        headers={"Prefer": "wait=60"},
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def compared(client: TestClient, *analyses: dict[str, Any]) -> Any:
    return client.post("/api/v1/comparisons", json={"analyses": [a["id"] for a in analyses]})


def test_left_and_right_side_by_side(client: TestClient) -> None:
    """A right muscle of 120 % length is 20 % larger: within the 30 % that one section may err."""
    left = analysed(client, "both")
    right = analysed(client, "both", side="right", muscle_length_mm=288)
    answer = compared(client, right, left)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["kind"], body["first"]["side"], body["second"]["side"]) == (
        "sides",
        "left",
        "right",
    )
    assert body["first"]["volume_ml"] == left["plan"]["volume"]["volume_ml"]
    assert body["difference_percent"] == pytest.approx(20.0)
    assert body["smallest_change_percent"] == 30.0
    assert not body["more_than_error"]
    assert (body["sources"], body["grade"]) == (["POLICY"], "judgement")
    assert body["why"]
    assert "left and right" in body["text"]


def test_today_and_the_last_session(client: TestClient) -> None:
    """The later against the earlier, whatever the order; 40 % less is more than error."""
    today = analysed(client, "two days", "20260601", muscle_length_mm=144)
    last = analysed(client, "two days", "20260302")
    body = compared(client, today, last).json()
    assert (body["kind"], body["days_apart"]) == ("sessions", 91)
    assert (body["first"]["analysis"], body["second"]["analysis"]) == (last["id"], today["id"])
    assert (body["first"]["date"], body["second"]["date"]) == ("2026-03-02", "2026-06-01")
    assert body["difference_percent"] == pytest.approx(-40.0)
    assert body["more_than_error"]


def test_what_is_not_compared(client: TestClient) -> None:
    """Two patients, muscles or methods, a missing volume, one analysis twice: each is refused
    with its reason."""
    one = analysed(client, "refused", muscle="soleus")
    equation = {
        "view": "long_axis",
        "limb_length_mm": 400,
        "measurements_mm": {"soleus_thickness_mm": 20},
    }
    others = {
        "different patients": analysed(client, "somebody else", muscle="soleus"),
        "different muscles": analysed(client, "refused", muscle="brachialis"),
        "has no volume": analysed(client, "refused", muscle="soleus", view="long_axis"),
        "by section_length, the other by bandholm2007_soleus": analysed(
            client, "refused", muscle="soleus", **equation
        ),
        "with itself": one,
    }
    for reason, other in others.items():
        body = assert_problem(compared(client, one, other), 422, "request_conflict")
        assert reason in body["detail"]
    assert_problem(
        client.post("/api/v1/comparisons", json={"analyses": [one["id"], "0" * 32]}),
        404,
        "not_found",
    )


def test_an_analysis_finds_what_to_be_compared_with(client: TestClient) -> None:
    """The latest earlier day of its side and the latest of the other side, of its patient and
    muscle alone; what cannot be compared is named."""
    analysed(client, "history", "20260101")
    last = analysed(client, "history", "20260301")
    beside = analysed(client, "history", "20260601", side="right")
    analysed(client, "history", "20260301", muscle="brachialis")
    analysed(client, "another", "20260301")
    analysed(client, "history", "20260701")
    today = analysed(client, "history", "20260601")
    analysed(client, "history", "20260601", view="long_axis")
    answer = client.get(today["links"]["comparisons"])
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["refused"] == []
    assert [
        (c["kind"], {c["first"]["analysis"], c["second"]["analysis"]}) for c in found["comparisons"]
    ] == [
        ("sessions", {last["id"], today["id"]}),
        ("sides", {beside["id"], today["id"]}),
    ]
    alone = analysed(client, "alone")
    assert client.get(alone["links"]["comparisons"]).json() == {"comparisons": [], "refused": []}


def test_an_image_that_names_nobody_is_compared_with_none(client: TestClient) -> None:
    """Without a patient it is not known whose the volumes are."""
    first, second = (analysed(client, "", side=side) for side in ("left", "right"))
    assert_problem(compared(client, first, second), 422, "request_conflict")
    assert client.get(first["links"]["comparisons"]).json()["comparisons"] == []


def given(client: TestClient, body: dict[str, Any], units: float, day: dt.date) -> Any:
    """The plan confirmed, and so many Units recorded as given on that day."""
    home = f"{ANALYSES}/{body['id']}"
    confirmed = client.post(
        f"{home}/confirmation",
        json={"revision": body["revision"], "clinician": {"name": "Dr. Ada Example"}},
    )
    assert confirmed.status_code == 200, confirmed.text
    return client.post(
        f"{home}/administration",
        json={
            "product": "XEOMIN",
            "given_on": day.isoformat(),
            "sites": [{"number": 1, "units": units, "ml": units / 50}],
        },
    )


def answers(client: TestClient) -> dict[str, bool]:
    """Every safety question answered with no."""
    rules = client.get("/api/v1/tables").json()["cautions"]
    return {
        r["code"]: False
        for r in rules
        if r["kind"] == "safety" and (not r["products"] or "XEOMIN" in r["products"])
    }


def test_what_was_given_counts_for_the_next_plan(client: TestClient) -> None:
    """370 Units given today leave 30 of the session's 400 for the next muscle, told or not."""
    today = dt.datetime.now().astimezone().date()
    safety = answers(client)
    first = analysed(client, "treated", safety=safety)
    answer = given(client, first, 370, today)
    assert answer.status_code == 201, answer.text
    told = [{"product": "XEOMIN", "units": 370, "date": today.isoformat()}]
    for prior in ([], told):
        second = analysed(client, "treated", muscle="brachialis", prior_treatments=prior)
        assert second["plan"]["dose"]["units"] == 30.0
        codes = {c["code"] for c in second["plan"]["cautions"]}
        assert ("recorded_treatments" in codes) == (not prior)
        (counted,) = second["plan"]["treatments"]
        assert (counted["units"], counted["recorded"]) == (370.0, not prior)
    session = client.post("/api/v1/sessions", json={"analyses": [second["id"]]})
    assert session.status_code == 200, session.text
    assert session.json()["caps"][0]["given_before_units"] == 370.0
    stranger = analysed(client, "somebody else", muscle="brachialis")
    assert stranger["plan"]["treatments"] == []


def test_two_issuers_are_two_patients(client: TestClient) -> None:
    """One id of two named issuers: the other's treatments do not count."""
    today = dt.datetime.now().astimezone().date()

    def plan(issuer: str | None) -> dict[str, Any]:
        named = {**studies.REQUEST["patient"], **({"issuer": issuer} if issuer else {})}
        return analysed(client, "issued", patient=named, safety=answers(client))

    assert given(client, plan("here"), 100, today).status_code == 201
    counted = [len(plan(issuer)["plan"]["treatments"]) for issuer in ("here", None, "there")]
    assert counted == [1, 1, 0]


def test_a_follow_up_that_is_too_early_is_refused(client: TestClient) -> None:
    """Treated yesterday by the record: no dose, and the day from which there is one."""
    yesterday = dt.datetime.now().astimezone().date() - dt.timedelta(days=1)
    first = analysed(client, "yesterday", safety=answers(client))
    assert given(client, first, 100, yesterday).status_code == 201
    plan = analysed(client, "yesterday", safety=answers(client))["plan"]
    start = (yesterday + dt.timedelta(weeks=12)).isoformat()
    assert (plan["dose"]["code"], plan["dose"]["available_from"]) == ("too_early", start)
    assert plan["follow_up"] == {
        "last_on": yesterday.isoformat(),
        "days_since": 1,
        "possible_from": start,
    }


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"product": "BOTOX"}, "request_conflict"),
        ({"given_on": "2999-01-01"}, "request_conflict"),
        ({"expiry": "2020-01-01"}, "invalid_input"),
    ],
)
def test_what_cannot_have_been_given(client: TestClient, change: dict[str, str], code: str) -> None:
    """Another product's Units, a day to come and an expired vial are not recorded."""
    body = analysed(client, f"not given {code} {change}"[:40], safety=answers(client))
    day = dt.date(2026, 3, 2)
    assert given(client, body, 40, day).status_code == 201
    record = {
        "product": "XEOMIN",
        "given_on": day.isoformat(),
        "sites": [{"number": 1, "units": 40}],
        **change,
    }
    answer = client.post(f"{ANALYSES}/{body['id']}/administration", json=record)
    assert_problem(answer, 422, code)

"""People change, confirm and carry out plans; each step keeps what was before."""

from __future__ import annotations

from typing import Any

from starlette.testclient import TestClient

from app.store import audit
from tests.api.conftest import ANALYSES, Serve, assert_problem, draft, parts_of, post
from tests.app import workloads

WAIT = {"Prefer": "wait=30"}
ANSWERED: dict[str, Any] = {"prior_treatments": [], "safety": {}}
CLINICIAN = {"name": "Dr. Ada Example", "role": "physician"}


def confirm(client: TestClient, body: dict[str, Any]) -> Any:
    return client.post(
        f"{ANALYSES}/{body['id']}/confirmation",
        json={"revision": body["revision"], "clinician": CLINICIAN},
    )


def patch(client: TestClient, body: dict[str, Any], change: dict[str, Any], **headers: str) -> Any:
    return client.patch(
        f"{ANALYSES}/{body['id']}",
        json=change,
        headers={"If-Match": body["etag"], **WAIT, **headers},
    )


def test_a_change_makes_a_new_revision(client: TestClient) -> None:
    """PATCH keeps the old revision as it was and makes the plan again."""
    first = draft(client)
    answer = patch(client, first, {"severity": {"value": "3"}, "muscle_length_mm": None})
    assert answer.status_code == 200, answer.text
    second = answer.json()
    assert second["revision"] == 2
    assert second["request"]["severity"] == {"scale": "MAS", "value": "3"}
    assert "muscle_length_mm" not in second["request"]
    history = client.get(f"{ANALYSES}/{first['id']}/revisions").json()
    assert [r["state"] for r in history] == ["superseded", "draft"]
    old = client.get(f"{ANALYSES}/{first['id']}", params={"revision": 1}).json()
    assert old["request"] == first["request"]
    assert old["plan"] == first["plan"]


def test_a_second_editor_sees_the_difference(client: TestClient) -> None:
    """A change on an old state is a 412 with what the other editor changed."""
    seen = draft(client)
    patch(client, seen, {"severity": {"value": "3"}})
    body = assert_problem(patch(client, seen, {"side": "right"}), 412, "stale_edit")
    assert body["difference"]["request"] == {
        "severity": {
            "yours": {"scale": "MAS", "value": "2"},
            "theirs": {"scale": "MAS", "value": "3"},
        }
    }
    assert body["current_etag"] == client.get(f"{ANALYSES}/{seen['id']}").headers["etag"]


def test_a_change_without_if_match(client: TestClient) -> None:
    """PATCH without If-Match is a 428, and an impossible change a 422; neither is written."""
    body = draft(client)
    answer = client.patch(f"{ANALYSES}/{body['id']}", json={"side": "right"})
    assert_problem(answer, 428, "precondition_required")
    assert_problem(patch(client, body, {"muscle": "bicep"}), 422, "unknown_muscle")
    assert_problem(patch(client, body, {"side": "up"}), 422, "invalid_request")
    assert client.get(f"{ANALYSES}/{body['id']}").json()["revision"] == 1


def test_open_questions_refuse_confirmation(client: TestClient) -> None:
    """Unknown earlier treatments and unanswered safety questions refuse; [] means none."""
    body = draft(client)
    refused = assert_problem(confirm(client, body), 409, "confirmation_refused")
    assert len(refused["reasons"]) == 2
    answered = patch(client, body, ANSWERED).json()
    confirmed = confirm(client, answered)
    assert confirmed.status_code == 200, confirmed.text
    assert confirmed.json()["state"] == "confirmed"
    assert confirmed.json()["confirmation"]["clinician"] == CLINICIAN
    assert_problem(confirm(client, answered), 409, "state_conflict")


def test_stops_and_a_nominal_scale_refuse_confirmation(serve: Serve) -> None:
    """A blocking caution, a missing dose, missing sites, a nominal scale: each is told."""
    client = serve(workloads.with_stops)
    body = draft(client, **ANSWERED)
    reasons = " ".join(assert_problem(confirm(client, body), 409)["reasons"])
    for word in ("wrong side", "no dose", "no sites", "nominal", "Pregnant?"):
        assert word in reasons


def test_only_the_revision_that_was_seen_is_confirmed(client: TestClient) -> None:
    """Confirming an older revision is refused with what changed since."""
    first = draft(client, **ANSWERED)
    patch(client, first, {"severity": {"value": "3"}})
    assert_problem(confirm(client, first), 412, "stale_edit")


def test_what_was_given_is_recorded_once_confirmed(client: TestClient) -> None:
    """Administration needs a confirmed plan, and after it the plan is not changed any more."""
    body = draft(client, **ANSWERED)
    home = f"{ANALYSES}/{body['id']}"
    given = {
        "product": "XEOMIN",
        "given_on": "2026-03-02",
        "sites": [{"number": 1, "units": 40, "ml": 0.8}],
        "lot": "A1",
    }
    assert_problem(client.post(f"{home}/administration", json=given), 409, "state_conflict")
    confirm(client, body)
    answer = client.post(f"{home}/administration", json=given)
    assert answer.status_code == 201, answer.text
    assert answer.json()["administrations"][0]["given"] == given | {
        "sites": [{"number": 1, "units": 40.0, "ml": 0.8}]
    }
    again = client.get(home).json()
    assert_problem(patch(client, again, {"side": "right"}), 409, "state_conflict")


def test_cancelling(serve: Serve) -> None:
    """A running analysis is cancelled at once; a finished one cannot be."""
    client = serve(workloads.slow)
    location = post(client).headers["location"]
    answer = client.post(f"{location}/cancellation")
    assert answer.json()["state"] == "cancelled"
    assert_problem(client.post(f"{location}/cancellation"), 409, "state_conflict")


def test_every_request_is_in_the_audit(client: TestClient) -> None:
    """Who did what is in the chain, refused or not, and the chain holds."""
    body = draft(client)
    client.get(f"{ANALYSES}/{body['id']}")
    client.get(f"{ANALYSES}/{'0' * 32}")
    parts = parts_of(client)
    parts.views.flush()
    with parts.store.read() as session:
        rows = list(session.scalars(audit.select(audit.AuditRow).order_by(audit.AuditRow.seq)))
        count, fault = audit.verify(session)
    assert fault is None
    assert count == len(rows)
    seen = [(row.principal, row.action, row.subject) for row in rows]
    assert ("operator", "analysis.submitted", body["id"]) in seen
    assert ("service", "analysis.ended", body["id"]) in seen
    assert ("operator", "GET /api/v1/analyses/{analysis_id}", body["id"]) in seen
    assert any('"status":404' in row.detail for row in rows)
    assert "Example" not in " ".join(row.detail + row.subject for row in rows)


def test_every_deed_is_in_the_audit_with_its_doer(client: TestClient) -> None:
    """Who sent, saw, changed, confirmed, carried out, exported and deleted: each by an entry."""
    sent = draft(client)
    client.get(f"{ANALYSES}/{sent['id']}/overlay.png")
    answered = patch(client, sent, ANSWERED).json()
    assert confirm(client, answered).status_code == 200
    assert client.get(f"{ANALYSES}/{sent['id']}/deidentified").status_code == 200
    gone = draft(client)
    reason = {"reason": "sent twice"}
    assert client.post(f"{ANALYSES}/{gone['id']}/deletion", json=reason).status_code == 204
    parts = parts_of(client)
    parts.views.flush()
    with parts.store.read() as session:
        rows = list(session.scalars(audit.select(audit.AuditRow)))
        count, fault = audit.verify(session)
    assert (count, fault) == (len(rows), None)
    done = {(row.action, row.subject) for row in rows if row.principal == "operator"}
    for action in ("submitted", "revised", "confirmed", "exported"):
        assert (f"analysis.{action}", sent["id"]) in done, action
    assert ("analysis.deleted", gone["id"]) in done
    assert ("GET /api/v1/analyses/{analysis_id}/overlay.png", sent["id"]) in done

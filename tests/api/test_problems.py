"""Every refusal of every route is a problem document."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from api import problems
from app.clinic.errors import ClinicError
from app.errors import AppError
from imaging.errors import ImagingError
from tests.api.conftest import ANALYSES, Serve, assert_problem, draft, filled, parts_of, post
from tests.app import workloads

UNKNOWN = "0" * 32


def every_operation(client: TestClient) -> list[tuple[str, str]]:
    paths = client.get("/api/v1/openapi.json").json()["paths"]
    return [(method, path) for path, methods in paths.items() for method in methods]


def tree(kind: type[Exception]) -> list[type[Exception]]:
    return [kind, *(deeper for below in kind.__subclasses__() for deeper in tree(below))]


@pytest.mark.parametrize("root", [AppError, ClinicError, ImagingError])
def test_every_error_of_every_room_has_its_line(root: type[Exception]) -> None:
    """The table of problems names each error code of the rooms below, and no 500 is among them."""
    for kind in tree(root):
        code: str = kind.code
        assert code in problems.KINDS, code
        assert problems.KINDS[code].status != 500


def test_unknown_analyses_are_problems_everywhere(client: TestClient) -> None:
    """Every route of an analysis answers 404, or what it misses, for one that is not there."""
    bodies: dict[str, Any] = {
        "confirmation": {"revision": 1, "clinician": {"name": "Dr. A"}},
        "deliveries": {"destination": "pacs"},
        "deletion": {"reason": "sent twice"},
        "administration": {
            "product": "XEOMIN",
            "given_on": "2026-01-01",
            "sites": [{"number": 1, "units": 5}],
        },
    }
    seen = 0
    for method, path in every_operation(client):
        if "{analysis_id}" not in path:
            continue
        address = filled(path)
        body = bodies.get(path.rsplit("/", 1)[-1], {} if method in ("post", "patch") else None)
        answer = client.request(method, address, json=body, headers={"If-Match": '"r1-v1"'})
        assert_problem(answer, 404, "not_found")
        seen += 1
    assert seen >= 15


def test_every_route_refuses_other_methods(client: TestClient) -> None:
    """A method that a route does not take is a 405 problem."""
    for path in {path for _, path in every_operation(client)}:
        address = filled(path)
        assert_problem(client.delete(address), 405, "method_not_allowed")


def test_unknown_addresses_and_malformed_parameters(client: TestClient) -> None:
    """404 and 422 of the framework itself are problems too."""
    assert_problem(client.get("/api/v1/nothing"), 404, "not_found")
    assert_problem(client.get("/nothing.html"), 404, "not_found")
    assert_problem(client.get(f"{ANALYSES}/x"), 422, "invalid_request")
    assert_problem(client.get(ANALYSES, params={"limit": "many"}), 422, "invalid_request")
    assert_problem(client.get(ANALYSES, params={"state": "nowhere"}), 422, "invalid_request")
    answer = client.post(
        "/api/v1/what-if", content=b"{", headers={"Content-Type": "application/json"}
    )
    assert_problem(answer, 422, "invalid_request")


def test_a_defect_is_a_problem_without_details(serve: Serve) -> None:
    """An error that nobody foresaw is a 500 problem that tells nothing of the inside."""
    client = serve()

    def broken(*_: object, **__: object) -> object:
        raise RuntimeError("Example^Ada in /secret/place")

    parts_of(client).store.read = broken
    answer = client.get(ANALYSES)
    body = assert_problem(answer, 500, "internal")
    assert "Ada" not in str(body)
    assert "secret" not in str(body)
    del parts_of(client).store.read


def test_what_was_sent_is_not_repeated(client: TestClient) -> None:
    """A validation problem names the field, not the value, which may name a patient."""
    answer = post(client, patient={"age_years": "Example^Ada"})
    body = assert_problem(answer, 422, "invalid_request")
    assert "Ada" not in str(body)
    assert body["errors"][0]["field"] == "patient.age_years"


def test_a_full_queue_says_when_to_come_back(serve: Serve) -> None:
    """429 carries Retry-After."""
    client = serve(workloads.slow, max_queued_jobs=1, drain_s=0)
    # One runs and one waits; whether the first is at work when the second comes is a race.
    answers = [post(client) for _ in range(3)]
    refused = next(each for each in answers if each.status_code != 202)
    assert_problem(refused, 429, "too_busy")
    assert int(refused.headers["retry-after"]) > 0


def test_a_full_disk_is_a_clear_refusal(serve: Serve) -> None:
    """Without space nothing new is taken, what is there stays readable, and it is not ready."""
    client = serve(min_free_disk_bytes=1 << 60)
    assert_problem(post(client), 429, "disk_full")
    assert client.get(ANALYSES).status_code == 200
    assert_problem(client.get("/readyz"), 429, "disk_full")


def test_problem_types_can_be_looked_up(client: TestClient) -> None:
    """The `type` of a problem is an address that explains it."""
    body = assert_problem(client.get(f"{ANALYSES}/{UNKNOWN}"), 404)
    assert client.get(body["type"]).json()["title"] == body["title"]


def test_no_error_document_is_left_to_the_framework(client: TestClient) -> None:
    """OpenAPI documents problems for 4xx everywhere and no schema of the framework's own."""
    document = client.get("/api/v1/openapi.json").json()
    assert "HTTPValidationError" not in str(document)
    for path, methods in document["paths"].items():
        if not path.startswith("/api/"):
            continue
        for method, operation in methods.items():
            refused = [code for code in operation["responses"] if code.startswith("4")]
            assert {"400", "401", "403", "422"} <= set(refused), (method, path)
            for code in refused:
                assert "application/problem+json" in operation["responses"][code]["content"]


def test_a_draft_of_the_stand_in(client: TestClient) -> None:
    """The happy way answers 200 under Prefer: wait."""
    assert draft(client)["state"] == "draft"

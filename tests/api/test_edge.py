"""Who may ask what, and what every answer carries."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.auth import ALL_SCOPES
from tests.api.conftest import ANALYSES, Serve, assert_problem, post
from tests.app import studies

UNKNOWN = "0" * 32


def token(name: str) -> str:
    return f"secret-of-{name}"


def key(name: str, scopes: list[str], **more: Any) -> dict[str, Any]:
    digest = hashlib.sha256(token(name).encode()).hexdigest()
    return {"name": name, "sha256": digest, "scopes": scopes, **more}


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(name)}"}


def with_keys(serve: Serve, **changes: Any) -> TestClient:
    past = (dt.datetime.now(dt.UTC) - dt.timedelta(days=2)).date().isoformat()
    keys = [key(scope, [scope]) for scope in sorted(ALL_SCOPES)]
    keys += [key("all", sorted(ALL_SCOPES)), key("old", sorted(ALL_SCOPES), expires=past)]
    return serve(auth="keys", api_keys=keys, **changes)


def test_a_key_cannot_confirm(serve: Serve) -> None:
    """Confirmation needs a person: a key is refused, whatever its scopes."""
    client = with_keys(serve)
    answer = client.post(
        f"{ANALYSES}/{UNKNOWN}/confirmation",
        json={"revision": 1, "clinician": {"name": "Dr. A"}},
        headers=bearer("all"),
    )
    assert_problem(answer, 403, "person_required")


def test_nobody_uploads_without_a_key(serve: Serve) -> None:
    """An upload without a key is refused before a byte of it is kept."""
    client = with_keys(serve)
    assert_problem(post(client), 401, "unauthenticated")
    assert post(client, headers={**bearer("submit"), "Prefer": "wait=30"}).status_code == 200


@pytest.mark.parametrize("method", ["get", "post"])
def test_pages_of_others_are_refused(serve: Serve, method: str) -> None:
    """A page of another site, or one that renamed itself to this address, gets nothing."""
    client = serve(cors_origins=["https://viewer.example"])
    ask = getattr(client, method)
    address = ANALYSES if method == "get" else "/api/v1/what-if"
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ):
        assert_problem(ask(address, headers=headers), 403, "foreign_origin")
    for origin in ("https://viewer.example", "http://127.0.0.1"):
        assert ask(address, headers={"Origin": origin}).status_code in (200, 422)


def test_preflight_names_only_listed_origins(serve: Serve) -> None:
    """CORS by list: a listed origin is let in, another is not."""
    client = serve(cors_origins=["https://viewer.example"])
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "If-Match"}
    good = client.options(ANALYSES, headers={"Origin": "https://viewer.example", **asked})
    assert good.headers["access-control-allow-origin"] == "https://viewer.example"
    bad = client.options(ANALYSES, headers={"Origin": "https://evil.example", **asked})
    assert "access-control-allow-origin" not in bad.headers


def test_every_answer_carries_the_security_headers(client: TestClient) -> None:
    """Pages run only their own scripts, answers run nothing, nothing is sniffed or framed."""
    for path in ("/", "/api/v1/analyses", "/api/v1/nothing", "/healthz"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-eval" not in policy
        if path == "/":
            assert "script-src 'self'" in policy
            assert "unsafe-inline" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-request-id"]
    assert "server" not in client.get("/healthz").headers


def test_scripts_of_the_viewer_are_served_as_scripts(client: TestClient) -> None:
    """A module comes as text/javascript, whatever the machine's own table says."""
    answer = client.get("/api.js")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert client.get("/").headers["content-type"].startswith("text/html")


def test_health_readiness_and_metrics(client: TestClient) -> None:
    """Alive at once, ready when a worker is warm, counted under the route's template."""
    assert client.get("/healthz").json() == {"status": "alive"}
    post(client, studies.dicom_still(PatientName="Planted^Name"), headers={"Prefer": "wait=30"})
    assert client.get("/readyz").json()["status"] == "ready"
    assert_problem(client.get(f"{ANALYSES}/{UNKNOWN}"), 404)
    text = client.get("/metrics").text
    labels = 'method="GET",route="/api/v1/analyses/{analysis_id}",status="404"'
    assert f"sonodose_requests_total{{{labels}}} 1" in text
    assert 'sonodose_problems_total{route="/api/v1/analyses/{analysis_id}",code="not_found"} 1' in (
        text
    )
    assert "sonodose_analyses_draft 1" in text
    assert "Planted" not in text
    assert UNKNOWN not in text

"""Every route × every scope × every kind of wrong key or token, from the routes that there are."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.testclient import TestClient

from api.auth import ALL_SCOPES
from api.deps import DECLARED
from api.oidc import Issuer
from api.problems import EdgeProblem
from api.rates import Buckets
from app.settings import SCOPES, Settings
from tests.api.conftest import ANALYSES, Serve, assert_problem, draft, filled, parts_of, post
from tests.api.issuer import AUDIENCE, CLIENT, MockIssuer, mock_issuer, rsa_key
from tests.api.test_edge import bearer, key
from tests.api.test_review import ANSWERED, WAIT

NEEDS = {
    ("POST", "/api/v1/analyses"): "submit",
    ("POST", "/api/v1/analyses/{analysis_id}/cancellation"): "submit",
    ("PATCH", "/api/v1/analyses/{analysis_id}"): "edit",
    ("POST", "/api/v1/analyses/{analysis_id}/confirmation"): "confirm",
    ("POST", "/api/v1/analyses/{analysis_id}/administration"): "confirm",
    ("POST", "/api/v1/analyses/{analysis_id}/deletion"): "admin",
}
"""What must not be declared otherwise by mistake; whatever only shows something asks for read."""
OWN_DOORS = {"/login", "/callback", "/logout", "/api/v1/me"}
"""They recognise their callers themselves, or let them be recognised: tested one by one below."""
UNKNOWN = "0" * 32
STRANGER = rsa_key()


@pytest.fixture
def issuer() -> Iterator[MockIssuer]:
    with mock_issuer() as found:
        yield found


def with_people(serve: Serve, issuer: MockIssuer, **changes: Any) -> TestClient:
    given = {
        "auth": "oidc",
        "oidc_issuer": issuer.url,
        "oidc_audience": AUDIENCE,
        "failed_sign_ins_per_minute": 1e6,
        "rate_burst": 1_000_000,
    }
    return serve(**{**given, **changes})


def carrying(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def asked_of(dependant: Dependant) -> set[str | None]:
    """The scopes that a route's dependencies ask for; None stands for: nobody need be known."""
    found: set[str | None] = set()
    if dependant.call in DECLARED:
        found.add(DECLARED[dependant.call])
    for below in dependant.dependencies:
        found |= asked_of(below)
    return found


OPEN = {"/api/v1/openapi.json", ""}
"""The document of the interface, and the viewer's files: both are the same for everybody."""


def declared(client: TestClient) -> dict[tuple[str, str], set[str | None]]:
    """(method, path) → what the route asks for."""
    app: Any = client.app
    found: dict[tuple[str, str], set[str | None]] = {}
    for context in iter_route_contexts(app.routes):
        route: Any = context.original_route
        if not isinstance(route, APIRoute):
            assert route.path in OPEN, f"{route.path} is no route that can declare a scope"
            continue
        for method in sorted(route.methods):
            found[method, str(context.path)] = asked_of(route.dependant)
    return found


def part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(claims: dict[str, Any]) -> str:
    """`alg: none`, put together by hand since no library makes it."""
    head = json.dumps({"alg": "none", "kid": "k1", "typ": "JWT"}).encode()
    return f"{part(head)}.{part(json.dumps(claims).encode())}."


def hmac_with_public_key(issuer: MockIssuer, claims: dict[str, Any]) -> str:
    """HS256 keyed with the provider's public key: what a careless verifier takes for its own."""
    head = json.dumps({"alg": "HS256", "kid": "k1", "typ": "JWT"}).encode()
    said = f"{part(head)}.{part(json.dumps(claims).encode())}"
    return f"{said}.{part(hmac.new(issuer.public_pem(), said.encode(), hashlib.sha256).digest())}"


def wrong_tokens(issuer: MockIssuer) -> dict[str, str]:
    """Tokens with every scope, each wrong in one way."""
    now, every = int(time.time()), " ".join(f"sonodose.{scope}" for scope in SCOPES)
    whole = {"iss": issuer.url, "aud": AUDIENCE, "sub": "u-1", "iat": now, "exp": now + 300}
    whole |= {"scope": every, "name": "Dr. A"}
    good = issuer.token(scope=every)
    return {
        "expired": issuer.token(scope=every, iat=now - 900, exp=now - 600),
        "not yet": issuer.token(scope=every, nbf=now + 600),
        "issued later": issuer.token(scope=every, iat=now + 600),
        "without end": issuer.token(scope=every, drop=("exp",)),
        "without subject": issuer.token(scope=every, drop=("sub",)),
        "wrong audience": issuer.token(scope=every, aud="another-service"),
        "no audience": issuer.token(scope=every, drop=("aud",)),
        "wrong issuer": issuer.token(scope=every, iss="https://evil.example"),
        "unknown kid": issuer.token(scope=every, kid="k9"),
        "another's key": issuer.token(scope=every, key=STRANGER),
        "alg none": unsigned(whole),
        "HS256 with the public key": hmac_with_public_key(issuer, whole),
        "changed": good[:-6] + ("AAAAAA" if good[-6:] != "AAAAAA" else "BBBBBB"),
        "no token": "a.b.c",
    }


def test_every_route_declares_who_may_use_it(client: TestClient) -> None:
    """A new route without a scope, or with two, fails here."""
    found = declared(client)
    assert len(found) > 25
    for (method, path), scopes in found.items():
        assert len(scopes) == 1, f"{method} {path} asks for {scopes or 'nothing'}"
        if path.startswith(("/api/", "/dicom-web")) and path not in OWN_DOORS:
            assert scopes != {None}, f"{method} {path} lets anybody in"
        if method not in ("GET", "HEAD") and path.startswith("/api/v1/analyses"):
            assert scopes != {"read"}, f"{method} {path} changes something for a reader"
    for place, needed in NEEDS.items():
        assert found[place] == {needed}, place


def test_access_matrix(serve: Serve, issuer: MockIssuer) -> None:
    """No route answers a wrong key or token, or one without its scope; each answers its own."""
    past = (dt.datetime.now(dt.UTC) - dt.timedelta(days=2)).date().isoformat()
    keys = [key(scope, [scope]) for scope in SCOPES]
    keys += [key("old", list(SCOPES), expires=past)]
    client = with_people(serve, issuer, api_keys=keys)
    wrong = {name: carrying(token) for name, token in wrong_tokens(issuer).items()}
    wrong |= {
        "nothing": {},
        "unknown key": bearer("nobody"),
        "expired key": bearer("old"),
        "basic": {"Authorization": "Basic eDp5"},
        "no scheme": {"Authorization": issuer.token(scope="sonodose.admin")},
        "foreign cookie": {"Cookie": "__Host-sonodose=AAAA", "Origin": "http://127.0.0.1"},
    }
    right = {scope: issuer.token(scope=f"openid sonodose.{scope}") for scope in SCOPES}
    nobody = carrying(issuer.token(scope="openid profile"))
    checked = 0
    for (method, path), scopes in declared(client).items():
        needed = next(iter(scopes))
        if needed is None:
            continue
        address = filled(path)
        for name, headers in wrong.items():
            answer = client.request(method, address, headers=headers)
            assert answer.status_code == 401, f"{method} {path} with {name}: {answer.status_code}"
            if method != "HEAD":
                assert_problem(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"] == "Bearer"
            checked += 1
        assert client.request(method, address, headers=nobody).status_code == 403
        for scope in SCOPES:
            for headers in (carrying(right[scope]), bearer(scope)):
                status = client.request(method, address, headers=headers).status_code
                if scope != needed:
                    assert status == 403, f"{method} {path} lets {scope} in: {status}"
                elif needed != "confirm" or headers != bearer(scope):
                    # A key may hold `confirm`, but no key is a person.
                    assert status not in (401, 403), f"{method} {path} refuses {scope}: {status}"
                checked += 1
    assert checked > 500
    # One fetch at the start and one for the unknown key id: the matrix asked for it many times.
    assert issuer.key_fetches <= 2


def test_a_person_confirms_in_their_own_name(serve: Serve, issuer: MockIssuer) -> None:
    """Name, id and profession come with the token; nobody confirms in another's name."""
    client = with_people(serve, issuer, oidc_role_claim="profession")
    every = " ".join(f"sonodose.{scope}" for scope in SCOPES)
    ada = carrying(issuer.token(scope=every, profession="physician"))
    client.headers.update(ada)
    body = client.patch(
        f"{ANALYSES}/{(first := draft(client))['id']}",
        json=ANSWERED,
        headers={"If-Match": first["etag"], **WAIT},
    ).json()
    where = f"{ANALYSES}/{body['id']}/confirmation"
    asked: dict[str, Any] = {"revision": body["revision"]}
    other = {**asked, "clinician": {"name": "Dr. Bob Other"}}
    assert_problem(client.post(where, json=other), 422, "invalid_request")
    answer = client.post(where, json={**asked, "clinician": {"name": "dr. ada  example"}})
    assert answer.status_code == 200, answer.text
    said = answer.json()["confirmation"]
    assert said["clinician"] == {"name": "Dr. Ada Example", "id": "u-1", "role": "physician"}
    assert said["by"] == "Dr. Ada Example <u-1>"


def test_a_machine_with_a_token_cannot_confirm(serve: Serve, issuer: MockIssuer) -> None:
    """A client that acts for itself is no person, whatever it is called and whatever it may do."""
    client = with_people(serve, issuer)
    every = " ".join(f"sonodose.{scope}" for scope in SCOPES)
    for claims in (
        {"sub": "robot", "azp": "robot", "name": "Robot"},
        {"sub": "robot", "client_id": "robot"},
        {"name": "  "},
    ):
        answer = client.post(
            f"{ANALYSES}/{UNKNOWN}/confirmation",
            json={"revision": 1, "clinician": {"name": "Dr. A"}},
            headers=carrying(issuer.token(scope=every, **claims)),
        )
        assert_problem(answer, 403, "person_required")


@pytest.mark.parametrize(
    ("claims", "settings"),
    [
        ({"scp": "sonodose.read other"}, {}),
        ({"scp": ["sonodose.read"]}, {}),
        ({"roles": ["nurses"]}, {"oidc_scopes": {"nurses": ["read"]}}),
        (
            {"realm_access": {"roles": ["nurses"]}},
            {"oidc_scopes": {"nurses": ["read"]}, "oidc_claims": ["realm_access.roles"]},
        ),
        (
            {"https://x.example/roles": ["nurses"]},
            {"oidc_scopes": {"nurses": ["read"]}, "oidc_claims": ["https://x.example/roles"]},
        ),
    ],
)
def test_what_a_person_may_do_stands_in_the_claims_that_the_site_names(
    serve: Serve, issuer: MockIssuer, claims: dict[str, Any], settings: dict[str, Any]
) -> None:
    """scope, scp, roles and a provider's own claim, each by the site's mapping."""
    client = with_people(serve, issuer, **settings)
    client.headers.update(carrying(issuer.token(**claims)))
    assert client.get("/api/v1/me").json()["scopes"] == ["read"]
    assert client.get(ANALYSES).status_code == 200


def test_new_keys_of_the_provider_are_found_and_old_ones_forgotten(
    serve: Serve, issuer: MockIssuer
) -> None:
    """An unknown key id makes the keys be fetched, and not more often than set."""
    client = with_people(serve, issuer, oidc_refresh_s=1)
    scope = "sonodose.read"
    old = carrying(issuer.token(scope=scope))
    assert client.get(ANALYSES, headers=old).status_code == 200
    issuer.keys = {"k2": rsa_key(), "k1": issuer.keys["k1"]}
    for number in range(20):
        forged = carrying(issuer.token(scope=scope, kid=f"x{number}", key=STRANGER))
        assert client.get(ANALYSES, headers=forged).status_code == 401
    assert issuer.key_fetches <= 2
    time.sleep(1.1)
    new = carrying(issuer.token(scope=scope, kid="k2"))
    assert client.get(ANALYSES, headers=new).status_code == 200
    issuer.down = True
    assert client.get(ANALYSES, headers=new).status_code == 200
    issuer.down = False
    del issuer.keys["k1"]
    time.sleep(1.1)
    assert (
        client.get(
            ANALYSES, headers=carrying(issuer.token(scope=scope, kid="k9", key=STRANGER))
        ).status_code
        == 401
    )
    assert client.get(ANALYSES, headers=old).status_code == 401


def test_a_silent_provider_is_a_503(serve: Serve, issuer: MockIssuer) -> None:
    """While nobody can be recognised the answer is 503 with a time, and keys still work."""
    issuer.down = True
    client = with_people(serve, issuer, api_keys=[key("read", ["read"])])
    answer = client.get(ANALYSES, headers=carrying(issuer.token(scope="sonodose.read")))
    assert_problem(answer, 503, "sign_in_unavailable")
    assert answer.headers["retry-after"]
    assert client.get(ANALYSES, headers=bearer("read")).status_code == 200


def test_keys_come_from_listed_hosts_alone(serve: Serve, issuer: MockIssuer) -> None:
    """A discovery document or a setting that leads to another host is not followed."""
    client = with_people(serve, issuer, oidc_hosts=["login.example"])
    answer = client.get(ANALYSES, headers=carrying(issuer.token(scope="sonodose.read")))
    assert_problem(answer, 503, "sign_in_unavailable")
    assert issuer.key_fetches == 0


@pytest.mark.parametrize(
    "address",
    [
        "https://login.example@evil.example/keys",
        "https://evil.example\\@login.example/keys",
        "https://login.example\\.evil.example/keys",
        "https://evil.example#@login.example/keys",
        "https://login.example.evil.example/keys",
        "https://login.example./keys",
        "https://login.example /keys",
        "https://login.example\n.evil.example/keys",
        "https://login.example%2eevil.example/keys",
        "https://log\u0131n.example/keys",
        "//login.example/keys",
        "http://login.example/keys",
        "ftp://login.example/keys",
        "https://169.254.169.254/keys",
        "https://2852039166/keys",
        "http://127.0.0.1/keys",
        "",
    ],
)
def test_an_address_of_the_provider_is_read_in_one_way(address: str, tmp_path: Path) -> None:
    """No spelling that another reader of addresses may take for another host gets through."""
    settings = Settings(
        data_dir=tmp_path, oidc_issuer="https://login.example", oidc_hosts=["Login.Example"]
    )
    issuer = Issuer(settings)
    with pytest.raises(EdgeProblem, match="does not answer"):
        issuer._check_host(address)
    for listed in ("https://login.example/keys", "https://LOGIN.example:8443/keys?a=b"):
        issuer._check_host(listed)
        assert httpx.URL(listed).host == "login.example"


def test_no_redirect_of_the_provider_is_followed(serve: Serve, issuer: MockIssuer) -> None:
    """Keys are not taken, nor is a sign-in's code sent, where a listed host sends us on to."""
    with mock_issuer() as elsewhere:
        elsewhere.keys = issuer.keys
        issuer.moved = f"{elsewhere.url}/keys"
        client = browser(serve, issuer)
        token = issuer.token(scope="sonodose.read")
        assert_problem(client.get(ANALYSES, headers=carrying(token)), 503, "sign_in_unavailable")
        assert elsewhere.key_fetches == 0
        elsewhere.codes = issuer.codes
        assert "does not answer as it should" in sign_in(client, issuer).text
        assert len(issuer.codes) == 1, "the code was redeemed elsewhere"


def test_elliptic_keys_are_taken_where_set(serve: Serve, issuer: MockIssuer) -> None:
    """ES256 works, and a signature that the site does not list is refused."""
    issuer.keys["e1"] = ec.generate_private_key(ec.SECP256R1())
    token = issuer.token(kid="e1", algorithm="ES256", scope="sonodose.read")
    assert with_people(serve, issuer).get(ANALYSES, headers=carrying(token)).status_code == 200
    with pytest.raises(ValueError, match="oidc_algorithms"):
        with_people(serve, issuer, oidc_algorithms=["HS256"])


# Sessions


def browser(serve: Serve, issuer: MockIssuer, **changes: Any) -> TestClient:
    """A client over TLS that keeps cookies, as a browser does."""
    home = "https://dose.example"
    client = with_people(serve, issuer, oidc_client_id=CLIENT, public_url=home, **changes)
    client.base_url = home
    return client


def sign_in(client: TestClient, issuer: MockIssuer) -> Any:
    """The answer of /callback after the whole way through the provider's page."""
    begun = client.get("/login", params={"way": "provider"}, follow_redirects=False)
    assert begun.status_code == 303, begun.text
    back = httpx.get(begun.headers["location"]).headers["location"]
    return client.get(back.removeprefix("https://dose.example"), follow_redirects=False)


def test_a_person_signs_in_and_out(serve: Serve, issuer: MockIssuer) -> None:
    """Code flow with PKCE, a cookie that scripts cannot read, and an end that is one."""
    issuer.person["roles"] = ["sonodose.read", "sonodose.edit"]
    client = browser(serve, issuer)
    assert_problem(client.get("/api/v1/me"), 401, "unauthenticated")
    answer = sign_in(client, issuer)
    assert answer.status_code == 303, answer.text
    cookie = next(
        c for c in answer.headers.get_list("set-cookie") if c.startswith("__Host-sonodose=")
    )
    for word in ("Secure", "HttpOnly", "SameSite=strict", "Path=/"):
        assert word in cookie
    assert "Domain" not in cookie
    me = client.get("/api/v1/me").json()
    assert me["clinician"] == {"name": "Dr. Ada Example", "role": None, "id": None}
    assert me["scopes"] == ["edit", "read"]
    assert client.get(ANALYSES).status_code == 200
    held = client.cookies["__Host-sonodose"]
    own = {"Origin": "https://dose.example"}
    left = client.post("/logout", headers=own).json()
    assert left["next"].startswith(f"{issuer.url}/bye?")
    assert_problem(client.get("/api/v1/me", headers={"Cookie": f"__Host-sonodose={held}"}), 401)


def test_a_change_by_cookie_comes_from_our_own_page(serve: Serve, issuer: MockIssuer) -> None:
    """A POST with the cookie but from elsewhere, or from nowhere, is refused."""
    issuer.person["roles"] = ["sonodose.read"]
    client = browser(serve, issuer, cors_origins=["https://other.example"])
    assert sign_in(client, issuer).status_code == 303
    body = {"request": {"muscle": "x"}}
    for origin in (
        {},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": "https://other.example"},
    ):
        answer = client.post("/api/v1/what-if", json=body, headers=origin)
        assert_problem(answer, 403, "foreign_origin")
    answer = client.post("/api/v1/what-if", json=body, headers={"Origin": "https://dose.example"})
    assert_problem(answer, 422, "invalid_request")


def test_a_sign_in_of_another_is_not_taken_over(serve: Serve, issuer: MockIssuer) -> None:
    """A code without its own state, verifier or nonce opens nothing (login CSRF)."""
    issuer.person["roles"] = ["sonodose.read"]
    client = browser(serve, issuer)

    def begun() -> tuple[str, str]:
        address = client.get("/login?way=provider", follow_redirects=False).headers["location"]
        back = httpx.get(address).headers["location"]
        return back.removeprefix("https://dose.example"), client.cookies["__Host-sonodose-login"]

    _, another = begun()
    changed: dict[str, Callable[[list[str]], str]] = {
        "no cookie": lambda held: "",
        "another's cookie": lambda held: another,
        "another verifier": lambda held: f"{held[0]}.{held[1]}.{'x' * 64}",
        "another nonce": lambda held: f"{held[0]}.{'x' * 32}.{held[2]}",
    }
    for name, change in changed.items():
        back, held = begun()
        client.cookies.clear()
        headers = {"Cookie": f"__Host-sonodose-login={change(held.split('.'))}"}
        answer = client.get(back, headers=headers, follow_redirects=False)
        assert answer.status_code == 401, name
        assert "__Host-sonodose=" not in answer.headers.get("set-cookie", "")
    back, _ = begun()
    assert client.get(back, follow_redirects=False).status_code == 303


def test_a_key_opens_a_session_that_ends_with_it(serve: Serve) -> None:
    """A key in the browser reads, sends and changes; it confirms nothing, and goes when it goes."""
    every = [key("desk", sorted(ALL_SCOPES))]
    client = serve(auth="keys", api_keys=every)
    client.base_url = "https://dose.example"
    own = {"Origin": "https://dose.example"}
    page = client.get("/login")
    assert 'name="key"' in page.text
    assert "form-action 'self'" in page.headers["content-security-policy"]
    assert "unsafe-inline" not in page.headers["content-security-policy"]
    wrong = client.post("/login", data={"key": "<b>no</b>"}, headers=own)
    assert wrong.status_code == 401
    assert "<b>" not in wrong.text
    assert_problem(client.post("/login", data={"key": "secret-of-desk"}), 403, "foreign_origin")
    answer = client.post(
        "/login", data={"key": "secret-of-desk"}, headers=own, follow_redirects=False
    )
    assert answer.status_code == 303
    assert "secret-of-desk" not in str(answer.headers)
    me = client.get("/api/v1/me").json()
    assert (me["name"], me["scopes"]) == ("key:desk", ["edit", "read", "submit"])
    assert post(client, headers={**own, **WAIT}).status_code == 200
    parts = parts_of(client)
    object.__setattr__(parts.settings, "api_keys", ())
    assert_problem(client.get("/api/v1/me"), 401)


def test_a_session_ends_by_itself(serve: Serve, issuer: MockIssuer) -> None:
    """A session that lay idle, or is too old, opens nothing."""
    issuer.person["roles"] = ["sonodose.read"]
    client = browser(serve, issuer, session_idle_minutes=0.005)
    assert sign_in(client, issuer).status_code == 303
    assert client.get("/api/v1/me").status_code == 200
    time.sleep(0.4)
    assert_problem(client.get("/api/v1/me"), 401)


# Rates


def test_a_client_that_asks_too_often_waits(serve: Serve) -> None:
    """Over its burst a client is answered 429 with a time; another one is not."""
    keys = [key("a", ["read"]), key("b", ["read"])]
    client = serve(auth="keys", api_keys=keys, rate_burst=5, rate_per_s=0.5)
    answers = [client.get("/api/v1/products", headers=bearer("a")) for _ in range(7)]
    assert [a.status_code for a in answers[:5]] == [200] * 5
    assert_problem(answers[-1], 429, "too_many_requests")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 3
    assert client.get("/api/v1/products", headers=bearer("b")).status_code == 200


def test_guessing_is_slowed(serve: Serve) -> None:
    """After so many wrong keys an address waits, whatever it sends next."""
    client = serve(auth="keys", api_keys=[key("a", ["read"])], failed_sign_ins_per_minute=3)
    own = {"Origin": "http://127.0.0.1"}
    for _ in range(2):
        assert_problem(client.get(ANALYSES, headers=bearer("guess")), 401)
    assert client.post("/login", data={"key": "guess"}, headers=own).status_code == 401
    answer = client.get(ANALYSES, headers=bearer("a"))
    assert_problem(answer, 429, "too_many_requests")
    assert int(answer.headers["retry-after"]) <= 20
    assert_problem(client.post("/login", data={"key": "x"}, headers=own), 429)


def test_buckets_fill_again_and_forget() -> None:
    """A bucket fills with time, never beyond its burst, and memory does not grow with clients."""
    now = [0.0]
    buckets = Buckets(per_s=2.0, burst=3.0, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    now[0] = 0.5
    assert buckets.take("a") == 0.0
    assert buckets.take("a") > 0.0
    now[0] = 100.0
    assert [buckets.take("a") > 0 for _ in range(4)] == [False, False, False, True]
    for number in range(50_000):
        buckets.take(f"client {number}")
    assert len(buckets._left) <= 20_001

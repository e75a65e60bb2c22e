"""The site's identity provider: its keys, the people its tokens name, the viewer's sign-in.

OpenID Connect Core 1.0 and Discovery 1.0, tokens as RFC 7519 and RFC 9068, the code flow with
PKCE (RFC 7636). Only listed hosts are asked, nothing is followed elsewhere, and only signatures
with a public key are taken.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
import jwt

from api.principal import Principal
from api.problems import EdgeProblem
from app.destinations import in_clear, place_of
from app.settings import Scope, Settings

TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 1 << 20
KEYS_LIVE_S = 3600.0
"""Keys are fetched again after so long, so that one taken back by the provider goes here too."""
KEYS_OUTLIVE_S = 24 * 3600.0
"""While the provider does not answer, its last keys hold no longer than this."""
ASYMMETRIC_KEYS = frozenset({"RSA", "EC", "OKP"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """What the browser keeps between leaving for the provider and coming back."""

    state: str
    nonce: str
    verifier: str


class Issuer:
    """One identity provider, as the settings name it."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._issuer = settings.oidc_issuer or ""
        own = place_of(self._issuer)
        listed = settings.oidc_hosts or ([] if own is None else [own[1]])
        self._hosts = frozenset(host.lower() for host in listed)
        self._lock = threading.Lock()
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched = self._tried = float("-inf")
        self._about: dict[str, Any] | None = None

    def principal(self, token: str) -> Principal:
        """The person or client that an access token names. Raises EdgeProblem: unauthenticated."""
        return self._named(self._claims(token, audience=self._settings.oidc_audience))

    def sign_in_address(self, sign_in: SignIn, back: str) -> str:
        """Where the browser goes to sign in; `back` is our own /callback."""
        challenge = hashlib.sha256(sign_in.verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self._settings.oidc_client_id,
            "redirect_uri": back,
            "scope": "openid profile",
            "state": sign_in.state,
            "nonce": sign_in.nonce,
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        address = self._endpoint("authorization_endpoint")
        return f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}"

    def sign_out_address(self, back: str) -> str | None:
        """Where the browser goes to sign out of the provider too, where it offers that."""
        if self._discovered().get("end_session_endpoint") is None:
            return None
        asked = {"client_id": self._settings.oidc_client_id, "post_logout_redirect_uri": back}
        return f"{self._endpoint('end_session_endpoint')}?{urlencode(asked)}"

    def finish(self, code: str, sign_in: SignIn, back: str) -> Principal:
        """The person behind an authorization code. Raises EdgeProblem: unauthenticated."""
        secret = self._settings.oidc_client_secret
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": back,
            "client_id": self._settings.oidc_client_id,
            "code_verifier": sign_in.verifier,
            **({} if secret is None else {"client_secret": secret.get_secret_value()}),
        }
        answer = self._ask("POST", self._endpoint("token_endpoint"), form)
        claims = self._claims(
            str(answer.get("id_token", "")), audience=self._settings.oidc_client_id
        )
        if not hmac.compare_digest(str(claims.get("nonce", "")), sign_in.nonce):
            raise _refused("The sign-in is not the one that was begun here.")
        found = self._named(claims)
        if found.scopes:
            return found
        # Some providers put what a person may do into the access token alone.
        allowed = self.principal(str(answer.get("access_token", "")))
        if allowed.subject != found.subject:
            raise _refused("The two tokens of the sign-in name two people.")
        return allowed

    def _claims(self, token: str, *, audience: str | None) -> dict[str, Any]:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key(str(kid)),
                algorithms=list(self._settings.oidc_algorithms),
                audience=audience,
                issuer=self._issuer,
                leeway=self._settings.oidc_leeway_s,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise _refused("The token ran out.") from None
        except (jwt.PyJWTError, ValueError):
            # Why exactly is nothing that a forger should learn.
            raise _refused("The token is not one that is taken here.") from None
        return claims

    def _named(self, claims: Mapping[str, Any]) -> Principal:
        subject = str(claims["sub"])
        client = claims.get("azp") or claims.get("client_id")
        name = claims.get("name") or claims.get("preferred_username")
        # RFC 9068 2.2: a client that acts for itself is its own subject, and it is nobody.
        is_person = isinstance(name, str) and bool(name.strip()) and subject != client
        shown = " ".join(str(name).split())[:100] if is_person else f"client:{client or subject}"
        role = claims.get(self._settings.oidc_role_claim or "")
        return Principal(
            name=f"{shown} <{subject}>"[:200] if is_person else shown[:200],
            kind="person" if is_person else "client",
            scopes=self._scopes(claims),
            subject=subject[:200],
            shown=shown if is_person else None,
            role=role[:200] if isinstance(role, str) and role.strip() else None,
        )

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[Scope]:
        """What the claims' values mean here; `scope` is one text (RFC 8693 4.2), others lists."""
        said: set[str] = set()
        for name in self._settings.oidc_claims:
            value: Any = claims.get(name)
            if value is None:
                value = claims
                for step in name.split("."):
                    value = value.get(step) if isinstance(value, Mapping) else None
            if isinstance(value, str):
                said.update(value.split())
            elif isinstance(value, list):
                said.update(entry for entry in value if isinstance(entry, str))
        mapping = self._settings.oidc_scopes
        return frozenset(scope for value in said for scope in mapping.get(value, ()))

    def _key(self, kid: str) -> jwt.PyJWK:
        with self._lock:
            age = self._clock() - self._fetched
            wanted = kid not in self._keys or age > KEYS_LIVE_S
            if wanted and self._clock() - self._tried >= self._settings.oidc_refresh_s:
                self._tried = self._clock()
                try:
                    self._keys = self._fetch_keys()
                    self._fetched = self._tried
                except EdgeProblem:
                    if age > KEYS_OUTLIVE_S:
                        self._keys = {}
                        raise
            found = self._keys.get(kid)
        if found is None:
            if self._fetched == float("-inf"):
                raise _unreachable()
            raise _refused("The token is not one that is taken here.")
        return found

    def _fetch_keys(self) -> dict[str, jwt.PyJWK]:
        body = self._ask("GET", self._settings.oidc_jwks_url or self._endpoint("jwks_uri"))
        listed = body.get("keys")
        keys: dict[str, jwt.PyJWK] = {}
        for entry in listed if isinstance(listed, list) else []:
            if (
                isinstance(entry, dict)
                and isinstance(entry.get("kid"), str)
                and entry.get("kty") in ASYMMETRIC_KEYS
                and entry.get("use", "sig") == "sig"
            ):
                try:
                    keys[entry["kid"]] = jwt.PyJWK(entry)
                except jwt.PyJWTError:
                    continue  # a kind of key that is not known here
        return keys

    def _discovered(self) -> dict[str, Any]:
        if self._about is None:
            home = self._issuer.rstrip("/")
            about = self._ask("GET", f"{home}/.well-known/openid-configuration")
            if about.get("issuer") != self._issuer:
                raise _unreachable()
            self._about = about
        return self._about

    def _endpoint(self, name: str) -> str:
        address = str(self._discovered().get(name, ""))
        self._check_host(address)
        return address

    def _check_host(self, address: str) -> None:
        """Raises EdgeProblem unless the host is listed, and reached by TLS or on this machine."""
        place = place_of(address)
        if place is None or in_clear(*place) or place[1] not in self._hosts:
            raise _unreachable()

    def _ask(self, method: str, address: str, form: Mapping[str, Any] | None = None) -> Any:
        self._check_host(address)
        try:
            with (
                httpx.Client(timeout=TIMEOUT_S, follow_redirects=False) as client,
                client.stream(
                    method, address, data=form, headers={"Accept": "application/json"}
                ) as answer,
            ):
                body = bytearray()
                until = time.monotonic() + 2 * TIMEOUT_S
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES or time.monotonic() > until:
                        raise _unreachable()
        except httpx.HTTPError:
            raise _unreachable() from None
        if method == "POST" and 400 <= answer.status_code < 500:
            raise _refused("The identity provider refused.")
        if answer.status_code != 200:
            # Nobody's sign-in is to blame where its own documents are not there, or are elsewhere.
            raise _unreachable()
        try:
            found = json.loads(bytes(body))
        except (ValueError, RecursionError):
            raise _unreachable() from None
        if not isinstance(found, dict):
            raise _unreachable()
        return found


def begin_sign_in() -> SignIn:
    """Fresh secrets for one sign-in."""
    return SignIn(
        state=secrets.token_urlsafe(24),
        nonce=secrets.token_urlsafe(24),
        verifier=secrets.token_urlsafe(48),
    )


def _refused(message: str) -> EdgeProblem:
    return EdgeProblem(
        "unauthenticated",
        message,
        remedy="Sign in again; if that does not help, ask whoever runs the service.",
    )


def _unreachable() -> EdgeProblem:
    return EdgeProblem(
        "sign_in_unavailable",
        "The identity provider does not answer as it should, so nobody can be recognised.",
        remedy="Try again in a minute; whoever runs the service can check SONODOSE_OIDC_ISSUER "
        "and SONODOSE_OIDC_HOSTS.",
        headers={"Retry-After": "30"},
    )

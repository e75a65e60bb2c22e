"""Who asks, and what they may do."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from api.oidc import Issuer
from api.principal import Principal
from api.problems import EdgeProblem
from api.rates import Buckets, address_of
from app.services import Services
from app.settings import LOOPBACK, SCOPES, ApiKey, Scope, Settings
from app.store import sign_in

ALL_SCOPES: frozenset[Scope] = frozenset(SCOPES)
OPERATOR = Principal(name="operator", kind="operator", scopes=ALL_SCOPES)

SESSION_COOKIE = "__Host-sonodose"
"""The prefix binds it to this host over TLS: no subdomain can set it (RFC 6265bis 4.1.3)."""
KEY_IN_VIEWER: frozenset[Scope] = frozenset({"read", "submit", "edit"})
"""What a key may do from a browser: deciding needs a person."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
REMEDY = "Sign in at /login, or send `Authorization: Bearer …` with a key or token of this service."


class Access:
    """What recognising a client needs: the provider, if there is one, and who asked how often."""

    def __init__(self, settings: Settings) -> None:
        self.issuer = Issuer(settings) if settings.auth == "oidc" else None
        self.asked = Buckets(per_s=settings.rate_per_s, burst=settings.rate_burst)
        failures = settings.failed_sign_ins_per_minute
        self.failed = Buckets(per_s=failures / 60.0, burst=max(1.0, failures))


async def authenticate(request: Request, parts: Services, access: Access) -> Principal:
    """The principal of a request.

    Raises EdgeProblem: unauthenticated, foreign_origin, too_many_requests, sign_in_unavailable.
    """
    settings = parts.settings
    refuse_foreign_pages(request, settings)
    if settings.auth == "none":
        return OPERATOR
    address = address_of(request)
    refuse_too_many(access.failed.wait_s(address))
    try:
        found = await _recognised(request, parts, access)
    except EdgeProblem as refused:
        if refused.code == "unauthenticated" and _tried(request):
            access.failed.take(address)
        raise
    refuse_too_many(access.asked.take(found.name))
    return found


async def admit_anybody(request: Request, access: Access) -> None:
    """For routes that tell nothing of a patient. Raises EdgeProblem: too_many_requests."""
    refuse_too_many(access.asked.take(f"address {address_of(request)}"))


def authorise(principal: Principal, scope: Scope) -> None:
    """Raises EdgeProblem: forbidden, unless the principal has the scope."""
    if scope not in principal.scopes:
        raise EdgeProblem(
            "forbidden",
            f"{principal.name} may not do this: it needs the scope `{scope}`.",
            remedy="Sign in as somebody who has it, or ask whoever runs the service for it.",
        )


def principal_of_key(token: str, settings: Settings) -> tuple[Principal, ApiKey]:
    """The principal of an API key, and its entry. Raises EdgeProblem: unauthenticated."""
    return _of_digest(hashlib.sha256(token.strip().encode()).hexdigest(), settings)


def refuse_too_many(wait_s: float) -> None:
    """Raises EdgeProblem: too_many_requests, unless the wait is 0."""
    if wait_s > 0.0:
        raise EdgeProblem(
            "too_many_requests",
            "This client asks too often.",
            remedy="Ask again after the seconds that Retry-After names.",
            headers={"Retry-After": str(int(wait_s) + 1)},
        )


def refuse_foreign_pages(request: Request, settings: Settings) -> None:
    """Raises EdgeProblem: foreign_origin, for a call from a page of another site.

    Without access control a page in the operator's browser could reach the service by its
    loopback address, or by a name of its own that points there: both are refused.
    """
    host = request.headers.get("host", "")
    origin = request.headers.get("origin")
    if settings.auth == "none" and (urlsplit(f"//{host}").hostname or "") not in LOOPBACK:
        raise _foreign(f"The service was called by the name {host[:100]!r}.")
    if origin is None or origin in settings.cors_origins:
        return
    if urlsplit(origin).netloc != host:
        raise _foreign(f"The request comes from a page of {origin[:100]!r}.")


def refuse_forged(request: Request) -> None:
    """Raises EdgeProblem: foreign_origin, for a change by cookie that no page of ours asked for.

    SameSite=Strict keeps the cookie at home already; every browser also says where a POST began.
    """
    if request.method in SAFE_METHODS:
        return
    own = request.headers.get("origin")
    if own is not None and urlsplit(own).netloc == request.headers.get("host", ""):
        return
    raise _foreign("A change by a signed-in viewer must come from the viewer's own page.")


async def _recognised(request: Request, parts: Services, access: Access) -> Principal:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() == "bearer" and token:
        # Three parts with dots between: RFC 7515 3.1. A key of ours has no dot.
        if access.issuer is not None and token.count(".") == 2:
            return await run_in_threadpool(access.issuer.principal, token)
        return principal_of_key(token, parts.settings)[0]
    cookie = request.cookies.get(SESSION_COOKIE)
    if cookie:
        refuse_forged(request)
        session = await run_in_threadpool(sign_in.find, parts.store, cookie, parts.settings)
        if session is not None:
            return _of_session(session, parts.settings)
    raise _unauthenticated("The request says not who asks.")


def _of_session(session: sign_in.ViewerSession, settings: Settings) -> Principal:
    if session.key_sha256 is not None:
        # A key that was taken back or ran out ends the sessions that it opened.
        found, _ = _of_digest(session.key_sha256, settings)
        return Principal(name=found.name, kind="key", scopes=found.scopes & KEY_IN_VIEWER)
    return Principal(
        name=session.name,
        kind="person" if session.shown is not None else "client",
        scopes=frozenset(scope for scope in SCOPES if scope in session.scopes),
        subject=session.subject,
        shown=session.shown,
        role=session.role,
    )


def _of_digest(digest: str, settings: Settings) -> tuple[Principal, ApiKey]:
    for key in settings.api_keys:
        if hmac.compare_digest(key.sha256, digest):
            if key.expires is not None and key.expires < dt.datetime.now(dt.UTC).date():
                raise _unauthenticated(f"The key {key.name} ran out on {key.expires.isoformat()}.")
            return Principal(name=f"key:{key.name}", kind="key", scopes=key.scopes), key
    raise _unauthenticated("The key is not known here.")


def _tried(request: Request) -> bool:
    """True if the request brought something to be recognised by, and it was wrong."""
    return "authorization" in request.headers or SESSION_COOKIE in request.cookies


def _unauthenticated(message: str) -> EdgeProblem:
    return EdgeProblem("unauthenticated", message, remedy=REMEDY)


def _foreign(message: str) -> EdgeProblem:
    return EdgeProblem(
        "foreign_origin",
        message,
        remedy="Open the service by its own address, or let whoever runs it add the page to "
        "SONODOSE_CORS_ORIGINS.",
    )

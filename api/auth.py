"""Who asks, and what they may do."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from starlette.requests import Request

from api.problems import EdgeProblem
from app.settings import LOOPBACK, Scope, Settings

ALL_SCOPES: frozenset[Scope] = frozenset({"read", "submit", "edit", "confirm", "admin"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who is behind a request: the person at this machine, or a key of another machine."""

    name: str
    kind: Literal["operator", "key"]
    scopes: frozenset[Scope]

    @property
    def is_person(self) -> bool:
        """True if somebody can answer for what is done in this name."""
        return self.kind == "operator"


OPERATOR = Principal(name="operator", kind="operator", scopes=ALL_SCOPES)


def authenticate(request: Request, settings: Settings) -> Principal:
    """The principal of a request. Raises EdgeProblem: unauthenticated or foreign_origin."""
    refuse_foreign_pages(request, settings)
    if settings.auth == "none":
        return OPERATOR
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise EdgeProblem(
            "unauthenticated",
            "The request carries no key.",
            remedy="Send `Authorization: Bearer <key>`; whoever runs the service gives out keys.",
        )
    digest = hashlib.sha256(token.strip().encode()).hexdigest()
    for key in settings.api_keys:
        if hmac.compare_digest(key.sha256, digest):
            if key.expires is not None and key.expires < dt.datetime.now(dt.UTC).date():
                raise EdgeProblem(
                    "unauthenticated",
                    f"The key {key.name} ran out on {key.expires.isoformat()}.",
                    remedy="Ask whoever runs the service for a new key.",
                )
            return Principal(name=f"key:{key.name}", kind="key", scopes=key.scopes)
    raise EdgeProblem(
        "unauthenticated",
        "The key is not known here.",
        remedy="Check the key; whoever runs the service gives out keys.",
    )


def authorise(principal: Principal, scope: Scope) -> None:
    """Raises EdgeProblem: forbidden, unless the principal has the scope."""
    if scope not in principal.scopes:
        raise EdgeProblem(
            "forbidden",
            f"{principal.name} may not do this: it needs the scope `{scope}`.",
            remedy="Use a key that has the scope, or ask whoever runs the service for one.",
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


def _foreign(message: str) -> EdgeProblem:
    return EdgeProblem(
        "foreign_origin",
        message,
        remedy="Open the service by its own address, or let whoever runs it add the page to "
        "SONODOSE_CORS_ORIGINS.",
    )

"""The viewer's way in and out: the provider's sign-in with PKCE, or a key, then a cookie."""

from __future__ import annotations

import hmac
from html import escape
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from api import schemas
from api.auth import (
    KEY_IN_VIEWER,
    SESSION_COOKIE,
    Access,
    authenticate,
    principal_of_key,
    refuse_foreign_pages,
    refuse_forged,
    refuse_too_many,
)
from api.deps import ANYBODY, Door, Parts
from api.middleware import SIGN_IN_PATHS
from api.oidc import Issuer, SignIn, begin_sign_in
from api.problems import EdgeProblem
from api.rates import address_of
from api.responses import refusals
from app.services import Services
from app.store import sign_in
from app.store.sign_in import ViewerSession

router = APIRouter(dependencies=[ANYBODY])

LOGIN, CALLBACK, LOGOUT = SIGN_IN_PATHS
LOGIN_COOKIE = "__Host-sonodose-login"
LOGIN_S = 600
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sign in · sonodose</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="/icon.svg" type="image/svg+xml"><link rel="stylesheet" href="/style.css">
</head><body><main class="sign-in"><h1>sonodose</h1>{said}{provider}{key}</main></body></html>
"""
PROVIDER = '<p><a class="button primary" href="/login?way=provider">Sign in</a></p>'
KEY = """<form method="post" action="/login"><label for="key">Key</label>
<input id="key" name="key" type="password" autocomplete="off" maxlength="200" required autofocus>
<p class="quiet">A key lets you look, send and change. Confirming a plan needs a person.</p>
<button class="primary">Sign in with a key</button></form>"""


@router.get(LOGIN, include_in_schema=False)
async def get_login(
    parts: Parts, door: Door, way: Annotated[str | None, Query(max_length=20)] = None
) -> Response:
    """The page to sign in on, or the provider's own."""
    if parts.settings.auth == "none":
        return RedirectResponse("/", 303)
    issuer = _provider(parts, door)
    if issuer is None or (way != "provider" and parts.settings.api_keys):
        return _page(parts, door)
    begun = begin_sign_in()
    try:
        address = await run_in_threadpool(issuer.sign_in_address, begun, _back(parts))
    except EdgeProblem as refused:
        return _page(parts, door, refused)
    answer = RedirectResponse(address, 303)
    # Lax, since the provider's page leads back here; it opens nothing by itself.
    answer.set_cookie(
        LOGIN_COOKIE,
        f"{begun.state}.{begun.nonce}.{begun.verifier}",
        max_age=LOGIN_S,
        secure=True,
        httponly=True,
        samesite="lax",
    )
    return answer


@router.post(LOGIN, include_in_schema=False)
async def post_login(
    request: Request, parts: Parts, door: Door, key: Annotated[str, Form(max_length=200)]
) -> Response:
    """A key exchanged for a session; the cookie holds the session's secret, never the key."""
    refuse_foreign_pages(request, parts.settings)
    refuse_forged(request)
    address = address_of(request)
    refuse_too_many(door.failed.wait_s(address))
    try:
        found, entry = principal_of_key(key, parts.settings)
    except EdgeProblem as refused:
        door.failed.take(address)
        return _page(parts, door, refused)
    who = ViewerSession(
        name=found.name, scopes=found.scopes & KEY_IN_VIEWER, key_sha256=entry.sha256
    )
    return await _signed_in(parts, who)


@router.get(CALLBACK, include_in_schema=False)
async def get_callback(
    request: Request,
    parts: Parts,
    door: Door,
    code: Annotated[str | None, Query(max_length=4096)] = None,
    state: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """Where the provider sends the browser back to."""
    issuer = _provider(parts, door)
    held = request.cookies.get(LOGIN_COOKIE, "").split(".")
    address = address_of(request)
    refuse_too_many(door.failed.wait_s(address))
    try:
        if issuer is None or code is None or state is None or len(held) != 3:
            raise _broken()
        begun = SignIn(state=held[0], nonce=held[1], verifier=held[2])
        if not hmac.compare_digest(begun.state.encode(), state.encode()):
            raise _broken()
        found = await run_in_threadpool(issuer.finish, code, begun, _back(parts))
    except EdgeProblem as refused:
        door.failed.take(address)
        return _page(parts, door, refused)
    who = ViewerSession(
        name=found.name,
        scopes=frozenset(found.scopes),
        subject=found.subject,
        shown=found.shown,
        role=found.role,
    )
    answer = await _signed_in(parts, who)
    answer.delete_cookie(LOGIN_COOKIE, secure=True, httponly=True, samesite="lax")
    return answer


@router.post(
    LOGOUT, response_model=schemas.SignedOut, responses=refusals("foreign_origin"), tags=["access"]
)
async def post_logout(request: Request, parts: Parts, door: Door) -> Response:
    """The viewer's session ended; `next` is where the browser goes then."""
    refuse_foreign_pages(request, parts.settings)
    cookie = request.cookies.get(SESSION_COOKIE)
    leads: str | None = None
    if cookie:
        refuse_forged(request)
        await run_in_threadpool(sign_in.end, parts.store, cookie)
        issuer = _provider(parts, door)
        if issuer is not None:
            try:
                home = f"{parts.settings.public_url}/login"
                leads = await run_in_threadpool(issuer.sign_out_address, home)
            except EdgeProblem:
                leads = None  # signed out here, though the provider does not answer
    answer = JSONResponse({"next": leads or "/login"})
    answer.delete_cookie(SESSION_COOKIE, secure=True, httponly=True, samesite="strict")
    return answer


@router.get(
    "/api/v1/me", response_model=schemas.Me, responses=refusals("foreign_origin"), tags=["access"]
)
async def get_me(request: Request, parts: Parts, door: Door) -> dict[str, Any]:
    """Who is signed in, and what they may do; a 401 for nobody."""
    found = await authenticate(request, parts, door)
    request.state.principal = found
    return {
        "name": found.name,
        "kind": found.kind,
        "scopes": sorted(found.scopes),
        "is_person": found.is_person,
        "clinician": None if found.shown is None else {"name": found.shown, "role": found.role},
        "session": SESSION_COOKIE in request.cookies,
    }


async def _signed_in(parts: Services, who: ViewerSession) -> Response:
    token = await run_in_threadpool(sign_in.begin, parts.store, who, parts.settings)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(
        SESSION_COOKIE,
        token,
        max_age=int(parts.settings.session_hours * 3600),
        secure=True,
        httponly=True,
        samesite="strict",
    )
    return answer


def _provider(parts: Services, door: Access) -> Issuer | None:
    """The provider, where people can sign in by it in a browser."""
    settings = parts.settings
    return door.issuer if settings.oidc_client_id and settings.public_url else None


def _back(parts: Services) -> str:
    return f"{parts.settings.public_url}{CALLBACK}"


def _page(parts: Services, door: Access, refused: EdgeProblem | None = None) -> HTMLResponse:
    said = "" if refused is None else f'<p role="alert">{escape(refused.message)}</p>'
    body = PAGE.format(
        said=said,
        provider=PROVIDER if _provider(parts, door) is not None else "",
        key=KEY if parts.settings.api_keys else "",
    )
    # Under `no-referrer`, the rule elsewhere, a form is sent with `Origin: null`.
    headers = {"Referrer-Policy": "same-origin"}
    return HTMLResponse(body, status_code=200 if refused is None else 401, headers=headers)


def _broken() -> EdgeProblem:
    return EdgeProblem(
        "unauthenticated",
        "This sign-in was not begun here, or it took too long.",
        remedy="Begin again at /login.",
    )

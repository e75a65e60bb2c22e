"""What holds for every request: an id, security headers, a size limit, the metrics, the audit."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.metrics import Metrics
from api.problems import EdgeProblem
from app.services import Services
from app.store.audit import AuditEntry
from app.tracing import Span, begin_request
from imaging.errors import TooLarge

API_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
"""For answers: an overlay SVG opened by itself shows its styles and runs nothing."""
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
SIGN_IN_PATHS = ("/login", "/callback", "/logout")
SIGN_IN_POLICY = PAGE_POLICY.replace("form-action 'none'", "form-action 'self'")
AUDITED = ("/api/", "/dicom-web", *SIGN_IN_PATHS)
API_PATHS = ("/api/", "/dicom-web/", "/healthz", "/readyz", "/metrics", "/problems/")

ID = re.compile(r"[0-9a-f]{32}|[0-9][0-9.]{0,63}")
"""An analysis, or the UID of a study."""
log = logging.getLogger("sonodose.access")


class Edge:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, *, services: Services, metrics: Metrics) -> None:
        self._app, self._services, self._metrics = app, services, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        state = scope.setdefault("state", {})
        state["request_id"] = secrets.token_hex(8)
        policy = API_POLICY if scope["path"].startswith(API_PATHS) else PAGE_POLICY
        if scope["path"] in SIGN_IN_PATHS:
            policy = SIGN_IN_POLICY
        span = begin_request(self._services.traces, dict(scope["headers"]))
        status = 500
        started = False

        async def send_marked(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                started, status = True, message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers["X-Request-Id"] = state["request_id"]
                headers["Content-Security-Policy"] = policy
                headers.setdefault("Cache-Control", "private, no-cache")
            await send(message)

        try:
            await self._app(scope, self._counted(scope, self._timed(scope, receive)), send_marked)
        except Exception:
            if started:
                raise
            # The trace goes to the log under the request's id, never to the client.
            log.exception("request %s failed", state["request_id"])
            body = problems.document(
                "internal",
                "The service failed on this request; it is not your fault.",
                "Try once more; if it fails again, tell whoever runs the service the request id.",
            )
            answer = problems.respond(body, Request(scope))
            await answer(scope, receive, send_marked)
        finally:
            self._record(scope, state, status, time.perf_counter() - began, span)

    def _timed(self, scope: Scope, receive: Receive) -> Receive:
        """`receive` that refuses a body which is packed, pauses, or comes in drop by drop."""
        packed = dict(scope["headers"]).get(b"content-encoding", b"identity").lower() != b"identity"
        most_s = self._services.settings.slow_client_s
        began, size, whole = time.monotonic(), 0, False

        async def timed() -> Message:
            nonlocal size, whole
            if whole:
                return await receive()  # only the end of the connection is still to come
            if packed:
                raise EdgeProblem(
                    "unsupported_media_type",
                    "The body is packed (Content-Encoding), and bodies are not unpacked here.",
                    remedy="Send it as it is; images are compressed by their transfer syntax.",
                    headers={"Accept-Encoding": "identity"},
                )
            try:
                async with asyncio.timeout(most_s):
                    message = await receive()
            except TimeoutError:
                raise too_slow() from None
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if not whole and size < (time.monotonic() - began - most_s) * LEAST_BYTES_PER_S:
                raise too_slow()
            return message

        return timed

    def _counted(self, scope: Scope, receive: Receive) -> Receive:
        """`receive` that refuses a JSON body over its limit; uploads are counted on their own."""
        headers = dict(scope["headers"])
        kind = headers.get(b"content-type", b"").lower()
        stows = scope["path"].startswith("/dicom-web/studies")
        if kind.startswith(b"multipart/form-data") or (
            stows and kind.startswith(b"multipart/related")
        ):
            return receive
        most, size = self._services.settings.max_json_bytes, 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > most:
                raise TooLarge(
                    f"The body is larger than the {most} bytes that are allowed.",
                    remedy="Send less at once.",
                )
            return message

        return counted

    def _record(
        self, scope: Scope, state: dict[str, Any], status: int, seconds: float, span: Span
    ) -> None:
        route = getattr(scope.get("route"), "path", None) or "(none)"
        method = scope["method"] if scope["method"] in METHODS else "(other)"
        self._metrics.request(method, route, status, seconds)
        if "problem" in state:
            self._metrics.problem(route, state["problem"])
        span.end(
            {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "sonodose.request_id": state["request_id"],
            },
            name=f"{method} {route}",
            error=state.get("problem", "internal") if status >= 500 else None,
        )
        log.info(
            "request",
            extra={
                "request_id": state.get("request_id"),
                "method": method,
                "route": route,
                "status": status,
                "ms": round(seconds * 1000, 1),
            },
        )
        if not scope["path"].startswith(AUDITED):
            return
        if state.get("problem") == "too_many_requests":
            return  # a flood must not fill the audit
        principal = state.get("principal")
        named = scope.get("path_params", {})
        asked = str(state.get("subject") or named.get("analysis_id") or named.get("study") or "")
        # What was typed as an id may be a name: only ids go into the audit.
        subject = asked if ID.fullmatch(asked) else ""
        self._services.views.note(
            AuditEntry(
                principal="(unknown)" if principal is None else principal.name,
                action=f"{method} {route}"[:100],
                subject=subject,
                detail={
                    "status": status,
                    "request_id": state["request_id"],
                    **({"problem": state["problem"]} if "problem" in state else {}),
                },
            )
        )


def too_slow() -> EdgeProblem:
    return EdgeProblem(
        "too_slow",
        "The body of the request came too slowly, or not to its end.",
        remedy="Send it again over a faster connection, or fewer images at once.",
    )


LEAST_BYTES_PER_S = 1000
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

"""The refusals that routes document, for OpenAPI."""

from __future__ import annotations

from typing import Any

from api.problems import KINDS, MEDIA_TYPE
from api.schemas import Problem

ANY_ROUTE = (
    "bad_request",
    "unauthenticated",
    "forbidden",
    "invalid_request",
    "too_many_requests",
    "sign_in_unavailable",
)
Documented = dict[int | str, dict[str, Any]]


def refusals(*codes: str) -> Documented:
    """The OpenAPI responses for these problem codes and for those that any route can give."""
    found: Documented = {}
    for code in (*codes, *ANY_ROUTE):
        kind = KINDS[code]
        entry = found.setdefault(
            kind.status,
            {
                "model": Problem,
                "description": kind.title,
                "content": {
                    MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}},
                },
            },
        )
        if kind.title not in entry["description"]:
            entry["description"] += f"; {kind.title.lower()}"
    return found

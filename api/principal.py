"""Who is behind a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.settings import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The person at this machine, a person the identity provider names, a key, or a client.

    `name` stands in the audit; `shown` and `role` are a person's own, as the provider has them.
    """

    name: str
    kind: Literal["operator", "person", "key", "client"]
    scopes: frozenset[Scope]
    subject: str | None = None
    shown: str | None = None
    role: str | None = None

    @property
    def is_person(self) -> bool:
        """True if somebody can answer for what is done in this name."""
        return self.kind in ("operator", "person")

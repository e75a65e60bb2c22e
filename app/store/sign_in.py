"""Viewer sessions: rows that a cookie's secret leads to, so that signing out really ends them."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.settings import Settings
from app.store import audit
from app.store.database import Store
from app.store.rows import ViewerSessionRow

SEEN_EVERY = dt.timedelta(minutes=1)
"""The last use is written no more often than this: looking at a clip is no row of writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewerSession:
    """Who signed in: a person of the identity provider, or who holds a key (by its SHA-256)."""

    name: str
    scopes: frozenset[str]
    subject: str | None = None
    shown: str | None = None
    role: str | None = None
    key_sha256: str | None = None


def begin(store: Store, who: ViewerSession, settings: Settings) -> str:
    """The secret of a new session, for the cookie; only its SHA-256 is kept."""
    token, at = secrets.token_urlsafe(32), dt.datetime.now(dt.UTC)
    with store.write() as session:
        session.execute(delete(ViewerSessionRow).where(ViewerSessionRow.ends_at < at))
        session.add(
            ViewerSessionRow(
                token_sha256=_digest(token),
                name=who.name,
                scopes=_joined(who.scopes),
                subject=who.subject,
                shown=who.shown,
                role=who.role,
                key_sha256=who.key_sha256,
                began_at=at,
                seen_at=at,
                ends_at=at + dt.timedelta(hours=settings.session_hours),
            )
        )
        _note(session, who.name, "session.began")
    return token


def find(store: Store, token: str, settings: Settings) -> ViewerSession | None:
    """The living session of this secret; None once it ran out, lay idle or was ended."""
    at = dt.datetime.now(dt.UTC)
    with store.read() as session:
        row = session.get(ViewerSessionRow, _digest(token))
    idle = dt.timedelta(minutes=settings.session_idle_minutes)
    if row is None or row.ends_at <= at or row.seen_at + idle <= at:
        return None
    if at - row.seen_at >= SEEN_EVERY:
        with store.write() as session:
            present = session.get(ViewerSessionRow, row.token_sha256)
            if present is not None:
                present.seen_at = at
    return ViewerSession(
        name=row.name,
        scopes=frozenset(row.scopes.split()),
        subject=row.subject,
        shown=row.shown,
        role=row.role,
        key_sha256=row.key_sha256,
    )


def end(store: Store, token: str) -> None:
    """Ends the session of this secret, if there is one."""
    with store.write() as session:
        row = session.get(ViewerSessionRow, _digest(token))
        if row is not None:
            session.delete(row)
            _note(session, row.name, "session.ended")


def _note(session: Session, name: str, action: str) -> None:
    entry = audit.AuditEntry(principal=name, action=action, subject="", detail={})
    audit.append(session, [entry])


def _joined(scopes: Iterable[str]) -> str:
    return " ".join(sorted(scopes))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

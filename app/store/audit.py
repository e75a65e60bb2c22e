"""Who did what to which analysis: append-only, each entry hashed over the one before.

Changes are written in the transaction that makes them. Mere views are gathered and written a
moment later in one go, so that looking at an image does not wait for a disk; a killed service
can lose the last quarter second of views, never a change.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.store.database import AUDIT_LOCK, Store
from app.store.rows import AuditRow

GENESIS = "0" * 64
SEAL = re.compile(r"([0-9]{1,15}):([0-9a-f]{64})")
FLUSH_S = 0.25
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One thing that somebody did; `detail` holds no patient data and no pixels."""

    principal: str
    action: str
    subject: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFault:
    """The first entry at which the chain does not hold, and why."""

    seq: int
    reason: str


def append(session: Session, entries: Sequence[AuditEntry]) -> None:
    """Adds entries to the chain within the caller's write transaction."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": AUDIT_LOCK})
    last = session.execute(
        select(AuditRow.seq, AuditRow.digest).order_by(AuditRow.seq.desc()).limit(1)
    ).one_or_none()
    seq, previous = (0, GENESIS) if last is None else (last.seq, last.digest)
    at = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    for entry in entries:
        seq += 1
        row = AuditRow(
            seq=seq,
            at=at,
            principal=entry.principal,
            action=entry.action,
            subject=entry.subject,
            detail=json.dumps(entry.detail, sort_keys=True, separators=(",", ":")),
            previous=previous,
        )
        row.digest = previous = _digest(row)
        session.add(row)


def _digest(row: AuditRow) -> str:
    said = [row.seq, row.at, row.principal, row.action, row.subject, row.detail, row.previous]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def verify(session: Session) -> tuple[int, AuditFault | None]:
    """(entries read, the first fault or None): every hash and every gap is checked."""
    count, previous = 0, GENESIS
    rows = session.scalars(
        select(AuditRow).order_by(AuditRow.seq).execution_options(yield_per=1000)
    )
    for row in rows:
        count += 1
        if row.seq != count:
            return count, AuditFault(seq=count, reason=f"entry {count} is missing")
        if row.previous != previous:
            return count, AuditFault(seq=row.seq, reason="it does not follow the entry before it")
        if row.digest != _digest(row):
            return count, AuditFault(seq=row.seq, reason="its content was changed")
        previous = row.digest
    return count, None


def seal_of(session: Session) -> str:
    """The newest entry's number and hash, `SEQ:SHA-256`; kept elsewhere, it vouches for all."""
    last = session.execute(
        select(AuditRow.seq, AuditRow.digest).order_by(AuditRow.seq.desc()).limit(1)
    ).one_or_none()
    return f"0:{GENESIS}" if last is None else f"{last.seq}:{last.digest}"


def broken_seal(session: Session, seal: str) -> AuditFault | None:
    """What is wrong with the entry that was sealed: cut off, or in a chain made anew; or None.

    Raises ValueError for what is no seal.
    """
    read = SEAL.fullmatch(seal.strip())
    if read is None:
        raise ValueError(f"{seal!r} is no seal")
    seq, digest = int(read[1]), read[2]
    if seq == 0:
        return None if digest == GENESIS else AuditFault(seq=0, reason="the seal is another's")
    found = session.scalar(select(AuditRow.digest).where(AuditRow.seq == seq))
    if found is None:
        return AuditFault(seq=seq, reason="it was there when the seal was taken, and is cut off")
    if found != digest:
        return AuditFault(seq=seq, reason="it is another entry than the sealed one")
    return None


class ViewLog:
    """Views on their way into the audit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[AuditEntry] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self) -> None:
        """Begins to write."""
        self._thread.start()

    def note(self, entry: AuditEntry) -> None:
        """Remembers a view; it is in the audit within a quarter of a second."""
        with self._lock:
            self._waiting.append(entry)

    def close(self) -> None:
        """Writes what is left and ends."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.flush()

    def flush(self) -> None:
        """Writes what is waiting now."""
        with self._lock:
            entries, self._waiting = self._waiting, []
        if not entries:
            return
        try:
            with self._store.write() as session:
                append(session, entries)
        except Exception:
            with self._lock:
                self._waiting[:0] = entries
            raise

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_S):
            try:
                self.flush()
            except Exception:
                # The audit must outlive one bad write: the next flush tries again.
                log.exception("views could not be written to the audit")

"""A study becomes an analysis in one transaction: all of it is stored, or nothing."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app import audit, jobs
from app.analysis import State
from app.archive import Compared, add_instance, write_compared
from app.blobs import Blobs
from app.errors import IdempotencyConflict, TooBusy
from app.intake import Examined
from app.processes import WorkerPlace
from app.records import new_id
from app.request import AnalysisRequest
from app.rows import AnalysisRow, IdempotencyRow, RevisionRow, SourceRow
from app.settings import Settings
from app.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The analysis that a POST made, or made the first time that its key was used."""

    analysis_id: str
    replayed: bool


def submit(
    files: Sequence[Examined],
    request: AnalysisRequest,
    *,
    principal: str,
    idempotency_key: str | None,
    store: Store,
    blobs: Blobs,
    door: WorkerPlace,
    settings: Settings,
) -> Submitted:
    """The new analysis, queued and durable.

    Raises IdempotencyConflict, InstanceConflict, TooBusy and DiskFull with nothing stored.
    """
    digests = [file.incoming.finish() for file in files]
    asked = request.model_dump_json(exclude_unset=True)
    fingerprint = _fingerprint(asked, files, digests)
    at = dt.datetime.now(dt.UTC)
    analysis_id = new_id()

    def write(session: Session, compared: Mapping[str, Compared]) -> Submitted:
        if idempotency_key is not None:
            before = session.get(IdempotencyRow, (principal, idempotency_key))
            if before is not None:
                return _replay(before, fingerprint)
        _check_queue(session, settings)
        for file in files:
            add_instance(session, file, compared, principal=principal, at=at, settings=settings)
        _add_analysis(session, analysis_id, request, asked, files, principal=principal, at=at)
        session.flush()
        for position, (file, digest) in enumerate(zip(files, digests, strict=True)):
            session.add(
                SourceRow(analysis_id=analysis_id, position=position, sha256=digest, name=file.name)
            )
        jobs.enqueue(session, analysis_id, 1, at)
        if idempotency_key is not None:
            session.add(
                IdempotencyRow(
                    principal=principal,
                    key=idempotency_key,
                    fingerprint=fingerprint,
                    analysis_id=analysis_id,
                    created_at=at,
                )
            )
        audit.append(
            session,
            [
                audit.AuditEntry(
                    principal=principal,
                    action="analysis.submitted",
                    subject=analysis_id,
                    detail={"files": digests, "request_sha256": _sha256(asked)},
                )
            ],
        )
        session.flush()
        # Last, so that a refusal above leaves no file behind.
        for file in files:
            blobs.keep(file.incoming)
        return Submitted(analysis_id=analysis_id, replayed=False)

    return write_compared(write, files, store=store, blobs=blobs, door=door)


def _replay(before: IdempotencyRow, fingerprint: str) -> Submitted:
    if before.fingerprint != fingerprint:
        raise IdempotencyConflict(
            "This Idempotency-Key was used before with another request or other files.",
            remedy="Use a new key for a new request.",
        )
    return Submitted(analysis_id=before.analysis_id, replayed=True)


def _check_queue(session: Session, settings: Settings) -> None:
    if jobs.waiting(session) >= settings.max_queued_jobs:
        raise TooBusy(
            "So many studies are waiting that no more are taken now.",
            remedy="Send the study again after the time that Retry-After names.",
        )


def _add_analysis(
    session: Session,
    analysis_id: str,
    request: AnalysisRequest,
    asked: str,
    files: Sequence[Examined],
    *,
    principal: str,
    at: dt.datetime,
) -> None:
    named = [f.facts.identity.patient_id for f in files if f.facts.identity is not None]
    session.add(
        AnalysisRow(
            id=analysis_id,
            created_at=at,
            updated_at=at,
            created_by=principal,
            state=State.QUEUED,
            revision=1,
            muscle=request.muscle,
            side=request.side,
            product=request.product,
            patient_id=request.patient.id or next((n for n in named if n), None),
        )
    )
    session.add(
        RevisionRow(
            analysis_id=analysis_id,
            revision=1,
            created_at=at,
            created_by=principal,
            request=asked,
            state=State.QUEUED,
        )
    )


def _fingerprint(asked: str, files: Sequence[Examined], digests: Sequence[str]) -> str:
    named = [[file.name, digest] for file, digest in zip(files, digests, strict=True)]
    return _sha256(json.dumps([json.loads(asked), named], sort_keys=True))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

"""A study becomes an analysis in one transaction: all of it is stored, or nothing."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.analysis import State
from app.errors import IdempotencyConflict, RequestConflict, TooBusy
from app.intake.archive import Compared, add_instance, write_compared
from app.intake.examine import Examined, check_patients
from app.jobs import queue
from app.jobs.processes import WorkerPlace
from app.planning.request import AnalysisRequest
from app.settings import Settings
from app.store import audit, worklist
from app.store.blobs import Blobs
from app.store.database import Store
from app.store.records import new_id
from app.store.rows import AnalysisRow, IdempotencyRow, InstanceRow, RevisionRow, SourceRow
from app.store.study_search import images_of

Uid = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)*$", max_length=64)]


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
        before = _before(session, principal, idempotency_key, fingerprint, settings)
        if before is not None:
            return before
        for file in files:
            add_instance(session, file, compared, principal=principal, at=at, settings=settings)
        _add_analysis(
            session,
            analysis_id,
            request,
            asked,
            [(file.name, digest) for file, digest in zip(files, digests, strict=True)],
            identities=[asdict(f.facts.identity) for f in files if f.facts.identity is not None],
            principal=principal,
            key=idempotency_key,
            fingerprint=fingerprint,
            at=at,
        )
        # Last, so that a refusal above leaves no file behind.
        for file in files:
            blobs.keep(file.incoming)
        return Submitted(analysis_id=analysis_id, replayed=False)

    return write_compared(write, files, store=store, blobs=blobs, door=door)


class StoredImages(BaseModel):
    """Images that are in the store already, instead of files: a study, or a part of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study_instance_uid: Uid
    series_instance_uid: Uid | None = None
    sop_instance_uids: Annotated[tuple[Uid, ...], Field(max_length=500)] = ()


def analyse_stored(
    images: StoredImages,
    request: AnalysisRequest,
    *,
    principal: str,
    idempotency_key: str | None,
    store: Store,
    settings: Settings,
) -> Submitted:
    """The new analysis of stored images, queued and durable; our own objects are passed over.

    Their files are named by their SOP Instance UID with `.dcm`, in the order of series and
    instances. Raises NotFound, RequestConflict where there is no ultrasound image among them,
    MixedPatients, IdempotencyConflict and TooBusy with nothing stored.
    """
    asked = request.model_dump_json(exclude_unset=True)
    with store.write() as session:
        rows = _images(session, images)
        files = [(f"{row.sop_instance_uid}.dcm", row.sha256) for row in rows]
        fingerprint = _sha256(json.dumps([json.loads(asked), files], sort_keys=True))
        before = _before(session, principal, idempotency_key, fingerprint, settings)
        if before is not None:
            return before
        analysis_id = new_id()
        _add_analysis(
            session,
            analysis_id,
            request,
            asked,
            files,
            identities=[row.facts.get("identity") for row in rows],
            principal=principal,
            key=idempotency_key,
            fingerprint=fingerprint,
            at=dt.datetime.now(dt.UTC),
        )
    return Submitted(analysis_id=analysis_id, replayed=False)


def _images(session: Session, images: StoredImages) -> list[InstanceRow]:
    wanted = set(images.sop_instance_uids)
    rows = images_of(session, images.study_instance_uid, images.series_instance_uid)
    found = [row for row in rows if not wanted or row.sop_instance_uid in wanted]
    if not found or wanted - {row.sop_instance_uid for row in found}:
        raise RequestConflict(
            "Not everything that was named is a stored ultrasound image of the study.",
            remedy="GET /dicom-web/studies/{study}/instances lists what there is. Reports, masks "
            "and pictures of ours are stored, and never analysed.",
        )
    check_patients(
        [(i.get("patient_id"), i.get("issuer")) for i in (r.facts["identity"] for r in found)]
    )
    return found


def _before(
    session: Session,
    principal: str,
    key: str | None,
    fingerprint: str,
    settings: Settings,
) -> Submitted | None:
    """What the key stands for already, if it does. Raises TooBusy where nothing new is taken."""
    if key is not None:
        before = session.get(IdempotencyRow, (principal, key))
        if before is not None:
            return _replay(before, fingerprint)
    _check_queue(session, settings)
    return None


def _replay(before: IdempotencyRow, fingerprint: str) -> Submitted:
    if before.fingerprint != fingerprint:
        raise IdempotencyConflict(
            "This Idempotency-Key was used before with another request or other files.",
            remedy="Use a new key for a new request.",
        )
    return Submitted(analysis_id=before.analysis_id, replayed=True)


def _check_queue(session: Session, settings: Settings) -> None:
    if queue.waiting(session) >= settings.max_queued_jobs:
        raise TooBusy(
            "So many studies are waiting that no more are taken now.",
            remedy="Send the study again after the time that Retry-After names.",
        )


def _add_analysis(
    session: Session,
    analysis_id: str,
    request: AnalysisRequest,
    asked: str,
    files: Sequence[tuple[str, str]],
    *,
    identities: Sequence[Mapping[str, Any] | None],
    principal: str,
    key: str | None,
    fingerprint: str,
    at: dt.datetime,
) -> None:
    """Enters an analysis of (name, SHA-256) files with its job, its key and its audit entry."""
    row = AnalysisRow(
        id=analysis_id,
        created_at=at,
        updated_at=at,
        created_by=principal,
        state=State.QUEUED,
        revision=1,
        muscle=request.muscle,
        side=request.side,
        product=request.product,
    )
    worklist.enter(
        row,
        asked_id=request.patient.id,
        asked_name=request.patient.name,
        identities=identities,
    )
    session.add(row)
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
    session.flush()
    for position, (name, digest) in enumerate(files):
        session.add(SourceRow(analysis_id=analysis_id, position=position, sha256=digest, name=name))
    queue.enqueue(session, analysis_id, 1, at)
    if key is not None:
        session.add(
            IdempotencyRow(
                principal=principal,
                key=key,
                fingerprint=fingerprint,
                analysis_id=analysis_id,
                created_at=at,
            )
        )
    detail = {"files": [digest for _, digest in files], "request_sha256": _sha256(asked)}
    audit.append(
        session,
        [
            audit.AuditEntry(
                principal=principal,
                action="analysis.submitted",
                subject=analysis_id,
                detail=detail,
            )
        ],
    )
    session.flush()


def _fingerprint(asked: str, files: Sequence[Examined], digests: Sequence[str]) -> str:
    named = [[file.name, digest] for file, digest in zip(files, digests, strict=True)]
    return _sha256(json.dumps([json.loads(asked), named], sort_keys=True))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

"""The one door into the store: a file becomes an instance of its study, once for its bytes.

Uploads, STOW, C-STORE and our own objects all pass here. Under a known SOP Instance UID other
bytes with the same decoded pixels are a header that a PACS re-wrote; other pixels are a conflict,
kept beside the first or refused by the setting `on_conflict`. The first one stays the one that
searches find.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from app.errors import InstanceConflict, TookTooLong, WorkerDied
from app.intake.examine import Examined, facts_json
from app.jobs.processes import WorkerPlace
from app.settings import Settings
from app.store import audit
from app.store.arrivals import expect
from app.store.blobs import Blobs
from app.store.catalogue import enter, forget_empty
from app.store.database import Store
from app.store.rows import InstanceRow, SourceRow
from imaging.dicom.storage import same_pixels
from imaging.errors import ImagingError
from imaging.frame import FileFacts

T = TypeVar("T")
COMPARE_S = 120.0
OURS = "sonodose"
"""Who the objects are from that are made here."""
Outcome = Literal["stored", "already_stored", "stored_beside"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What became of a file: `stored_beside` means other bytes are known under its UID.

    `same_pixels` is then True where only the header differs, and False for another picture.
    """

    sha256: str
    outcome: Outcome
    conflicts_with: str | None = None
    same_pixels: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """How a file stands to the first one of its SOP Instance UID."""

    first: str
    same_pixels: bool


class _KnownMeanwhile(Exception):
    """Another request stored the UID after the comparison: compare again."""


def keep_instance(
    file: Examined,
    *,
    principal: str,
    store: Store,
    blobs: Blobs,
    door: WorkerPlace,
    settings: Settings,
) -> Kept:
    """Stores a file of a study without an analysis, durably and with its entry in the audit.

    The same bytes again change nothing. Raises InstanceConflict and DiskFull, nothing stored.
    """
    (kept,) = keep_instances(
        [file], principal=principal, store=store, blobs=blobs, door=door, settings=settings
    )
    if isinstance(kept, InstanceConflict):
        raise kept
    return kept


def keep_instances(
    files: Sequence[Examined],
    *,
    principal: str,
    store: Store,
    blobs: Blobs,
    door: WorkerPlace,
    settings: Settings,
) -> tuple[Kept | InstanceConflict, ...]:
    """What became of each file, in one transaction; a conflict stops its own file alone.

    Raises DiskFull with nothing stored.
    """

    def keep(
        session: Session, compared: Mapping[str, Compared]
    ) -> tuple[Kept | InstanceConflict, ...]:
        return _keep_all(session, files, compared, principal, blobs, settings)

    return write_compared(keep, files, store=store, blobs=blobs, door=door)


def _keep_all(
    session: Session,
    files: Sequence[Examined],
    compared: Mapping[str, Compared],
    principal: str,
    blobs: Blobs,
    settings: Settings,
) -> tuple[Kept | InstanceConflict, ...]:
    at = dt.datetime.now(dt.UTC)
    answers: list[Kept | InstanceConflict] = []
    entries: list[audit.AuditEntry] = []
    for file in files:
        try:
            kept = add_instance(
                session,
                file,
                compared,
                principal=principal,
                at=at,
                settings=settings,
                archived=True,
            )
        except InstanceConflict as conflict:
            answers.append(conflict)
            continue
        answers.append(kept)
        entries.append(
            audit.AuditEntry(
                principal=principal,
                action=f"instance.{kept.outcome}",
                subject=kept.sha256,
                detail={} if kept.conflicts_with is None else {"beside": kept.conflicts_with},
            )
        )
    for study, news in _studies(files, answers).items():
        expect(session, study, quiet_s=settings.study_quiet_s, at=at, news=news)
    audit.append(session, entries)
    session.flush()
    # Last, so that a refusal above leaves no file behind.
    for file, answer in zip(files, answers, strict=True):
        if isinstance(answer, Kept):
            blobs.keep(file.incoming)
    return tuple(answers)


def _studies(
    files: Sequence[Examined], answers: Sequence[Kept | InstanceConflict]
) -> dict[str, bool]:
    """The studies of the files that were kept, and whether there is anything new in each."""
    found: dict[str, bool] = {}
    for file, answer in zip(files, answers, strict=True):
        identity = file.facts.identity
        if isinstance(answer, Kept) and identity is not None and identity.study_instance_uid:
            study = identity.study_instance_uid
            found[study] = found.get(study, False) or answer.outcome != "already_stored"
    return found


def write_compared(
    write: Callable[[Session, Mapping[str, Compared]], T],
    files: Sequence[Examined],
    *,
    store: Store,
    blobs: Blobs,
    door: WorkerPlace,
) -> T:
    """What `write` gives within one transaction, told how the files stand to those stored.

    It is tried again when another request stored one of their UIDs meanwhile.
    """
    while True:
        compared = _compare(files, store=store, blobs=blobs, door=door)
        try:
            with store.write() as session:
                return write(session, compared)
        except _KnownMeanwhile:
            continue


def _compare(
    files: Sequence[Examined], *, store: Store, blobs: Blobs, door: WorkerPlace
) -> dict[str, Compared]:
    """By SHA-256, how the files stand to what is stored, or came before them, under their UIDs.

    Pixels are decoded in the process at the door, before any transaction is open.
    """
    found: dict[str, Compared] = {}
    first: dict[str, tuple[str, Path]] = {}
    with store.read() as session:
        for file in files:
            uid, digest = _uid(file), file.incoming.finish()
            if uid is None:
                continue
            if uid not in first:
                known = _first_of(session, uid)
                first[uid] = (
                    (digest, file.incoming.path) if known is None else (known, blobs.path(known))
                )
            before, path = first[uid]
            if before != digest and digest not in found:
                found[digest] = Compared(
                    first=before, same_pixels=_same(path, file.incoming.path, door)
                )
    return found


def _same(one: Path, other: Path, door: WorkerPlace) -> bool:
    try:
        return door.result(door.run(same_pixels, one, other), within_s=COMPARE_S)
    except (ImagingError, WorkerDied, TookTooLong, MemoryError):
        # What cannot be decoded cannot be shown to be the same.
        return False


def add_instance(
    session: Session,
    file: Examined,
    compared: Mapping[str, Compared],
    *,
    principal: str,
    at: dt.datetime,
    settings: Settings,
    archived: bool = False,
) -> Kept:
    """Enters a file into the caller's write transaction; its blob is kept by the caller at the end.

    `compared` is what `write_compared` hands over. Raises InstanceConflict.
    """
    digest = file.incoming.finish()
    there = session.get(InstanceRow, digest)
    if there is not None:
        there.archived = there.archived or archived
        return Kept(
            sha256=digest,
            outcome="already_stored",
            conflicts_with=there.conflicts_with,
            same_pixels=there.same_pixels,
        )
    uid = _uid(file)
    first = None if uid is None else _first_of(session, uid)
    said = None
    if first is not None:
        said = compared.get(digest)
        if said is None or said.first != first:
            raise _KnownMeanwhile
        if settings.on_conflict == "refuse" and not said.same_pixels:
            raise InstanceConflict(
                f"{file.name} has the SOP Instance UID of an image that is stored with other "
                "pixels.",
                remedy="Send the image as the scanner made it, or give the changed image its own "
                "UID.",
            )
    _add_row(
        session,
        digest,
        file.facts,
        size_bytes=file.incoming.size_bytes,
        principal=principal,
        at=at,
        first=first,
        same=None if said is None else said.same_pixels,
        archived=archived,
    )
    return Kept(
        sha256=digest,
        outcome="stored" if first is None else "stored_beside",
        conflicts_with=first,
        same_pixels=None if said is None else said.same_pixels,
    )


def add_made(
    session: Session,
    digest: str,
    facts: FileFacts,
    *,
    size_bytes: int,
    analysis_id: str,
    at: dt.datetime,
) -> None:
    """Enters an object of ours, whose blob is stored, into the study that it was made for."""
    identity = facts.identity
    if session.get(InstanceRow, digest) is not None or identity is None:
        return
    uid = identity.sop_instance_uid
    _add_row(
        session,
        digest,
        facts,
        size_bytes=size_bytes,
        principal=OURS,
        at=at,
        # It may have come back from a PACS, its header re-written, before a backup was restored.
        first=None if uid is None else _first_of(session, uid),
        same=None,
        made_for=analysis_id,
    )


def _add_row(
    session: Session,
    digest: str,
    facts: FileFacts,
    *,
    size_bytes: int,
    principal: str,
    at: dt.datetime,
    first: str | None,
    same: bool | None,
    archived: bool = False,
    made_for: str | None = None,
) -> None:
    """The row of a file, and its study and series where it is the first of its UID."""
    identity = facts.identity
    session.add(
        InstanceRow(
            sha256=digest,
            size_bytes=size_bytes,
            received_at=at,
            received_from=principal,
            sop_instance_uid=None if identity is None else identity.sop_instance_uid,
            series_instance_uid=None if identity is None else identity.series_instance_uid,
            study_instance_uid=None if identity is None else identity.study_instance_uid,
            sop_class_uid=None if identity is None else identity.sop_class_uid,
            transfer_syntax_uid=facts.transfer_syntax_uid,
            instance_number=None if identity is None else identity.instance_number,
            facts=facts_json(facts),
            conflicts_with=first,
            same_pixels=same,
            archived=archived,
            made_for=made_for,
        )
    )
    if identity is not None and first is None:
        enter(session, identity, at=at)
    session.flush()


def forget_instances(session: Session, analysis_id: str, digests: Iterable[str]) -> None:
    """Takes the files of a deleted analysis, and what was made for it, out of the store.

    What came as part of a study and what another analysis uses stays.
    """
    used = exists().where(SourceRow.sha256 == InstanceRow.sha256)
    gone = (
        InstanceRow.sha256.in_(set(digests)) & ~InstanceRow.archived
        | (InstanceRow.made_for == analysis_id)
    ) & ~used
    studies = set(session.scalars(select(InstanceRow.study_instance_uid).where(gone)))
    session.execute(delete(InstanceRow).where(gone))
    forget_empty(session, {uid for uid in studies if uid is not None})


def _uid(file: Examined) -> str | None:
    return None if file.facts.identity is None else file.facts.identity.sop_instance_uid


def _first_of(session: Session, uid: str) -> str | None:
    """The SHA-256 of the first file that came under a SOP Instance UID."""
    return session.scalar(
        select(InstanceRow.sha256)
        .where(InstanceRow.sop_instance_uid == uid, InstanceRow.conflicts_with.is_(None))
        .limit(1)
    )

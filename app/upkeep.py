"""What keeps a store in order: deletion, collection of files nothing refers to, backup, restore."""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, make_url, select

from app.analysis import State
from app.errors import NotFound, RequestConflict, StateConflict
from app.intake.archive import forget_instances
from app.settings import Settings
from app.store import audit
from app.store.blobs import Blobs
from app.store.database import Store
from app.store.object_store import open_blobs
from app.store.records import analysis_row
from app.store.rows import (
    AdministrationRow,
    AnalysisRow,
    ConfirmationRow,
    DeliveryRow,
    IdempotencyRow,
    InstanceRow,
    JobRow,
    MaskRow,
    ObjectRow,
    RevisionRow,
    RoutedRow,
    SourceRow,
)

GRACE_S = 3600.0
"""A file younger than this may belong to a write that is not committed yet, and is kept."""
OF_AN_ANALYSIS = (
    MaskRow,
    ObjectRow,
    DeliveryRow,
    JobRow,
    IdempotencyRow,
    ConfirmationRow,
    AdministrationRow,
    RevisionRow,
    RoutedRow,
    SourceRow,
)
DATABASE = "sonodose.sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection removed."""

    blobs: int
    size_bytes: int
    leftovers: int


def delete_analysis(store: Store, analysis_id: str, *, principal: str, reason: str) -> None:
    """Removes an analysis with all its revisions; the audit keeps that it was there and why.

    Its files go with the next collection, unless another analysis has them too. Raises NotFound,
    and StateConflict while a job works on it.
    """
    with store.write() as session:
        row = analysis_row(session, analysis_id)
        if row.state == State.RUNNING:
            raise StateConflict(
                "The analysis is being made.", remedy="Cancel it first, then delete it."
            )
        hashes = list(
            session.scalars(select(SourceRow.sha256).where(SourceRow.analysis_id == analysis_id))
        )
        for kind in OF_AN_ANALYSIS:
            session.execute(delete(kind).where(kind.analysis_id == analysis_id))
        session.delete(row)
        session.flush()
        forget_instances(session, analysis_id, hashes)
        audit.append(
            session,
            [
                audit.AuditEntry(
                    principal=principal,
                    action="analysis.deleted",
                    subject=analysis_id,
                    detail={"reason": reason, "state": row.state, "revisions": row.revision},
                )
            ],
        )


def past_retention(store: Store, days: int, *, at: dt.datetime) -> list[str]:
    """The analyses that nobody touched for so many days and that were never carried out."""
    with store.read() as session:
        given = select(AdministrationRow.analysis_id)
        return list(
            session.scalars(
                select(AnalysisRow.id)
                .where(AnalysisRow.updated_at < at - dt.timedelta(days=days))
                .where(AnalysisRow.state.not_in([State.QUEUED, State.RUNNING]))
                .where(AnalysisRow.id.not_in(given))
            )
        )


def collect(store: Store, blobs: Blobs, *, grace_s: float = GRACE_S) -> Collected:
    """Removes stored files that no row refers to, and uploads that never ended."""
    oldest = time.time() - grace_s
    with store.read() as session:
        known = {
            *session.scalars(select(InstanceRow.sha256)),
            *session.scalars(select(MaskRow.sha256)),
            *session.scalars(select(ObjectRow.sha256)),
        }
    count = size = 0
    for digest in blobs.digests():
        if digest in known:
            continue
        with contextlib.suppress(NotFound):
            size_bytes, stored_at = blobs.facts(digest)
            if stored_at < oldest:
                blobs.delete(digest)
                count, size = count + 1, size + size_bytes
    return Collected(blobs=count, size_bytes=size, leftovers=blobs.clear_staging(oldest))


def tidy(store: Store, blobs: Blobs, settings: Settings) -> Collected:
    """Deletes what is past the site's retention, then collects."""
    if settings.retention_days is not None:
        now = dt.datetime.now(dt.UTC)
        for analysis_id in past_retention(store, settings.retention_days, at=now):
            with contextlib.suppress(StateConflict):
                delete_analysis(store, analysis_id, principal="service", reason="retention")
    return collect(store, blobs)


def backup(settings: Settings, target: Path) -> int:
    """How many files were copied into `target`: the database as of one moment, then its blobs.

    The service may run meanwhile. Raises RequestConflict for another database than SQLite, whose
    own tools make its backups, and for a target that is not empty.
    """
    source = _sqlite_file(settings)
    if target.exists() and any(target.iterdir()):
        raise RequestConflict(
            f"{target} is not empty.", remedy="Give a new folder for each backup."
        )
    target.mkdir(parents=True, exist_ok=True)
    with (
        contextlib.closing(sqlite3.connect(source)) as live,
        contextlib.closing(sqlite3.connect(target / DATABASE)) as copy,
    ):
        live.backup(copy)
    # After the database: every file that it names was there before it was copied.
    blobs, kept = open_blobs(settings), Blobs(target / "blobs")
    count = 0
    for digest in blobs.digests():
        place = kept.root / digest[:2]
        place.mkdir(exist_ok=True)
        shutil.copy2(blobs.path(digest), place / digest)
        count += 1
    return count


def restore(settings: Settings, source: Path) -> int:
    """How many files came back from a backup into an empty data folder, each checked by its hash.

    Raises RequestConflict for a folder that is no backup, a damaged one, or a data folder in use.
    """
    target = _sqlite_file(settings)
    if target.exists():
        raise RequestConflict(
            f"{settings.data_dir} already holds a database.",
            remedy="Restore into an empty folder (SONODOSE_DATA_DIR), then start on it.",
        )
    if not (source / DATABASE).is_file():
        raise RequestConflict(
            f"{source} is no backup.", remedy="Give a folder that `sonodose backup` made."
        )
    saved, blobs = Blobs(source / "blobs"), open_blobs(settings)
    count = 0
    for digest in saved.digests():
        with saved.path(digest).open("rb") as file, blobs.incoming() as incoming:
            while data := file.read(1 << 20):
                incoming.write(data)
            if incoming.finish() != digest:
                raise RequestConflict(
                    f"The backup's file {digest} was changed.",
                    remedy="Use another backup: nothing was put in service.",
                )
            blobs.keep(incoming)
            count += 1
    # Last: without its database the folder is not in use, whatever happened above.
    shutil.copy2(source / DATABASE, target)
    store = Store(settings.database)
    store.migrate()
    store.close()
    return count


def _sqlite_file(settings: Settings) -> Path:
    url = make_url(settings.database)
    if url.get_backend_name() != "sqlite" or not url.database:
        raise RequestConflict(
            "The database is not SQLite.",
            remedy="Use the database's own backup (pg_dump), and copy the files after it.",
        )
    return Path(url.database)

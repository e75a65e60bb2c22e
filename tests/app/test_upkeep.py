"""Deletion, collection, backup and restore lose nothing that somebody still needs."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest
from sqlalchemy import func, select

from app import upkeep
from app.errors import NotFound, RequestConflict, StateConflict
from app.services import Services
from app.settings import Settings
from app.store import audit
from app.store.rows import Row
from tests.app import studies, workloads
from tests.app.conftest import POSTGRES, Opener, send, state_of, until

sqlite_only = pytest.mark.skipif(
    POSTGRES in os.environ, reason="PostgreSQL is backed up by its own tools"
)


def rows(parts: Services) -> dict[str, int]:
    with parts.store.read() as session:
        return {
            name: session.scalar(select(func.count()).select_from(table)) or 0
            for name, table in Row.metadata.tables.items()
            if name != "audit"
        }


def test_a_deleted_analysis_leaves_only_its_audit(opened: Opener) -> None:
    """Rows and files go, what another analysis shares stays, and the audit tells who and why."""
    parts = opened()
    shared = studies.dicom_still()
    kept, gone = send(parts, shared), send(parts, shared)
    until(parts, kept, "draft")
    until(parts, gone, "draft")
    upkeep.delete_analysis(parts.store, gone, principal="admin", reason="sent twice")
    with pytest.raises(NotFound):
        state_of(parts, gone)
    upkeep.collect(parts.store, parts.blobs, grace_s=-1)
    record = state_of(parts, kept)
    assert parts.blobs.read(record.files[0].sha256) == shared
    upkeep.delete_analysis(parts.store, kept, principal="admin", reason="sent twice")
    upkeep.collect(parts.store, parts.blobs, grace_s=-1)
    assert list(parts.blobs.digests()) == []
    assert set(rows(parts).values()) == {0}
    with parts.store.read() as session:
        assert audit.verify(session)[1] is None
        said = list(session.scalars(select(audit.AuditRow.detail)))
    assert any("sent twice" in detail for detail in said)


def test_what_is_being_made_is_not_deleted(opened: Opener) -> None:
    """A running analysis is refused: it is cancelled first."""
    parts = opened(workloads.slow, drain_s=0)
    analysis_id = send(parts)
    until(parts, analysis_id, "running")
    with pytest.raises(StateConflict):
        upkeep.delete_analysis(parts.store, analysis_id, principal="admin", reason="x")


def test_collection_spares_young_files(opened: Opener) -> None:
    """A file without a row is kept for an hour: its row may be on its way."""
    parts = opened(start=False)
    parts.store.migrate()
    parts.blobs.put(b"orphan")
    assert upkeep.collect(parts.store, parts.blobs).blobs == 0
    assert upkeep.collect(parts.store, parts.blobs, grace_s=-1).blobs == 1
    parts.store.close()


def test_retention_spares_what_was_carried_out(opened: Opener) -> None:
    """Only analyses past their time are named, and none that was administered."""
    parts = opened()
    analysis_id = send(parts)
    until(parts, analysis_id, "draft")
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=31)
    assert upkeep.past_retention(parts.store, 40, at=later) == []
    assert upkeep.past_retention(parts.store, 30, at=later) == [analysis_id]


@sqlite_only
def test_a_backup_comes_back_whole(opened: Opener, tmp_path: Path) -> None:
    """A backup of a running service restores to the same analyses and files."""
    parts = opened()
    analysis_id = send(parts)
    record = until(parts, analysis_id, "draft")
    saved = tmp_path / "backup"
    assert upkeep.backup(parts.settings, saved) == len(list(parts.blobs.digests()))
    with pytest.raises(RequestConflict):
        upkeep.backup(parts.settings, saved)
    with pytest.raises(RequestConflict):
        upkeep.restore(parts.settings, saved)
    other = Settings(data_dir=tmp_path / "other", workers=1)
    upkeep.restore(other, saved)
    again = opened(data_dir=other.data_dir)
    assert state_of(again, analysis_id) == record
    assert again.blobs.read(record.files[0].sha256) == parts.blobs.read(record.files[0].sha256)


@sqlite_only
def test_a_damaged_backup_is_not_put_in_service(opened: Opener, tmp_path: Path) -> None:
    """A changed file of a backup is found by its hash, before the database is in its place."""
    parts = opened()
    until(parts, send(parts), "draft")
    saved = tmp_path / "backup"
    upkeep.backup(parts.settings, saved)
    victim = next((saved / "blobs").glob("[0-9a-f][0-9a-f]/*"))
    victim.chmod(0o600)
    victim.write_bytes(b"changed")
    other = Settings(data_dir=tmp_path / "other", workers=1)
    with pytest.raises(RequestConflict, match="changed"):
        upkeep.restore(other, saved)
    assert not (tmp_path / "other" / "sonodose.sqlite").exists()

"""The store keeps what it was told, in the shape that the code expects."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path
from sqlite3 import ProgrammingError
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.errors import DiskFull, NotFound
from app.settings import Settings, settings_table
from app.store import audit
from app.store.audit import AuditEntry, AuditFault, ViewLog
from app.store.blobs import Blobs
from app.store.database import Store
from app.store.records import new_id
from app.store.rows import AuditRow, Row
from tests.app.conftest import fresh_database

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(f"sqlite:///{tmp_path / 'test.sqlite'}")
    made.migrate()
    return made


def entry(number: int) -> AuditEntry:
    return AuditEntry(principal="p", action="a", subject=str(number), detail={"n": number})


def test_migrations_make_the_tables_that_the_code_expects(store: Store) -> None:
    """Autogenerate finds nothing to add to the migrations, and a second run changes nothing."""
    store.migrate()
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Row.metadata) == []
    store.close()


def test_sqlite_is_opened_for_durability(store: Store) -> None:
    """WAL, full synchronisation, foreign keys and a busy timeout are on."""
    with store.read() as session:
        found = {
            name: session.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 30_000,
    }
    store.close()


def test_a_store_that_closes_under_a_session_leaves_no_connection_open(store: Store) -> None:
    """What a late thread still reads ends well, and its connection is closed, not kept."""
    with store.read() as session:
        driver: Any = session.connection().connection.dbapi_connection
        store.close()
        assert session.execute(text("SELECT 1")).scalar() == 1
    with pytest.raises(ProgrammingError, match="closed"):
        driver.execute("SELECT 1")


def test_a_write_is_all_or_nothing(store: Store) -> None:
    """An error within a write leaves nothing of it."""

    def half() -> None:
        with store.write() as session:
            audit.append(session, [entry(1)])
            raise KeyError("in the middle")

    with pytest.raises(KeyError):
        half()
    with store.read() as session:
        assert audit.verify(session) == (0, None)
    store.close()


def test_the_audit_grows_in_one_chain(store: Store) -> None:
    """Entries of many threads form one unbroken chain."""

    def add(first: int) -> None:
        for number in range(first, first + 10):
            with store.write() as session:
                audit.append(session, [entry(number)])

    threads = [threading.Thread(target=add, args=(100 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as session:
        assert audit.verify(session) == (40, None)
    store.close()


@pytest.mark.parametrize(
    ("change", "at", "word"),
    [
        ("UPDATE audit SET detail = '{}' WHERE seq = 2", 2, "changed"),
        ("UPDATE audit SET principal = 'q' WHERE seq = 3", 3, "changed"),
        ("DELETE FROM audit WHERE seq = 2", 2, "missing"),
        ("DELETE FROM audit WHERE seq = 1", 1, "missing"),
        ("UPDATE audit SET previous = digest WHERE seq = 2", 2, "follow"),
    ],
)
def test_the_audit_shows_what_was_tampered_with(
    store: Store, change: str, at: int, word: str
) -> None:
    """A changed, removed or re-linked entry is found at its place."""
    with store.write() as session:
        audit.append(session, [entry(n) for n in range(4)])
    with store.write() as session:
        for what in ("update", "delete"):
            session.execute(text(f"DROP TRIGGER audit_no_{what}"))
        session.execute(text(change))
    with store.read() as session:
        _, fault = audit.verify(session)
    assert fault is not None
    assert fault.seq == at
    assert word in fault.reason
    store.close()


def test_a_seal_shows_what_the_chain_cannot(tmp_path: Path) -> None:
    """Newest entries cut off, or a chain made anew: either holds in itself, the seal does not."""
    stores = [Store(f"sqlite:///{tmp_path / name}") for name in ("one", "other")]
    for store, first in zip(stores, (0, 10), strict=True):
        store.migrate()
        with store.write() as session:
            audit.append(session, [entry(first + n) for n in range(4)])
    with stores[0].read() as session:
        seal = audit.seal_of(session)
        assert audit.broken_seal(session, seal) is None
    with stores[1].read() as session:
        assert audit.verify(session) == (4, None)
        fault = audit.broken_seal(session, seal)
        assert fault == AuditFault(seq=4, reason="it is another entry than the sealed one")
    with stores[0].write() as session:
        session.execute(text("DROP TRIGGER audit_no_delete"))
        session.execute(text("DELETE FROM audit WHERE seq > 2"))
    with stores[0].read() as session:
        assert audit.verify(session) == (2, None)
        fault = audit.broken_seal(session, seal)
        assert fault is not None
        assert "cut off" in fault.reason
        for wrong in ("", "4", "4:abc", "x:" + seal[2:], "-1:" + seal[2:]):
            with pytest.raises(ValueError, match="is no seal"):
                audit.broken_seal(session, wrong)
    for store in stores:
        store.close()


@pytest.mark.parametrize(
    "change",
    ["UPDATE audit SET detail = '{}'", "DELETE FROM audit WHERE seq = 3", "DELETE FROM audit"],
)
def test_the_audit_takes_entries_and_gives_none_back(tmp_path: Path, change: str) -> None:
    """The database itself refuses to change or remove an entry, on SQLite and on PostgreSQL."""
    sqlite = f"sqlite:///{tmp_path / 'test.sqlite'}"
    store = Store(fresh_database().get("database_url", sqlite))
    store.migrate()
    with store.write() as session:
        audit.append(session, [entry(n) for n in range(3)])
    with pytest.raises(DBAPIError, match="append-only"), store.write() as session:
        session.execute(text(change))
    with store.write() as session:
        audit.append(session, [entry(3)])
    with store.read() as session:
        assert audit.verify(session) == (4, None)
    store.close()


def test_views_are_written_soon_and_at_the_end(store: Store) -> None:
    """A noted view is in the audit once the log is closed, and survives a failing write."""
    views = ViewLog(store)
    views.note(entry(1))
    whole, store.write = store.write, None
    with pytest.raises(TypeError):
        views.flush()
    store.write = whole
    views.start()
    views.note(entry(2))
    views.close()
    with store.read() as session:
        subjects = list(session.scalars(audit.select(AuditRow.subject).order_by(AuditRow.seq)))
    assert subjects == ["1", "2"]
    store.close()


def test_a_blob_is_named_by_its_bytes(tmp_path: Path) -> None:
    """Equal bytes are one blob, and a blob reads as it was written."""
    blobs = Blobs(tmp_path)
    digest = blobs.put(b"x" * 100_000)
    assert digest == hashlib.sha256(b"x" * 100_000).hexdigest()
    assert blobs.put(b"x" * 100_000) == digest
    assert list(blobs.digests()) == [digest]
    assert blobs.read(digest) == b"x" * 100_000
    assert list(blobs.staging.iterdir()) == []


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    """What was not kept is gone, and a leftover of a killed service is cleared."""
    blobs = Blobs(tmp_path)
    with blobs.incoming() as incoming:
        incoming.write(b"half")
    assert list(blobs.digests()) == []
    (blobs.staging / "leftover").write_bytes(b"half")
    assert blobs.clear_staging(time.time() - 60) == 0
    assert blobs.clear_staging(time.time() + 60) == 1
    assert list(blobs.staging.iterdir()) == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "a" * 63, "a" * 64 + "/"])
def test_only_a_digest_becomes_a_path(tmp_path: Path, name: str) -> None:
    """A name that is no SHA-256 never reaches the file system."""
    with pytest.raises(ValueError, match="SHA-256"):
        Blobs(tmp_path).path(name)


def test_a_missing_blob_and_a_full_disk_are_told(tmp_path: Path) -> None:
    """Both are errors with a way out."""
    with pytest.raises(NotFound):
        Blobs(tmp_path).read("a" * 64)
    with pytest.raises(DiskFull):
        Blobs(tmp_path, min_free_bytes=1 << 60).incoming()


def test_ids_sort_by_time_and_are_not_guessed() -> None:
    """Ids are version 7 UUIDs: later ones sort after earlier ones, and none comes twice."""
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [i[:12] for i in ids] == sorted(i[:12] for i in ids)
    assert all(i[12] == "7" and i[16] in "89ab" for i in ids)


def test_settings_are_documented() -> None:
    """docs/settings.md holds exactly the settings that there are."""
    assert settings_table() in (ROOT / "docs" / "settings.md").read_text("utf-8")


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """SONODOSE_ variables are read and checked."""
    monkeypatch.setenv("SONODOSE_WORKERS", "3")
    monkeypatch.setenv("SONODOSE_CORS_ORIGINS", '["https://a.example"]')
    assert (Settings().workers, Settings().cors_origins) == (3, ("https://a.example",))
    monkeypatch.setenv("SONODOSE_WORKERS", "0")
    with pytest.raises(ValueError, match="workers"):
        Settings()
    assert os.environ["SONODOSE_WORKERS"] == "0"

"""The database behind two doors: `read()` for a snapshot, `write()` for one all-or-nothing change.

SQLite in WAL mode by default, PostgreSQL by a URL. A write takes SQLite's single writer's place
at once (BEGIN IMMEDIATE), so that what it reads is still true when it writes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event, make_url, text
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

BUSY_TIMEOUT_MS = 30_000
MIGRATIONS = Path(__file__).parent / "migrations"
AUDIT_LOCK = 0x50_4E_4F
"""PostgreSQL's advisory lock under which the audit chain grows by one link at a time."""


class Store:
    """A migrated database."""

    def __init__(self, url: str) -> None:
        # SQLite has one writer. Whoever waits in line here goes on at once; in SQLite's own line
        # it would sleep and try again, up to 0.1 s each time.
        self._turn: AbstractContextManager[object] = nullcontext()
        if make_url(url).get_backend_name() == "sqlite":
            self.engine = _sqlite(url)
            self._turn = threading.Lock()
        else:
            self.engine = create_engine(url, pool_size=20, max_overflow=20, pool_pre_ping=True)
        self._writing = self.engine.execution_options(sonodose_write=True)
        self._closed = False
        event.listen(self.engine, "checkin", self._given_back)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session over one consistent snapshot; nothing is kept of what it changes."""
        with Session(self.engine, expire_on_commit=False, autoflush=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that is committed at the end, or rolled back whole on any error."""
        with (
            self._turn,
            Session(self._writing, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def migrate(self) -> None:
        """Brings the tables to this version's shape; nothing is done when they have it."""
        with self._writing.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": AUDIT_LOCK})
            command.upgrade(alembic_config(connection), "head")

    def close(self) -> None:
        """Closes the connections: the idle ones now, one in use when its session ends."""
        self._closed = True
        self.engine.dispose()

    def _given_back(self, connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        # The pool that lent it is disposed of by then and would keep it open for nobody.
        if self._closed and connection is not None:
            entry.invalidate()


def alembic_config(connection: Connection) -> Config:
    """Alembic over the packaged migrations and an open connection."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _sqlite(url: str) -> Engine:
    engine = create_engine(url, poolclass=QueuePool, pool_size=20, max_overflow=20)

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _record: Any) -> None:
        # The driver's own transactions would begin late and deferred: they are begun below.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("sonodose_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine

"""Whether everything is here that the service needs, one line a finding."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from importlib.metadata import version

from app import audit
from app.clinic.tables import load_tables
from app.object_store import open_blobs
from app.settings import Settings
from app.shipped import check_shipped
from app.store import Store
from app.worker import segmenter

PACKAGES = (
    "pydicom",
    "python-gdcm",
    "pylibjpeg",
    "pylibjpeg-openjpeg",
    "pylibjpeg-rle",
    "pyjpegls",
    "opencv-python-headless",
    "onnxruntime",
    "fastapi",
    "sqlalchemy",
)


def examine(settings: Settings) -> int:
    """The exit code: 1 if any finding is bad. Each finding is printed."""
    findings: tuple[tuple[str, Callable[[], str]], ...] = (
        ("python", platform.python_version),
        ("packages", lambda: ", ".join(f"{name} {version(name)}" for name in PACKAGES)),
        ("shipped", lambda: f"{check_shipped()} tables and weights are as released"),
        ("tables", lambda: _tables(settings)),
        ("network", lambda: f"loaded: {type(segmenter()).__name__}"),
        ("disk", lambda: _disk(settings)),
        ("database", lambda: _database(settings)),
    )
    bad = 0
    for name, look in findings:
        try:
            print(f"ok   {name}: {look()}")
        except Exception as error:
            bad += 1
            print(f"BAD  {name}: {error}")
    return 1 if bad else 0


def _tables(settings: Settings) -> str:
    tables = load_tables(settings.table_override)
    return f"version {tables.version}, sha256 {tables.sha256}"


def _disk(settings: Settings) -> str:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    open_blobs(settings).check_space()
    free = shutil.disk_usage(settings.data_dir).free
    return f"{free / 2**30:.1f} GiB free in {settings.data_dir}"


def _database(settings: Settings) -> str:
    store = Store(settings.database)
    store.migrate()
    with store.read() as session:
        count, fault = audit.verify(session)
    store.close()
    if fault is not None:
        raise RuntimeError(f"the audit does not hold at entry {fault.seq}: {fault.reason}")
    return f"{store.engine.dialect.name}, {count} audit entries hold"

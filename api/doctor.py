"""Whether everything is here that the service needs, one line a finding."""

from __future__ import annotations

import datetime as dt
import json
import platform
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from sqlalchemy import select

from app.analysis import SourceFile
from app.clinic.tables import load_tables
from app.jobs import canary
from app.jobs.worker import AnalysisTask, run_analysis
from app.settings import Settings
from app.shipped import check_shipped
from app.store import audit
from app.store.database import Store
from app.store.object_store import open_blobs
from app.store.rows import InstanceRow
from imaging.limits import DecodeLimits

SYNTAXES = {
    "RLE": RLELossless,
    "JPEG": JPEGBaseline8Bit,
    "JPEG extended": JPEGExtended12Bit,
    "JPEG lossless": JPEGLosslessSV1,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000,
    "HTJ2K": HTJ2K,
}
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
        ("codecs", _codecs),
        ("network", _network),
        ("an image", _image),
        ("disk", lambda: _disk(settings)),
        ("files", lambda: _files(settings)),
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


def _codecs() -> str:
    """The transfer syntaxes that can be decoded. Raises RuntimeError for one that cannot."""
    lacking = [name for name, uid in SYNTAXES.items() if not get_decoder(uid).is_available]
    if lacking:
        raise RuntimeError(f"no decoder for {', '.join(lacking)}")
    return ", ".join(SYNTAXES)


def _network() -> str:
    said = canary.check()
    return f"gives its known answer, weights sha256 {said['weights_sha256']}"


def _image() -> str:
    """A picture through everything: decoded, measured by an outline of known area, planned."""
    request = {
        "muscle": "biceps_brachii",
        "side": "left",
        "view": "short_axis",
        "product": "XEOMIN",
        "indication": "upper_limb_spasticity",
        "calibration": {"row_mm_per_px": 0.2, "column_mm_per_px": 0.2},
        "outlines": [{"points": [[80, 60], [240, 60], [240, 180], [80, 180]]}],
    }
    with TemporaryDirectory() as folder:
        path = Path(folder) / "doctor.png"
        Image.fromarray(canary.picture()).save(path)
        task = AnalysisTask(
            sources=(SourceFile(path=str(path), name=path.name),),
            request_json=json.dumps(request),
            today=dt.date.today().isoformat(),
            limits=DecodeLimits(),
        )
        analysis = run_analysis(task)
    area_mm2 = analysis.plan["frames"][0]["section"]["area_mm2"]
    if abs(area_mm2 - 768) > 8:
        raise RuntimeError(f"an outline of 768 mm² was measured as {area_mm2} mm²")
    return f"{analysis.state}, {area_mm2:g} mm² of 768"


def _files(settings: Settings) -> str:
    """Every stored instance has its file. Raises RuntimeError for those that have none."""
    store, blobs = Store(settings.database), open_blobs(settings)
    store.migrate()
    with store.read() as session:
        named = set(session.scalars(select(InstanceRow.sha256)))
    store.close()
    missing = named - set(blobs.digests())
    if missing:
        raise RuntimeError(f"{len(missing)} of {len(named)} files are missing: {min(missing)}, …")
    return f"{len(named)} instances, all there"


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

"""Studies on their way out of the house: without the person, in one ZIP with a report."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.analysis import SourceFile
from app.clinic.tables import ClinicalTables
from app.errors import RequestConflict
from app.jobs.processes import WorkerPlace
from app.settings import Settings
from app.store import audit
from app.store.blobs import Blobs
from app.store.database import Store
from app.store.records import AnalysisRecord
from imaging.dicom.deidentify import Dates, Report, Site, deidentify_file
from imaging.errors import ImagingError
from imaging.limits import DecodeLimits

EXPORT_S = 300.0
ONE_AT_A_TIME = threading.Lock()
KEY_BYTES = 32
_WORDS = """
ultrasound sonography muscle nerve left right transverse longitudinal panoramic sweep clip still
musculoskeletal botulinum toxin injection guidance forearm upper lower arm leg neck calf thigh
face hand foot shoulder
"""
WORDS = frozenset(_WORDS.split())
"""Words of a description that name nobody. Not `long` or `short`: people are called so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A file on its way out, and what was done to it; `refused` says why it stayed."""

    file: str
    report: Report | None = None
    refused: str | None = None


def site_of(settings: Settings, tables: ClinicalTables, dates: Dates) -> Site:
    """What this site makes pseudonyms with; its key is made when it is first needed."""
    named = {word for name in tables.muscles for word in name.lower().split("_")}
    return Site(
        key=site_key(settings.data_dir / "deidentification.key"),
        dates=dates,
        # Short words and initials are left out: they may be a person's.
        words=WORDS | {word for word in named if len(word) > 4},
        uid_root=settings.uid_root,
    )


def site_key(path: Path) -> bytes:
    """The key in this file, 32 bytes as hex, readable by the service alone.

    Raises RequestConflict for a damaged file: another key would give patients new pseudonyms.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(KEY_BYTES))
    try:
        key = bytes.fromhex(path.read_text("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise RequestConflict(
            f"The key of the pseudonyms in {path.name} is damaged.",
            remedy="Put it back from a backup; without it patients get other pseudonyms.",
        )
    return key


def export_analysis(
    record: AnalysisRecord,
    *,
    site: Site,
    principal: str,
    store: Store,
    blobs: Blobs,
    memory_bytes: int,
    limits: DecodeLimits,
) -> Path:
    """The ZIP of the analysis's images without the person, for the caller to send and delete.

    Raises RequestConflict for files that are not DICOM, and ImagingError for an image that
    cannot be made safe: all leave, or none.
    """
    if any(file.facts["media"] != "dicom" for file in record.files):
        raise RequestConflict(
            "Pictures and videos that are not DICOM are not de-identified here.",
            remedy="Send the DICOM images of the study; who is on a plain picture only eyes tell.",
        )
    sources = tuple(
        SourceFile(path=str(blobs.path(file.sha256)), name=file.name) for file in record.files
    )
    target = blobs.staging / f"export-{secrets.token_hex(16)}.zip"
    # In a process of its own: a long clip must not hold up the door, where files come in.
    place = WorkerPlace(memory_bytes=memory_bytes)
    try:
        with ONE_AT_A_TIME:
            made = place.run(write_archive, sources, str(target), site, limits)
            done = place.result(made, within_s=EXPORT_S)
        entry = audit.AuditEntry(
            principal=principal,
            action="analysis.exported",
            subject=record.id,
            detail={"files": done, "dates": site.dates},
        )
        # In the audit before a byte leaves.
        with store.write() as session:
            audit.append(session, [entry])
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    finally:
        place.close()
    return target


def write_archive(
    sources: Sequence[SourceFile], target: str, site: Site, limits: DecodeLimits
) -> int:
    """How many images went into the ZIP at `target`; run in the worker. Raises ImagingError."""
    exported = []
    with (
        TemporaryDirectory(dir=Path(target).parent) as folder,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive,
    ):
        for number, source in enumerate(sources, 1):
            made = Path(folder) / "image.dcm"
            report = deidentify_file(
                Path(source.path), made, name=source.name, site=site, limits=limits
            )
            # The sender's file name may be a person's.
            name = f"images/{number:04}.dcm"
            archive.write(made, name)
            exported.append(Exported(file=name, report=report))
        archive.writestr("report.json", report_json(exported, site))
    return len(exported)


def export_files(
    paths: Sequence[Path], out: Path, *, site: Site, limits: DecodeLimits
) -> list[Exported]:
    """Every file made safe into the folder `out` with `report.json`; others are refused by name."""
    out.mkdir(parents=True, exist_ok=True)
    exported = []
    for number, path in enumerate(paths, 1):
        name = f"{number:04}.dcm"
        try:
            report = deidentify_file(path, out / name, name=path.name, site=site, limits=limits)
        except ImagingError as refused:
            exported.append(Exported(file=name, refused=refused.code))
        else:
            exported.append(Exported(file=name, report=report))
    (out / "report.json").write_text(report_json(exported, site), "utf-8")
    return exported


def report_json(exported: Sequence[Exported], site: Site) -> str:
    """What was done to each image: tags and counts, never a value, a name or an original UID."""
    told: dict[str, Any] = {
        "profile": "PS3.15 E.1 Basic Application Level Confidentiality Profile",
        "options": ["Clean Pixel Data", "Clean Descriptors"],
        "dates": site.dates,
        "not_looked_for": "writing within the ultrasound picture itself, and a recognisable face",
        "images": [
            {key: value for key, value in asdict(each).items() if value is not None}
            for each in exported
        ],
    }
    return json.dumps(told, indent=1) + "\n"

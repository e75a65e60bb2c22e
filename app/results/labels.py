"""Confirmed and corrected outlines as collections to train on, without the person.

Each view is a folder as `models/training/paired.py` reads it. A picture holds the ultrasound alone,
what is written around it is black; its name is the patient's pseudonym and its own, both made with
the site's key, so that the pictures of one patient stay on one side of a split.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from app.analysis import State
from app.errors import JobLost
from app.jobs.processes import WorkerPlace
from app.results.export import EXPORT_S
from app.store.blobs import Blobs
from app.store.database import Store
from app.store.records import AnalysisRecord, FileRecord, load
from app.store.rows import AnalysisRow
from imaging.blank import blanked, shown_part
from imaging.dicom.deidentify import Site
from imaging.errors import ImagingError
from imaging.frame import plan_name
from imaging.limits import DecodeLimits
from imaging.mask import grey_png, mask_png, masks_from_png
from imaging.read import read_clip

VIEWS = ("short_axis", "long_axis")


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """How many outlines were written, and why each of the others was not."""

    written: int
    left: tuple[str, ...]


def export_labels(
    out: Path,
    *,
    store: Store,
    blobs: Blobs,
    site: Site,
    limits: DecodeLimits,
    memory_bytes: int,
) -> Labels:
    """Writes `confirmed-short_axis` and `confirmed-long_axis`; the same store gives the same files.

    An outline counts if a clinician confirmed its revision, or if a person drew it.
    """
    place = WorkerPlace(memory_bytes=memory_bytes)
    written, left = 0, []
    try:
        for record, frame, file in _outlined(store):
            view = record.plan["target"]["view"] if record.plan else None
            if view not in VIEWS:
                left.append(f"{record.id} frame {frame['key']}: its view is not known")
                continue
            folder = out / f"confirmed-{view}"
            work = place.run(
                labelled,
                blobs.path(file.sha256),
                frame["frame"],
                blobs.read(record.masks[frame["key"]]),
                limits,
            )
            try:
                picture, mask = place.result(work, within_s=EXPORT_S)
            except (ImagingError, JobLost) as refused:
                left.append(f"{record.id} frame {frame['key']}: {refused.message}")
                continue
            _describe(folder, view)
            name = f"{_patient(record, site)}_{_hash(site, 'frame', _place_of(file, frame))}.png"
            (folder / "images" / name).write_bytes(picture)
            (folder / "masks" / name).write_bytes(mask)
            written += 1
    finally:
        place.close()
    return Labels(written=written, left=tuple(left))


def labelled(path: Path, frame: int, labels: bytes, limits: DecodeLimits) -> tuple[bytes, bytes]:
    """(picture, mask) of a frame as PNG, cut to the ultrasound; runs in a worker.

    Raises PictureNotFound where the ultrasound cannot be told from what is written around it.
    """
    clip = read_clip(path, name="picture", frames=[frame], limits=limits)
    pixels = clip.frames[0].pixels
    part = shown_part(pixels, [clip.region] if clip.region else [], "the picture")
    return grey_png(blanked(pixels, part)), mask_png(masks_from_png(labels).muscle)


def _outlined(store: Store) -> Iterator[tuple[AnalysisRecord, dict[str, Any], FileRecord]]:
    with store.read() as session:
        ids = list(
            session.scalars(
                select(AnalysisRow.id)
                .where(AnalysisRow.state.in_([State.CONFIRMED, State.DRAFT]))
                .order_by(AnalysisRow.id)
            )
        )
    for analysis_id in ids:
        with store.read() as session:
            record = load(session, analysis_id)
        if record.plan is None:
            continue
        files = {
            plan_name(f.name, (f.facts.get("identity") or {}).get("sop_instance_uid")): f
            for f in record.files
        }
        for frame in record.plan["frames"]:
            sure = record.state is State.CONFIRMED or frame["outlined_by"] == "operator"
            if sure and frame["outlined_by"] is not None and frame["key"] in record.masks:
                yield record, frame, files[frame["file"]]


def _describe(folder: Path, view: str) -> None:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    said = {
        "images": "images/*.png",
        "masks": "masks/{stem}.png",
        "view": view,
        "group": "^([0-9a-f]{16})_",
        "confidence": "high",
        "licence": "the site's own",
        "source": "outlines that clinicians confirmed or drew, exported by sonodose",
    }
    (folder / "collection.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


def _patient(record: AnalysisRecord, site: Site) -> str:
    # Nobody knows whose a picture without a patient is: it stays with its own analysis.
    known = record.patient_id
    return _hash(site, "patient", known) if known else _hash(site, "analysis", record.id)


def _place_of(file: FileRecord, frame: dict[str, Any]) -> str:
    return f"{file.sha256}|{frame['frame']}"


def _hash(site: Site, kind: str, value: str) -> str:
    said = f"label {kind}|{value}".encode()
    return hmac.new(site.key, said, hashlib.sha256).hexdigest()[:16]

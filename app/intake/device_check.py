"""A file of a new scanner: what works of it here and what does not, step by step; nothing is kept.

It runs in a process of its own, as all reading of pixels does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.jobs.worker import segmenter
from imaging.dicom.read import read_header, syntax_of
from imaging.dicom.regions import DATA_TYPES, SPATIAL_FORMATS, read_regions
from imaging.errors import ImagingError
from imaging.frame import Clip
from imaging.limits import DecodeLimits
from imaging.quality import grade
from imaging.read import peek, read_clip
from imaging.ruler import find_ruler
from imaging.sector import find_sector

CHECK_S = 60.0


def check_device(path: Path, name: str, limits: DecodeLimits) -> dict[str, Any]:
    """Each step with `works` and what was found; after a step that fails the rest is left out."""
    found: dict[str, Any] = {}
    steps: tuple[tuple[str, Callable[[], dict[str, Any]]], ...] = (
        ("file", lambda: _file(path, name, limits)),
        ("regions", lambda: _regions(path, name, limits, found["file"]["media"])),
        ("picture", lambda: _picture(path, name, limits)),
    )
    for step, look in steps:
        try:
            found[step] = look()
        except ImagingError as refused:
            found[step] = {"works": False, "problem": refused.message, "remedy": refused.remedy}
            return found
    found.update(found.pop("picture"))
    return found


def _file(path: Path, name: str, limits: DecodeLimits) -> dict[str, Any]:
    facts = peek(path, name=name, limits=limits)
    said = facts.identity
    return {
        "works": True,
        "media": facts.media,
        "transfer_syntax_uid": facts.transfer_syntax_uid,
        "rows": facts.rows,
        "columns": facts.columns,
        "frames": facts.frame_count,
        "sop_class_uid": None if said is None else said.sop_class_uid,
        "laterality": None if said is None else said.laterality,
    }


def _regions(path: Path, name: str, limits: DecodeLimits, media: str) -> dict[str, Any]:
    """The ultrasound regions as they stand in the header, each with why it does not count."""
    if media != "dicom":
        return {"works": False, "problem": "A plain picture says nothing of its scale.", "all": []}
    ds = read_header(path, name, limits)
    regions = read_regions(ds)
    return {
        "works": any(each.is_b_mode and each.calibration is not None for each in regions),
        "syntax": syntax_of(ds),
        "manufacturer": str(ds.get("Manufacturer", "")),
        "model": str(ds.get("ManufacturerModelName", "")),
        "software": str(ds.get("SoftwareVersions", "")),
        "all": [
            {
                "box": None if each.box is None else asdict(each.box),
                "shows": f"{SPATIAL_FORMATS.get(each.spatial_format, each.spatial_format)}, "
                f"{DATA_TYPES.get(each.data_type, each.data_type)}",
                "problem": each.problem,
            }
            for each in regions
        ],
    }


def _picture(path: Path, name: str, limits: DecodeLimits) -> dict[str, Any]:
    """What the first frame gives: scale, sector, quality, and the network's word."""
    clip = read_clip(path, name=name, frames=[0], limits=limits)
    pixels = clip.frames[0].pixels
    sector = clip.region or find_sector(pixels)
    quality = grade(pixels[sector.slices], colour_share=clip.frames[0].colour_share)
    rows, columns = pixels.shape
    return {
        "decoding": {"works": True, "frame_source": asdict(clip.frames[0].source)},
        "calibration": _calibration(clip),
        "sector": {
            "works": sector.rows * sector.columns > 0.1 * rows * columns,
            "by": "region" if clip.region else "texture",
            "box": asdict(sector),
            # What lies around the picture: banners, panels, rulers, margins.
            "cut_away_px": {
                "top": sector.row0,
                "bottom": rows - sector.row1,
                "left": sector.column0,
                "right": columns - sector.column1,
            },
        },
        "quality": {"works": quality.usable, "problem": quality.reason},
        "network": _network(clip) if quality.usable else {"works": False, "problem": "not asked"},
    }


def _calibration(clip: Clip) -> dict[str, Any]:
    used = clip.calibration
    if used is not None:
        return {
            "works": not used.is_nominal,
            "row_mm_per_px": used.row_mm_per_px,
            "column_mm_per_px": used.column_mm_per_px,
            "provenance": used.provenance.value,
            "note": used.note,
        }
    frame = clip.frames[0]
    ruler = find_ruler(frame.pixels, clip.region or find_sector(frame.pixels))
    return {
        "works": False,
        "problem": clip.calibration_problem,
        "remedy": "Each study needs its scale from a person: two points of known distance.",
        "ruler_ticks": None if ruler is None else ruler.ticks,
    }


def _network(clip: Clip) -> dict[str, Any]:
    said = segmenter().segment(clip.frames[0].pixels, region=clip.region)
    return {
        "works": said.abstained is None,
        "problem": None if said.abstained is None else said.abstained.sentence,
        "view": said.view.value,
        "confidence": round(said.confidence, 3),
        "area_px": said.area_px,
        "weights": said.weights_version,
    }

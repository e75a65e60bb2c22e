"""The plan as canonical JSON: every number with its unit in its name, ids and times outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from app.clinic.plan import MusclePlan
from app.clinic.plan_json import plan_to_json
from app.clinic.tables import ClinicalTables
from app.planning.frames import UsedFrame
from app.planning.request import TARGET, StudyRequest
from app.planning.scale import Scale
from imaging.arrays import BoolMask
from imaging.calibration import Calibration
from imaging.mask import contours
from imaging.plane import positions_mm
from imaging.ruler import find_ruler

SUGGESTION = "SUGGESTION: CONFIRM BEFORE USE"
UNNAMED = "Muscle not named"
DEMONSTRATION = "DEMONSTRATION: NOMINAL CALIBRATION"
SPACING_DISAGREEMENT = 0.05
"""A sweep's given length and the one by the frames' places further apart than this are told as a
disagreement."""


def plan_document(
    request: StudyRequest,
    used: Sequence[UsedFrame],
    view: str | None,
    plan: MusclePlan | None,
    tables: ClinicalTables,
) -> dict[str, Any]:
    """The plan document: target, frames, calibration, clinic, cautions, provenance."""
    document: dict[str, Any] = {
        "intended_use": "Research and decision support. A suggestion until a named clinician "
        "confirms it.",
        "marks": marks(used),
        "target": {
            "muscle": request.muscle,
            "name": UNNAMED if request.muscle is None else tables.english(request.muscle),
            "anatomy": anatomy_code(request.muscle, tables),
            "side": request.side,
            "view": view,
        },
        "frames": [_frame(frame) for frame in used],
        "cautions": image_cautions(request, used, view),
        "provenance": {
            "model": _model(used),
            "tables": {"version": tables.version, "sha256": tables.sha256},
        },
    }
    unnamed = [name for name in TARGET if getattr(request, name) is None]
    if unnamed:
        document["waits_for"] = {
            "names": unnamed,
            "text": f"Nobody has named the {' and the '.join(unnamed)} yet, so there is no "
            "volume, no dose and no site: only what the picture shows.",
        }
    if not any(frame.muscle.any() for frame in used):
        document["abstention"] = _abstention(used)
    if plan is not None:
        clinic = dict(plan_to_json(plan))
        document["cautions"] = [*document["cautions"], *clinic.pop("cautions", [])]
        document.update(clinic)
    return document


def anatomy_code(muscle: str | None, tables: ClinicalTables) -> dict[str, str]:
    """The coded concept of a muscle: SNOMED CT where DICOM lists it, else Uberon, else generic.

    DICOM's context groups name few limb muscles one by one; Uberon names nearly all, and its
    "Entire …" cross-references into SNOMED CT are doubtful for some, so they are not used.
    """
    known = None if muscle is None else tables.muscles.get(muscle)
    if known is not None and known.sct_dicom:
        return {"code": known.sct_dicom, "scheme": "SCT", "meaning": known.english}
    if known is not None and known.uberon:
        return {"code": known.uberon, "scheme": "UBERON", "meaning": known.english}
    return {"code": "127954009", "scheme": "SCT", "meaning": "Skeletal muscle"}


def marks(used: Sequence[UsedFrame]) -> list[str]:
    """The words that stand on every picture of this plan."""
    nominal = any(f.scale.used is not None and f.scale.used.is_nominal for f in used)
    return [SUGGESTION, *([DEMONSTRATION] if nominal else [])]


def _model(used: Sequence[UsedFrame]) -> str | None:
    versions = {f.segmentation.weights_version for f in used if f.segmentation is not None}
    return "; ".join(sorted(versions)) or None


def _frame(frame: UsedFrame) -> dict[str, Any]:
    section = frame.section
    return {
        "key": frame.key,
        "file": frame.clip.plan_name,
        "frame": frame.frame.source.frame,
        "sop_instance_uid": frame.frame.source.sop_instance_uid,
        "rows": frame.frame.pixels.shape[0],
        "columns": frame.frame.pixels.shape[1],
        "skin_row": frame.skin_row,
        "quality": {"usable": frame.quality.usable, "reason": frame.quality.reason},
        "calibration": {**_scale(frame.scale), "ruler": _ruler(frame)},
        "outlined_by": None
        if section is None
        else ("operator" if frame.outline is not None else "network"),
        "segmentation": _segmentation(frame),
        "section": None if section is None else _rounded(asdict(section)),
        "contours": [] if section is None else _contours(frame),
        "possible_bone": [] if frame.possible_bone is None else _outlines(frame.possible_bone),
    }


def _contours(frame: UsedFrame) -> list[list[list[float]]]:
    if frame.outline:
        return [[[round(p.column, 2), round(p.row, 2)] for p in frame.outline]]
    return _outlines(frame.muscle)


def _outlines(mask: BoolMask) -> list[list[list[float]]]:
    """A mask's boundaries; they run along pixel edges, so there is nothing to round."""
    return [[[p.column, p.row] for p in polygon] for polygon in contours(mask)]


def _scale(scale: Scale) -> dict[str, Any]:
    return {
        "used": None if scale.used is None else _calibration(scale.used),
        "set_aside": None if scale.set_aside is None else _calibration(scale.set_aside),
        "problem": scale.problem,
    }


def _ruler(frame: UsedFrame) -> dict[str, Any] | None:
    """A burned-in depth ruler where there is no scale: offered, never used without a person."""
    if frame.scale.used is not None:
        return None
    ruler = find_ruler(frame.frame.pixels, frame.region)
    if ruler is None:
        return None
    return {
        "points": [asdict(ruler.first), asdict(ruler.last)],
        "ticks": ruler.ticks,
        "text": f"A ruler with {ruler.ticks} ticks was found beside the picture. If it is one, say "
        "how many millimetres lie between its ends: these two points and that distance are the "
        "scale.",
    }


def _calibration(calibration: Calibration) -> dict[str, Any]:
    return {
        "row_mm_per_px": calibration.row_mm_per_px,
        "column_mm_per_px": calibration.column_mm_per_px,
        "provenance": calibration.provenance.value,
        "note": calibration.note,
    }


def _segmentation(frame: UsedFrame) -> dict[str, Any] | None:
    found = frame.segmentation
    if found is None:
        return None
    return {
        "weights_version": found.weights_version,
        "prompted": frame.prompted,
        "confidence": round(found.confidence, 3),
        "abstained": None if found.abstained is None else found.abstained.value,
        "view": found.view.value,
        "view_score": round(found.view_score, 3),
        "area_interval_px": [round(v, 1) for v in found.area_interval_px],
        "sector": asdict(found.sector),
        "objects": [
            {
                "kind": o.kind,
                "score": round(o.score, 3),
                "area_px": o.area_px,
                "box": asdict(o.box),
            }
            for o in found.objects
        ],
    }


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: round(value, 4)
        if isinstance(value, float)
        else _rounded(value)
        if isinstance(value, dict)
        else value
        for key, value in values.items()
    }


def image_cautions(
    request: StudyRequest, used: Sequence[UsedFrame], view: str | None
) -> list[dict[str, Any]]:
    """What the images themselves warn of, in the shape of the clinic's cautions."""
    found = [
        _caution(
            "calibration_disagrees",
            "The operator's scale and the file's own differ by more than 2 %. "
            f"Used: {frame.scale.used.provenance.value}; both are recorded.",
            blocks=False,
        )
        for frame in used[:1]
        if frame.scale.disagrees and frame.scale.used is not None
    ]
    if _spacing_disagrees(request, used):
        found.append(
            _caution(
                "sweep_spacing_disagrees",
                "The spacing that was given and the frames' own places in space differ by more "
                "than 5 %. Used: the given one; leave it out to use the frames' own.",
                blocks=False,
            )
        )
    if view == "short_axis" and any(f.section and f.section.touches_edge for f in used):
        found.append(
            _caution(
                "muscle_leaves_the_picture",
                "The muscle reaches the edge of the picture, so its area and volume are at "
                "least what is shown. A wider or panoramic view shows all of it.",
                blocks=False,
            )
        )
    for frame in used:
        if not frame.quality.usable and frame.outline is None:
            found.append(
                _caution(
                    "frame_dropped",
                    f"Frame {frame.key} was left out: {frame.quality.reason}.",
                    blocks=False,
                )
            )
        elif frame.segmentation is not None and frame.segmentation.abstained is not None:
            found.append(
                _caution(
                    "frame_abstained",
                    f"On frame {frame.key} the network would not say: "
                    f"{frame.segmentation.abstained.sentence}",
                    blocks=False,
                )
            )
    return found


def _spacing_disagrees(request: StudyRequest, used: Sequence[UsedFrame]) -> bool:
    places_mm = positions_mm([frame.frame.plane for frame in used])
    if request.sweep is None or places_mm is None:
        return False
    given_mm = request.sweep.spacing_mm * (len(used) - 1)
    return abs(given_mm / max(places_mm) - 1) > SPACING_DISAGREEMENT


def _caution(code: str, text: str, *, blocks: bool) -> dict[str, Any]:
    return {"code": code, "text": text, "source": "image", "blocks_confirmation": blocks}


def _abstention(used: Sequence[UsedFrame]) -> dict[str, Any]:
    reasons = [
        f.segmentation.abstained
        for f in used
        if f.segmentation is not None and f.segmentation.abstained is not None
    ]
    if reasons:
        return {"reason": reasons[0].value, "text": reasons[0].sentence}
    dropped = [f.quality.reason for f in used if not f.quality.usable]
    return {
        "reason": "unusable_frames",
        "text": "No frame could be used: " + "; ".join(sorted({str(r) for r in dropped})) + ".",
    }

"""Which scale a clip is measured with, and what else was offered."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.planning.request import CalibrationPart
from imaging.calibration import Calibration, CalibrationProvenance, from_two_points
from imaging.frame import Clip
from imaging.geometry import ImagePoint

DISAGREEMENT = 0.02
"""Two scales further apart than this (2 %, about the reading error of a burned-in ruler) are
told as a disagreement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The calibration in use (None: no millimetres), the one set aside, and why, in words."""

    used: Calibration | None
    set_aside: Calibration | None = None
    problem: str | None = None
    disagrees: bool = False


def decide_scale(clip: Clip, given: CalibrationPart | None) -> Scale:
    """The scale for a clip: the file's own wins over the operator's unless an override is named.

    Both are kept, so that the plan can show them. Raises CalibrationRefused when the operator's
    cannot be true.
    """
    own = clip.calibration
    operator = None if given is None else _operator_calibration(given)
    if operator is None:
        return Scale(used=own, problem=None if own else clip.calibration_problem)
    if own is None:
        return Scale(used=operator)
    disagrees = _apart(own, operator) > DISAGREEMENT
    if given is not None and given.override:
        return Scale(used=operator, set_aside=own, disagrees=disagrees)
    return Scale(used=own, set_aside=operator, disagrees=disagrees)


def _operator_calibration(given: CalibrationPart) -> Calibration:
    if given.row_mm_per_px is not None and given.column_mm_per_px is not None:
        return Calibration(
            row_mm_per_px=given.row_mm_per_px,
            column_mm_per_px=given.column_mm_per_px,
            provenance=CalibrationProvenance.OPERATOR,
            note="typed by the operator",
        )
    a, b = (ImagePoint(column=p.column, row=p.row) for p in given.points or ())
    made = from_two_points(a, b, distance_mm=given.distance_mm or 0.0)
    if not given.ruler:
        return made
    return replace(
        made,
        provenance=CalibrationProvenance.BURNED_IN_RULER,
        note=f"ruler found in the picture, said to be {given.distance_mm:g} mm long",
    )


def _apart(a: Calibration, b: Calibration) -> float:
    return max(
        abs(a.row_mm_per_px / b.row_mm_per_px - 1), abs(a.column_mm_per_px / b.column_mm_per_px - 1)
    )

"""Which scale a clip is measured with."""

from __future__ import annotations

import numpy as np
import pytest

from app.planning.request import CalibrationPart
from app.planning.scale import decide_scale
from imaging.calibration import Calibration, CalibrationProvenance
from imaging.errors import CalibrationRefused
from imaging.frame import Clip, Frame, FrameSource


def clip(scale_mm_per_px: float | None) -> Clip:
    """A one-frame clip, with the scale that its file states or none."""
    calibration = None
    if scale_mm_per_px is not None:
        calibration = Calibration(
            row_mm_per_px=scale_mm_per_px,
            column_mm_per_px=scale_mm_per_px,
            provenance=CalibrationProvenance.ULTRASOUND_REGION,
        )
    pixels = np.zeros((40, 60), dtype=np.uint8)
    return Clip(
        file="a.dcm",
        frames=(Frame(pixels=pixels, source=FrameSource(file="a.dcm", frame=0)),),
        frame_count=1,
        rows=40,
        columns=60,
        calibration=calibration,
        calibration_problem=None if calibration else "no ultrasound region",
        region=None,
        identity=None,
        media="dicom",
    )


def given(scale_mm_per_px: float, *, override: bool = False) -> CalibrationPart:
    return CalibrationPart(
        row_mm_per_px=scale_mm_per_px, column_mm_per_px=scale_mm_per_px, override=override
    )


def test_without_any_scale_there_is_none() -> None:
    """No scale is guessed: the plan says why there is none."""
    scale = decide_scale(clip(None), None)
    assert scale.used is None
    assert scale.problem == "no ultrasound region"


def test_the_file_wins_over_the_operator() -> None:
    """The file's own scale is used, the operator's is kept beside it, and the gap is told."""
    scale = decide_scale(clip(0.1), given(0.2))
    assert scale.used is not None
    assert scale.used.provenance is CalibrationProvenance.ULTRASOUND_REGION
    assert scale.set_aside is not None
    assert scale.set_aside.row_mm_per_px == 0.2
    assert scale.disagrees


def test_an_override_by_name_wins_and_is_recorded() -> None:
    """With override the operator's scale is used, and the file's own is still shown."""
    scale = decide_scale(clip(0.1), given(0.2, override=True))
    assert scale.used is not None
    assert scale.used.provenance is CalibrationProvenance.OPERATOR
    assert scale.set_aside is not None
    assert scale.set_aside.provenance is CalibrationProvenance.ULTRASOUND_REGION


def test_a_small_difference_is_no_disagreement() -> None:
    """Two scales within 2 per cent of each other agree."""
    assert not decide_scale(clip(0.1), given(0.1015)).disagrees


def test_two_points_and_their_distance_make_a_scale() -> None:
    """100 pixels that are 20 mm apart are 0.2 mm each, in both directions."""
    part = CalibrationPart.model_validate(
        {"points": [{"column": 5, "row": 10}, {"column": 5, "row": 110}], "distance_mm": 20}
    )
    scale = decide_scale(clip(None), part)
    assert scale.used is not None
    assert scale.used.row_mm_per_px == pytest.approx(0.2)
    assert scale.used.column_mm_per_px == pytest.approx(0.2)


def test_centimetres_typed_as_millimetres_are_refused() -> None:
    """A scale that no ultrasound image has is refused rather than used."""
    with pytest.raises(CalibrationRefused, match="not the scale"):
        decide_scale(clip(None), given(12.0))


def test_a_ruler_in_the_picture_counts_once_a_person_said_its_length() -> None:
    """The scale is the same as by two points, and its provenance says where it comes from."""
    points = ({"column": 10, "row": 0}, {"column": 10, "row": 400})
    asked = CalibrationPart.model_validate({"points": points, "distance_mm": 40, "ruler": True})
    used = decide_scale(clip(None), asked).used
    assert used is not None
    assert used.row_mm_per_px == pytest.approx(0.1)
    assert used.provenance is CalibrationProvenance.BURNED_IN_RULER
    assert "40 mm" in used.note
    with pytest.raises(ValueError, match="two points"):
        CalibrationPart(row_mm_per_px=0.1, column_mm_per_px=0.1, ruler=True)

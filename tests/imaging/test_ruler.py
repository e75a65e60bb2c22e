from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.calibration import CalibrationProvenance
from imaging.errors import CalibrationRefused
from imaging.geometry import PixelBox
from imaging.phantom import SweepPhantom, ellipsoid_sweep
from imaging.ruler import find_ruler

TISSUE = ellipsoid_sweep(sections=2).frames[0]
SECTOR = PixelBox(column0=60, row0=20, column1=460, row1=340)


def screen(step: float, ticks: int, *, column: int = 490, tall: int = 2) -> np.ndarray:
    """A scanner's screen: tissue in its sector, a ruler line with ticks at its right."""
    grey = np.full((380, 560), 50, dtype=np.uint8)
    grey[SECTOR.slices] = TISSUE
    grey[20:340, column] = 150
    for index in range(ticks):
        top = round(24 + index * step)
        grey[top : top + tall, column - 6 : column] = 150
    return grey


@given(step=st.floats(12, 60), tall=st.integers(1, 3))
def test_a_burned_in_ruler_is_found_with_its_step(step: float, tall: int) -> None:
    ticks = int(310 // step)
    found = find_ruler(screen(step, ticks, tall=tall), SECTOR)
    if ticks < 5 or step * (ticks - 1) < 0.42 * SECTOR.rows:
        return
    assert found is not None
    assert found.ticks == ticks
    assert found.step_px == pytest.approx(step, abs=1.0 / (ticks - 1))
    assert found.first.row == pytest.approx(24 + tall / 2, abs=0.5)


def test_marks_that_are_no_ticks_do_not_hide_the_ruler() -> None:
    grey = screen(31.0, 10)
    grey[100:118, 476:482] = 200  # a focus marker beside the line
    grey[30:42, 500:520] = 220  # a digit
    found = find_ruler(grey, SECTOR)
    assert found is not None
    assert found.ticks == 10


def test_tissue_without_a_ruler_gives_none(phantom: SweepPhantom) -> None:
    for frame in phantom.frames:
        rows, columns = frame.shape
        whole = PixelBox(column0=0, row0=0, column1=columns, row1=rows)
        assert find_ruler(frame, whole) is None


def test_a_person_s_step_makes_it_a_calibration_with_its_provenance() -> None:
    found = find_ruler(screen(31.0, 10), SECTOR)
    assert found is not None
    scale = found.calibration(step_mm=5.0)
    assert scale.provenance is CalibrationProvenance.BURNED_IN_RULER
    assert scale.row_mm_per_px == pytest.approx(5.0 / 31.0, rel=2e-3)
    assert "confirmed as 5 mm" in scale.note
    with pytest.raises(CalibrationRefused):
        found.calibration(step_mm=500.0)

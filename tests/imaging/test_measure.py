from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.geometry import ImagePoint, PixelBox
from imaging.mask import fill_outline
from imaging.measure import measure, polygon_centroid
from imaging.phantom import SweepPhantom, cone_sweep
from tests.imaging.conftest import circle, scale

GREY = np.full((60, 80), 77, dtype=np.uint8)


def _box(row0: int, row1: int, column0: int, column1: int) -> np.ndarray:
    mask = np.zeros(GREY.shape, dtype=bool)
    mask[row0:row1, column0:column1] = True
    return mask


def test_a_rectangle_measures_what_it_was_drawn_with() -> None:
    found = measure(_box(20, 40, 10, 60), GREY, scale(0.2, 0.1), skin_row=5)
    assert found.area_px == 1000
    assert found.area_mm2 == pytest.approx(1000 * 0.02)
    assert (found.thickness_px, found.max_thickness_px, found.width_px) == (20, 20, 50)
    assert found.thickness_mm == pytest.approx(4.0)
    assert found.width_mm == pytest.approx(5.0)
    assert (found.depth_px, found.deep_px) == (15, 35)
    assert found.depth_mm == pytest.approx(3.0)
    assert found.deep_mm == pytest.approx(7.0)
    assert found.centroid == ImagePoint(column=35.0, row=30.0)
    assert found.echo_intensity == 77
    assert not found.touches_edge


def test_without_a_calibration_there_are_no_millimetres() -> None:
    found = measure(_box(20, 40, 10, 60), GREY, None, skin_row=0)
    assert found.area_px == 1000
    assert all(
        value is None
        for value in (
            found.area_mm2,
            found.thickness_mm,
            found.max_thickness_mm,
            found.width_mm,
            found.depth_mm,
            found.deep_mm,
        )
    )


@pytest.mark.parametrize("where", [(0, 10, 20, 30), (50, 60, 20, 30), (20, 30, 0, 9)])
def test_a_mask_at_the_border_of_the_frame_touches_the_edge(where: tuple[int, ...]) -> None:
    assert measure(_box(*where), GREY, None, skin_row=0).touches_edge


def test_the_border_of_the_b_mode_part_counts_as_the_edge() -> None:
    region = PixelBox(column0=10, row0=10, column1=70, row1=50)
    mask = _box(10, 30, 30, 50)
    assert measure(mask, GREY, None, skin_row=0, region=region).touches_edge
    assert not measure(mask, GREY, None, skin_row=0).touches_edge


@given(column=st.floats(30, 50), row=st.floats(25, 35), radius=st.floats(6, 20))
def test_an_outline_is_measured_exactly_wherever_it_lies(
    column: float, row: float, radius: float
) -> None:
    outline = circle(column, row, radius, points=360)
    mask = fill_outline(outline, *GREY.shape)
    found = measure(mask, GREY, scale(), skin_row=0, outline=outline)
    assert found.area_px == pytest.approx(np.pi * radius**2, rel=1e-3)
    assert found.width_px == pytest.approx(2 * radius, rel=1e-3)
    assert found.max_thickness_px == pytest.approx(2 * radius, rel=0.01)
    assert found.centroid.column == pytest.approx(column, abs=1e-6)
    assert found.centroid.row == pytest.approx(row, abs=1e-6)
    # The mask of it agrees to within its border pixels.
    counted = measure(mask, GREY, scale(), skin_row=0)
    assert counted.area_px == pytest.approx(found.area_px, abs=np.pi * radius)
    assert abs(counted.thickness_px - found.thickness_px) <= 1.5


def test_an_empty_mask_has_no_cross_section() -> None:
    with pytest.raises(ValueError, match="empty"):
        measure(np.zeros(GREY.shape, dtype=bool), GREY, None, skin_row=0)


def test_the_centroid_of_a_line_is_the_mean_of_its_points() -> None:
    line = [ImagePoint(column=c, row=3.0) for c in (0.0, 2.0, 4.0)]
    assert polygon_centroid(line) == ImagePoint(column=2.0, row=3.0)


def test_a_phantom_s_outlines_and_masks_measure_its_true_areas(phantom: SweepPhantom) -> None:
    for sweep in (phantom, cone_sweep()):
        for grey, outline, truth in zip(
            sweep.frames, sweep.outlines, sweep.true_areas_mm2, strict=True
        ):
            mask = fill_outline(outline, *grey.shape)
            drawn = measure(mask, grey, sweep.calibration, skin_row=0, outline=outline)
            counted = measure(mask, grey, sweep.calibration, skin_row=0)
            assert drawn.area_mm2 == pytest.approx(truth, rel=1e-3)
            assert counted.area_mm2 == pytest.approx(truth, rel=0.01)
            assert drawn.echo_intensity < grey.mean()


def test_truncated_cones_between_a_phantom_s_sections_give_its_true_volume(
    phantom: SweepPhantom,
) -> None:
    for sweep in (phantom, cone_sweep()):
        areas = np.array(sweep.true_areas_mm2)
        a, b = areas[:-1], areas[1:]
        volume_ml = float(((a + b + np.sqrt(a * b)) / 3.0).sum()) * sweep.spacing_mm / 1000.0
        assert volume_ml == pytest.approx(sweep.true_volume_ml, rel=0.01)
        assert sweep.true_volume_ml <= sweep.whole_volume_ml


def test_the_same_phantom_has_the_same_bytes(phantom: SweepPhantom) -> None:
    from imaging.phantom import ellipsoid_sweep

    again = ellipsoid_sweep()
    for a, b in zip(phantom.frames, again.frames, strict=True):
        assert np.array_equal(a, b)

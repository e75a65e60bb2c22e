from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imaging.errors import UnreadableFile
from imaging.geometry import ImagePoint, polygon_area_px
from imaging.mask import contours, fill_outline, labels_png, largest_part, masks_from_png
from tests.imaging.conftest import circle

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))
COORDINATE = st.floats(-5, 25, allow_nan=False).map(lambda v: round(v, 3))
OUTLINES = st.lists(
    st.builds(ImagePoint, column=COORDINATE, row=COORDINATE), min_size=3, max_size=9
)


def _inside(points: list[ImagePoint], column: float, row: float) -> bool:
    """The even-odd rule written out, one pixel at a time."""
    odd = False
    for a, b in zip(points, [*points[1:], points[0]], strict=True):
        if (a.row > row) != (b.row > row):
            crossing = a.column + (row - a.row) / (b.row - a.row) * (b.column - a.column)
            odd ^= column < crossing
    return odd


@given(points=OUTLINES)
def test_a_pixel_is_filled_exactly_if_its_centre_is_inside(points: list[ImagePoint]) -> None:
    mask = fill_outline(points, 20, 20)
    for row in range(20):
        for column in range(20):
            nearest = min(
                (abs(_crossing(a, b, row + 0.5) - column - 0.5))
                for a, b in zip(points, [*points[1:], points[0]], strict=True)
            )
            if nearest > 1e-6:
                assert mask[row, column] == _inside(points, column + 0.5, row + 0.5)


def _crossing(a: ImagePoint, b: ImagePoint, row: float) -> float:
    if a.row == b.row:
        return np.inf
    return a.column + (row - a.row) / (b.row - a.row) * (b.column - a.column)


@given(mask=MASKS)
def test_contours_with_holes_fill_back_to_the_same_mask(mask: np.ndarray) -> None:
    rows, columns = mask.shape
    back = np.zeros_like(mask)
    for polygon in contours(mask, holes=True):
        back ^= fill_outline(polygon, rows, columns)
    assert np.array_equal(back, mask)


@given(mask=MASKS)
def test_outer_contours_enclose_exactly_the_pixels_of_a_mask_without_holes(
    mask: np.ndarray,
) -> None:
    holes = sum(polygon_area_px(p) for p in contours(mask, holes=True)[len(contours(mask)) :])
    area = sum(polygon_area_px(p) for p in contours(mask))
    assert area - holes == mask.sum()


def test_parts_that_touch_at_a_corner_are_parts_of_their_own() -> None:
    assert len(contours(np.eye(3, dtype=bool))) == 3


def test_the_outline_of_a_circle_fills_to_its_area_within_a_tenth_of_a_percent() -> None:
    mask = fill_outline(circle(200.3, 150.7, 90.0, points=720), 300, 400)
    assert mask.sum() == pytest.approx(np.pi * 90**2, rel=1e-3)


def test_an_outline_partly_beyond_the_image_is_cut_at_its_border() -> None:
    mask = fill_outline(circle(0.0, 0.0, 5.0), 10, 10)
    assert mask[0, 0]
    assert 0 < mask.sum() < 30


def test_an_outline_of_two_points_is_refused() -> None:
    with pytest.raises(ValueError, match="three points"):
        fill_outline([ImagePoint(column=0, row=0)] * 2, 5, 5)


def test_the_largest_part_is_kept_and_the_rest_dropped() -> None:
    mask = np.zeros((10, 10), dtype=bool)
    mask[1:3, 1:3] = mask[5:9, 5:9] = True
    part = largest_part(mask)
    assert part.sum() == 16
    assert not part[1, 1]
    assert not largest_part(np.zeros((4, 4), dtype=bool)).any()


@given(labels=arrays(np.uint8, (7, 9), elements=st.integers(0, 4)))
def test_a_label_map_comes_back_from_its_png(labels: np.ndarray) -> None:
    """Aponeuroses hide nothing: they lie where no other label is."""
    everywhere = np.ones(labels.shape, dtype=bool)
    png = labels_png(labels == 1, labels == 2, labels == 3, everywhere)
    assert set(np.unique(cv2.imdecode(np.frombuffer(png, np.uint8), -1))) <= {1, 2, 3, 4}
    back = masks_from_png(png)
    assert np.array_equal(back.muscle, labels == 1)
    assert np.array_equal(back.nerve, labels == 2)
    assert np.array_equal(back.vessel, labels == 3)


def test_bytes_that_are_no_label_map_are_refused() -> None:
    with pytest.raises(UnreadableFile):
        masks_from_png(b"not a picture")

"""Depth is counted from the skin, also where a panorama leaves black above it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from imaging.geometry import PixelBox
from imaging.skin import skin_line

WHOLE = PixelBox(column0=0, row0=0, column1=400, row1=300)


def speckle(rows: int = 300, columns: int = 400) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    noise = np.random.default_rng(3).gamma(2.0, 30.0, (rows, columns))
    return np.asarray(np.clip(noise, 0, 255), dtype=np.uint8)


def test_a_plain_picture_begins_at_the_skin() -> None:
    """A picture filled with tissue has its skin at the top of the B-mode part."""
    region = PixelBox(column0=50, row0=20, column1=350, row1=280)
    assert set(skin_line(speckle(), region).tolist()) == {20.0}


@pytest.mark.parametrize("slope", [-0.2, 0.0, 0.25])
def test_a_slanted_rim_is_followed(slope: float) -> None:
    """Under a black wedge the skin is the rim, to within two pixels."""
    grey = speckle()
    rim = 80 + slope * (np.arange(400) - 200)
    grey[np.arange(300)[:, None] < rim[None, :]] = 0
    assert np.abs(skin_line(grey, WHOLE) - rim)[20:-20].max() <= 4


def test_words_above_the_rim_are_no_skin() -> None:
    """A caption in the black above a panorama is not taken for skin."""
    grey = speckle()
    grey[:100] = 0
    cv2.putText(grey, "RIGHT VASTUS", (20, 40), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 255, 2)
    assert np.abs(skin_line(grey, WHOLE) - 100).max() <= 4


def test_a_blank_frame_has_the_top_as_skin() -> None:
    """Without tissue there is nothing to find: the top row stays."""
    assert set(skin_line(np.zeros((300, 400), np.uint8), WHOLE).tolist()) == {0.0}

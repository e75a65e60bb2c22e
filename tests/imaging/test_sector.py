"""The sector on whole scanner frames."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from imaging.arrays import GreyImage
from imaging.geometry import PixelBox
from imaging.sector import find_sector, sector_shape


def tissue(rows: int, columns: int, seed: int = 0) -> GreyImage:
    field = np.random.default_rng(seed).rayleigh(40, (rows, columns)).astype(np.float32)
    return np.clip(cv2.GaussianBlur(field, (0, 0), 1.0), 0, 255).astype(np.uint8)


def overlap(one: PixelBox, other: PixelBox) -> float:
    columns = min(one.column1, other.column1) - max(one.column0, other.column0)
    rows = min(one.row1, other.row1) - max(one.row0, other.row0)
    shared = max(0, columns) * max(0, rows)
    return shared / (one.columns * one.rows + other.columns * other.rows - shared)


@pytest.mark.parametrize("ground", [0, 50, 190])
def test_panels_rulers_text_and_grey_bar_are_cut_away(ground: int) -> None:
    frame = np.full((600, 800), ground, np.uint8)
    truth = PixelBox(column0=150, row0=80, column1=620, row1=560)
    frame[truth.slices] = tissue(truth.rows, truth.columns)
    cv2.putText(frame, "LEFT CALF 12.0 MHz", (20, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255)
    frame[200:400, 760:775] = np.linspace(255, 0, 200, dtype=np.uint8)[:, None]
    for row in range(80, 560, 40):
        cv2.line(frame, (640, row), (650, row), 255)
    assert overlap(find_sector(frame), truth) > 0.93


def test_a_picture_that_is_all_ultrasound_stays_whole() -> None:
    frame = tissue(500, 500)
    assert find_sector(frame) == PixelBox(column0=0, row0=0, column1=500, row1=500)


def test_a_dark_bottom_with_a_little_noise_belongs_to_the_sector() -> None:
    frame = tissue(400, 500)
    frame[200:] = np.random.default_rng(1).integers(0, 9, (200, 500))
    assert find_sector(frame).row1 == 400


def test_a_fan_is_boxed_to_its_edges() -> None:
    frame = np.zeros((500, 700), np.uint8)
    mask = np.zeros_like(frame)
    cv2.ellipse(mask, (350, 30), (440, 440), 90, -40, 40, 255, -1)
    frame = np.where(mask > 0, tissue(500, 700), 0).astype(np.uint8)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    truth = PixelBox(
        column0=int(columns[0]),
        row0=int(rows[0]),
        column1=int(columns[-1]) + 1,
        row1=int(rows[-1]) + 1,
    )
    assert overlap(find_sector(frame), truth) > 0.8


@pytest.mark.parametrize("level", [0, 77, 255])
def test_a_flat_picture_has_no_sector_of_its_own(level: int) -> None:
    frame = np.full((300, 200), level, np.uint8)
    assert find_sector(frame) == PixelBox(column0=0, row0=0, column1=200, row1=300)


def test_a_tiny_picture_has_a_box_too() -> None:
    assert find_sector(np.zeros((1, 1), np.uint8)).columns == 1


@pytest.mark.parametrize("shape", [(1, 534), (534, 1), (2, 5000)])
def test_a_strip_is_whole_and_shows_no_picture(shape: tuple[int, int]) -> None:
    """A frame thinner than the steps that it is looked at in has a box, and nothing to blank."""
    strip = tissue(*shape)
    box = find_sector(strip)
    assert (box.rows, box.columns) == shape
    assert sector_shape(strip) is None

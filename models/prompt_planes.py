"""Clicks, boxes and the asked view as input planes: one drawing for training and inference."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.arrays import GreyImage
from models.channels import (
    CHANNELS,
    CLICK_RADIUS_PX,
    CLICK_REACH_PX,
    IMAGE_MEAN,
    IMAGE_SPREAD,
    INPUT_SIZE,
    VIEW_OUTPUTS,
)

_PLANE: Final = {name: index for index, name in enumerate(CHANNELS)}


def input_planes(
    square: GreyImage,
    *,
    clicks: Iterable[tuple[float, float, bool]] = (),
    box: tuple[float, float, float, float] | None = None,
    view: str | None = None,
) -> NDArray[np.float32]:
    """(channels, size, size) float32 for the network from a square uint8 sector crop.

    `clicks` are (column, row, positive) and `box` is (column0, row0, column1, row1), in pixels of
    the square; `view` is one of `VIEW_OUTPUTS`.
    """
    size = square.shape[0]
    planes = np.zeros((len(CHANNELS), size, size), np.float32)
    planes[_PLANE["image"]] = (square.astype(np.float32) / 255.0 - IMAGE_MEAN) / IMAGE_SPREAD
    planes[_PLANE["depth"]] = np.linspace(-1.0, 1.0, size, dtype=np.float32)[:, None]
    prompted = box is not None
    for column, row, positive in clicks:
        prompted = True
        _draw_click(planes, column, row, positive)
    if box is not None:
        column0, row0, column1, row1 = (round(value) for value in box)
        planes[_PLANE["box"], max(0, row0) : max(1, row1), max(0, column0) : max(1, column1)] = 1.0
    planes[_PLANE["prompted"]] = float(prompted)
    if view == VIEW_OUTPUTS[0]:
        planes[_PLANE["long_axis_asked"]] = 1.0
    elif view == VIEW_OUTPUTS[1]:
        planes[_PLANE["short_axis_asked"]] = 1.0
    return planes


def add_click(
    planes: NDArray[np.float32], *, column: float, row: float, positive: bool
) -> NDArray[np.float32]:
    """The same planes, changed in place: one more click."""
    _draw_click(planes, column, row, positive)
    planes[_PLANE["prompted"]] = 1.0
    return planes


def _draw_click(planes: NDArray[np.float32], column: float, row: float, positive: bool) -> None:
    sign = "positive" if positive else "negative"
    size = planes.shape[-1]
    rows = np.arange(size, dtype=np.float32)[:, None] - np.float32(row)
    columns = np.arange(size, dtype=np.float32)[None, :] - np.float32(column)
    distance = np.hypot(rows, columns) * np.float32(INPUT_SIZE / size)
    # A soft rim, so that a click moved by half a pixel moves the input by half a pixel too.
    disc = planes[_PLANE[f"{sign}_clicks"]]
    np.maximum(disc, np.clip(CLICK_RADIUS_PX + 0.5 - distance, 0.0, 1.0), out=disc)
    reach = planes[_PLANE[f"{sign}_reach"]]
    np.maximum(reach, np.exp(-distance / np.float32(CLICK_REACH_PX)), out=reach)

"""Where the skin lies: the top of the picture, or the slanted upper rim of a panoramic sweep."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.arrays import GreyImage
from imaging.geometry import PixelBox

TISSUE_GREY = 6
"""Around a panoramic sweep the picture is black; tissue is brighter than this after smoothing."""
LEVEL_SHARE = 0.03
"""A rim that starts within this share of the region's rows is the flat face of the probe."""
SMOOTHING_COLUMNS = 31


def skin_line(grey: GreyImage, region: PixelBox) -> NDArray[np.float64]:
    """The row of the skin for every column of the frame, (columns,) float64.

    For a picture that begins at the probe's face this is the region's top row everywhere. For a
    panorama, whose sweep leaves black above a slanted rim, it is the first row of tissue in each
    column: the largest part of the region that is not black, its words and ticks left out.
    Columns without tissue take the row of the nearest one that has some.
    """
    rows = np.full(grey.shape[1], float(region.row0))
    cut = cv2.GaussianBlur(np.ascontiguousarray(grey[region.slices]), (5, 5), 0)
    lit = (cut > TISSUE_GREY).astype(np.uint8)
    opened = cv2.morphologyEx(lit, cv2.MORPH_OPEN, np.ones((7, 7), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened)
    if count < 2:
        return rows
    largest = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    seen = np.flatnonzero(largest.any(axis=0))
    top = largest[:, seen].argmax(axis=0).astype(np.float64)
    # Opening eats half its kernel from the rim: what starts there starts at the probe's face.
    if float(np.median(top)) <= LEVEL_SHARE * region.rows + 3:
        return rows
    line = np.interp(np.arange(region.columns), seen, top)
    window = min(SMOOTHING_COLUMNS, len(line) // 2 * 2 - 1)
    if window > 2:
        padded = np.pad(line, window // 2, mode="edge")
        line = np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)
    rows[region.column0 : region.column1] = region.row0 + line
    rows[: region.column0] = rows[region.column0]
    rows[region.column1 :] = rows[region.column1 - 1]
    return rows

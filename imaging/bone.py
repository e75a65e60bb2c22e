"""A bright line with a shadow behind it: possibly bone, which no needle passes."""

from __future__ import annotations

import cv2
import numpy as np

from imaging.arrays import BoolMask, GreyImage
from imaging.geometry import PixelBox

LOOKED_AT_ROWS = 240
"""The picture is made this high before it is looked at: a bone is no detail."""
SMOOTHED_ROWS = 1.6
BRIGHT_PERCENTILE = 90.0
BRIGHTEST_SHADOW = 0.25
"""How bright the shadow may be on average, as a fraction of the line."""
DARKER_THAN_OVER = 0.5
"""How bright the shadow may be on average, as a fraction of the tissue over the line."""
NO_ECHO_BEHIND = 0.6
"""Nothing behind the line is brighter than this fraction of it: a deeper bright line would be
tissue seen through it."""
GAP = 0.03
"""The line's own thickness, as a fraction of the height: the shadow begins behind it."""
LEAST_BEHIND = 0.15
"""The shadow's least height, as a fraction of the picture's: at the bottom all is dark."""
LEAST_OVER = 0.18
"""The line lies at least this fraction of the height below the top: there lie skin and fat."""
LEAST_WIDTH = 0.06
"""The line's least width, as a fraction of the picture's: a speck casts a shadow too."""


def possible_bone(pixels: GreyImage, region: PixelBox, muscle: BoolMask) -> BoolMask:
    """The mask (rows, columns) of bright lines outside the muscle with a shadow to the bottom.

    A suspicion from brightness alone: gas and calcifications look alike. The numbers above were
    set by eye; a fascia with tissue behind it, or one so deep that everything is dark, is none.
    """
    part = pixels[region.slices]
    shrink = min(1.0, LOOKED_AT_ROWS / part.shape[0])
    width, height = (max(1, round(side * shrink)) for side in part.shape[::-1])
    small = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    smooth = cv2.GaussianBlur(small, (0, 0), SMOOTHED_ROWS)
    lit = smooth[smooth > 0]
    if lit.size == 0:
        return np.zeros(pixels.shape, dtype=np.bool_)
    gap = max(2, round(height * GAP))
    rows = np.arange(height)[:, None]
    total = np.cumsum(smooth, axis=0)
    brightest_behind = _further_down(np.maximum.accumulate(smooth[::-1], axis=0)[::-1], gap)
    mean_behind = (total[-1:] - _further_down(total, gap)) / np.maximum(height - rows - gap, 1)
    mean_over = total / (rows + 1)
    line = (
        (smooth >= np.percentile(lit, BRIGHT_PERCENTILE))
        & (mean_behind <= BRIGHTEST_SHADOW * smooth)
        & (mean_behind <= DARKER_THAN_OVER * mean_over)
        & (brightest_behind <= NO_ECHO_BEHIND * smooth)
        & (rows >= LEAST_OVER * height)
        & (rows < (1 - LEAST_BEHIND) * height)
    )
    closing = np.ones((gap | 1, gap | 1), np.uint8)
    joined = cv2.morphologyEx(line.astype(np.uint8), cv2.MORPH_CLOSE, closing)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    kept = [
        label
        for label in range(1, count)
        if stats[label, cv2.CC_STAT_WIDTH]
        >= max(LEAST_WIDTH * width, stats[label, cv2.CC_STAT_HEIGHT])
    ]
    bone = cv2.resize(
        np.isin(labels, kept).astype(np.uint8), part.shape[::-1], interpolation=cv2.INTER_NEAREST
    )
    found = np.zeros(pixels.shape, dtype=np.bool_)
    found[region.slices] = bone > 0
    return found & ~muscle


def _further_down(values: np.ndarray, rows: int) -> np.ndarray:
    """The values so many rows further down; beyond the bottom the last row's."""
    return np.vstack([values[rows:], np.repeat(values[-1:], rows, axis=0)])

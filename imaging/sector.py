"""Where on a scanner's screen the ultrasound is: panels, rulers, banners, black margins cut away.

Tissue is textured everywhere, a screen is flat: panels, black surroundings and the ground behind
text have neighbourhoods of one grey. What is textured and hangs together over the largest area is
the sector; text, rulers and grey bars are too thin to survive an opening.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from imaging.arrays import BoolMask, GreyImage
from imaging.geometry import PixelBox

_WORKING_SIZE: Final = 320
"""The longer side is brought down to this: the answer needs no finer pixels."""
_FLAT_RANGE: Final = 2
"""Grey values that differ by no more than this in a neighbourhood are flat: JPEG leaves some."""
_LEAST_SHARE: Final = 0.04
"""A textured part smaller than this share of the frame is no sector."""
_LEAST_FILL: Final = 0.12
"""A row or column at the sector's rim that is textured over less than this share is cut away."""


def find_sector(grey: GreyImage) -> PixelBox:
    """The box around the ultrasound picture on a whole scanner frame, in pixels.

    `grey` is (rows, columns) uint8. The whole frame where no part of it stands out.
    """
    rows, columns = grey.shape
    whole = PixelBox(column0=0, row0=0, column1=columns, row1=rows)
    step = max(1, round(max(rows, columns) / _WORKING_SIZE))
    part = _largest_part(_textured(grey, step))
    if part is None:
        return whole
    rows_filled, columns_filled = _filled_span(part, axis=1), _filled_span(part, axis=0)
    if rows_filled is None or columns_filled is None:
        return whole
    row0, row1 = rows_filled
    column0, column1 = columns_filled
    # A pixel at the working size stands for `step` of them, and an edge that is almost at the
    # frame's own edge is there.
    return PixelBox(
        column0=0 if column0 <= 2 else column0 * step,
        row0=0 if row0 <= 2 else row0 * step,
        column1=columns if column1 * step >= columns - 3 * step else column1 * step,
        row1=rows if row1 * step >= rows - 3 * step else row1 * step,
    )


def sector_shape(grey: GreyImage) -> BoolMask | None:
    """What lies within the picture's outline, (rows, columns) bool; None if none is seen.

    The outline is the smallest convex one around the picture, so the corners beside a curved
    sector, where scanners write, are outside of it.
    """
    step = max(1, round(max(grey.shape) / _WORKING_SIZE))
    part = _largest_part(_textured(grey, step))
    if part is None:
        return None
    found = np.argwhere(part)[:, ::-1].astype(np.int32)
    # A pixel at the working size stands for `step` of them: its corners are all taken in.
    corners = np.concatenate([found + shift for shift in ((0, 0), (1, 0), (0, 1), (1, 1))]) * step
    shape = np.zeros(grey.shape, np.uint8)
    cv2.fillConvexPoly(shape, cv2.convexHull(corners), 1)
    rim = 2 * step + 1
    return np.asarray(cv2.dilate(shape, np.ones((rim, rim), np.uint8)), bool)


def _textured(grey: GreyImage, step: int) -> BoolMask:
    # The range of greys around every `step`-th pixel: at the working size from here on.
    reach = 3 * step if step > 1 else 5
    box = np.ones((reach, reach), np.uint8)
    high = np.asarray(cv2.dilate(grey, box), np.uint8)[step // 2 :: step, step // 2 :: step]
    low = np.asarray(cv2.erode(grey, box), np.uint8)[step // 2 :: step, step // 2 :: step]
    return high - low > _FLAT_RANGE


def _largest_part(textured: BoolMask) -> BoolMask | None:
    if textured.size == 0:  # a strip thinner than a step
        return None
    size = max(textured.shape)
    # The rim of a flat panel is textured on both sides of the line: erode it off first.
    closed = cv2.morphologyEx(textured.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    width = max(3, size // 22)
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((width, width), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(np.asarray(opened, np.uint8))
    if count < 2:
        return None
    best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    if stats[best, cv2.CC_STAT_AREA] < _LEAST_SHARE * textured.size:
        return None
    return np.asarray(labels == best)


def _filled_span(part: BoolMask, *, axis: int) -> tuple[int, int] | None:
    # First and one past the last line that the part fills well enough, against its fullest line.
    filled = part.sum(axis)
    lines = np.flatnonzero(filled >= _LEAST_FILL * max(1, int(filled.max())))
    if lines.size == 0:
        return None
    return int(lines[0]), int(lines[-1]) + 1

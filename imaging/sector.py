"""Where on a scanner's screen the ultrasound is: panels, rulers and black margins cut away."""

from __future__ import annotations

import cv2
import numpy as np

from imaging.arrays import GreyImage
from imaging.geometry import PixelBox


def find_sector(grey: GreyImage) -> PixelBox:
    """The box around the ultrasound picture on a whole scanner frame, in pixels.

    `grey` is (rows, columns) uint8.
    """
    rows, columns = grey.shape
    content: GreyImage = (grey > 10).astype(np.uint8)
    content = np.asarray(
        cv2.morphologyEx(content, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)), np.uint8
    )
    content = np.asarray(
        cv2.morphologyEx(content, cv2.MORPH_OPEN, np.ones((15, 15), np.uint8)), np.uint8
    )
    count, _, stats, _ = cv2.connectedComponentsWithStats(content)
    if count < 2:
        return PixelBox(column0=0, row0=0, column1=columns, row1=rows)
    best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    column0, row0, width, height = (int(value) for value in stats[best, :4])
    return PixelBox(column0=column0, row0=row0, column1=column0 + width, row1=row0 + height)

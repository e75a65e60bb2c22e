"""What of a screen is ultrasound and may leave the house; all else is made black.

PS3.15 E.3.1, Clean Pixel Data. Names stand in banners, panels and corners around the picture.
Where the header names the B-mode part it is taken, and cut down to the picture's own outline;
else the outline alone. Where neither can be told the file is refused: a guess would leak.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from imaging.arrays import BoolMask, ColourImage, GreyImage
from imaging.errors import PictureNotFound
from imaging.geometry import PixelBox
from imaging.sector import sector_shape

_WHOLE: Final = 0.98
"""A part that covers this share of the frame separates nothing."""
_LEAST_COMMON: Final = 0.5
"""Less than this share of the picture inside the named part: the header is about another one."""


def shown_part(brightest: GreyImage, boxes: Sequence[PixelBox], name: str) -> BoolMask:
    """The pixels that are ultrasound, (rows, columns) bool.

    `brightest` is (rows, columns) uint8, over all frames the brightest of each pixel; `boxes` are
    the B-mode parts that the header names. Raises PictureNotFound.
    """
    shape = sector_shape(brightest)
    named = np.zeros(brightest.shape, bool)
    for box in boxes:
        named[box.slices] = True
    separates = named.any() and float(named.mean()) < _WHOLE
    if shape is None:
        if not separates:
            raise _not_found(name)
        return named
    if not named.any():
        if float(shape.mean()) >= _WHOLE:
            raise _not_found(name)
        return shape
    both: BoolMask = named & shape
    if both.sum() < _LEAST_COMMON * min(int(shape.sum()), int(named.sum())):
        raise _not_found(name)
    return both


def blanked(picture: GreyImage | ColourImage, part: BoolMask) -> GreyImage | ColourImage:
    """The picture with every pixel outside the part black."""
    inside = part if picture.ndim == 2 else part[..., np.newaxis]
    return np.where(inside, picture, np.uint8(0))


def luma(picture: GreyImage | ColourImage) -> GreyImage:
    """The picture in grey, (rows, columns) uint8."""
    if picture.ndim == 2:
        return picture
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def _not_found(name: str) -> PictureNotFound:
    return PictureNotFound(
        f"In {name} the ultrasound picture cannot be told from what is written around it.",
        remedy="Export it from the scanner with its ultrasound regions, or cut the picture out "
        "by hand before it leaves the house.",
    )

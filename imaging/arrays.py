"""Array types that the rooms share; every array indexes [row, column]."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GreyImage: TypeAlias = NDArray[np.uint8]
"""(rows, columns) uint8, 0 black to 255 white."""

ColourImage: TypeAlias = NDArray[np.uint8]
"""(rows, columns, 3) uint8, RGB."""

BoolMask: TypeAlias = NDArray[np.bool_]
"""(rows, columns) bool, True inside."""

FloatArray: TypeAlias = NDArray[np.float64]


def luma(colour: ColourImage) -> GreyImage:
    """The grey (rows, columns) uint8 of (rows, columns, 3) uint8 RGB, as ITU-R 601 weighs it.

    0.299 red, 0.587 green, 0.114 blue in 16-bit fixed point, so that the same colours give the
    same grey from every kind of file.
    """
    return np.array(Image.fromarray(np.ascontiguousarray(colour)).convert("L"))


STRONG_COLOUR = 120
"""Channels further apart than this: red and blue of Doppler, not the tint of a grey map."""


def colour_share(colour: ColourImage) -> float:
    """The share, 0 to 1, of (rows, columns, 3) uint8 pixels that are strongly coloured."""
    spread = colour.max(axis=2).astype(np.int16) - colour.min(axis=2)
    return float(np.mean(spread > STRONG_COLOUR))

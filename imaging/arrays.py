"""Array types that the rooms share; every array indexes [row, column]."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

GreyImage: TypeAlias = NDArray[np.uint8]
"""(rows, columns) uint8, 0 black to 255 white."""

ColourImage: TypeAlias = NDArray[np.uint8]
"""(rows, columns, 3) uint8, RGB."""

BoolMask: TypeAlias = NDArray[np.bool_]
"""(rows, columns) bool, True inside."""

FloatArray: TypeAlias = NDArray[np.float64]

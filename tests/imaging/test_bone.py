"""A bright line with a shadow behind it, and what looks a little like it."""

from __future__ import annotations

import numpy as np

from imaging.arrays import GreyImage
from imaging.bone import possible_bone
from imaging.geometry import PixelBox

ROWS, COLUMNS = 400, 500
ALL = PixelBox(column0=0, row0=0, column1=COLUMNS, row1=ROWS)
NO_MUSCLE = np.zeros((ROWS, COLUMNS), dtype=np.bool_)


def tissue(
    *, shadow: float = 0.05, columns: slice = slice(200, 320), row: int = 220, line: float = 230
) -> GreyImage:
    """Speckle with a line, and behind it this fraction of the speckle's brightness."""
    random = np.random.default_rng(3)
    grey = random.gamma(4.0, 15.0, size=(ROWS, COLUMNS))
    grey[row:, columns] *= shadow
    grey[row : row + 8, columns] = line
    return np.clip(grey, 0, 255).astype(np.uint8)


def test_a_line_with_a_shadow_is_named() -> None:
    """The line is found over at least nine tenths of its width, and nothing far from it."""
    found = possible_bone(tissue(), ALL, NO_MUSCLE)
    columns = np.nonzero(found.any(axis=0))[0]
    rows = np.nonzero(found.any(axis=1))[0]
    assert len(columns) >= 0.9 * 120
    assert columns.min() >= 195
    assert columns.max() <= 325
    assert rows.min() >= 212
    assert rows.max() <= 236


def test_what_is_no_bone() -> None:
    """A fascia with tissue behind it, a speck, a line in the skin, one at the bottom, one that is
    as dark as the rest, and a black picture."""
    pictures = {
        "fascia": tissue(shadow=1.0),
        "speck": tissue(columns=slice(250, 262)),
        "skin": tissue(row=20),
        "bottom": tissue(row=370),
        "dark line": tissue(line=20),
        "black": np.zeros((ROWS, COLUMNS), dtype=np.uint8),
    }
    for name, pixels in pictures.items():
        assert not possible_bone(pixels, ALL, NO_MUSCLE).any(), name


def test_outside_the_region_and_in_the_muscle_nothing_is_bone() -> None:
    """The region's edge and the muscle's outline bound what is looked at."""
    right = PixelBox(column0=330, row0=0, column1=COLUMNS, row1=ROWS)
    assert not possible_bone(tissue(), right, NO_MUSCLE).any()
    muscle = NO_MUSCLE.copy()
    muscle[:, 260:] = True
    found = possible_bone(tissue(), ALL, muscle)
    assert found.any()
    assert not (found & muscle).any()

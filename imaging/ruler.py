"""The depth ruler that a scanner burned into the picture: a suggestion, never a scale by itself.

Ticks are found by their look: short marks in one column beside the sector, at equal steps. What a
step means in millimetres is printed in digits that are not read here, so a person says it; only
then does the suggestion become a calibration, marked as read from a burned-in ruler.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.arrays import FloatArray, GreyImage
from imaging.calibration import Calibration, CalibrationProvenance, from_two_points
from imaging.geometry import ImagePoint, PixelBox

FEWEST_TICKS = 5
HIGHEST_TICK_PX = 4
"""A tick is a thin stroke: taller marks are letters, arrows and grey bars."""
SMALLEST_STEP_PX = 6.0
TICK_CONTRAST = 40
OFF_GRID_PX = 1.5
MOST_SPOTS = 120
SHORTEST_STROKE_PX = 3
SHORTEST_SHARE = 0.4
"""A ruler runs along at least this share of the sector's rows."""
RIM_SHARE = 0.06


@dataclass(frozen=True, slots=True, kw_only=True)
class RulerSuggestion:
    """Ticks at equal steps: `first` and `last` lie at the centres of the outermost ones."""

    first: ImagePoint
    last: ImagePoint
    ticks: int
    step_px: float

    def calibration(self, *, step_mm: float) -> Calibration:
        """The square-pixel scale once a person has said how many millimetres lie between ticks.

        Raises CalibrationRefused for a step that cannot be true.
        """
        made = from_two_points(self.first, self.last, distance_mm=step_mm * (self.ticks - 1))
        return Calibration(
            row_mm_per_px=made.row_mm_per_px,
            column_mm_per_px=made.column_mm_per_px,
            provenance=CalibrationProvenance.BURNED_IN_RULER,
            note=f"{self.ticks} ticks of {self.step_px:.2f} px, confirmed as {step_mm:g} mm each",
        )


def find_ruler(grey: GreyImage, sector: PixelBox) -> RulerSuggestion | None:
    """The ruler with the most ticks beside the sector of a frame (rows, columns) uint8, or None.

    `sector` is the ultrasound picture itself; a ruler may lie on its rim, but not further in,
    where it would be tissue. Ticks must be strokes: the same in neighbouring columns.
    """
    rim = round(sector.columns * RIM_SHARE)
    columns = [
        *range(min(sector.column0 + rim, grey.shape[1])),
        *range(max(0, sector.column1 - rim), grey.shape[1]),
    ]
    best: RulerSuggestion | None = None
    strokes: list[FloatArray] = []
    before = -2
    for column in columns:
        found = _ticks_in(grey[:, column])
        if found is None or found.size < FEWEST_TICKS:
            strokes = []
            continue
        same = column == before + 1 and bool(strokes) and _same(found, strokes[-1])
        strokes, before = [*(strokes if same else []), found], column
        long_enough = found[-1] - found[0] >= SHORTEST_SHARE * sector.rows
        if len(strokes) < SHORTEST_STROKE_PX or not long_enough:
            continue
        if best is None or found.size > best.ticks:
            best = RulerSuggestion(
                first=ImagePoint(column=column + 0.5, row=float(found[0])),
                last=ImagePoint(column=column + 0.5, row=float(found[-1])),
                ticks=int(found.size),
                step_px=float((found[-1] - found[0]) / (found.size - 1)),
            )
    return best


def _same(a: FloatArray, b: FloatArray) -> bool:
    return a.size == b.size and bool(np.abs(a - b).max() <= 0.5)


def _ticks_in(line: NDArray[np.uint8]) -> FloatArray | None:
    """Continuous rows of the spots of a column that lie at equal steps without a gap, or None."""
    bright = line.astype(np.int16) > int(np.median(line)) + TICK_CONTRAST
    edges = np.flatnonzero(np.diff(np.concatenate([[False], bright, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    thin = ends - starts <= HIGHEST_TICK_PX
    spots = (starts + ends)[thin] / 2.0
    if not FEWEST_TICKS <= spots.size <= MOST_SPOTS:
        return None
    best: FloatArray | None = None
    for index in range(spots.size - 1):
        step = float(spots[index + 1] - spots[index])
        if step < SMALLEST_STEP_PX:
            continue
        run = _run(spots, index, step)
        if best is None or run.size > best.size:
            best = run
    return best


def _run(spots: FloatArray, start: int, step: float) -> FloatArray:
    """The longest chain of spots from `start` on that keeps the step, which settles as it grows."""
    chain = [float(spots[start])]
    while True:
        near = spots[np.abs(spots - (chain[-1] + step)) <= OFF_GRID_PX]
        if near.size == 0:
            return np.array(chain)
        chain.append(float(near[np.argmin(np.abs(near - (chain[-1] + step)))]))
        step = (chain[-1] - chain[0]) / (len(chain) - 1)

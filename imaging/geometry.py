"""Points and boxes on the image and in tissue.

A pixel index is a pair of integers at a pixel's centre; an `ImagePoint` is continuous with
0,0 at the top-left *corner* of the top-left pixel (DICOM PS3.3 C.10.5.1.2, SCOORD), so the
centre of pixel (column, row) is (column + 0.5, row + 0.5). Millimetres are made from pixels
by `imaging.calibration.Calibration` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePoint:
    """A continuous point on the image in pixels, 0,0 at the top-left corner."""

    column: float
    row: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TissuePoint:
    """A point in tissue in millimetres: to the right of and below the image's top-left corner."""

    lateral_mm: float
    depth_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelBox:
    """A half-open box of whole pixels: columns [column0, column1), rows [row0, row1)."""

    column0: int
    row0: int
    column1: int
    row1: int

    def __post_init__(self) -> None:
        if self.column1 <= self.column0 or self.row1 <= self.row0:
            raise ValueError(f"a box needs at least one pixel: {self}")

    @property
    def columns(self) -> int:
        return self.column1 - self.column0

    @property
    def rows(self) -> int:
        return self.row1 - self.row0

    @property
    def slices(self) -> tuple[slice, slice]:
        """(row slice, column slice), to index an array with."""
        return slice(self.row0, self.row1), slice(self.column0, self.column1)

    def holds(self, *, column: float, row: float) -> bool:
        """True if the pixel index or point lies inside."""
        return self.column0 <= column < self.column1 and self.row0 <= row < self.row1


def pixel_centre(*, column: int, row: int) -> ImagePoint:
    """The continuous point at the centre of a pixel index."""
    return ImagePoint(column=column + 0.5, row=row + 0.5)


def polygon_area_px(points: Sequence[ImagePoint]) -> float:
    """The area in square pixels that a simple polygon encloses (shoelace formula)."""
    total = 0.0
    for here, there in zip(points, [*points[1:], *points[:1]], strict=True):
        total += here.column * there.row - there.column * here.row
    return abs(total) / 2.0

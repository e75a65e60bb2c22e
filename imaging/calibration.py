"""The one place where pixels become millimetres."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from imaging.errors import CalibrationRefused
from imaging.geometry import ImagePoint, PixelBox, TissuePoint

SMALLEST_MM_PER_PX = 0.005
LARGEST_MM_PER_PX = 2.0
"""Outside these a scale is no diagnostic ultrasound's (a 256-row frame would show under 1.3 mm
or over half a metre): a typing error in the unit, refused rather than used."""


class CalibrationProvenance(StrEnum):
    """Where a scale came from; it travels with every number made with it."""

    ULTRASOUND_REGION = "ultrasound_region"
    PIXEL_SPACING = "pixel_spacing"
    FUNCTIONAL_GROUP = "functional_group"
    OPERATOR = "operator"
    BURNED_IN_RULER = "burned_in_ruler"
    NOMINAL = "nominal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Millimetres per pixel down (row) and across (column), and where they came from.

    `region` is the part of the image that the scale holds for, None for all of it. A nominal
    scale is one whose truth is unknown: every output made with it says DEMONSTRATION.
    """

    row_mm_per_px: float
    column_mm_per_px: float
    provenance: CalibrationProvenance
    note: str = ""
    region: PixelBox | None = None

    def __post_init__(self) -> None:
        for value in (self.row_mm_per_px, self.column_mm_per_px):
            if not math.isfinite(value) or not SMALLEST_MM_PER_PX <= value <= LARGEST_MM_PER_PX:
                raise CalibrationRefused(
                    f"{value} mm per pixel is not the scale of an ultrasound image.",
                    remedy="Check the unit: give millimetres per pixel, usually 0.03 to 0.5, or "
                    "two points of the depth ruler and the distance between them in millimetres.",
                )

    @property
    def is_nominal(self) -> bool:
        return self.provenance is CalibrationProvenance.NOMINAL

    @property
    def is_isotropic(self) -> bool:
        """True if a pixel is square to within 0.1 %."""
        return math.isclose(self.row_mm_per_px, self.column_mm_per_px, rel_tol=1e-3)

    def area_mm2(self, area_px: float) -> float:
        """Square millimetres of an area in square pixels."""
        return area_px * self.row_mm_per_px * self.column_mm_per_px

    def height_mm(self, rows_px: float) -> float:
        """Millimetres of a vertical extent in rows."""
        return rows_px * self.row_mm_per_px

    def width_mm(self, columns_px: float) -> float:
        """Millimetres of a horizontal extent in columns."""
        return columns_px * self.column_mm_per_px

    def to_tissue(self, point: ImagePoint) -> TissuePoint:
        """The point in millimetres from the image's top-left corner."""
        return TissuePoint(
            lateral_mm=point.column * self.column_mm_per_px, depth_mm=point.row * self.row_mm_per_px
        )

    def to_image(self, point: TissuePoint) -> ImagePoint:
        """The point in pixels: the inverse of `to_tissue`."""
        return ImagePoint(
            column=point.lateral_mm / self.column_mm_per_px, row=point.depth_mm / self.row_mm_per_px
        )

    def distance_mm(self, a: ImagePoint, b: ImagePoint) -> float:
        """The distance in millimetres between two image points."""
        return math.hypot(
            (a.column - b.column) * self.column_mm_per_px, (a.row - b.row) * self.row_mm_per_px
        )


def from_two_points(
    a: ImagePoint, b: ImagePoint, *, distance_mm: float, region: PixelBox | None = None
) -> Calibration:
    """The square-pixel calibration of an operator who clicked two points and typed their distance.

    Raises CalibrationRefused for points closer than 10 pixels (a click's error would dominate)
    and for a distance that is not above zero.
    """
    length_px = math.hypot(a.column - b.column, a.row - b.row)
    if length_px < 10 or not distance_mm > 0:
        raise CalibrationRefused(
            "Two points at least 10 pixels apart and a distance above 0 mm are needed.",
            remedy="Click two far marks of the depth ruler and type the distance between them.",
        )
    scale = distance_mm / length_px
    return Calibration(
        row_mm_per_px=scale,
        column_mm_per_px=scale,
        provenance=CalibrationProvenance.OPERATOR,
        note=f"two points {length_px:.1f} px apart, typed as {distance_mm:g} mm",
        region=region,
    )

"""What was measured on the images, as the clinic receives it from the imaging room."""

from __future__ import annotations

import math
from dataclasses import dataclass

from app.clinic.errors import InvalidInput
from imaging.arrays import BoolMask, FloatArray
from imaging.calibration import Calibration


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObservedSection:
    """One frame's outlined muscle: mm and mm² where there is a calibration, else None.

    `mask` and `avoid` (nerve or vessel) are (rows, columns) bool; `possible_bone` marks a bright
    line with a shadow behind it, where the imaging room looked for one. `skin_row` is the pixel
    row of the skin line; `skin_rows` (columns,) holds it per column where it is not level, as on a
    panorama. `position_mm` is the place along the muscle.
    """

    frame_key: str
    position_mm: float | None
    area_mm2: float | None
    thickness_mm: float | None
    width_mm: float | None
    depth_mm: float | None
    area_interval_mm2: tuple[float, float] | None
    mask: BoolMask
    avoid: BoolMask | None
    calibration: Calibration | None
    skin_row: int
    possible_bone: BoolMask | None = None
    skin_rows: FloatArray | None = None

    def __post_init__(self) -> None:
        for other in (self.avoid, self.possible_bone):
            if other is not None and other.shape != self.mask.shape:
                raise InvalidInput(
                    f"Frame {self.frame_key}: the masks have different sizes.",
                    remedy="Outline the muscle and the structures to avoid on the same frame.",
                )
        for name, value in (("area_mm2", self.area_mm2), ("position_mm", self.position_mm)):
            if value is not None and (not math.isfinite(value) or value < 0):
                raise InvalidInput(
                    f"Frame {self.frame_key}: {name} is {value:g}, which cannot be true.",
                    remedy="Measure the frame again.",
                )

    def skin_row_at(self, column: float) -> float:
        """The row of the skin over a column; beyond the picture that of its nearest column."""
        if self.skin_rows is None:
            return float(self.skin_row)
        last = len(self.skin_rows) - 1
        return float(self.skin_rows[min(max(int(column), 0), last)])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observation:
    """All sections of one study, in the order of the sweep, and how they were taken."""

    view: str | None
    sections: tuple[ObservedSection, ...]
    laterality: str | None = None
    patient_id: str | None = None

    @property
    def is_calibrated(self) -> bool:
        """True if there is a section and every section has a scale."""
        return bool(self.sections) and all(s.calibration is not None for s in self.sections)

    @property
    def is_nominal(self) -> bool:
        """True if any section's scale is one whose truth is unknown."""
        return any(s.calibration is not None and s.calibration.is_nominal for s in self.sections)

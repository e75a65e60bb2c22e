"""The scale of a DICOM image, from the ultrasound regions first; none rather than a guess.

PS3.3 C.8.5.5: Sequence of Ultrasound Regions (0018,6011) says for each part of the picture what
it shows and what a pixel means. It outlives resampling by careless software, so a region counts
only if it can still be true: inside the image, spatial format 2D (1), data type tissue (1),
centimetres (3) in both directions, both deltas other than zero.

Nominal calibration. A sample whose true scale is unknown carries regions with a made-up scale
and says so in standard attributes: Image Comments (0020,4000) and Derivation Description
(0008,2111) both start with `NOMINAL_MARK`. Either one makes the calibration nominal, so that a
PACS which drops one of them does not turn a made-up scale into a true one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from imaging.calibration import Calibration, CalibrationProvenance
from imaging.dicom.header import items_of, text_of
from imaging.errors import CalibrationRefused
from imaging.geometry import ImagePoint, PixelBox

NOMINAL_MARK = "NOMINAL CALIBRATION"

SPATIAL_2D = 1
"""Region Spatial Format (0018,6012), PS3.3 C.8.5.5.1.1."""
SPATIAL_FORMATS = {0: "none", 1: "2D", 2: "M-mode", 3: "spectral", 4: "wave form", 5: "graphics"}
TISSUE = 1
"""Region Data Type (0018,6014), PS3.3 C.8.5.5.1.2."""
DATA_TYPES = {1: "tissue", 2: "colour flow", 3: "PW Doppler", 4: "CW Doppler", 10: "ECG"}
CENTIMETRES = 3
"""Physical Units X and Y Direction (0018,6024), (0018,6026), PS3.3 C.8.5.5.1.15."""
UNITS = {0: "none", 1: "percent", 2: "dB", 3: "cm", 4: "seconds", 5: "hertz", 7: "cm/s"}
MM_PER_CM = 10.0

SAME_SCALE = 0.005
"""Two scales within half a percent are one scale, told twice."""
WIDEST_PIXEL = 4.0
"""A pixel more than four times as wide as high (or the reverse) is a damaged header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UltrasoundRegion:
    """One item of (0018,6011) as stored; `problem` says why its scale cannot be used."""

    box: PixelBox | None
    spatial_format: int
    data_type: int
    calibration: Calibration | None
    problem: str | None

    @property
    def is_b_mode(self) -> bool:
        """True for a 2D picture of tissue: not Doppler, M-mode, spectra, graphics."""
        return self.spatial_format == SPATIAL_2D and self.data_type == TISSUE


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleReading:
    """The scale for the frames asked for, or why there is none; the B-mode part if it is named."""

    calibration: Calibration | None
    problem: str | None
    region: PixelBox | None


def read_scale(ds: Dataset, frames: Sequence[int] | None = None) -> ScaleReading:
    """The scale that holds for all the 0-based `frames` (None: all) of an image's header.

    Regions first; only where the header has no region of tissue at all, Pixel Measures of the
    functional groups (PS3.3 C.7.6.16.2.1), then Pixel Spacing (0028,0030). A header that gives
    regions which cannot be true gives no scale: its other tags are as stale.
    """
    regions = read_regions(ds)
    b_mode = [region for region in regions if region.is_b_mode]
    if b_mode:
        reading = _from_regions(b_mode)
    else:
        reading = _from_spacing(ds, frames, has_regions=bool(regions))
    if reading.calibration is None or not is_nominal(ds):
        return reading
    nominal = Calibration(
        row_mm_per_px=reading.calibration.row_mm_per_px,
        column_mm_per_px=reading.calibration.column_mm_per_px,
        provenance=CalibrationProvenance.NOMINAL,
        note="the file says that its scale is nominal, for demonstration",
        region=reading.calibration.region,
    )
    return ScaleReading(calibration=nominal, problem=None, region=reading.region)


def is_nominal(ds: Dataset) -> bool:
    """True if the data set says that its scale is made up."""
    return any(
        (text_of(ds, keyword) or "").upper().startswith(NOMINAL_MARK)
        for keyword in ("ImageComments", "DerivationDescription")
    )


def read_regions(ds: Dataset) -> tuple[UltrasoundRegion, ...]:
    """Every item of (0018,6011), in its order, each with its scale or its problem."""
    rows, columns = int(ds.get("Rows") or 0), int(ds.get("Columns") or 0)
    return tuple(
        _read_region(item, rows, columns) for item in items_of(ds, "SequenceOfUltrasoundRegions")
    )


def calibration_at(regions: Sequence[UltrasoundRegion], point: ImagePoint) -> Calibration | None:
    """The scale of the B-mode region that holds the point; None outside, or where two differ."""
    scales = [
        region.calibration
        for region in regions
        if region.is_b_mode
        and region.box is not None
        and region.calibration is not None
        and region.box.holds(column=point.column, row=point.row)
    ]
    return scales[0] if scales and _all_same(scales) else None


def _read_region(item: Dataset, rows: int, columns: int) -> UltrasoundRegion:
    spatial_format = _whole(item, "RegionSpatialFormat")
    data_type = _whole(item, "RegionDataType")
    box, problem = _box(item, rows, columns)
    calibration = None
    if problem is None:
        calibration, problem = _scale(item, box)
    return UltrasoundRegion(
        box=box,
        spatial_format=spatial_format,
        data_type=data_type,
        calibration=calibration,
        problem=problem,
    )


def _whole(item: Dataset, keyword: str) -> int:
    """An integer element, -1 where it is absent or no number."""
    try:
        return int(text_of(item, keyword) or -1)
    except ValueError:
        return -1


def _number(item: Dataset, keyword: str) -> float:
    """A floating point element, NaN where it is absent or no number."""
    try:
        return float(text_of(item, keyword) or math.nan)
    except ValueError:
        return math.nan


def _box(item: Dataset, rows: int, columns: int) -> tuple[PixelBox | None, str | None]:
    """Region Location (0018,6018) to (0018,601E): the maxima are the last pixels inside.

    Some scanners write one past the last pixel; that one pixel is forgiven, no more.
    """
    left, top = _signed(item, "RegionLocationMinX0"), _signed(item, "RegionLocationMinY0")
    right, bottom = _signed(item, "RegionLocationMaxX1"), _signed(item, "RegionLocationMaxY1")
    if left is None or top is None or right is None or bottom is None:
        return None, "the region has no location in the image"
    if left < 0 or top < 0 or right > columns or bottom > rows:
        return None, (
            f"the region reaches to column {right} and row {bottom}, outside the image of "
            f"{columns}×{rows}: the picture was resized and its scale was not"
        )
    if right <= left or bottom <= top:
        return None, "the region is empty"
    return (
        PixelBox(
            column0=left, row0=top, column1=min(right + 1, columns), row1=min(bottom + 1, rows)
        ),
        None,
    )


def _signed(item: Dataset, keyword: str) -> int | None:
    """An unsigned location as the signed number that a careless writer meant; None if absent."""
    try:
        value = int(text_of(item, keyword) or "")
    except ValueError:
        return None
    return value - 2**32 if value >= 2**31 else value


def _scale(item: Dataset, box: PixelBox | None) -> tuple[Calibration | None, str | None]:
    units = (_whole(item, "PhysicalUnitsXDirection"), _whole(item, "PhysicalUnitsYDirection"))
    if units != (CENTIMETRES, CENTIMETRES):
        told = " and ".join(UNITS.get(unit, "unknown") for unit in units)
        return None, f"the region's units are {told}, not centimetres"
    across, down = _number(item, "PhysicalDeltaX"), _number(item, "PhysicalDeltaY")
    if not (math.isfinite(across) and math.isfinite(down) and across != 0 and down != 0):
        return None, "the region gives no size of a pixel"
    # The sign says which way the axis runs; a length has none.
    across, down = abs(across) * MM_PER_CM, abs(down) * MM_PER_CM
    if max(across, down) > WIDEST_PIXEL * min(across, down):
        return None, f"the region's pixel of {across:g}×{down:g} mm is out of shape"
    return _calibration(down, across, CalibrationProvenance.ULTRASOUND_REGION, region=box)


def _calibration(
    row_mm_per_px: float,
    column_mm_per_px: float,
    provenance: CalibrationProvenance,
    *,
    note: str = "",
    region: PixelBox | None = None,
) -> tuple[Calibration | None, str | None]:
    try:
        made = Calibration(
            row_mm_per_px=row_mm_per_px,
            column_mm_per_px=column_mm_per_px,
            provenance=provenance,
            note=note,
            region=region,
        )
    except CalibrationRefused as refused:
        return None, refused.message
    return made, None


def _all_same(scales: Sequence[Calibration]) -> bool:
    first = scales[0]
    return all(
        math.isclose(each.row_mm_per_px, first.row_mm_per_px, rel_tol=SAME_SCALE)
        and math.isclose(each.column_mm_per_px, first.column_mm_per_px, rel_tol=SAME_SCALE)
        for each in scales
    )


def _from_regions(b_mode: Sequence[UltrasoundRegion]) -> ScaleReading:
    boxes = sorted(
        {region.box for region in b_mode if region.box is not None},
        key=lambda box: -box.rows * box.columns,
    )
    box = boxes[0] if boxes else None
    if len(boxes) > 1 and boxes[1].rows * boxes[1].columns * 2 > boxes[0].rows * boxes[0].columns:
        box = None  # two pictures side by side: neither is *the* B-mode part
    problems = [region.problem for region in b_mode if region.problem is not None]
    if problems:
        return ScaleReading(
            calibration=None, problem=f"The file's scale cannot be used: {problems[0]}.", region=box
        )
    scales = [region.calibration for region in b_mode if region.calibration is not None]
    if not _all_same(scales):
        return ScaleReading(
            calibration=None,
            problem="The picture has several B-mode parts with different scales.",
            region=box,
        )
    chosen, _ = _calibration(
        scales[0].row_mm_per_px,
        scales[0].column_mm_per_px,
        CalibrationProvenance.ULTRASOUND_REGION,
        note="" if len(scales) == 1 else f"{len(scales)} B-mode regions of one scale",
        region=box,
    )
    return ScaleReading(calibration=chosen, problem=None, region=box)


def _from_spacing(ds: Dataset, frames: Sequence[int] | None, *, has_regions: bool) -> ScaleReading:
    spacings = _functional_group_spacings(ds, frames)
    provenance = CalibrationProvenance.FUNCTIONAL_GROUP
    if not spacings and ds.get("PixelSpacing"):
        spacings, provenance = [_pair(ds)], CalibrationProvenance.PIXEL_SPACING
    if not spacings:
        what = "regions, none of them a B-mode picture" if has_regions else "no scale"
        return ScaleReading(calibration=None, problem=f"The file has {what}.", region=None)
    if any(not _close(pair, spacings[0]) for pair in spacings):
        return ScaleReading(
            calibration=None,
            problem="The scale changes between the frames: ask for frames of one scale.",
            region=None,
        )
    down, across = spacings[0]
    if down == across == 1.0:
        return ScaleReading(
            calibration=None,
            problem="The file says 1 mm per pixel, which converters write when they do not know.",
            region=None,
        )
    calibration, problem = _calibration(down, across, provenance)
    return ScaleReading(
        calibration=calibration,
        problem=None if problem is None else f"The file's scale cannot be used: {problem}",
        region=None,
    )


def _functional_group_spacings(
    ds: Dataset, frames: Sequence[int] | None
) -> list[tuple[float, float]]:
    """(down, across) in mm of each frame asked for: its own Pixel Measures, else the shared."""
    shared = _measures(items_of(ds, "SharedFunctionalGroupsSequence"))
    groups = items_of(ds, "PerFrameFunctionalGroupsSequence")
    wanted = range(len(groups)) if frames is None else [f for f in frames if f < len(groups)]
    own = [_measures([groups[index]]) or shared for index in wanted]
    found = own or [shared]
    return [] if any(pair is None for pair in found) else [pair for pair in found if pair]


def _measures(groups: Sequence[Dataset]) -> tuple[float, float] | None:
    for group in groups:
        for measures in items_of(group, "PixelMeasuresSequence"):
            if measures.get("PixelSpacing"):
                return _pair(measures)
    return None


def _pair(ds: Dataset) -> tuple[float, float]:
    """Pixel Spacing (0028,0030): down the column first, then across; NaN where it is damaged."""
    try:
        down, across = (float(value) for value in ds.PixelSpacing)
    except (TypeError, ValueError):
        return math.nan, math.nan
    return down, across


def _close(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return all(math.isclose(x, y, rel_tol=SAME_SCALE) for x, y in zip(a, b, strict=True))

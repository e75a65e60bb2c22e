"""A muscle's cross-section in pixels and, through a calibration, in millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imaging.arrays import BoolMask, FloatArray, GreyImage
from imaging.calibration import Calibration
from imaging.geometry import ImagePoint, PixelBox, polygon_area_px

MIDDLE_SHARE = 0.5
"""Thickness and depth are read over this middle share of the muscle's columns: the ends of a
section taper, and on the long axis they lie at the edge of the sector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossSection:
    """What one frame says of the muscle; every `_mm` and `_mm2` is None without a calibration.

    `thickness` is the median vertical extent over the middle half of the columns, and
    `max_thickness` the largest there; `width` is the horizontal extent; `depth` runs from the
    skin line to the superficial border and `deep` to the deep border, both medians over the
    same columns. `echo_intensity` is the mean grey inside, 0 to 255. `touches_edge` says that
    the muscle reaches the border of the picture, so that its area is a lower bound.
    """

    area_px: float
    area_mm2: float | None
    thickness_px: float
    thickness_mm: float | None
    max_thickness_px: float
    max_thickness_mm: float | None
    width_px: float
    width_mm: float | None
    depth_px: float
    depth_mm: float | None
    deep_px: float
    deep_mm: float | None
    centroid: ImagePoint
    echo_intensity: float
    touches_edge: bool


def measure(
    mask: BoolMask,
    grey: GreyImage,
    calibration: Calibration | None,
    *,
    skin_row: int,
    skin_rows: FloatArray | None = None,
    outline: Sequence[ImagePoint] | None = None,
    region: PixelBox | None = None,
) -> CrossSection:
    """The cross-section of a mask (rows, columns) bool on its grey frame (rows, columns) uint8.

    With an operator's `outline` the area, centroid and extents are the polygon's own, exact to
    the sub-pixel; else they count pixels. `skin_rows` (columns,) holds the skin's row per column
    where it is not level at `skin_row`. `region` is the B-mode part whose border counts as the
    edge (default: the calibration's region, else the whole frame). Raises ValueError for an
    empty mask and for shapes that differ.
    """
    if mask.shape != grey.shape:
        raise ValueError(f"mask {mask.shape} and frame {grey.shape} differ in shape")
    if not mask.any():
        raise ValueError("an empty mask has no cross-section")
    if outline is None:
        area_px = float(mask.sum())
        rows, columns = np.nonzero(mask)
        centroid = ImagePoint(column=float(columns.mean()) + 0.5, row=float(rows.mean()) + 0.5)
        column_at, top, bottom = _extents_of_mask(mask)
        width_px = float(columns.max() - columns.min() + 1)
    else:
        area_px = polygon_area_px(outline)
        centroid = polygon_centroid(outline)
        column_at, top, bottom = _extents_of_outline(outline)
        spread = [p.column for p in outline]
        width_px = max(spread) - min(spread)
    middle = _middle(column_at)
    extent = (bottom - top)[middle]
    thickness_px = float(np.median(extent))
    max_thickness_px = float(extent.max())
    skin = _skin_at(column_at[middle], skin_row, skin_rows)
    depth_px = float(np.median(top[middle] - skin))
    deep_px = float(np.median(bottom[middle] - skin))
    edge = region or (None if calibration is None else calibration.region)
    return CrossSection(
        area_px=area_px,
        area_mm2=None if calibration is None else calibration.area_mm2(area_px),
        thickness_px=thickness_px,
        thickness_mm=_height_mm(calibration, thickness_px),
        max_thickness_px=max_thickness_px,
        max_thickness_mm=_height_mm(calibration, max_thickness_px),
        width_px=width_px,
        width_mm=None if calibration is None else calibration.width_mm(width_px),
        depth_px=depth_px,
        depth_mm=_height_mm(calibration, depth_px),
        deep_px=deep_px,
        deep_mm=_height_mm(calibration, deep_px),
        centroid=centroid,
        echo_intensity=float(grey[mask].mean()),
        touches_edge=_touches(mask, edge),
    )


def polygon_centroid(points: Sequence[ImagePoint]) -> ImagePoint:
    """The centre of area of a simple polygon; the mean of its points if it encloses nothing."""
    corner = np.array([(p.column, p.row) for p in points], dtype=np.float64)
    origin = corner.mean(axis=0)
    a = corner - origin
    b = np.roll(a, -1, axis=0)
    cross = a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1]
    twice_area = float(cross.sum())
    if abs(twice_area) < 1e-9:
        return ImagePoint(column=float(origin[0]), row=float(origin[1]))
    shift = ((a + b) * cross[:, None]).sum(axis=0) / (3.0 * twice_area)
    return ImagePoint(column=float(origin[0] + shift[0]), row=float(origin[1] + shift[1]))


def _skin_at(column_at: FloatArray, skin_row: int, skin_rows: FloatArray | None) -> FloatArray:
    """The skin's row over each of the columns."""
    if skin_rows is None:
        return np.full(column_at.shape, float(skin_row))
    index = np.clip(column_at.astype(np.int64), 0, len(skin_rows) - 1)
    return skin_rows[index]


def _height_mm(calibration: Calibration | None, rows_px: float) -> float | None:
    return None if calibration is None else calibration.height_mm(rows_px)


def _extents_of_mask(mask: BoolMask) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(column, top, bottom) of every column that the mask reaches; bottom is the lower edge."""
    column = np.flatnonzero(mask.any(axis=0))
    part = mask[:, column]
    top = part.argmax(axis=0)
    bottom = mask.shape[0] - part[::-1].argmax(axis=0)
    return column.astype(np.float64), top.astype(np.float64), bottom.astype(np.float64)


def _extents_of_outline(
    outline: Sequence[ImagePoint],
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The same from a polygon: its outermost crossings with a line down each column's centre."""
    here = np.array([(p.column, p.row) for p in outline], dtype=np.float64)
    there = np.roll(here, -1, axis=0)
    low, high = float(here[:, 0].min()), float(here[:, 0].max())
    # Narrower than a pixel: its own middle stands for it.
    lines: FloatArray = np.arange(np.ceil(low - 0.5), np.ceil(high - 0.5), dtype=np.float64) + 0.5
    if lines.size == 0:
        lines = np.array([(low + high) / 2.0])
    across = (np.minimum(here[:, 0], there[:, 0])[None] <= lines[:, None]) & (
        lines[:, None] < np.maximum(here[:, 0], there[:, 0])[None]
    )
    run = np.where(here[:, 0] == there[:, 0], 1.0, there[:, 0] - here[:, 0])
    part = (lines[:, None] - here[None, :, 0]) / run[None]
    row = here[None, :, 1] + part * (there[:, 1] - here[:, 1])[None]
    top: FloatArray = np.where(across, row, np.inf).min(axis=1)
    bottom: FloatArray = np.where(across, row, -np.inf).max(axis=1)
    met = np.isfinite(top)
    if not met.any():
        rows = here[:, 1]
        return lines[:1], np.array([rows.min()]), np.array([rows.max()])
    return lines[met], top[met], bottom[met]


def _middle(column_at: FloatArray) -> BoolMask:
    """True for the columns of the middle share of the extent; never empty."""
    low, high = float(column_at.min()), float(column_at.max())
    margin = (high - low) * (1.0 - MIDDLE_SHARE) / 2.0
    inside: BoolMask = (column_at >= low + margin) & (column_at <= high - margin)
    return inside if inside.any() else np.ones(column_at.shape, dtype=np.bool_)


def _touches(mask: BoolMask, edge: PixelBox | None) -> bool:
    rows, columns = mask.shape
    box = edge or PixelBox(column0=0, row0=0, column1=columns, row1=rows)
    return bool(
        mask[:, : box.column0 + 1].any()
        or mask[:, box.column1 - 1 :].any()
        or mask[: box.row0 + 1].any()
        or mask[box.row1 - 1 :].any()
    )

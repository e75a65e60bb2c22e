"""One section's muscle in millimetres: its cells, and how far each is from what a needle avoids."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt  # type: ignore[import-untyped]  # no stubs

from app.clinic.needle import ALIKE_MM, Obstacles, centres_mm, obstacles_of
from app.clinic.observation import ObservedSection
from app.clinic.policy import Policy
from imaging.arrays import BoolMask, FloatArray
from imaging.calibration import Calibration
from imaging.geometry import ImagePoint, TissuePoint

GRID_CELLS = 2500
"""About how many cells a section's muscle is divided into to find margins and spread sites."""


MOST_CELLS = 40_000
"""About how many cells there are at most with the margins around the muscle."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tissue:
    """One section divided into cells, all lengths in mm from the image's top-left corner.

    `cells_mm` (n, 2) are (lateral, depth) of the cells inside the muscle, `inside_mm` (n,) how far
    inside at least; `allowed` (n,) bool those with every margin kept; `edge_mm` (m, 2) and
    `obstacles` are for exact distances. `middle_mm` is where the muscle's centre lies from side
    to side.
    """

    section: ObservedSection
    calibration: Calibration
    cells_mm: FloatArray
    allowed: BoolMask
    inside_mm: FloatArray
    edge_mm: FloatArray
    obstacles: Obstacles
    margin_mm: float
    middle_mm: float

    @property
    def allowed_mm(self) -> FloatArray:
        return self.cells_mm[self.allowed]


def tissue_of(section: ObservedSection, calibration: Calibration, policy: Policy) -> Tissue | None:
    """The section's cells with their margins; None for an empty mask."""
    mask = section.mask
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    if len(rows) == 0:
        return None
    row0, row1, column0, column1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    row_mm, column_mm = calibration.row_mm_per_px, calibration.column_mm_per_px
    area_mm2 = calibration.area_mm2(float(np.count_nonzero(mask[row0:row1, column0:column1])))
    around = policy.avoid_margin_mm
    with_margins_mm2 = ((row1 - row0) * row_mm + 2 * around) * (
        (column1 - column0) * column_mm + 2 * around
    )
    cell_mm = math.sqrt(max(area_mm2 / GRID_CELLS, with_margins_mm2 / MOST_CELLS))
    per_row, per_column = _odd(cell_mm / row_mm), _odd(cell_mm / column_mm)
    grow_row, grow_column = math.ceil(around / row_mm) + 1, math.ceil(around / column_mm) + 1
    inside = _blocks(
        _window(mask, row0, row1, column0, column1, grow_row, grow_column), per_row, per_column
    ).all(axis=(1, 3))
    height, width = per_row * row_mm, per_column * column_mm
    half_mm = math.hypot(height, width) / 2
    to_edge = distance_transform_edt(inside, sampling=(height, width)) - half_mm
    widest = float(to_edge.max())
    margin_mm = min(policy.site_margin_mm, max(policy.smallest_site_margin_mm, widest / 2))
    allowed = inside & (to_edge >= margin_mm)
    obstacles = obstacles_of(section, calibration)
    for structure in (section.avoid, section.possible_bone):
        if structure is None or not structure.any():
            continue
        near = _blocks(
            _window(structure, row0, row1, column0, column1, grow_row, grow_column),
            per_row,
            per_column,
        ).any(axis=(1, 3))
        if near.any():
            away = distance_transform_edt(~near, sampling=(height, width)) - half_mm
            allowed &= away >= policy.avoid_margin_mm
    at_row, at_column = np.nonzero(inside)
    middle_column = (column0 + column1) / 2
    middle_row = (row0 + row1) / 2
    cells = np.column_stack(
        [
            middle_column * column_mm + (at_column + 0.5 - inside.shape[1] / 2) * width,
            middle_row * row_mm + (at_row + 0.5 - inside.shape[0] / 2) * height,
        ]
    )
    edge = centres_mm(_just_outside(mask[row0:row1, column0:column1]), calibration) + np.array(
        [(column0 - 1) * column_mm, (row0 - 1) * row_mm]
    )
    return Tissue(
        section=section,
        calibration=calibration,
        cells_mm=cells,
        allowed=allowed[at_row, at_column],
        inside_mm=to_edge[at_row, at_column],
        edge_mm=edge,
        obstacles=obstacles,
        margin_mm=margin_mm,
        middle_mm=float(cells[:, 0].mean()) if len(cells) else middle_column * column_mm,
    )


def _odd(pixels: float) -> int:
    """The odd number of pixels nearest below: an odd block can be centred on any muscle."""
    whole = max(1, int(pixels))
    return whole if whole % 2 else whole - 1


def _window(
    mask: BoolMask, row0: int, row1: int, column0: int, column1: int, rows: int, columns: int
) -> BoolMask:
    """The mask's box grown by so many rows and columns on each side; False beyond the image."""
    window = np.zeros((row1 - row0 + 2 * rows, column1 - column0 + 2 * columns), dtype=np.bool_)
    top, left = max(0, row0 - rows), max(0, column0 - columns)
    part = mask[top : row1 + rows, left : column1 + columns]
    at_row, at_column = top - (row0 - rows), left - (column0 - columns)
    window[at_row : at_row + part.shape[0], at_column : at_column + part.shape[1]] = part
    return window


def _blocks(window: BoolMask, rows: int, columns: int) -> BoolMask:
    """The window cut into blocks, (block rows, rows, block columns, columns), grown evenly to fit.

    Blocks have odd sides, so some even growth always fits.
    """
    pads = []
    for length, block in ((window.shape[0], rows), (window.shape[1], columns)):
        grow = next(g for g in range(block) if (length + 2 * g) % block == 0)
        pads.append((grow, grow))
    grown = np.pad(window, pads)
    return grown.reshape(grown.shape[0] // rows, rows, grown.shape[1] // columns, columns)


def _just_outside(box: BoolMask) -> BoolMask:
    """The pixels outside a mask that touch it, corners included, one pixel around its box."""
    padded = np.pad(box, 2)
    touching = np.zeros((box.shape[0] + 2, box.shape[1] + 2), dtype=np.bool_)
    for down, right in itertools.product(range(3), range(3)):
        touching |= padded[down : down + touching.shape[0], right : right + touching.shape[1]]
    return touching & ~padded[1:-1, 1:-1]


def _distance_mm(points: FloatArray, at: TissuePoint, calibration: Calibration) -> float:
    """The exact distance in mm from a point to the squares of pixels with these centres."""
    aside = np.abs(points[:, 0] - at.lateral_mm) - calibration.column_mm_per_px / 2
    deep = np.abs(points[:, 1] - at.depth_mm) - calibration.row_mm_per_px / 2
    gaps = np.hypot(np.maximum(aside, 0.0), np.maximum(deep, 0.0))
    return float(gaps.min()) if len(gaps) else math.inf


def is_inside(mask: BoolMask, point: ImagePoint) -> bool:
    """True if the pixel that a point lies in belongs to the mask."""
    row, column = math.floor(point.row), math.floor(point.column)
    return 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1] and bool(mask[row, column])


def margins_mm(tissue: Tissue, at: TissuePoint) -> tuple[float, float, float]:
    """(to the muscle's edge, to nerve or vessel, to possible bone) in mm, exact."""
    calibration, obstacles = tissue.calibration, tissue.obstacles
    return (
        _distance_mm(tissue.edge_mm, at, calibration),
        _distance_mm(obstacles.structures_mm, at, calibration),
        _distance_mm(obstacles.bone_mm, at, calibration),
    )


def keeps_margins(tissue: Tissue, at: TissuePoint, policy: Policy) -> bool:
    """True for a point in the muscle with every margin kept, measured exactly."""
    if not is_inside(tissue.section.mask, tissue.calibration.to_image(at)):
        return False
    edge, structure, bone = margins_mm(tissue, at)
    return (
        edge >= tissue.margin_mm - ALIKE_MM
        and min(structure, bone) >= policy.avoid_margin_mm - ALIKE_MM
    )

"""A needle's way from the skin to a site: entry, angle, length, and what it comes near."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from app.clinic.observation import ObservedSection
from app.clinic.policy import Policy
from imaging.arrays import BoolMask, FloatArray
from imaging.calibration import Calibration
from imaging.geometry import ImagePoint, TissuePoint

ALIKE_MM = 1e-6
"""Two lengths that differ by no more than this are alike: floating point decides nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedlePath:
    """A straight path to one site.

    `approach` is `in_plane_left`, `in_plane_right` (the needle comes from that side of the
    picture) or `out_of_plane` (seen as a dot, straight down); `entry` lies on the skin line;
    `angle_deg` is to the skin; `clearance_mm` is the nearest nerve, vessel or possible bone, None
    where there is none. `seen_in_full`: the whole path lies inside the picture.
    """

    approach: str
    entry: ImagePoint
    angle_deg: float
    depth_mm: float
    length_mm: float
    clearance_mm: float | None
    near: str | None
    clear: bool
    seen_in_full: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacles:
    """The pixels that a needle keeps away from, as (n, 2) arrays of (lateral, depth) in mm.

    `half_pixel_mm` is what a pixel's own size takes off a distance to its centre. `looked` is
    false where nobody looked for nerves and vessels.
    """

    structures_mm: FloatArray
    bone_mm: FloatArray
    half_pixel_mm: float
    looked: bool


def rim(mask: BoolMask) -> BoolMask:
    """The pixels of the mask that touch a pixel outside it (4-neighbours), or the border."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def centres_mm(mask: BoolMask, calibration: Calibration) -> FloatArray:
    """(n, 2) float: (lateral, depth) in mm of the centres of the mask's pixels."""
    rows, columns = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return np.column_stack(
        [
            (columns + 0.5) * calibration.column_mm_per_px,
            (rows + 0.5) * calibration.row_mm_per_px,
        ]
    )


def obstacles_of(section: ObservedSection, calibration: Calibration) -> Obstacles:
    """What a needle keeps away from on one frame."""
    nothing = np.zeros((0, 2))
    half = math.hypot(calibration.row_mm_per_px, calibration.column_mm_per_px) / 2
    return Obstacles(
        structures_mm=nothing
        if section.avoid is None or not section.avoid.any()
        else centres_mm(rim(section.avoid), calibration),
        bone_mm=nothing
        if section.possible_bone is None or not section.possible_bone.any()
        else centres_mm(rim(section.possible_bone), calibration),
        half_pixel_mm=half,
        looked=section.avoid is not None,
    )


def distance_to_segment_mm(points: FloatArray, start: TissuePoint, end: TissuePoint) -> float:
    """The smallest distance in mm from (n, 2) points to a segment; infinite for no points."""
    if len(points) == 0:
        return math.inf
    a = np.array([start.lateral_mm, start.depth_mm])
    along = np.array([end.lateral_mm, end.depth_mm]) - a
    length2 = float(along @ along)
    t = np.clip((points - a) @ along / length2, 0.0, 1.0) if length2 > 0 else np.zeros(len(points))
    nearest = a + t[:, None] * along
    return float(np.sqrt(((points - nearest) ** 2).sum(axis=1).min()))


SKIN_STEPS = 12
"""Steps to the place where a needle's line meets a slanted skin."""


def best_path(
    tip: ImagePoint,
    section: ObservedSection,
    calibration: Calibration,
    obstacles: Obstacles,
    policy: Policy,
) -> NeedlePath | None:
    """The best clear path to a site: in plane before out of plane, wholly seen before partly seen,
    then in the policy's order of angles; of two sides the clearer, then the shorter way from the
    picture's edge. None where no path is clear and short enough.
    """
    found = [
        path
        for path in _candidates(tip, section, calibration, obstacles, policy)
        if path.clear and path.length_mm <= policy.needle_longest_mm
    ]
    if not found:
        return None
    columns = section.mask.shape[1]
    angles = [*policy.needle_angles_deg, 90.0]

    def worth(path: NeedlePath) -> tuple[float, ...]:
        from_edge = min(path.entry.column, columns - path.entry.column)
        clearance = math.inf if path.clearance_mm is None else path.clearance_mm
        return (
            path.approach == "out_of_plane",
            not path.seen_in_full,
            angles.index(path.angle_deg),
            -round(min(clearance, 1e6), 6),
            round(from_edge, 6),
        )

    return min(found, key=worth)


def _candidates(
    tip: ImagePoint,
    section: ObservedSection,
    calibration: Calibration,
    obstacles: Obstacles,
    policy: Policy,
) -> Iterator[NeedlePath]:
    end = calibration.to_tissue(tip)
    depth_mm = end.depth_mm - _skin_mm(tip.column, section, calibration)
    if depth_mm <= 0:
        return
    columns = section.mask.shape[1]
    ways = [
        (
            f"in_plane_{side}",
            angle,
            _aside_mm(end, sign / math.tan(math.radians(angle)), section, calibration),
        )
        for angle in policy.needle_angles_deg
        for side, sign in (("left", -1.0), ("right", 1.0))
    ]
    for approach, angle, aside_mm in [*ways, ("out_of_plane", 90.0, 0.0)]:
        across = calibration.to_image(
            TissuePoint(lateral_mm=end.lateral_mm + aside_mm, depth_mm=end.depth_mm)
        )
        skin_mm = _skin_mm(across.column, section, calibration)
        start = TissuePoint(lateral_mm=end.lateral_mm + aside_mm, depth_mm=skin_mm)
        entry = calibration.to_image(start)
        structure = distance_to_segment_mm(obstacles.structures_mm, start, end)
        bone = distance_to_segment_mm(obstacles.bone_mm, start, end)
        nearest = max(0.0, min(structure, bone) - obstacles.half_pixel_mm)
        yield NeedlePath(
            approach=approach,
            entry=entry,
            angle_deg=angle,
            depth_mm=depth_mm,
            length_mm=math.hypot(end.depth_mm - skin_mm, aside_mm),
            clearance_mm=None if math.isinf(nearest) else nearest,
            near=None
            if math.isinf(nearest)
            else ("possible bone" if bone < structure else "nerve or vessel"),
            clear=nearest >= policy.needle_clearance_mm - ALIKE_MM,
            seen_in_full=0 <= entry.column <= columns,
        )


def _skin_mm(column: float, section: ObservedSection, calibration: Calibration) -> float:
    """The skin over a column, in mm below the picture's top."""
    row = section.skin_row_at(column)
    return calibration.to_tissue(ImagePoint(column=column, row=row)).depth_mm


def _aside_mm(
    end: TissuePoint, per_depth: float, section: ObservedSection, calibration: Calibration
) -> float:
    """How far aside the needle enters: where its line meets the skin, level or slanted.

    A level skin is met at once; a slanted one by going on from the skin over the last guess,
    which settles because a sweep's rim is flatter than any needle.
    """
    aside_mm = 0.0
    for _ in range(SKIN_STEPS):
        column = calibration.to_image(
            TissuePoint(lateral_mm=end.lateral_mm + aside_mm, depth_mm=end.depth_mm)
        ).column
        aside_mm = per_depth * (end.depth_mm - _skin_mm(column, section, calibration))
    return aside_mm

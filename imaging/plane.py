"""Where a picture lies in space, and where the pictures of a sweep lie along it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Vector = tuple[float, float, float]

MOST_TILT_DEG = 5.0
"""Pictures tilted further against each other are no parallel sections: their distance along the
sweep differs from place to place by more than a tenth of a thumb's width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlane:
    """A picture's centre in mm and its unit normal, in the coordinates of `frame_of_reference`."""

    frame_of_reference: str
    centre_mm: Vector
    normal: Vector


def plane_of(
    *,
    corner_mm: Vector,
    along_row: Vector,
    along_column: Vector,
    width_mm: float,
    height_mm: float,
    frame_of_reference: str,
) -> ImagePlane | None:
    """The plane of a picture from its top-left corner and the directions of its rows and columns.

    None unless both are unit vectors at a right angle (to 1 %).
    """
    row, column = np.array(along_row), np.array(along_column)
    lengths = (float(np.linalg.norm(row)), float(np.linalg.norm(column)))
    values = (*corner_mm, *along_row, *along_column)
    if not all(math.isfinite(v) for v in values) or max(abs(v - 1) for v in lengths) > 0.01:
        return None
    if abs(float(row @ column)) > 0.01:
        return None
    normal = np.cross(row, column)
    centre = np.array(corner_mm) + row * width_mm / 2 + column * height_mm / 2
    return ImagePlane(
        frame_of_reference=frame_of_reference,
        centre_mm=_vector(centre),
        normal=_vector(normal / np.linalg.norm(normal)),
    )


def positions_mm(planes: Sequence[ImagePlane | None]) -> list[float] | None:
    """Where each picture lies along the sweep, in mm from the outermost of them.

    None where one is unknown, they are not in one frame of reference, tilted against each other,
    or all in one place.
    """
    known = [plane for plane in planes if plane is not None]
    if len(known) < max(2, len(planes)) or len({p.frame_of_reference for p in known}) > 1:
        return None
    normals = np.array([plane.normal for plane in known])
    if float((normals @ normals[0]).min()) < math.cos(math.radians(MOST_TILT_DEG)):
        return None
    mean = normals.mean(axis=0)
    along = np.array([plane.centre_mm for plane in known]) @ (mean / np.linalg.norm(mean))
    found: list[float] = (along - along.min()).tolist()
    return found if max(found) > 0 else None


def _vector(values: np.ndarray) -> Vector:
    x, y, z = (float(v) for v in values)
    return x, y, z

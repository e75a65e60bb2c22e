"""Masks from outlines, outlines from masks, and label maps as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.arrays import BoolMask, FloatArray, GreyImage
from imaging.errors import UnreadableFile
from imaging.geometry import ImagePoint

MUSCLE_LABEL = 1
NERVE_LABEL = 2
VESSEL_LABEL = 3
APONEUROSIS_LABEL = 4


def fill_outline(points: Sequence[ImagePoint], rows: int, columns: int) -> BoolMask:
    """The mask (rows, columns) bool of a closed outline: a pixel is in if its centre is in.

    Even-odd rule, so that a self-crossing outline leaves its crossing loops out; parts of the
    outline beyond the image are cut off. Raises ValueError for fewer than three points.
    """
    if len(points) < 3:
        raise ValueError(f"an outline needs three points, not {len(points)}")
    here = np.array([(p.column, p.row) for p in points], dtype=np.float64)
    there = np.roll(here, -1, axis=0)
    # A row's centre line is row + 0.5; an edge crosses the centre lines that lie in its
    # half-open vertical span, so a shared vertex is counted once.
    low = np.minimum(here[:, 1], there[:, 1])
    high = np.maximum(here[:, 1], there[:, 1])
    first = np.clip(np.ceil(low - 0.5), 0, rows).astype(np.int64)
    last = np.clip(np.ceil(high - 0.5), 0, rows).astype(np.int64)
    counts = last - first
    edge = np.repeat(np.arange(len(here)), counts)
    row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    part = (row + 0.5 - here[edge, 1]) / (there[edge, 1] - here[edge, 1])
    crossing = here[edge, 0] + part * (there[edge, 0] - here[edge, 0])
    column = np.clip(np.ceil(crossing - 0.5), 0, columns).astype(np.int64)
    toggles = np.zeros((rows, columns + 1), dtype=np.int32)
    np.add.at(toggles, (row, column), 1)
    inside: BoolMask = np.cumsum(toggles, axis=1)[:, :columns] % 2 == 1
    return inside


def largest_part(mask: BoolMask) -> BoolMask:
    """The largest part (rows, columns) bool that hangs together by pixel edges; empty if none."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S
    )
    if count < 2:
        return np.zeros(mask.shape, dtype=np.bool_)
    best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    part: BoolMask = labels == best
    return part


def contours(mask: BoolMask, *, holes: bool = False) -> tuple[tuple[ImagePoint, ...], ...]:
    """The boundaries of a mask's parts along the pixel edges, largest first.

    The area of a part without holes is exactly its pixel count. Parts that touch only at a
    corner are parts of their own. With `holes`, the boundaries of holes follow as polygons too,
    and filling all of them by the even-odd rule gives the mask back.
    """
    return tuple(
        tuple(ImagePoint(column=float(c), row=float(r)) for c, r in loop)
        for loop in _sorted_loops(mask, holes=holes)
    )


def _sorted_loops(mask: BoolMask, *, holes: bool) -> list[list[tuple[int, int]]]:
    loops = [(_signed_area(loop), loop) for loop in _boundary_loops(mask)]
    outer = sorted((x for x in loops if x[0] > 0), key=lambda x: (-x[0], x[1]))
    inner = sorted((x for x in loops if x[0] < 0), key=lambda x: (x[0], x[1])) if holes else []
    return [loop for _, loop in [*outer, *inner]]


# Directions of walking along pixel edges, the mask on the right hand (rows grow downwards):
# 0 right, 1 down, 2 left, 3 up.
_STEP_COLUMN = np.array([1, 0, -1, 0])
_STEP_ROW = np.array([0, 1, 0, -1])
_FROM_COLUMN = (0, 1, 1, 0)
_FROM_ROW = (0, 0, 1, 1)


def _boundary_loops(mask: BoolMask) -> list[list[tuple[int, int]]]:
    """The closed walks around all parts and holes, as their corners (column, row)."""
    filled_rows, filled_columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if filled_rows.size == 0:
        return []
    top, left = int(filled_rows[0]), int(filled_columns[0])
    part = mask[top : filled_rows[-1] + 1, left : filled_columns[-1] + 1]
    padded = np.pad(part, 1)
    inside = padded[1:-1, 1:-1]
    # Each pixel's open side is one directed unit edge, from this corner of the pixel.
    neighbours = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
    # Flat, then divided: several times faster than asking for rows and columns at once.
    open_sides = [
        divmod(np.flatnonzero(inside & ~neighbour), part.shape[1]) for neighbour in neighbours
    ]
    row = np.concatenate([rows + add for (rows, _), add in zip(open_sides, _FROM_ROW, strict=True)])
    column = np.concatenate(
        [columns + add for (_, columns), add in zip(open_sides, _FROM_COLUMN, strict=True)]
    )
    way = np.repeat(np.arange(4), [rows.size for rows, _ in open_sides])
    wide = part.shape[1] + 2
    key = (row * wide + column) * 4 + way
    order = np.argsort(key)
    row, column, way, key = row[order], column[order], way[order], key[order]
    end = ((row + _STEP_ROW[way]) * wide + column + _STEP_COLUMN[way]) * 4
    following = np.full(key.size, -1)
    # Where two parts touch at a corner, the right turn stays with the same part.
    for turn in (-1, 0, 1):
        at = np.searchsorted(key, end + (way + turn) % 4).clip(max=key.size - 1)
        following = np.where(key[at] == end + (way + turn) % 4, at, following)
    return _walks(row + top, column + left, way, following)


def _walks(
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    way: NDArray[np.int64],
    following: NDArray[np.int64],
) -> list[list[tuple[int, int]]]:
    """The cycles of `following`, each as the corners where its direction changes."""
    rows, columns, ways, after = row.tolist(), column.tolist(), way.tolist(), following.tolist()
    left = np.ones(len(rows), dtype=np.bool_)
    loops: list[list[tuple[int, int]]] = []
    for first in range(len(rows)):
        if not left[first]:
            continue
        at, walked = after[first], [first]
        while at != first:
            walked.append(at)
            at = after[at]
        left[walked] = False
        corners = [
            (columns[edge], rows[edge])
            for before, edge in zip([walked[-1], *walked], walked, strict=False)
            if ways[before] != ways[edge]
        ]
        loops.append(corners)
    return loops


def _signed_area(loop: list[tuple[int, int]]) -> float:
    corners = np.array(loop, dtype=np.float64)
    following = np.roll(corners, -1, axis=0)
    cross = corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]
    return float(cross.sum() / 2.0)


def smooth_contours(mask: BoolMask | None) -> tuple[tuple[ImagePoint, ...], ...]:
    """The borders of a mask's parts and holes without their pixel stairs, at most a pixel off.

    For the eye only: areas and positions come from the mask itself.
    """
    return tuple(
        tuple(ImagePoint(column=c, row=r) for c, r in ring.tolist()) for ring in smooth_rings(mask)
    )


def smooth_rings(mask: BoolMask | None) -> tuple[FloatArray, ...]:
    """The same borders as arrays of (column, row), for those who need many of them."""
    if mask is None or not mask.any():
        return ()
    return tuple(_smooth(loop) for loop in _sorted_loops(mask, holes=True) if len(loop) >= 4)


def _smooth(border: Sequence[tuple[int, int]]) -> FloatArray:
    corner = np.array(border, dtype=np.float64)
    following = np.roll(corner, -1, axis=0)
    lengths = np.abs(following - corner).sum(axis=1).astype(int)
    edge = np.repeat(np.arange(len(corner)), lengths)
    along = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 0.5
    path: FloatArray = corner[edge] + (following - corner)[edge] * (along / lengths[edge])[:, None]
    if len(path) >= 24:
        taps = np.array([1, 2, 3, 4, 3, 2, 1]) / 16.0
        padded = np.concatenate([path[-3:], path, path[:3]])
        path = np.stack([np.convolve(padded[:, axis], taps, "valid") for axis in (0, 1)], axis=1)
        path = path[::2]
    return path


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelMasks:
    """The three masks of a frame, each (rows, columns) bool, none overlapping another."""

    muscle: BoolMask
    nerve: BoolMask
    vessel: BoolMask


def labels_png(
    muscle: BoolMask,
    nerve: BoolMask | None = None,
    vessel: BoolMask | None = None,
    aponeurosis: BoolMask | None = None,
) -> bytes:
    """A PNG label map: 0 nothing, 1 muscle, 2 nerve, 3 vessel, the later on top; 4 aponeurosis
    where none of them is."""
    labels = np.zeros(muscle.shape, dtype=np.uint8)
    labels[muscle] = MUSCLE_LABEL
    if nerve is not None:
        labels[nerve] = NERVE_LABEL
    if vessel is not None:
        labels[vessel] = VESSEL_LABEL
    if aponeurosis is not None:
        labels[aponeurosis & (labels == 0)] = APONEUROSIS_LABEL
    return _png(labels)


def masks_from_png(data: bytes) -> LabelMasks:
    """The masks of a label map that `labels_png` wrote. Raises UnreadableFile for other bytes."""
    labels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if (
        labels is None
        or labels.ndim != 2
        or labels.dtype != np.uint8
        or labels.max() > APONEUROSIS_LABEL
    ):
        raise UnreadableFile(
            "The stored label map is damaged.", remedy="Run the analysis of this study again."
        )
    return LabelMasks(
        muscle=labels == MUSCLE_LABEL, nerve=labels == NERVE_LABEL, vessel=labels == VESSEL_LABEL
    )


def mask_png(mask: BoolMask) -> bytes:
    """A PNG of 0 outside and 255 inside, the size of the mask."""
    return _png(mask.astype(np.uint8) * np.uint8(255))


def grey_png(pixels: GreyImage) -> bytes:
    """A grey frame (rows, columns) uint8 as PNG."""
    return _png(pixels)


def _png(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    done, data = cv2.imencode(".png", image)
    if not done:  # pragma: no cover -- an encoder without memory
        raise MemoryError("the PNG encoder gave up")
    return bytes(data.tobytes())

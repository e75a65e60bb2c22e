"""Masks from outlines, outlines from masks, and label maps as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from imaging.arrays import BoolMask, GreyImage
from imaging.errors import UnreadableFile
from imaging.geometry import ImagePoint

MUSCLE_LABEL = 1
NERVE_LABEL = 2
VESSEL_LABEL = 3


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
    loops = [(_signed_area(loop), loop) for loop in _boundary_loops(mask)]
    outer = sorted((x for x in loops if x[0] > 0), key=lambda x: (-x[0], x[1]))
    inner = sorted((x for x in loops if x[0] < 0), key=lambda x: (x[0], x[1])) if holes else []
    return tuple(
        tuple(ImagePoint(column=float(c), row=float(r)) for c, r in loop)
        for _, loop in [*outer, *inner]
    )


# Directions of walking along pixel edges, the mask on the right hand (rows grow downwards).
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def _boundary_loops(mask: BoolMask) -> list[list[tuple[int, int]]]:
    padded = np.pad(mask.astype(bool), 1)
    inside = padded[1:-1, 1:-1]
    starts: dict[tuple[int, int], list[int]] = {}
    # Each pixel's open side is one directed unit edge: (neighbour, start corner, direction).
    sides = (
        (padded[:-2, 1:-1], (0, 0), 0),
        (padded[1:-1, 2:], (1, 0), 1),
        (padded[2:, 1:-1], (1, 1), 2),
        (padded[1:-1, :-2], (0, 1), 3),
    )
    for neighbour, (column_add, row_add), direction in sides:
        rows, columns = np.nonzero(inside & ~neighbour)
        for corner in zip((columns + column_add).tolist(), (rows + row_add).tolist(), strict=True):
            starts.setdefault(corner, []).append(direction)
    loops: list[list[tuple[int, int]]] = []
    while starts:
        first = next(iter(starts))
        loops.append(_walk(first, starts))
    return loops


def _walk(
    first: tuple[int, int], starts: dict[tuple[int, int], list[int]]
) -> list[tuple[int, int]]:
    """The corners of one closed walk from `first`; the edges walked are taken out of `starts`."""
    corners: list[tuple[int, int]] = []
    at, heading, first_way = first, -1, -1
    while True:
        ways = starts.get(at, [])
        # Where two parts touch at a corner, the right turn stays with the same part.
        open_ways = [*ways, first_way] if at == first and first_way >= 0 else ways
        way = min(open_ways, key=lambda w: (heading + 1 - w) % 4)
        if at == first and way == first_way:
            break
        ways.remove(way)
        if not ways:
            del starts[at]
        if first_way < 0:
            first_way = way
        if way != heading:
            corners.append(at)
        heading = way
        at = (at[0] + _STEPS[way][0], at[1] + _STEPS[way][1])
    if heading == first_way:
        corners.pop(0)
    return corners


def _signed_area(loop: list[tuple[int, int]]) -> float:
    corners = np.array(loop, dtype=np.float64)
    following = np.roll(corners, -1, axis=0)
    cross = corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]
    return float(cross.sum() / 2.0)


def smooth_contours(mask: BoolMask | None) -> tuple[tuple[ImagePoint, ...], ...]:
    """The borders of a mask's parts and holes without their pixel stairs, at most a pixel off.

    For the eye only: areas and positions come from the mask itself.
    """
    if mask is None or not mask.any():
        return ()
    return tuple(_smooth(border) for border in contours(mask, holes=True) if len(border) >= 4)


def _smooth(border: Sequence[ImagePoint]) -> tuple[ImagePoint, ...]:
    corner = np.array([(p.column, p.row) for p in border])
    following = np.roll(corner, -1, axis=0)
    lengths = np.abs(following - corner).sum(axis=1).astype(int)
    edge = np.repeat(np.arange(len(corner)), lengths)
    along = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 0.5
    path = corner[edge] + (following - corner)[edge] * (along / lengths[edge])[:, None]
    if len(path) >= 24:
        taps = np.array([1, 2, 3, 4, 3, 2, 1]) / 16.0
        padded = np.concatenate([path[-3:], path, path[:3]])
        path = np.stack([np.convolve(padded[:, axis], taps, "valid") for axis in (0, 1)], axis=1)
        path = path[::2]
    return tuple(ImagePoint(column=float(c), row=float(r)) for c, r in path)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelMasks:
    """The three masks of a frame, each (rows, columns) bool, none overlapping another."""

    muscle: BoolMask
    nerve: BoolMask
    vessel: BoolMask


def labels_png(
    muscle: BoolMask, nerve: BoolMask | None = None, vessel: BoolMask | None = None
) -> bytes:
    """A PNG label map: 0 nothing, 1 muscle, 2 nerve, 3 vessel; the later label lies on top."""
    labels = np.zeros(muscle.shape, dtype=np.uint8)
    labels[muscle] = MUSCLE_LABEL
    if nerve is not None:
        labels[nerve] = NERVE_LABEL
    if vessel is not None:
        labels[vessel] = VESSEL_LABEL
    return _png(labels)


def masks_from_png(data: bytes) -> LabelMasks:
    """The masks of a label map that `labels_png` wrote. Raises UnreadableFile for other bytes."""
    labels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.ndim != 2 or labels.dtype != np.uint8 or labels.max() > 3:
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

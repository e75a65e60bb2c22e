"""Points spread evenly over a muscle's section, the same from both sides.

The pattern is mirrored when the image is mirrored: it is made of quantiles and centroids, with
ties shared, never of an order of pixels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from app.clinic.tissue import Tissue
from imaging.arrays import FloatArray

LLOYD_ROUNDS = 20
"""Most rounds of moving each site to the centre of its part."""


STILL_MM = 0.02
"""A round that moves no site further than this is the last."""


def _patterns(count: int) -> Iterator[tuple[int, ...]]:
    """The ways to put `count` sites in columns from side to side that read the same both ways."""
    for columns in range(1, count + 1):
        for half in itertools.product(range(1, count + 1), repeat=(columns + 1) // 2):
            pattern = half + half[::-1] if columns % 2 == 0 else half + half[-2::-1]
            if sum(pattern) == count:
                yield pattern


def _quantiles(values: FloatArray) -> FloatArray:
    """The mid-rank of each value as a fraction, ties alike: mirrored values give 1 − q."""
    _, index, counts = np.unique(np.round(values, 9), return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    quantile: FloatArray = middle[index] / len(values)
    return quantile


def _seeds(cells: FloatArray, pattern: Sequence[int]) -> FloatArray | None:
    """One starting point for each site: centroids of equal parts, column by column."""
    count = sum(pattern)
    across = _quantiles(cells[:, 0])
    seeds = []
    start = 0
    for in_column in pattern:
        end = start + in_column
        column = cells[(across > start / count) & (across < end / count)]
        start = end
        if len(column) < in_column:
            return None
        down = _quantiles(column[:, 1])
        for part in range(in_column):
            chosen = column[(down > part / in_column) & (down < (part + 1) / in_column)]
            if len(chosen) == 0:
                return None
            seeds.append(chosen.mean(axis=0))
    return np.array(seeds)


def _shares(cells: FloatArray, sites: FloatArray) -> tuple[FloatArray, float]:
    """(sites, cells) share of each cell in its nearest site, ties halved; and the mean squared
    distance in mm²."""
    squared = -2.0 * (sites @ cells.T) + (sites**2).sum(axis=1)[:, None]
    nearest = squared.min(axis=0)
    shares = (squared <= nearest + 1e-7).astype(np.float64)
    shares /= shares.sum(axis=0)
    return shares, float(nearest.mean() + (cells**2).sum() / len(cells))


def spread_evenly(cells: FloatArray, count: int) -> FloatArray:
    """(count, 2) points in mm, each the centre of its part of the cells (centroidal Voronoi).

    Of the symmetric starting patterns the one with the smallest mean squared distance is taken.
    """
    middle = cells.mean(axis=0)
    centred = cells - middle
    starts = [
        (round(_shares(centred, seeds)[1], 6), index, seeds)
        for index, pattern in enumerate(_patterns(count))
        if (seeds := _seeds(centred, pattern)) is not None
    ]
    if not starts:
        return np.repeat(middle[None, :], count, axis=0)
    sites: FloatArray = min(starts, key=lambda start: start[:2])[2]
    for _ in range(LLOYD_ROUNDS):
        shares, _ = _shares(centred, sites)
        weight = shares.sum(axis=1)
        if (weight == 0).any():
            break
        moved: FloatArray = shares @ centred / weight[:, None]
        still = float(np.abs(moved - sites).max()) < STILL_MM
        sites = moved
        if still:
            break
    spread: FloatArray = sites + middle
    return spread


def along_belly(tissue: Tissue, count: int) -> FloatArray:
    """(count, 2) points in mm along a long-axis belly, evenly spaced, at mid-thickness."""
    mask, calibration = tissue.section.mask, tissue.calibration
    columns = np.nonzero(mask.any(axis=0))[0]
    top = mask[:, columns].argmax(axis=0)
    bottom = mask.shape[0] - mask[::-1, columns].argmax(axis=0)
    lateral = (columns + 0.5) * calibration.column_mm_per_px
    middle = (top + bottom) / 2 * calibration.row_mm_per_px
    allowed = tissue.allowed_mm[:, 0]
    low, high = float(allowed.min()), float(allowed.max())
    at = low + (np.arange(count) + 0.5) / count * (high - low)
    return np.column_stack([at, np.interp(at, lateral, middle)])


def smallest_gap(points: FloatArray) -> float:
    """The smallest distance in mm between two of the points; infinite for one."""
    gaps = [math.dist(a, b) for a, b in itertools.combinations(points.tolist(), 2)]
    return min(gaps, default=math.inf)

"""Made-up short-axis scenes: skin, fat, fascia, muscles with septa, vessels, nerves, bone.

No scatterer is traced: an echogenicity map is drawn, darkened with depth and behind bone, and
covered with speckle whose grain is wider than tall, as a linear probe leaves it. There is little
real short-axis data; these scenes teach that a muscle ends at its fascia, not at an inner septum.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.arrays import GreyImage
from imaging.geometry import PixelBox
from models.training.sample import CACHE_SIZE, Sample, Target

_Float32 = NDArray[np.float32]
Random = np.random.Generator


def smooth_noise(size: int, grid: tuple[int, int], random: Random) -> _Float32:
    """(size, size) float32 of unit-variance noise that varies over `grid` (rows, columns) cells."""
    coarse = random.normal(size=grid).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def speckle(echo: _Float32, random: Random) -> GreyImage:
    """(size, size) uint8: an echogenicity map 0 to 1 as a scanner shows it."""
    size = echo.shape[0]
    axial, lateral = random.uniform(0.5, 1.3), random.uniform(0.8, 2.6)
    real = random.normal(size=echo.shape).astype(np.float32)
    imaginary = random.normal(size=echo.shape).astype(np.float32)
    amplitude = np.sqrt(np.clip(echo, 0, None))
    real = np.asarray(cv2.GaussianBlur(real * amplitude, (0, 0), lateral, sigmaY=axial), np.float32)
    imaginary = np.asarray(
        cv2.GaussianBlur(imaginary * amplitude, (0, 0), lateral, sigmaY=axial), np.float32
    )
    envelope = np.hypot(real, imaginary) * np.sqrt(4 * np.pi * axial * lateral)
    compressed = np.log1p(random.uniform(8, 40) * envelope)
    averaged = random.uniform(0.0, 1.0)
    # Compounding averages speckle away; the plain map stands for what is left.
    plain = np.log1p(random.uniform(8, 40) * np.asarray(cv2.GaussianBlur(amplitude, (0, 0), 0.8)))
    mixed = (1 - 0.6 * averaged) * compressed + 0.6 * averaged * plain
    ceiling = float(np.percentile(mixed[:: max(1, size // 64)], 99.5)) + 1e-6
    tone = np.power(np.clip(mixed / ceiling, 0, 1), random.uniform(1.0, 2.4))
    return np.asarray(np.clip(tone * random.uniform(170, 255), 0, 255), np.uint8)


def short_axis_scene(random: Random, number: int = 0) -> Sample:
    """A made-up sample: two to seven muscles under skin and fat, with vessels and nerves."""
    size = CACHE_SIZE
    row, column = np.mgrid[0:size, 0:size].astype(np.float32)
    curve = smooth_noise(size, (2, 3), random)[0] * random.uniform(0, 0.04) * size
    skin = random.uniform(0, 0.03) * size
    fat_depth = skin + random.uniform(0.02, 0.35) * size + curve
    fat_depth = np.asarray(cv2.blur(fat_depth[None, :], (31, 1))[0], np.float32)
    echo = np.full((size, size), 0.0, np.float32)

    fat_level = random.uniform(0.05, 0.3)
    fat = row < fat_depth[None, :]
    echo[fat] = fat_level
    warp_rows = row + 10 * smooth_noise(size, (5, 5), random)
    lobules = np.abs(np.sin(warp_rows / random.uniform(8, 22) + smooth_noise(size, (4, 6), random)))
    echo += np.where(fat & (lobules < 0.12), random.uniform(0.2, 0.9), 0).astype(np.float32)

    labels, distance = _partition(fat_depth, random, row, column)
    count = int(labels.max()) + 1
    level = random.uniform(0.015, 0.12)
    septa = random.uniform(0.0, 1.0)
    for index in range(count):
        own = (labels == index) & ~fat
        echo[own] = level * float(np.exp(random.normal() * 0.35))
        streaks = _septa(size, random, row, column)
        echo += np.where(own, septa * streaks * random.uniform(0.3, 1.0), 0).astype(np.float32)
    fascia = random.uniform(0.25, 1.2) * np.exp(-((distance / random.uniform(1.2, 3.0)) ** 2))
    gaps = np.clip(0.75 + 0.5 * smooth_noise(size, (7, 7), random), 0.05, 1)
    echo += np.where(fat, 0, fascia * gaps).astype(np.float32)
    deep = np.abs(row - fat_depth[None, :])
    echo += random.uniform(0.4, 1.3) * np.exp(-((deep / random.uniform(1.2, 3.0)) ** 2)) * gaps

    structures = np.zeros((size, size), np.uint8)
    muscle = np.where(fat, -1, labels)
    for _ in range(int(random.integers(0, 4))):
        _add_vessel(echo, structures, distance, fat, random, row, column)
    for _ in range(int(random.integers(0, 3))):
        _add_nerve(echo, structures, distance, fat, random, row, column)
    shadow = np.ones((size, size), np.float32)
    if random.random() < 0.6:
        muscle = _add_bone(echo, shadow, muscle, random, row, column)
    echo += np.where(row < skin + random.uniform(2, 6), random.uniform(0.4, 1.0), 0)
    fade = np.exp(-random.uniform(0.0, 2.2) * row / size)
    grey = speckle((echo * fade * shadow).astype(np.float32), random)

    muscle = np.where(structures > 0, -1, muscle)
    targets = []
    for index in range(count):
        mask = (muscle == index).astype(np.uint8)
        mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)))
        found, pieces, stats, _ = cv2.connectedComponentsWithStats(mask)
        if found < 2:
            continue
        largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        left, top, width, height, area = (int(value) for value in stats[largest])
        if area < 0.012 * size * size:
            continue
        whole = left > 2 and left + width < size - 2 and top + height < size - 2
        targets.append((area, whole, np.where(pieces == largest, 255, 0).astype(np.uint8)))
    ranked = sorted(targets, key=lambda one: (one[1], one[0]), reverse=True)
    return Sample(
        collection="scenes",
        name=f"scene{number:05d}",
        group="scenes",
        device="scenes",
        view="short_axis",
        image=grey,
        sector=PixelBox(column0=0, row0=0, column1=size, row1=size),
        path=Path(),
        targets=tuple(
            Target(mask=mask, weight=0.7, automatic=place == 0, complete=whole, confidence="made")
            for place, (_, whole, mask) in enumerate(ranked)
        ),
        structures=structures,
        aponeurosis=None,
    )


def _partition(
    fat_depth: _Float32, random: Random, row: _Float32, column: _Float32
) -> tuple[NDArray[np.int64], _Float32]:
    # Muscles as cells around seeds, wider than tall, with wavy walls; and how far a pixel lies
    # from the nearest wall.
    size = row.shape[0]
    count = int(random.integers(2, 8))
    seeds_row = random.uniform(float(fat_depth.mean()), size * 1.05, count)
    seeds_column = random.uniform(-0.1 * size, 1.1 * size, count)
    flat = random.uniform(1.0, 3.2)
    wavy_row = row + random.uniform(2, 14) * smooth_noise(size, (4, 4), random)
    wavy_column = column + random.uniform(2, 14) * smooth_noise(size, (4, 4), random)
    weights = random.uniform(0, 0.12 * size, count)
    far = np.stack(
        [
            np.hypot((wavy_row - seeds_row[i]) * flat, wavy_column - seeds_column[i]) - weights[i]
            for i in range(count)
        ]
    )
    order = np.sort(far, axis=0)
    labels = np.argmin(far, axis=0)
    # The gap between nearest and second nearest, in rows: the slope of it is about 2 x flat.
    gap = (order[1] - order[0]) / (1.0 + flat)
    return labels, gap.astype(np.float32)


def _septa(size: int, random: Random, row: _Float32, column: _Float32) -> _Float32:
    # Perimysium seen end on: short bright dashes that lean one way.
    angle = random.normal() * 0.35
    along = column * np.cos(angle) + row * np.sin(angle)
    across = row * np.cos(angle) - column * np.sin(angle)
    stretch = random.uniform(2, 9)
    cells = int(size / random.uniform(2.5, 6))
    field = random.normal(size=(cells, max(4, int(cells / stretch)))).astype(np.float32)
    field = np.asarray(cv2.resize(field, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)
    turned = cv2.remap(
        field,
        np.mod(along, size - 1).astype(np.float32),
        np.mod(across, size - 1).astype(np.float32),
        cv2.INTER_LINEAR,
    )
    return np.asarray(np.clip(turned - random.uniform(0.4, 1.6), 0, 1), np.float32)


def _place_at_walls(
    distance: _Float32, fat: NDArray[np.bool_], reach: float, random: Random
) -> tuple[float, float]:
    where = np.flatnonzero((distance < reach) & ~fat)
    if where.size == 0:
        where = np.arange(distance.size)
    row, column = divmod(int(where[int(random.integers(0, where.size))]), distance.shape[1])
    return float(row), float(column)


def _ellipse(
    centre: tuple[float, float],
    radii: tuple[float, float],
    angle: float,
    row: _Float32,
    column: _Float32,
) -> _Float32:
    down, across = row - centre[0], column - centre[1]
    along = across * np.cos(angle) + down * np.sin(angle)
    over = down * np.cos(angle) - across * np.sin(angle)
    return np.asarray(np.hypot(along / radii[1], over / radii[0]), np.float32)


def _add_vessel(
    echo: _Float32,
    structures: GreyImage,
    distance: _Float32,
    fat: NDArray[np.bool_],
    random: Random,
    row: _Float32,
    column: _Float32,
) -> None:
    size = row.shape[0]
    height = random.uniform(0.015, 0.09) * size
    radii = (height, height * random.uniform(0.9, 1.8))
    centre = _place_at_walls(distance, fat, 8.0, random)
    inside = _ellipse(centre, radii, random.normal() * 0.3, row, column)
    own = inside < 1
    echo[own] = random.uniform(0.0, 0.012)
    rim = random.uniform(0.1, 0.7) * np.exp(-(((inside - 1.0) * height / 1.8) ** 2))
    echo += np.where(own, 0, rim).astype(np.float32)
    behind = (np.abs(column - centre[1]) < radii[1] * 0.8) & (row > centre[0] + height)
    echo *= np.where(behind, random.uniform(1.0, 1.5), 1.0).astype(np.float32)
    structures[own] = 2


def _add_nerve(
    echo: _Float32,
    structures: GreyImage,
    distance: _Float32,
    fat: NDArray[np.bool_],
    random: Random,
    row: _Float32,
    column: _Float32,
) -> None:
    size = row.shape[0]
    height = random.uniform(0.015, 0.06) * size
    radii = (height, height * random.uniform(1.0, 2.8))
    centre = _place_at_walls(distance, fat, 8.0, random)
    inside = _ellipse(centre, radii, random.normal() * 0.4, row, column)
    own = (inside < 1) & (structures == 0)
    cells = max(6, int(size / random.uniform(3, 7)))
    honeycomb = smooth_noise(size, (cells, cells), random)
    level = random.uniform(0.12, 0.5)
    echo[own] = np.clip(level * (0.8 - 0.6 * honeycomb[own]), 0.01, 1.2)
    rim = random.uniform(0.1, 0.6) * np.exp(-(((inside - 1.0) * height / 1.6) ** 2))
    echo += rim.astype(np.float32)
    structures[own] = 1


def _add_bone(
    echo: _Float32,
    shadow: _Float32,
    muscle: NDArray[np.int64],
    random: Random,
    row: _Float32,
    column: _Float32,
) -> NDArray[np.int64]:
    size = row.shape[0]
    crest = random.uniform(0.55, 0.95) * size
    middle = random.uniform(-0.1, 1.1) * size
    spread = random.uniform(0.12, 0.5) * size
    surface = crest + ((column - middle) / spread) ** 2 * random.uniform(0.1, 0.4) * size
    wide = np.abs(column - middle) < random.uniform(0.8, 2.0) * spread
    bright = np.exp(-(((row - surface) / random.uniform(1.5, 3.5)) ** 2))
    echo += np.where(wide, random.uniform(0.8, 2.0) * bright, 0).astype(np.float32)
    behind = wide & (row > surface)
    shadow[behind & (row > surface + 4)] = random.uniform(0.0, 0.12)
    return np.where(behind, -1, muscle)


def make_scenes(count: int, *, seed: int, cache: Path) -> list[Sample]:
    """`count` scenes from a seed, read from `cache` (an .npz file) where they were made before."""
    if cache.exists():
        with np.load(cache, allow_pickle=False) as stored:
            if int(stored["count"]) == count and int(stored["seed"]) == seed:
                # Read once: every access unpacks the whole array anew.
                packed = stored["packed"]
                return [_unpack(packed[index], index) for index in range(count)]
    samples = [
        short_axis_scene(np.random.default_rng([seed, index]), index) for index in range(count)
    ]
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        cache, count=count, seed=seed, packed=np.stack([_pack(sample) for sample in samples])
    )
    return samples


_MOST_TARGETS = 7


def _pack(sample: Sample) -> NDArray[np.uint8]:
    size = sample.image.shape[0]
    planes: list[NDArray[np.uint8]] = [sample.image]
    planes.append(np.zeros_like(sample.image) if sample.structures is None else sample.structures)
    blank: Sequence[NDArray[np.uint8]] = [np.zeros((size, size), np.uint8)] * _MOST_TARGETS
    masks = [
        np.where(target.mask > 0, 2 if target.complete else 1, 0).astype(np.uint8)
        for target in sample.targets[:_MOST_TARGETS]
    ]
    return np.stack([*planes, *masks, *blank[len(masks) :]])


def _unpack(packed: NDArray[np.uint8], number: int) -> Sample:
    size = packed.shape[-1]
    targets = tuple(
        Target(
            mask=np.where(plane > 0, 255, 0).astype(np.uint8),
            weight=0.7,
            automatic=place == 0,
            complete=bool(plane.max() == 2),
            confidence="made",
        )
        for place, plane in enumerate(packed[2:])
        if plane.any()
    )
    return Sample(
        collection="scenes",
        name=f"scene{number:05d}",
        group="scenes",
        device="scenes",
        view="short_axis",
        image=packed[0],
        sector=PixelBox(column0=0, row0=0, column1=size, row1=size),
        path=Path(),
        targets=targets,
        structures=packed[1],
        aponeurosis=None,
    )

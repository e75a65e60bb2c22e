"""Made-up images without muscle: what the network must refuse.

Screens (blank, bars, gradients, text), noise, textures and photograph-like shapes, and ultrasound
of other organs drawn roughly: fans with chambers, cysts, a skull in fluid, an organ's even
parenchyma, a lymph node. No real image is used, so that real ones can be the test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.arrays import GreyImage
from models.training.scenes import smooth_noise, speckle

_Float32 = NDArray[np.float32]
Random = np.random.Generator
_SIZE: Final = 256


def make_negatives(count: int, *, seed: int) -> list[GreyImage]:
    """`count` images, each (256, 256) uint8, all kinds in turn."""
    kinds = tuple(KINDS.values())
    return [
        kinds[index % len(kinds)](np.random.default_rng([seed, 7, index])) for index in range(count)
    ]


def _grey(field: _Float32) -> GreyImage:
    return np.asarray(np.clip(field, 0, 255), np.uint8)


def _blank(random: Random) -> GreyImage:
    level = float(random.choice([0.0, 0.0, 10.0, 60.0, 128.0, 255.0]))
    field = np.full((_SIZE, _SIZE), level, np.float32)
    if random.random() < 0.5:
        field += random.normal(size=field.shape).astype(np.float32) * random.uniform(0.5, 8)
    return _grey(field)


def _no_contact(random: Random) -> GreyImage:
    # A probe in the air: rings under the surface, darkness below.
    row = np.arange(_SIZE, dtype=np.float32)[:, None]
    period = random.uniform(4, 16)
    rings = np.exp(-row / random.uniform(15, 60)) * (0.6 + 0.4 * np.cos(2 * np.pi * row / period))
    field = random.uniform(120, 255) * rings * np.ones((1, _SIZE), np.float32)
    field *= 1 + 0.15 * smooth_noise(_SIZE, (20, 20), random)
    field += np.abs(random.normal(size=field.shape)) * random.uniform(0, 12)
    return _grey(field.astype(np.float32))


def _noise(random: Random) -> GreyImage:
    kind = int(random.integers(0, 4))
    field: NDArray[np.floating[Any]]
    if kind == 0:
        field = random.uniform(0, 255, (_SIZE, _SIZE))
    elif kind == 1:
        field = 128 + random.uniform(10, 70) * random.normal(size=(_SIZE, _SIZE))
    elif kind == 2:
        field = random.rayleigh(random.uniform(15, 70), (_SIZE, _SIZE))
    else:
        cells = int(random.integers(8, 120))
        field = 100 + 60 * smooth_noise(_SIZE, (cells, cells), random)
    return _grey(field.astype(np.float32))


def _bars(random: Random) -> GreyImage:
    count = int(random.integers(4, 12))
    levels = random.uniform(0, 255, count)
    stripes = np.repeat(levels[None, :], _SIZE, 0).astype(np.float32)
    field = np.asarray(
        cv2.resize(stripes, (_SIZE, _SIZE), interpolation=cv2.INTER_NEAREST), np.float32
    )
    if random.random() < 0.4:
        field[int(_SIZE * random.uniform(0.6, 0.8)) :] = random.uniform(0, 255)
    return _grey(field if random.random() < 0.6 else field.T)


def _gradient(random: Random) -> GreyImage:
    row, column = np.mgrid[0:_SIZE, 0:_SIZE].astype(np.float32) / _SIZE
    angle = random.uniform(0, 6.28)
    field = (row * np.sin(angle) + column * np.cos(angle)) * random.uniform(100, 300) + 128
    if random.random() < 0.3:
        field = 255 * np.hypot(row - random.uniform(0, 1), column - random.uniform(0, 1))
    if random.random() < 0.3:
        field = 255.0 * (
            (row * random.uniform(4, 20)).astype(int) % 2
            ^ (column * random.uniform(4, 20)).astype(int) % 2
        )
    return _grey(field.astype(np.float32))


def _text(random: Random) -> GreyImage:
    dark = random.random() < 0.5
    image = np.full((_SIZE, _SIZE), 0 if dark else 255, np.uint8)
    letters = list("ABCDEFGHIJKLMNOPRSTUVWabcdefghijklmnopqrstuvw 0123456789:/.-")
    row = int(random.integers(8, 24))
    while row < _SIZE:
        text = "".join(random.choice(letters, int(random.integers(5, 40))))
        level = int(random.integers(150, 256)) if dark else int(random.integers(0, 100))
        cv2.putText(
            image,
            text,
            (int(random.integers(0, 40)), row),
            cv2.FONT_HERSHEY_SIMPLEX,
            random.uniform(0.25, 0.6),
            level,
        )
        row += int(random.integers(10, 40))
    return image


def _fractal(random: Random) -> _Float32:
    field = np.zeros((_SIZE, _SIZE), np.float32)
    roughness = random.uniform(0.35, 0.8)
    for octave in range(1, 7):
        cells = 2**octave + 1
        field += roughness**octave * smooth_noise(_SIZE, (cells, cells), random)
    return np.asarray((field - field.mean()) / (field.std() + 1e-6), np.float32)


def _texture(random: Random) -> GreyImage:
    field = 110 + random.uniform(20, 70) * _fractal(random)
    if random.random() < 0.4:
        row, column = np.mgrid[0:_SIZE, 0:_SIZE].astype(np.float32)
        period, angle = random.uniform(5, 40), random.uniform(0, 3.14)
        wave = np.sin(2 * np.pi * (row * np.cos(angle) + column * np.sin(angle)) / period)
        field = field * 0.5 + 60 + 60 * wave
    return _grey(field.astype(np.float32))


def _photograph(random: Random) -> GreyImage:
    # Shaded shapes before a ground: edges, flat areas and texture as in photographs.
    field = 128 + 40 * smooth_noise(_SIZE, (2, 2), random) + 8 * _fractal(random)
    for _ in range(int(random.integers(4, 25))):
        shape = np.zeros((_SIZE, _SIZE), np.uint8)
        centre = (int(random.integers(0, _SIZE)), int(random.integers(0, _SIZE)))
        if random.random() < 0.5:
            axes = (int(random.integers(6, 90)), int(random.integers(6, 90)))
            cv2.ellipse(shape, centre, axes, float(random.uniform(0, 180)), 0, 360, 1, -1)
        else:
            points = np.array(centre) + random.normal(size=(int(random.integers(3, 7)), 2)) * (
                random.uniform(10, 70)
            )
            cv2.fillPoly(shape, [points.astype(np.int32)], 1)
        shade = random.uniform(0, 255) + random.uniform(0, 40) * smooth_noise(_SIZE, (2, 3), random)
        if random.random() < 0.4:
            shade = shade + random.uniform(5, 30) * _fractal(random)
        field = np.where(shape > 0, shade, field)
    if random.random() < 0.5:
        field = np.asarray(cv2.GaussianBlur(field, (0, 0), random.uniform(0.5, 2)))
    return _grey(field.astype(np.float32))


def _blob(random: Random, reach: float) -> _Float32:
    # Below 1 inside a wavy ellipse.
    row, column = np.mgrid[0:_SIZE, 0:_SIZE].astype(np.float32)
    centre = random.uniform(0.2, 0.8, 2) * _SIZE
    radii = random.uniform(0.3, 1.0, 2) * reach * _SIZE
    angle = random.uniform(0, 3.14)
    down, across = row - centre[0], column - centre[1]
    along = across * np.cos(angle) + down * np.sin(angle)
    over = down * np.cos(angle) - across * np.sin(angle)
    wavy = 1.0 + random.uniform(0, 0.2) * smooth_noise(_SIZE, (5, 5), random)
    return np.asarray(np.hypot(along / radii[0], over / radii[1]) * wavy, np.float32)


def _organ(random: Random) -> GreyImage:
    # Even parenchyma with round or tubular dark gaps: liver, kidney, placenta.
    echo = random.uniform(0.05, 0.4) * np.exp(0.3 * _fractal(random))
    for _ in range(int(random.integers(0, 9))):
        gap = _blob(random, random.uniform(0.03, 0.25))
        echo = np.where(gap < 1, random.uniform(0, 0.02), echo)
        echo += random.uniform(0, 0.5) * np.exp(-(((gap - 1) * 12) ** 2))
    if random.random() < 0.5:
        edge = _blob(random, random.uniform(0.4, 0.9))
        echo = np.where(edge > 1, echo * random.uniform(0.05, 2.5), echo)
        echo += random.uniform(0.2, 0.9) * np.exp(-(((edge - 1) * 25) ** 2))
    return _scan(echo.astype(np.float32), random)


def _chambers(random: Random) -> GreyImage:
    # Heart-like: a few large black chambers with bright walls and leaflets.
    echo = random.uniform(0.05, 0.3) * np.exp(0.4 * _fractal(random))
    for _ in range(int(random.integers(1, 5))):
        gap = _blob(random, random.uniform(0.15, 0.4))
        echo = np.where(gap < 1, random.uniform(0, 0.01), echo)
        echo += random.uniform(0.1, 0.9) * np.exp(-(((gap - 1) * random.uniform(6, 20)) ** 2))
    return _scan(echo.astype(np.float32), random)


def _fluid(random: Random) -> GreyImage:
    # Fetus-like: bright, shaped things in black fluid.
    echo = np.full((_SIZE, _SIZE), random.uniform(0, 0.01), np.float32)
    wall = _blob(random, random.uniform(0.5, 0.9))
    echo = np.where(wall > 1, random.uniform(0.05, 0.3), echo)
    for _ in range(int(random.integers(1, 6))):
        body = _blob(random, random.uniform(0.08, 0.35))
        echo = np.where(body < 1, random.uniform(0.02, 0.3) * np.exp(0.4 * _fractal(random)), echo)
        echo += random.uniform(0.2, 1.2) * np.exp(-(((body - 1) * random.uniform(8, 25)) ** 2))
    return _scan(echo.astype(np.float32), random)


def _node(random: Random) -> GreyImage:
    # A dark oval in even bright tissue, without a muscle's striation.
    echo = random.uniform(0.1, 0.4) * np.exp(0.35 * _fractal(random))
    oval = _blob(random, random.uniform(0.15, 0.35))
    echo = np.where(oval < 1, random.uniform(0.01, 0.08) * np.exp(0.2 * _fractal(random)), echo)
    echo += random.uniform(0, 0.4) * np.exp(-(((oval - 1) * 14) ** 2))
    if random.random() < 0.6:
        core = oval * random.uniform(2.0, 4.0)
        echo += np.where(core < 1, random.uniform(0.1, 0.5), 0)
    return _scan(echo.astype(np.float32), random)


def _scan(echo: _Float32, random: Random) -> GreyImage:
    fade = np.exp(-random.uniform(0, 2) * np.linspace(0, 1, _SIZE, dtype=np.float32))[:, None]
    grey = speckle((echo * fade).astype(np.float32), random)
    if random.random() < 0.6:
        # Deep, low-frequency scans are dark and smooth, with haze near the probe.
        soft = np.asarray(cv2.GaussianBlur(grey, (0, 0), random.uniform(0.7, 2.6)), np.float32)
        near = np.exp(-np.linspace(0, 1, _SIZE, dtype=np.float32) / random.uniform(0.03, 0.3))
        soft += random.uniform(0, 50) * near[:, None] * (soft + 20) / 100
        grey = _grey(np.asarray(soft * 2.0 ** random.uniform(-2.2, 0.2), np.float32))
    if random.random() < 0.6:
        grey = _fan(grey, random)
    if random.random() < 0.25:
        corner = random.integers(20, 160, 2)
        cv2.rectangle(
            grey,
            (int(corner[0]), int(corner[1])),
            (int(corner[0] + random.integers(20, 90)), int(corner[1] + random.integers(20, 90))),
            int(random.integers(120, 256)),
            1,
        )
    if random.random() < 0.4:
        cv2.putText(
            grey,
            "".join(random.choice(list("0123456789.cmMHzFR "), 8)),
            (int(random.integers(0, 180)), int(random.integers(10, 250))),
            cv2.FONT_HERSHEY_SIMPLEX,
            random.uniform(0.25, 0.5),
            int(random.integers(150, 256)),
        )
    return grey


def _fan(grey: GreyImage, random: Random) -> GreyImage:
    unit = (np.arange(_SIZE, dtype=np.float32) + 0.5) / _SIZE
    across, down = np.meshgrid(unit * 2 - 1, unit)
    half = random.uniform(0.4, 0.85)
    blind = random.choice([0.0, 0.02, random.uniform(0.1, 0.5)])
    side = across * np.float32(np.sin(half) * (1 + blind) * 1.02)
    below = down * np.float32(1 + blind - blind * np.cos(half)) + np.float32(blind * np.cos(half))
    theta = np.arctan2(side, below) / half
    depth = np.hypot(side, below) - blind
    columns = ((theta + 1) * 0.5 * _SIZE - 0.5).astype(np.float32)
    rows = (depth * _SIZE - 0.5).astype(np.float32)
    return np.asarray(
        cv2.remap(grey, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.uint8
    )


KINDS: Final[dict[str, Callable[[Random], GreyImage]]] = {
    "blank": _blank,
    "chambers": _chambers,
    "organ": _organ,
    "noise": _noise,
    "photograph": _photograph,
    "fluid": _fluid,
    "bars": _bars,
    "node": _node,
    "texture": _texture,
    "organ_again": _organ,
    "chambers_again": _chambers,
    "no_contact": _no_contact,
    "photograph_again": _photograph,
    "fluid_again": _fluid,
    "gradient": _gradient,
    "text": _text,
}
"""The kinds by name; those that matter most come twice."""

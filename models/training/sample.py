"""One image to train on, with what is known about it, cut to its sector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.arrays import GreyImage
from imaging.geometry import PixelBox

CACHE_SIZE: Final = 320
"""Rows and columns of a cached sector crop, in pixels: more than the net sees, to zoom into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One outlined muscle of a sample."""

    mask: GreyImage
    """(CACHE_SIZE, CACHE_SIZE) uint8, 0 or 255."""
    weight: float
    """How much its outline is believed, 0 to 1."""
    automatic: bool
    """True if this is the muscle to find without a click."""
    complete: bool
    """True if the whole muscle lies in the picture."""
    confidence: str
    """`high`, `medium` or `low`, as outlined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image with what is known about it."""

    collection: str
    name: str
    group: str
    """The collection's own group with the collection's name before it: look-alikes, a person."""
    device: str
    view: str
    """`long_axis` or `short_axis`."""
    image: GreyImage
    """(CACHE_SIZE, CACHE_SIZE) uint8."""
    sector: PixelBox
    """Where the crop lies in the file."""
    path: Path
    targets: tuple[Target, ...]
    structures: GreyImage | None
    """(CACHE_SIZE, CACHE_SIZE) uint8 with 0 background, 1 nerve, 2 vessel; None: not labelled."""
    aponeurosis: GreyImage | None
    """(CACHE_SIZE, CACHE_SIZE) uint8, 0 or 255; None: not labelled."""
    observers_thickness_px: tuple[float, ...] = ()
    """Belly thickness in pixels of the file that the study's observers measured."""


def read_grey(path: Path) -> GreyImage:
    """(rows, columns) uint8 of an image file; FileNotFoundError if it cannot be read."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise FileNotFoundError(f"not a readable image: {path}")
    return np.asarray(image, np.uint8)


def to_square(image: GreyImage, sector: PixelBox, size: int = CACHE_SIZE) -> GreyImage:
    """(size, size) uint8: the sector of an image, resampled."""
    cut = np.ascontiguousarray(image[sector.slices])
    shrinks = cut.shape[0] > size or cut.shape[1] > size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(cut, (size, size), interpolation=method), np.uint8)


def mask_to_square(mask: NDArray[Any], sector: PixelBox) -> GreyImage:
    """(CACHE_SIZE, CACHE_SIZE) uint8 0/255: the sector of a mask that is not 0 inside."""
    grey = np.where(mask > 0, 255, 0).astype(np.uint8)
    return np.where(to_square(grey, sector) > 127, 255, 0).astype(np.uint8)

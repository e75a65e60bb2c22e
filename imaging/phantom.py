"""Sweeps over bodies of known geometry with speckle: the truth that measurements are held to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from imaging.arrays import BoolMask, FloatArray, GreyImage
from imaging.calibration import Calibration, CalibrationProvenance
from imaging.geometry import ImagePoint, TissuePoint
from imaging.mask import fill_outline

OUTLINE_POINTS = 360


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SweepPhantom:
    """Short-axis frames of a body at equal spacing, with the truth about each and about all.

    `true_volume_ml` lies between the first and the last section, `whole_volume_ml` is all of the
    body. `true_areas_mm2` are the exact areas of the sections.
    """

    frames: tuple[GreyImage, ...]
    outlines: tuple[tuple[ImagePoint, ...], ...]
    spacing_mm: float
    calibration: Calibration
    true_areas_mm2: tuple[float, ...]
    true_volume_ml: float
    whole_volume_ml: float


def ellipsoid_sweep(
    *,
    width_mm: float = 44.0,
    thickness_mm: float = 26.0,
    length_mm: float = 160.0,
    sections: int = 12,
    depth_mm: float = 9.0,
    rows: int = 320,
    columns: int = 400,
    mm_per_px: float = 0.15,
    seed: int = 7,
) -> SweepPhantom:
    """A sweep along an ellipsoid of these full axes, from 5 % to 95 % of its length.

    `depth_mm` is from the skin to the superficial border of the thickest section. The same
    arguments give the same bytes.
    """
    half = length_mm / 2.0
    first, last = -0.9 * half, 0.9 * half
    at = np.linspace(first, last, sections)
    scale = np.sqrt(1.0 - (at / half) ** 2)
    per_mm = math.pi * width_mm * thickness_mm / 4.0

    def primitive(z: float) -> float:
        return per_mm * (z - z**3 / (3.0 * half**2))

    return _sweep(
        widths_mm=width_mm * scale,
        thicknesses_mm=thickness_mm * scale,
        spacing_mm=float(at[1] - at[0]),
        true_volume_mm3=primitive(last) - primitive(first),
        whole_volume_mm3=primitive(half) - primitive(-half),
        centre_mm=depth_mm + thickness_mm / 2.0,
        size=(rows, columns),
        mm_per_px=mm_per_px,
        seed=seed,
    )


def cone_sweep(
    *,
    width_mm: float = 48.0,
    thickness_mm: float = 30.0,
    narrow_end: float = 0.4,
    length_mm: float = 150.0,
    sections: int = 11,
    depth_mm: float = 8.0,
    rows: int = 320,
    columns: int = 400,
    mm_per_px: float = 0.15,
    seed: int = 11,
) -> SweepPhantom:
    """A sweep along an elliptic truncated cone, from its wide end to its narrow end.

    `narrow_end` is the narrow end's size over the wide end's, 0 to 1; sections lie on both ends.
    """
    scale = np.linspace(1.0, narrow_end, sections)
    wide_mm2 = math.pi * width_mm * thickness_mm / 4.0
    volume_mm3 = length_mm * wide_mm2 * (1.0 + narrow_end + narrow_end**2) / 3.0
    return _sweep(
        widths_mm=width_mm * scale,
        thicknesses_mm=thickness_mm * scale,
        spacing_mm=length_mm / (sections - 1),
        true_volume_mm3=volume_mm3,
        whole_volume_mm3=volume_mm3,
        centre_mm=depth_mm + thickness_mm / 2.0,
        size=(rows, columns),
        mm_per_px=mm_per_px,
        seed=seed,
    )


def _sweep(
    *,
    widths_mm: FloatArray,
    thicknesses_mm: FloatArray,
    spacing_mm: float,
    true_volume_mm3: float,
    whole_volume_mm3: float,
    centre_mm: float,
    size: tuple[int, int],
    mm_per_px: float,
    seed: int,
) -> SweepPhantom:
    calibration = Calibration(
        row_mm_per_px=mm_per_px,
        column_mm_per_px=mm_per_px,
        provenance=CalibrationProvenance.ULTRASOUND_REGION,
        note="phantom of known geometry",
    )
    rng = np.random.default_rng(seed)
    rows, columns = size
    frames, outlines, areas = [], [], []
    for index, (width, thickness) in enumerate(zip(widths_mm, thicknesses_mm, strict=True)):
        # A hand never stays in the middle: the section drifts sideways along the sweep.
        drift = 0.03 * columns * math.sin(2.0 * math.pi * index / len(widths_mm))
        centre = ImagePoint(
            column=columns / 2.0 + drift,
            row=calibration.to_image(TissuePoint(lateral_mm=0.0, depth_mm=centre_mm)).row,
        )
        outline = _ellipse(centre, float(width), float(thickness), calibration)
        outlines.append(outline)
        areas.append(math.pi * float(width) * float(thickness) / 4.0)
        frames.append(speckled(fill_outline(outline, rows, columns), rng))
    return SweepPhantom(
        frames=tuple(frames),
        outlines=tuple(outlines),
        spacing_mm=spacing_mm,
        calibration=calibration,
        true_areas_mm2=tuple(areas),
        true_volume_ml=true_volume_mm3 / 1000.0,
        whole_volume_ml=whole_volume_mm3 / 1000.0,
    )


def _ellipse(
    centre: ImagePoint, width_mm: float, thickness_mm: float, calibration: Calibration
) -> tuple[ImagePoint, ...]:
    half_columns = width_mm / 2.0 / calibration.width_mm(1.0)
    half_rows = thickness_mm / 2.0 / calibration.height_mm(1.0)
    turns = np.arange(OUTLINE_POINTS) * (2.0 * math.pi / OUTLINE_POINTS)
    return tuple(
        ImagePoint(
            column=round(centre.column + half_columns * math.cos(turn), 4),
            row=round(centre.row + half_rows * math.sin(turn), 4),
        )
        for turn in turns.tolist()
    )


def speckled(body: BoolMask, rng: np.random.Generator) -> GreyImage:
    """A B-mode-like frame (rows, columns) uint8: a dark, streaked muscle in brighter tissue.

    Fully developed speckle: the magnitude of a blurred complex Gaussian field, scaled by the
    tissue's echogenicity and log-compressed, with a bright fascia, layers of fat above, and loss
    with depth. The body's border is sharp: the mask is the truth to the pixel.
    """
    rows, columns = body.shape
    down, across = np.mgrid[0:rows, 0:columns]
    # Layers of fat lie along the skin, wavy; strands of perimysium run through the muscle.
    wave = 0.012 * rows * np.sin(across / columns * 5.0)
    layers = 0.5 + 0.5 * np.cos((down + wave) / rows * 70.0)
    strands = np.maximum(0.0, np.cos((down + 0.18 * across) / rows * 95.0)) ** 12
    echo = np.where(body, 0.10 + 0.22 * strands, 0.26 + 0.34 * layers**4)
    fascia = cv2.dilate(body.astype(np.uint8), np.ones((5, 5), dtype=np.uint8)).astype(bool)
    echo[fascia & ~body] = 1.3
    echo[: max(2, rows // 80)] = 1.6
    field = rng.normal(size=(2, rows, columns))
    blurred = [cv2.GaussianBlur(part, (0, 0), sigmaX=1.7, sigmaY=0.8) for part in field]
    magnitude = np.hypot(blurred[0], blurred[1])
    magnitude /= float(np.sqrt(np.mean(magnitude**2)))
    signal = magnitude * echo * np.exp(-1.1 * down / rows)
    decibels = 20.0 * np.log10(np.maximum(signal, 1e-4))
    grey: GreyImage = np.rint(np.clip((decibels + 38.0) / 52.0, 0.0, 1.0) * 255.0).astype(np.uint8)
    return grey

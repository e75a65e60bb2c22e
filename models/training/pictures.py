"""The card's pictures: failures, the risk–coverage curve, the reliability diagram."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imaging.arrays import ColourImage, GreyImage
from models.card import Calibration
from models.training.calibrate import trusted_rows, weights_by_group
from models.training.rows import Row
from models.training.sample import Sample

_TILE_PX = 220


def risk_coverage(rows: Sequence[Row], calibration: Calibration, path: Path) -> None:
    """Nothing; a PNG at `path`: mean 1 - Dice of what is answered over the share answered."""
    plot, axes = _axes("share of images answered", "mean 1 − Dice of the answered")
    for view, colour in (("long_axis", "tab:blue"), ("short_axis", "tab:orange")):
        own = [row for row in trusted_rows(rows, ("auto", "click")) if row.view == view]
        if not own:
            continue
        own.sort(key=lambda row: -row.quality)
        weights = weights_by_group(own)
        risk = np.cumsum(weights * np.array([1 - row.dice for row in own])) / np.cumsum(weights)
        axes.plot(np.cumsum(weights), risk, color=colour, label=view.replace("_", " "))
        best = np.sort([1 - row.dice for row in own])
        axes.plot(
            np.arange(1, len(best) + 1) / len(best),
            np.cumsum(best) / np.arange(1, len(best) + 1),
            color=colour,
            linestyle=":",
            label="as if every error were known",
        )
        answered = float(
            weights[
                [_confidence(row, calibration) >= calibration.confidence_limit for row in own]
            ].sum()
        )
        axes.axvline(answered, color=colour, linewidth=0.7)
    axes.legend()
    plot.savefig(path, dpi=80)


def reliability(rows: Sequence[Row], calibration: Calibration, path: Path) -> None:
    """Nothing; a PNG at `path`: the Dice reached over the confidence told, in ten bins."""
    plot, axes = _axes("confidence (Dice predicted)", "Dice reached")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.7)
    for view, colour in (("long_axis", "tab:blue"), ("short_axis", "tab:orange")):
        own = [row for row in trusted_rows(rows, ("auto", "click")) if row.view == view]
        if not own:
            continue
        told = np.array([_confidence(row, calibration) for row in own])
        reached = np.array([row.dice for row in own])
        axes.scatter(told, reached, s=4, alpha=0.25, color=colour)
        order = np.array_split(np.argsort(told), min(10, len(own)))
        axes.plot(
            [float(told[part].mean()) for part in order],
            [float(reached[part].mean()) for part in order],
            "o-",
            color=colour,
            label=view.replace("_", " "),
        )
    axes.legend()
    plot.savefig(path, dpi=80)


def failures(
    rows: Sequence[Row],
    samples: Sequence[Sample],
    masks: Path,
    path: Path,
    *,
    count: int = 12,
    columns: int = 6,
) -> None:
    """Nothing; a PNG at `path` of the worst answers: label green, answer red, Dice written."""
    by_name = {(sample.collection, sample.name): sample for sample in samples}
    worst: list[Row] = []
    for row in sorted(trusted_rows(rows, ("auto", "click")), key=lambda row: row.dice):
        # One picture of a group: look-alikes fail alike.
        if all(row.group != other.group for other in worst):
            worst.append(row)
    tiles = []
    for row in worst:
        sample = by_name.get((row.collection, row.name))
        answer = cv2.imread(
            str(masks / row.collection / f"{row.name}.{row.mode}.png"), cv2.IMREAD_GRAYSCALE
        )
        if sample is None or answer is None:
            continue
        if row.mode != "auto" and len(sample.targets) > 1:
            # One mask is kept of a picture and mode: of several muscles it may be another's.
            continue
        tiles.append(_tile(sample, np.asarray(answer, np.uint8), row))
        if len(tiles) == count:
            break
    if not tiles:
        return
    while len(tiles) % columns:
        tiles.append(np.zeros_like(tiles[0]))
    sheet = np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])
    cv2.imwrite(str(path), sheet)


def _tile(sample: Sample, answer: GreyImage, row: Row) -> ColourImage:
    picture = cv2.cvtColor(sample.image, cv2.COLOR_GRAY2BGR)
    truth = next((one.mask for one in sample.targets if one.automatic == row.automatic), answer * 0)
    for mask, colour in ((truth, (0, 220, 0)), (answer, (0, 0, 255))):
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, colour, 2)
    small = cv2.resize(picture, (_TILE_PX, _TILE_PX), interpolation=cv2.INTER_AREA)
    text = f"{row.mode} {row.dice:.2f}"
    cv2.putText(small, text, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 255, 255), 1)
    place = f"{row.collection[:10]} {row.name}"
    cv2.putText(small, place, (4, _TILE_PX - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 255, 255), 1)
    return np.asarray(small, np.uint8)


def _confidence(row: Row, calibration: Calibration) -> float:
    curve = calibration.confidence
    told = float(np.interp(row.quality, curve.at, curve.value))
    return 0.0 if math.isnan(told) else told


def _axes(across: str, up: str) -> tuple[Figure, Axes]:
    plot = Figure(figsize=(6, 4.5), layout="constrained")
    axes = plot.add_subplot()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.3)
    return plot, axes

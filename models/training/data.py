"""Samples to train on, read from a data folder into memory, and the groups that part them.

A folder may hold four collections, each a subfolder with a `manifest.csv`:
`longitudinal`, `long_axis_thigh`, `panoramic`, `transverse`; any may be missing. Others stand
beside them with a `collection.json` (see `models.training.paired`). Every image is
cut to its sector and resampled once to a square of `CACHE_SIZE` pixels.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from imaging.arrays import GreyImage
from imaging.geometry import PixelBox
from imaging.sector import find_sector
from models.training.paired import DESCRIPTION, read_paired
from models.training.sample import Sample, Target, mask_to_square, read_grey, to_square

_CONFIDENCE_WEIGHT: Final = {"high": 1.0, "medium": 0.8, "low": 0.25}


def load_samples(folder: Path) -> list[Sample]:
    """All samples of the collections under `folder`, in the manifests' order."""
    readers: dict[str, Callable[[Path], Iterable[Sample]]] = {
        "longitudinal": _longitudinal,
        "long_axis_thigh": _long_axis_thigh,
        "panoramic": _panoramic,
        "transverse": _transverse,
    }
    samples: list[Sample] = []
    for name, reader in readers.items():
        if (folder / name / "manifest.csv").exists():
            samples.extend(reader(folder / name))
    for description in sorted(folder.glob(f"*/{DESCRIPTION}")):
        samples.extend(read_paired(description.parent))
    if not samples:
        raise FileNotFoundError(
            f"no collection with a manifest.csv or a collection.json under {folder}"
        )
    return samples


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _sector(row: Mapping[str, str]) -> PixelBox:
    width, height = int(row["width"]), int(row["height"])
    column0, row0 = int(row.get("sector_x") or 0), int(row.get("sector_y") or 0)
    return PixelBox(
        column0=column0,
        row0=row0,
        column1=min(width, column0 + int(row.get("sector_width") or width)),
        row1=min(height, row0 + int(row.get("sector_height") or height)),
    )


def _longitudinal(folder: Path) -> Iterable[Sample]:
    for row in _rows(folder):
        name, sector = row["id"], _sector(row)
        path = folder / "images" / f"{name}.png"
        belly = read_grey(folder / "bellies" / f"{name}.png")
        lines = read_grey(folder / "aponeuroses" / f"{name}.png")
        targets = [
            Target(
                mask=mask_to_square(belly, sector),
                weight=1.0,
                automatic=True,
                complete=True,
                confidence="high",
            )
        ]
        second = second_belly(lines)
        if second is not None:
            targets.append(
                Target(
                    mask=mask_to_square(second, sector),
                    weight=0.7,
                    automatic=False,
                    complete=True,
                    confidence="medium",
                )
            )
        yield Sample(
            collection="longitudinal",
            name=name,
            group=f"longitudinal/{row['group']}",
            device=row["device"],
            view="long_axis",
            image=to_square(read_grey(path), sector),
            sector=sector,
            path=path,
            targets=tuple(targets),
            structures=None,
            aponeurosis=mask_to_square(lines, sector),
        )


def second_belly(lines: GreyImage) -> GreyImage | None:
    """(rows, columns) uint8 0/255: the belly between the second and third aponeurosis from the top.

    None where there are not three long lines over the same columns.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats((lines > 0).astype(np.uint8))
    long_ones = [
        index
        for index in range(1, count)
        if stats[index, cv2.CC_STAT_WIDTH] > 0.12 * lines.shape[1]
    ]
    by_depth = sorted(long_ones, key=lambda one: float(np.nonzero(labels == one)[0].mean()))
    lines_found = [np.asarray(labels == index) for index in by_depth]
    if len(lines_found) < 3:
        return None
    second, third = lines_found[1], lines_found[2]
    columns = np.flatnonzero(second.any(0) & third.any(0))
    first_columns = np.flatnonzero(lines_found[0].any(0))
    if columns.size < 0.8 * first_columns.size or columns.size < 20:
        return None
    rows = lines.shape[0]
    # The lower edge of the line above, the upper edge of the line below.
    above = rows - 1 - np.argmax(second[::-1], axis=0)
    below = np.argmax(third, axis=0)
    if np.any(below[columns] <= above[columns]):
        return None
    mask = np.zeros_like(lines)
    for column in columns:
        mask[above[column] + 1 : below[column], column] = 255
    return mask


def _long_axis_thigh(folder: Path) -> Iterable[Sample]:
    for row in _rows(folder):
        name, sector = row["id"], _sector(row)
        path = folder / "images" / f"{name}.png"
        observers = tuple(
            float(row[f"thickness_px_observer{number}"])
            for number in (1, 2, 3)
            if row.get(f"thickness_px_observer{number}")
        )
        yield Sample(
            collection="long_axis_thigh",
            name=name,
            group=f"long_axis_thigh/{row['group']}",
            device="GE Logiq E9",
            view="long_axis",
            image=to_square(read_grey(path), sector),
            sector=sector,
            path=path,
            targets=(
                Target(
                    mask=mask_to_square(read_grey(folder / "bellies" / f"{name}.png"), sector),
                    weight=_CONFIDENCE_WEIGHT[row["confidence"]],
                    automatic=True,
                    complete=True,
                    confidence=row["confidence"],
                ),
            ),
            structures=None,
            aponeurosis=None,
            observers_thickness_px=observers,
        )


def _polygons(folder: Path) -> dict[str, list[dict[str, Any]]]:
    entries = json.loads((folder / "muscles.json").read_text())
    return {name: list(entry["muscles"]) for name, entry in entries.items()}


def _outlined(
    muscles: list[dict[str, Any]], shape: tuple[int, int], sector: PixelBox
) -> tuple[Target, ...]:
    masks = []
    for muscle in muscles:
        mask = np.zeros(shape, np.uint8)
        cv2.fillPoly(mask, [np.round(np.asarray(muscle["polygon"])).astype(np.int32)], 255)
        masks.append(mask_to_square(mask, sector))

    # The automatic answer: the largest whole muscle, else the largest one outlined.
    def rank(index: int) -> tuple[bool, int]:
        return bool(muscles[index]["complete"]), int(np.count_nonzero(masks[index]))

    trusted = [index for index in range(len(muscles)) if muscles[index]["confidence"] != "low"]
    automatic = max(trusted, key=rank, default=-1)
    return tuple(
        Target(
            mask=mask,
            weight=_CONFIDENCE_WEIGHT[muscle["confidence"]],
            automatic=index == automatic,
            complete=bool(muscle["complete"]),
            confidence=muscle["confidence"],
        )
        for index, (mask, muscle) in enumerate(zip(masks, muscles, strict=True))
        if np.count_nonzero(mask) > 150
    )


def _panoramic(folder: Path) -> Iterable[Sample]:
    polygons = _polygons(folder)
    for row in _rows(folder):
        name = row["id"]
        path = folder / "images" / f"{name}.png"
        image = read_grey(path)
        sector = find_sector(image)
        yield Sample(
            collection="panoramic",
            name=name,
            group=f"panoramic/{row['group']}",
            device="GE ML6-15",
            view="short_axis",
            image=to_square(image, sector),
            sector=sector,
            path=path,
            targets=_outlined(polygons[name], (image.shape[0], image.shape[1]), sector),
            structures=None,
            aponeurosis=None,
        )


def _transverse(folder: Path) -> Iterable[Sample]:
    polygons = _polygons(folder)
    for row in _rows(folder):
        name, sector = row["id"], _sector(row)
        path = folder / "images" / f"{name}.png"
        image = read_grey(path)
        labels = read_grey(folder / "structures" / f"{name}.png")
        nerve = mask_to_square(labels == 1, sector)
        vessel = mask_to_square(labels == 2, sector)
        structures = np.where(vessel > 0, 2, np.where(nerve > 0, 1, 0)).astype(np.uint8)
        yield Sample(
            collection="transverse",
            name=name,
            group=f"transverse/{row['group']}",
            device="Mindray TE7",
            view="short_axis",
            image=to_square(image, sector),
            sector=sector,
            path=path,
            targets=_outlined(polygons[name], (image.shape[0], image.shape[1]), sector),
            structures=structures,
            aponeurosis=None,
        )

"""How good the network is on images that it was not trained on: rows, and tables out of rows.

`evaluate` runs the product's own path (whole frames in, sector found, masks out) over held-out
images and returns one row for each question asked. The rows are small enough to be kept beside
the weights, so that `report` rebuilds the card's table without training anything again.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.arrays import BoolMask, GreyImage
from models.card import PACKAGED_STEM, WEIGHTS_FOLDER
from models.segment import Click, Look, Prompt, Segmenter, load_segmenter, thickness_of
from models.training.augment import correct_click
from models.training.data import load_samples
from models.training.folds import Fold, add_fold_arguments, fold_of, folds_by_group, thinned
from models.training.promises import table
from models.training.rows import Row, read_rows, write_rows
from models.training.sample import CACHE_SIZE, Sample, Target, read_grey

MODES: Final = ("auto", "click", "corrected", "moved")
"""No prompt; one click in the middle; three corrective clicks more; the click moved."""


_IOU_FOUND: Final = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateSettings:
    """What to ask: the held-out images of a run, and images without muscle."""

    data: Path
    run: str = "run"
    hold_out: Fold | None = None
    """Ask only what this fold holds out; None asks everything."""
    negatives: Path | None = None
    """A folder with one subfolder of images for each class of images without muscle."""
    most_per_group: int | None = None
    """Ask at most so many images of a group, spread evenly: look-alikes answer alike."""
    masks: Path | None = None
    """A folder to keep the out-of-fold masks in, as small PNG."""
    progress: Callable[[int, int], None] | None = None


def evaluate(segmenter: Segmenter, settings: EvaluateSettings) -> list[Row]:
    """The rows of all images asked."""
    samples = load_samples(settings.data)
    folds = folds_by_group(samples, seed=0)
    if settings.hold_out is not None:
        samples = [one for one in samples if settings.hold_out.holds(one, folds)]
    if settings.most_per_group is not None:
        samples = thinned(samples, settings.most_per_group)
    rows: list[Row] = []
    for number, sample in enumerate(samples):
        rows.extend(ask_sample(segmenter, sample, settings))
        if settings.progress is not None:
            settings.progress(number + 1, len(samples))
    if settings.negatives is not None:
        rows.extend(ask_negatives(segmenter, settings.negatives, settings.run))
    return rows


def ask_sample(segmenter: Segmenter, sample: Sample, settings: EvaluateSettings) -> list[Row]:
    """The rows of one image: each outlined muscle in each mode, nerves, vessels."""
    grey = read_grey(sample.path)
    look = segmenter.look(grey, Prompt())
    rows = []
    for target in sample.targets:
        if target.automatic:
            rows.append(_muscle_row(sample, target, look, "auto", settings.run))
            _keep_mask(settings, sample, "auto", look)
        rows.extend(_clicked_rows(segmenter, grey, sample, target, settings))
    if sample.structures is not None:
        square = _looked_at(look, sample)
        for label, kind in ((1, "nerve"), (2, "vessel")):
            rows.extend(_structure_rows(sample, square[label], label, kind, settings.run))
    return rows


def _clicked_rows(
    segmenter: Segmenter,
    grey: GreyImage,
    sample: Sample,
    target: Target,
    settings: EvaluateSettings,
) -> list[Row]:
    truth = target.mask > 0
    middle = middle_of(truth)
    clicks = [middle]
    look = segmenter.look(grey, _prompt(sample, clicks))
    rows = [_muscle_row(sample, target, look, "click", settings.run)]
    _keep_mask(settings, sample, "click", look)
    if sample.view == "long_axis" and target.automatic:
        # The question here is the automatic answer; the click is asked for completeness.
        return rows
    for moved in moved_clicks(truth, middle):
        elsewhere = segmenter.look(grey, _prompt(sample, [moved]))
        rows.append(_muscle_row(sample, target, elsewhere, "moved", settings.run))
    for _ in range(3):
        click = correct_click(truth, _kept_square(look, sample), None)
        if click is None:
            break
        clicks.append(click)
        look = segmenter.look(grey, _prompt(sample, clicks))
    rows.append(_muscle_row(sample, target, look, "corrected", settings.run))
    return rows


def ask_negatives(segmenter: Segmenter, folder: Path, run: str) -> list[Row]:
    """One row without and one with a click for each image in the class subfolders."""
    rows = []
    for path in sorted(folder.glob("*/*.png")):
        grey = read_grey(path)
        middle = Click(column=grey.shape[1] // 2, row=grey.shape[0] // 2, positive=True)
        for mode, prompt in (("auto", Prompt()), ("click", Prompt(clicks=(middle,)))):
            answer = segmenter.segment(grey, prompt)
            look = segmenter.look(grey, prompt)
            rows.append(
                Row(
                    run=run,
                    kind="negative",
                    collection=path.parent.name,
                    device="",
                    group=f"{path.parent.name}/{path.stem}",
                    name=path.stem,
                    view="other",
                    mode=mode,
                    outline="" if answer.abstained is None else answer.abstained.value,
                    quality=look.quality,
                    not_muscle=look.not_muscle,
                    second_share=look.second_share,
                    found=int(np.count_nonzero(look.kept)),
                )
            )
    return rows


def middle_of(mask: BoolMask) -> tuple[float, float, bool]:
    """A click (column, row, True) at the centroid, or at the deepest place if that is outside."""
    padded = np.pad(mask.astype(np.uint8), 1)
    depth = np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5))[1:-1, 1:-1]
    rows, columns = np.nonzero(mask)
    row, column = round(float(rows.mean())), round(float(columns.mean()))
    if depth[row, column] < 0.3 * depth.max():
        row, column = (int(value) for value in np.unravel_index(np.argmax(depth), depth.shape))
    return float(column), float(row), True


def moved_clicks(
    mask: BoolMask, middle: tuple[float, float, bool]
) -> list[tuple[float, float, bool]]:
    """The click moved by a third of the half width to each side, where that is still inside."""
    column, row = round(middle[0]), round(middle[1])
    moved = []
    for line, place, along in ((mask[row], column, True), (mask[:, column], row, False)):
        inside = np.flatnonzero(line)
        step = (inside[-1] - inside[0] + 1) / 6.0
        for sign in (-1, 1):
            there = round(place + sign * step)
            if 0 <= there < line.size and line[there]:
                moved.append(
                    (float(there), middle[1], True) if along else (middle[0], float(there), True)
                )
    return moved


def dice_of(answer: BoolMask, truth: BoolMask) -> float:
    """Dice of two masks of one shape, 0 to 1; 1 if both are empty."""
    total = int(np.count_nonzero(answer)) + int(np.count_nonzero(truth))
    return 1.0 if total == 0 else 2.0 * int(np.count_nonzero(answer & truth)) / total


def _prompt(sample: Sample, clicks: Sequence[tuple[float, float, bool]]) -> Prompt:
    across, down = sample.sector.columns / CACHE_SIZE, sample.sector.rows / CACHE_SIZE
    return Prompt(
        clicks=tuple(
            Click(
                column=sample.sector.column0 + int((column + 0.5) * across),
                row=sample.sector.row0 + int((row + 0.5) * down),
                positive=positive,
            )
            for column, row, positive in clicks
        )
    )


def _looked_at(look: Look, sample: Sample) -> NDArray[np.float32]:
    # The answer's four planes on the label's square: the two sectors may differ by a few pixels.
    across = np.arange(CACHE_SIZE, dtype=np.float32) + 0.5
    columns = sample.sector.column0 + across * sample.sector.columns / CACHE_SIZE - 0.5
    rows = sample.sector.row0 + across * sample.sector.rows / CACHE_SIZE - 0.5
    column_map, row_map = np.meshgrid(columns - look.sector.column0, rows - look.sector.row0)
    planes = [*look.logits, np.where(look.kept, 1.0, -1.0).astype(np.float32)]
    return np.stack(
        [
            np.asarray(
                cv2.remap(
                    plane,
                    column_map.astype(np.float32),
                    row_map.astype(np.float32),
                    cv2.INTER_LINEAR,
                    borderMode=cv2.BORDER_CONSTANT,
                    borderValue=-1.0,
                ),
                np.float32,
            )
            for plane in planes
        ]
    )


def _kept_square(look: Look, sample: Sample) -> BoolMask:
    kept: BoolMask = _looked_at(look, sample)[4] > 0
    return kept


def _log_ratio(true: float, found: float) -> float:
    return math.log(true / found) if true > 0 and found > 0 else math.nan


def _muscle_row(sample: Sample, target: Target, look: Look, mode: str, run: str) -> Row:
    truth, answer = target.mask > 0, _kept_square(look, sample)
    observers = math.nan
    if sample.observers_thickness_px:
        mean = sum(sample.observers_thickness_px) / len(sample.observers_thickness_px)
        observers = _log_ratio(mean, thickness_of(look.kept))
    guessed = ("long_axis", "short_axis", "other")[int(np.argmax(look.view_scores))]
    return Row(
        run=run,
        kind="muscle",
        collection=sample.collection,
        device=sample.device,
        group=sample.group,
        name=sample.name,
        view=sample.view,
        mode=mode,
        outline=target.confidence,
        automatic=target.automatic,
        dice=dice_of(answer, truth),
        log_area=_log_ratio(float(np.count_nonzero(truth)), float(np.count_nonzero(answer))),
        log_thickness=_log_ratio(thickness_of(truth), thickness_of(answer)),
        log_observers=observers,
        quality=look.quality,
        not_muscle=look.not_muscle,
        second_share=look.second_share,
        view_right=float(guessed == sample.view),
    )


def _structure_rows(
    sample: Sample, logits: NDArray[np.float32], label: int, kind: str, run: str
) -> list[Row]:
    # One row for the image, and one for each object answered, with its score as `quality` and
    # whether a true object lies there: the limit on the score is chosen afterwards.
    if sample.structures is None:
        raise ValueError("the sample has no structures labelled")
    truth, answer = sample.structures == label, logits > 0
    true_parts, answer_parts = _parts(truth), _parts(answer)
    whole = Row(
        run=run,
        kind=kind,
        collection=sample.collection,
        device=sample.device,
        group=sample.group,
        name=sample.name,
        view=sample.view,
        mode="image",
        dice=dice_of(answer, truth) if truth.any() else math.nan,
        objects=len(true_parts),
    )
    rows = [whole]
    probability = 1.0 / (1.0 + np.exp(-np.clip(logits, -30, 30)))
    for part in answer_parts:
        overlaps = [_iou(part, other) for other in true_parts]
        hit = bool(overlaps) and max(overlaps) >= _IOU_FOUND
        rows.append(
            replace(
                whole,
                mode="object",
                dice=math.nan,
                objects=0,
                quality=float(probability[part].mean()),
                found=int(hit),
                false=int(not hit),
            )
        )
    return rows


def _parts(mask: BoolMask) -> list[BoolMask]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    least = 0.0004 * mask.size
    return [
        np.asarray(labels == index)
        for index in range(1, count)
        if stats[index, cv2.CC_STAT_AREA] >= least
    ]


def _iou(one: BoolMask, other: BoolMask) -> float:
    union = int(np.count_nonzero(one | other))
    return int(np.count_nonzero(one & other)) / union if union else 0.0


def _keep_mask(settings: EvaluateSettings, sample: Sample, mode: str, look: Look) -> None:
    if settings.masks is None:
        return
    folder = settings.masks / sample.collection
    folder.mkdir(parents=True, exist_ok=True)
    mask = np.where(_kept_square(look, sample), 255, 0).astype(np.uint8)
    cv2.imwrite(str(folder / f"{sample.name}.{mode}.png"), mask)


def main(argv: Sequence[str]) -> int:
    """The exit code of `sonodose evaluate`: without --data the kept rows are read, not made."""
    parser = argparse.ArgumentParser(prog="sonodose evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of collections; images are asked anew")
    parser.add_argument("--weights", type=Path, help="an .onnx file (default: the packaged one)")
    add_fold_arguments(parser)
    parser.add_argument("--run", default="run", help="the run's name in the table")
    parser.add_argument("--negatives", type=Path, help="folder of classes of images without muscle")
    parser.add_argument("--most-per-group", type=int, help="ask at most so many of a group")
    parser.add_argument("--masks", type=Path, help="folder to keep the masks in")
    parser.add_argument("--rows", type=Path, help="CSV of rows to write, or to read without --data")
    asked = parser.parse_args(argv)
    if asked.data is None:
        rows = read_rows(asked.rows or WEIGHTS_FOLDER / f"{PACKAGED_STEM}.oof.csv")
    else:
        fold = fold_of(asked)
        rows = evaluate(
            load_segmenter(asked.weights, threads=2),
            EvaluateSettings(
                data=asked.data,
                run=asked.run,
                hold_out=None if fold == Fold() else fold,
                negatives=asked.negatives,
                masks=asked.masks,
                most_per_group=asked.most_per_group,
            ),
        )
        if asked.rows is not None:
            write_rows(rows, asked.rows)
    print(table(rows).as_markdown())
    return 0

"""From a grey picture and, if there are any, clicks, to a mask that knows how good it is.

The steps: cut the sector out of the scanner's screen, resample it to the network's square, draw
the prompts, run the network, put the answer back, keep the part that was asked for, judge it,
and withhold it where it cannot be trusted.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.arrays import BoolMask, GreyImage
from imaging.geometry import PixelBox
from imaging.sector import find_sector
from models.card import (
    PACKAGED_STEM,
    WEIGHTS_FOLDER,
    Curve,
    ModelCard,
    asked_case,
    read_card,
)
from models.channels import VIEW_OUTPUTS
from models.engine import EngineOutput, InferenceEngine, OnnxEngine, read_weights
from models.prompt_planes import input_planes

MIDDLE_SHARE = 0.5
"""Thickness is read over this middle share of the mask's columns, as `imaging.measure` does."""
_BLANK_SPREAD = 4.0
_SATURATED_LEVEL = 250
_SATURATED_SHARE = 0.35
_SMALLEST_SHARE = 0.002
"""A target smaller than this share of the sector is no target."""
_SMALLEST_OBJECT_SHARE = 0.0004
_APART = 0.05
"""Share of the sector by which two clicks must lie apart to count as two: about two discs."""


class View(StrEnum):
    """How the probe lies to the muscle."""

    LONG_AXIS = "long_axis"
    SHORT_AXIS = "short_axis"
    OTHER = "other"


class AbstentionReason(StrEnum):
    """Why the answer is withheld; `sentence` says it to a sonographer, with the way out."""

    BLANK = "blank"
    SATURATED = "saturated"
    NOT_MUSCLE = "not_muscle"
    TARGET_NOT_FOUND = "target_not_found"
    AMBIGUOUS = "ambiguous"

    @property
    def sentence(self) -> str:
        """What is wrong and what to do."""
        return _SENTENCES[self]


_SENTENCES: dict[AbstentionReason, str] = {
    AbstentionReason.BLANK: (
        "The picture is blank: check the probe, the gel and the freeze, and scan again."
    ),
    AbstentionReason.SATURATED: (
        "The picture is overdriven, white without texture: turn the gain down and scan again."
    ),
    AbstentionReason.NOT_MUSCLE: (
        "No muscle could be recognised: check what was scanned, or outline the muscle yourself."
    ),
    AbstentionReason.TARGET_NOT_FOUND: (
        "The muscle could not be found with enough certainty: click on its middle, "
        "or outline it yourself."
    ),
    AbstentionReason.AMBIGUOUS: (
        "Two muscles answer equally well: click on the one that you mean."
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Click:
    """A pixel index of the whole image; positive: this belongs to the muscle."""

    column: int
    row: int
    positive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the operator said about the target; all of it may be left out."""

    clicks: tuple[Click, ...] = ()
    box: PixelBox | None = None
    view: View | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentedObject:
    """One nerve or vessel."""

    kind: Literal["nerve", "vessel"]
    score: float
    """Mean probability inside, 0 to 1."""
    box: PixelBox
    area_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation:
    """What the network found on one image; masks are (rows, columns) bool of the whole image."""

    muscle: BoolMask
    """The target; empty where the answer is withheld."""
    candidate: BoolMask
    """The best guess, also where it is withheld."""
    nerve: BoolMask
    vessel: BoolMask
    aponeurosis: BoolMask
    objects: tuple[SegmentedObject, ...]
    view: View
    view_score: float
    confidence: float
    """The Dice that the candidate is expected to reach, 0 to 1."""
    area_px: float
    area_interval_px: tuple[float, float]
    """The candidate's area in square pixels with its 95 % interval; zeros if it is empty."""
    thickness_px: float
    thickness_interval_px: tuple[float, float]
    """Vertical thickness in pixels over the middle half, with its 95 % interval."""
    abstained: AbstentionReason | None
    sector: PixelBox
    weights_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the network said of one image, before it is judged by the card's limits."""

    sector: PixelBox
    cut: GreyImage
    """(sector rows, sector columns) uint8: what the network was shown."""
    logits: NDArray[np.float32]
    """(4, sector rows, sector columns): target, nerve, vessel, aponeurosis."""
    kept: BoolMask
    """(sector rows, sector columns): the part of the target that was asked for."""
    second_share: float
    """The largest part left out against what was kept."""
    quality: float
    """The network's own judgement of the target, 0 to 1; where the mirrored picture was asked
    too, the mean of it and of the Dice of the two answers."""
    not_muscle: float
    """Probability that no muscle can be seen, 0 to 1."""
    view_scores: NDArray[np.float64]
    """(3,): probability of long axis, short axis, other."""


class Segmenter:
    """Segments images with one network and its card.

    The last `remembered` answers are kept: while a plan is edited the picture stays the same, and
    a click on one frame of a sweep leaves the others as they were.
    """

    def __init__(self, engine: InferenceEngine, card: ModelCard, *, remembered: int = 0) -> None:
        self._engine = engine
        self.card = card
        self._answers: OrderedDict[Hashable, Segmentation] = OrderedDict()
        self._remembered = remembered

    def segment(
        self, grey: GreyImage, prompt: Prompt | None = None, *, region: PixelBox | None = None
    ) -> Segmentation:
        """The segmentation of a (rows, columns) uint8 image; its arrays are read, not written.

        `region` is the ultrasound part of the picture where it is known (DICOM regions); without
        it the part is found by `imaging.sector.find_sector`.
        """
        prompt = prompt or Prompt()
        picture = hashlib.sha256(np.ascontiguousarray(grey).data).digest()
        asked = (picture, grey.shape, prompt, region)
        answer = self._answers.pop(asked, None) or self._segment(grey, prompt, region)
        self._answers[asked] = answer
        while len(self._answers) > self._remembered:
            self._answers.popitem(last=False)
        return answer

    def _segment(self, grey: GreyImage, prompt: Prompt, region: PixelBox | None) -> Segmentation:
        seen = self.look(grey, prompt, region=region)
        sector, kept = seen.sector, seen.kept
        confidence = _at(self.card.calibration.confidence, seen.quality)
        best_view = int(np.argmax(seen.view_scores))
        abstained = self._abstention(seen, confidence, prompt)
        nerve, nerves = self._objects("nerve", seen.logits[1], sector, grey.shape)
        vessel, vessels = self._objects("vessel", seen.logits[2], sector, grey.shape)
        lines = seen.logits[3] > 0
        candidate = _placed(kept, sector, grey.shape)
        area, thickness = float(np.count_nonzero(kept)), thickness_of(kept)
        view = View(VIEW_OUTPUTS[best_view])
        case = asked_case(view.value, _places(prompt, sector), boxed=prompt.box is not None)
        limits = self.card.calibration.intervals_of(case)
        return Segmentation(
            muscle=np.zeros_like(candidate) if abstained else candidate,
            candidate=candidate,
            nerve=nerve,
            vessel=vessel,
            aponeurosis=_placed(lines, sector, grey.shape),
            objects=(*nerves, *vessels),
            view=view,
            view_score=float(seen.view_scores[best_view]),
            confidence=confidence,
            area_px=area,
            area_interval_px=_interval(area, confidence, limits.area_low, limits.area_high),
            thickness_px=thickness,
            thickness_interval_px=_interval(
                thickness, confidence, limits.thickness_low, limits.thickness_high
            ),
            abstained=abstained,
            sector=sector,
            weights_version=self.card.version,
        )

    def look(self, grey: GreyImage, prompt: Prompt, *, region: PixelBox | None = None) -> Look:
        """The network's raw answer for a (rows, columns) uint8 image: `segment` without limits."""
        sector = _grown_to_clicks(region or find_sector(grey), prompt, grey.shape)
        cut = np.ascontiguousarray(grey[sector.slices])
        output, quality = self._ask(_to_square(cut, self.card.input_size), prompt, sector)
        shape = (sector.rows, sector.columns)
        logits = np.stack([_from_square(plane, shape) for plane in output.dense[0]])
        kept, second_share = _asked_part(logits[0] > 0, prompt, sector)
        return Look(
            sector=sector,
            cut=cut,
            logits=logits,
            kept=kept,
            second_share=second_share,
            quality=quality,
            not_muscle=float(_sigmoid(output.not_muscle[0])),
            view_scores=_softmax(output.view[0]),
        )

    def _ask(
        self, square: GreyImage, prompt: Prompt, sector: PixelBox
    ) -> tuple[EngineOutput, float]:
        size = square.shape[0]
        across, down = size / sector.columns, size / sector.rows
        clicks = [
            (
                (click.column + 0.5 - sector.column0) * across - 0.5,
                (click.row + 0.5 - sector.row0) * down - 0.5,
                click.positive,
            )
            for click in prompt.clicks
        ]
        box = None
        if prompt.box is not None:
            box = (
                (prompt.box.column0 - sector.column0) * across,
                (prompt.box.row0 - sector.row0) * down,
                (prompt.box.column1 - sector.column0) * across,
                (prompt.box.row1 - sector.row0) * down,
            )
        view = None if prompt.view is None else prompt.view.value
        planes = input_planes(square, clicks=clicks, box=box, view=view)
        if not self.card.flip:
            alone = self._engine.run(planes[None])
            return alone, float(_sigmoid(alone.quality[0]))
        # A mirrored muscle is the same muscle: the mean of both answers is better than either,
        # and where the two differ, neither is to be trusted.
        both = self._engine.run(np.stack([planes, planes[..., ::-1]]))
        mirrored = both.dense[1:, :, :, ::-1]
        output = EngineOutput(
            dense=0.5 * (both.dense[:1] + mirrored),
            view=both.view.mean(0, keepdims=True),
            not_muscle=both.not_muscle.mean(0, keepdims=True),
            quality=both.quality.mean(0, keepdims=True),
        )
        agreement = _dice(both.dense[0, 0] > 0, mirrored[0, 0] > 0)
        return output, 0.5 * (float(_sigmoid(output.quality[0])) + agreement)

    def _abstention(self, seen: Look, confidence: float, prompt: Prompt) -> AbstentionReason | None:
        cut, kept = seen.cut, seen.kept
        low, high = np.percentile(cut, (1, 99))
        if high - low < _BLANK_SPREAD and high < _SATURATED_LEVEL:
            return AbstentionReason.BLANK
        if float(np.mean(cut >= _SATURATED_LEVEL)) > _SATURATED_SHARE:
            return AbstentionReason.SATURATED
        limits = self.card.calibration
        if seen.not_muscle >= limits.not_muscle_limit:
            return AbstentionReason.NOT_MUSCLE
        if np.count_nonzero(kept) < _SMALLEST_SHARE * kept.size:
            return AbstentionReason.TARGET_NOT_FOUND
        # A click decides which muscle; it never makes a doubtful answer a good one.
        if confidence < limits.confidence_limit:
            return AbstentionReason.TARGET_NOT_FOUND
        if prompt.box is None and not prompt.clicks and seen.second_share > limits.ambiguous_share:
            return AbstentionReason.AMBIGUOUS
        return None

    def _objects(
        self,
        kind: Literal["nerve", "vessel"],
        logits: NDArray[np.float32],
        sector: PixelBox,
        shape: tuple[int, ...],
    ) -> tuple[BoolMask, list[SegmentedObject]]:
        limits = self.card.calibration
        least = limits.nerve_score if kind == "nerve" else limits.vessel_score
        mask = np.zeros(logits.shape, np.bool_)
        found: list[SegmentedObject] = []
        count, labels, stats, _ = cv2.connectedComponentsWithStats((logits > 0).astype(np.uint8))
        for index in range(1, count):
            left, top, width, height, area = (int(value) for value in stats[index])
            if area < _SMALLEST_OBJECT_SHARE * logits.size:
                continue
            window = (slice(top, top + height), slice(left, left + width))
            own = np.asarray(labels[window] == index)
            score = float(_sigmoid(logits[window][own]).mean())
            if score < least:
                continue
            mask[window] |= own
            found.append(
                SegmentedObject(
                    kind=kind,
                    score=score,
                    box=PixelBox(
                        column0=sector.column0 + left,
                        row0=sector.row0 + top,
                        column1=sector.column0 + left + width,
                        row1=sector.row0 + top + height,
                    ),
                    area_px=area,
                )
            )
        found.sort(key=lambda one: -one.score)
        return _placed(mask, sector, shape), found


def load_segmenter(path: Path | None = None, threads: int = 1, *, remembered: int = 0) -> Segmenter:
    """A segmenter on ONNX Runtime with the packaged weights, or those of an `.onnx` file.

    The card is the JSON file of the same stem; WeightsMissing and WeightsRefused if the two are
    not there or do not belong together.
    """
    path = path or WEIGHTS_FOLDER / f"{PACKAGED_STEM}.onnx"
    card = read_card(path.with_suffix(".json"))
    engine = OnnxEngine(read_weights(path, card), threads=threads)
    return Segmenter(engine, card, remembered=remembered)


def packaged_version() -> str:
    """The version of the packaged weights, by their card alone."""
    return read_card(WEIGHTS_FOLDER / f"{PACKAGED_STEM}.json").version


def thickness_of(mask: BoolMask) -> float:
    """Median vertical extent in pixels over the middle half of the mask's columns; 0 if empty."""
    columns = np.flatnonzero(mask.any(0))
    if columns.size == 0:
        return 0.0
    margin = (columns[-1] - columns[0] + 1) * (1.0 - MIDDLE_SHARE) / 2.0
    middle = columns[(columns >= columns[0] + margin) & (columns <= columns[-1] - margin)]
    if middle.size == 0:
        middle = columns
    part = mask[:, middle]
    top = np.argmax(part, axis=0)
    bottom = part.shape[0] - np.argmax(part[::-1], axis=0)
    return float(np.median(bottom - top))


def _grown_to_clicks(sector: PixelBox, prompt: Prompt, shape: tuple[int, ...]) -> PixelBox:
    # A click beside the sector says that the sector was cut too tight: the operator sees it.
    inside = [
        click
        for click in prompt.clicks
        if 0 <= click.column < shape[1] and 0 <= click.row < shape[0]
    ]
    if all(sector.holds(column=click.column, row=click.row) for click in inside):
        return sector
    return PixelBox(
        column0=min(sector.column0, *(click.column for click in inside)),
        row0=min(sector.row0, *(click.row for click in inside)),
        column1=max(sector.column1, *(click.column + 1 for click in inside)),
        row1=max(sector.row1, *(click.row + 1 for click in inside)),
    )


def _to_square(cut: GreyImage, size: int) -> GreyImage:
    shrinks = cut.shape[0] > size or cut.shape[1] > size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(cut, (size, size), interpolation=method), np.uint8)


def _from_square(plane: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    resized = cv2.resize(
        np.ascontiguousarray(plane), (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR
    )
    return np.asarray(resized, np.float32)


def _placed(mask: BoolMask, sector: PixelBox, shape: tuple[int, ...]) -> BoolMask:
    whole = np.zeros((shape[0], shape[1]), np.bool_)
    whole[sector.slices] = mask
    return whole


def _asked_part(target: BoolMask, prompt: Prompt, sector: PixelBox) -> tuple[BoolMask, float]:
    # The parts that a positive click lies in, else the largest; holes filled. And how large the
    # largest part that was left out is against what was kept.
    count, labels, stats, _ = cv2.connectedComponentsWithStats(target.astype(np.uint8))
    if count < 2:
        return np.zeros_like(target), 0.0
    areas = stats[1:, cv2.CC_STAT_AREA].astype(float)
    chosen: set[int] = set()
    for click in prompt.clicks:
        row, column = click.row - sector.row0, click.column - sector.column0
        if click.positive and 0 <= row < target.shape[0] and 0 <= column < target.shape[1]:
            chosen.add(int(labels[row, column]))
    chosen.discard(0)
    if not chosen:
        if any(click.positive for click in prompt.clicks):
            return np.zeros_like(target), 0.0
        chosen = {1 + int(np.argmax(areas))}
    kept = np.isin(labels, list(chosen))
    left_out = [area for index, area in enumerate(areas, 1) if index not in chosen]
    second = max(left_out, default=0.0) / max(1.0, float(sum(areas[i - 1] for i in chosen)))
    return _filled(kept), second


def _filled(mask: BoolMask) -> BoolMask:
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
    return filled > 0


def _places(prompt: Prompt, sector: PixelBox) -> int:
    # Clicks on one spot say one thing: only places apart count towards a mended outline.
    places: list[tuple[float, float]] = []
    for click in prompt.clicks:
        across, down = click.column / sector.columns, click.row / sector.rows
        if all(np.hypot(across - x, down - y) >= _APART for x, y in places):
            places.append((across, down))
    return len(places)


def _dice(one: BoolMask, other: BoolMask) -> float:
    total = int(np.count_nonzero(one)) + int(np.count_nonzero(other))
    return 1.0 if total == 0 else 2.0 * int(np.count_nonzero(one & other)) / total


def _interval(value: float, confidence: float, low: Curve, high: Curve) -> tuple[float, float]:
    return (
        value * float(np.exp(_at(low, confidence))),
        value * float(np.exp(_at(high, confidence))),
    )


def _at(curve: Curve, where: float) -> float:
    return float(np.interp(where, curve.at, curve.value))


def _sigmoid(logits: NDArray[Any] | np.floating[Any]) -> NDArray[np.float64]:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -40, 40).astype(np.float64))))


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - float(logits.max()))
    return np.asarray(powers / powers.sum())

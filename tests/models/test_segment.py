"""Segmenting one image: the packaged weights and a network made of cardboard."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from imaging.arrays import BoolMask, GreyImage
from imaging.geometry import PixelBox
from models.card import ModelCard
from models.engine import EngineOutput
from models.segment import (
    AbstentionReason,
    Click,
    Prompt,
    Segmenter,
    View,
    _places,
    load_segmenter,
    thickness_of,
)


def dice_of(one: BoolMask, other: BoolMask) -> float:
    total = int(np.count_nonzero(one)) + int(np.count_nonzero(other))
    return 2 * int(np.count_nonzero(one & other)) / total


class CardboardEngine:
    """Answers two bellies, one above the other, or the one that is clicked on."""

    def run(self, planes: NDArray[np.float32]) -> EngineOutput:
        count, _, size, _ = planes.shape
        dense = np.full((count, 4, size, size), -5.0, np.float32)
        upper = slice(size // 8, 3 * size // 8)
        lower = slice(5 * size // 8, 7 * size // 8)
        for index in range(count):
            clicks = planes[index, 1]
            if not clicks.any() or clicks[upper].any():
                dense[index, 0, upper] = 5.0
            if not clicks.any() or clicks[lower].any():
                dense[index, 0, lower] = 5.0
            dense[index, 2, size // 2, size // 2 : size // 2 + 30] = 4.0
            dense[index, 2, size // 2 + 1, size // 2 : size // 2 + 30] = 4.0
        return EngineOutput(
            dense=dense,
            view=np.tile(np.array([[3.0, 0.0, 0.0]], np.float32), (count, 1)),
            not_muscle=np.full(count, -5.0, np.float32),
            quality=np.full(count, 3.0, np.float32),
        )


def cardboard() -> Segmenter:
    card = ModelCard(
        name="cardboard", version="test", created="", intended_use="", not_for="", sha256={}
    )
    return Segmenter(CardboardEngine(), card)


@pytest.fixture(scope="module")
def packaged() -> Segmenter:
    return load_segmenter(threads=1)


def long_axis_picture(rows: int = 300, columns: int = 400) -> GreyImage:
    """Two bright lines over dark, striated bellies."""
    random = np.random.default_rng(0)
    row, column = np.mgrid[0:rows, 0:columns]
    stripes = 45 + 25 * np.sin((row + 0.4 * column) / 3.0)
    field = stripes * random.uniform(0.5, 1.5, (rows, columns))
    for line in (0.08, 0.4, 0.85):
        field += 200 * np.exp(-(((row - line * rows) / 2.5) ** 2))
    return np.asarray(np.clip(field, 0, 255), np.uint8)


def test_a_click_decides_which_of_two_bellies_is_meant() -> None:
    grey = long_axis_picture()
    upper = cardboard().segment(grey, Prompt(clicks=(Click(column=200, row=75),)))
    lower = cardboard().segment(grey, Prompt(clicks=(Click(column=200, row=225),)))
    assert upper.muscle[75, 200]
    assert not upper.muscle[225, 200]
    assert lower.muscle[225, 200]
    assert not lower.muscle[75, 200]


def test_two_equal_answers_without_a_click_are_ambiguous() -> None:
    found = cardboard().segment(long_axis_picture())
    assert found.abstained is AbstentionReason.AMBIGUOUS
    assert not found.muscle.any()
    assert found.candidate.any()


def test_a_click_beside_every_answer_finds_no_target() -> None:
    found = cardboard().segment(long_axis_picture(), Prompt(clicks=(Click(column=200, row=150),)))
    assert found.abstained is AbstentionReason.TARGET_NOT_FOUND


@pytest.mark.parametrize("clicks", [(), (Click(column=100, row=100),)])
def test_a_click_never_silences_the_abstention_on_a_blank_image(
    packaged: Segmenter, clicks: tuple[Click, ...]
) -> None:
    for level in (0, 60):
        grey = np.full((200, 300), level, np.uint8)
        found = packaged.segment(grey, Prompt(clicks=clicks))
        assert found.abstained is AbstentionReason.BLANK
        assert not found.muscle.any()


@pytest.mark.parametrize("clicks", [(), (Click(column=100, row=100),)])
def test_an_overdriven_image_is_saturated(packaged: Segmenter, clicks: tuple[Click, ...]) -> None:
    grey = np.full((200, 300), 255, np.uint8)
    grey[::7, ::5] = 90
    assert packaged.segment(grey, Prompt(clicks=clicks)).abstained is AbstentionReason.SATURATED


def test_masks_have_the_size_of_the_input_and_stay_in_the_sector(packaged: Segmenter) -> None:
    grey = np.zeros((500, 640), np.uint8)
    grey[100:400, 120:520] = long_axis_picture()
    found = packaged.segment(grey)
    for mask in (found.muscle, found.candidate, found.nerve, found.vessel, found.aponeurosis):
        assert mask.shape == grey.shape
        assert mask.dtype == np.bool_
        outside = mask.copy()
        outside[found.sector.slices] = False
        assert not outside.any()
    assert abs(found.sector.column0 - 120) < 12
    assert abs(found.sector.row1 - 400) < 12


def test_the_given_region_is_taken_instead_of_the_found_sector() -> None:
    region = PixelBox(column0=10, row0=20, column1=210, row1=220)
    found = cardboard().segment(long_axis_picture(), region=region)
    assert found.sector == region


def test_a_click_beside_the_sector_widens_it() -> None:
    region = PixelBox(column0=10, row0=20, column1=210, row1=220)
    prompt = Prompt(clicks=(Click(column=300, row=100),))
    found = cardboard().segment(long_axis_picture(), prompt, region=region)
    assert found.sector.column1 == 301


def test_a_mirrored_image_gives_a_mirrored_mask(packaged: Segmenter) -> None:
    grey = long_axis_picture()
    prompt = Prompt(clicks=(Click(column=199, row=75),))
    mirrored = Prompt(clicks=(Click(column=200, row=75),))
    here = packaged.segment(grey, prompt).candidate
    there = packaged.segment(np.ascontiguousarray(grey[:, ::-1]), mirrored).candidate[:, ::-1]
    assert here.any()
    assert dice_of(here, there) > 0.85


def test_intervals_hold_the_value_and_confidence_is_a_share() -> None:
    found = cardboard().segment(long_axis_picture(), Prompt(clicks=(Click(column=200, row=75),)))
    assert found.abstained is None
    low, high = found.area_interval_px
    assert low <= found.area_px <= high
    low, high = found.thickness_interval_px
    assert low <= found.thickness_px <= high
    assert 0 <= found.confidence <= 1
    assert found.view is View.LONG_AXIS


def test_objects_carry_a_score_and_the_box_of_their_pixels() -> None:
    found = cardboard().segment(long_axis_picture())
    (vessel,) = found.objects
    assert vessel.kind == "vessel"
    assert 0.5 < vessel.score <= 1
    assert found.vessel[vessel.box.slices].any()


def test_thickness_is_the_median_extent_of_the_middle_columns() -> None:
    mask = np.zeros((100, 80), np.bool_)
    mask[20:50, 10:70] = True
    mask[20:90, 10:20] = True
    assert thickness_of(mask) == 30
    assert thickness_of(np.zeros((10, 10), np.bool_)) == 0


def test_every_reason_says_what_to_do() -> None:
    for reason in AbstentionReason:
        assert ":" in reason.sentence
        assert reason.sentence.endswith(".")


def test_segmenting_needs_no_torch() -> None:
    code = (
        "import sys; from models.segment import load_segmenter; load_segmenter(); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)  # noqa: S603 -- our own code


def test_an_answer_is_kept_for_the_same_question_alone() -> None:
    """The network runs again for another click, picture or part, and once an answer is old."""
    asked: list[int] = []

    class Counting(CardboardEngine):
        def run(self, planes: np.ndarray) -> EngineOutput:
            asked.append(len(planes))
            return super().run(planes)

    segmenter = Segmenter(Counting(), cardboard().card, remembered=2)
    grey = long_axis_picture()
    first = segmenter.segment(grey, Prompt(clicks=(Click(column=200, row=75),)))
    assert segmenter.segment(grey.copy(), Prompt(clicks=(Click(column=200, row=75),))) is first
    assert len(asked) == 1
    segmenter.segment(grey, Prompt(clicks=(Click(column=200, row=225),)))
    segmenter.segment(grey[:-1], Prompt(clicks=(Click(column=200, row=75),)))
    assert len(asked) == 3
    again = segmenter.segment(grey, Prompt(clicks=(Click(column=200, row=75),)))
    assert len(asked) == 4
    assert np.array_equal(again.muscle, first.muscle)


def test_clicks_on_one_spot_promise_no_more_than_one() -> None:
    """Only clicks at places apart count towards the narrower intervals of a mended outline."""
    sector = PixelBox(column0=0, row0=0, column1=400, row1=300)
    spot = tuple(Click(column=100 + n, row=100) for n in range(4))
    apart = tuple(Click(column=60 * n, row=100, positive=n % 2 == 0) for n in range(4))
    assert _places(Prompt(clicks=spot), sector) == 1
    assert _places(Prompt(clicks=apart), sector) == 4
    assert _places(Prompt(), sector) == 0

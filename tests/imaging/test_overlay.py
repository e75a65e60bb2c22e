from __future__ import annotations

import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imaging.geometry import ImagePoint
from imaging.overlay import (
    MUSCLE_COLOUR,
    SITE_COLOUR,
    VERMILION,
    WHITE,
    Overlay,
    OverlaySite,
    draw_overlay,
    drawing_svg,
    layout_of,
    overlay_animation,
    overlay_png,
    overlay_svg,
)
from tests.imaging.conftest import circle, disc, scale

ROWS, COLUMNS = 150, 200


def overlay(grey_level: int = 60, **more: object) -> Overlay:
    whole = Overlay(
        grey=np.full((ROWS, COLUMNS), grey_level, dtype=np.uint8),
        muscle=disc(ROWS, COLUMNS, 100, 75, 50),
        sites=(
            OverlaySite(number=1, point=ImagePoint(column=70.25, row=80.5), label="18 mm · 20 U"),
            OverlaySite(number=2, point=ImagePoint(column=130.75, row=70.0), label="15 mm · 20 U"),
        ),
        calibration=scale(0.2, 0.2),
        heading=("Biceps brachii, left", "area 9.80 cm²"),
        identifiers=("Żółć Łukasz", "PH-1"),
        marks=("SUGGESTION: CONFIRM BEFORE USE", "DEMONSTRATION: NOMINAL CALIBRATION"),
        confidence="confidence 0.93",
    )
    return replace(whole, **more)


def where(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (picture == np.array(colour, dtype=np.uint8)).all(axis=2)


@settings(max_examples=15)
@given(column=st.floats(30, 170), row=st.floats(30, 120))
def test_a_site_s_marker_is_centred_on_its_point(column: float, row: float) -> None:
    site = OverlaySite(number=1, point=ImagePoint(column=column, row=row))
    drawn = overlay(sites=(site,), muscle=None, marks=())
    spot = where(draw_overlay(drawn), SITE_COLOUR)
    layout = layout_of(drawn)
    spot[layout.top + layout.height :] = False  # the legend below
    down, across = np.nonzero(spot)
    wanted = layout.to_canvas(site.point)
    middle = ((across.min() + across.max() + 1) / 2, (down.min() + down.max() + 1) / 2)
    assert middle == pytest.approx(wanted, abs=1.0)


def test_the_muscle_s_line_runs_along_the_border_of_its_mask() -> None:
    drawn = overlay(sites=())
    layout = layout_of(drawn)
    down, across = np.nonzero(where(draw_overlay(drawn), MUSCLE_COLOUR))
    on_frame = down < layout.top + layout.height
    across = (across[on_frame] + 0.5 - layout.left) / layout.magnification
    down = (down[on_frame] + 0.5 - layout.top) / layout.magnification
    distance = np.hypot(across - 100, down - 75)
    assert len(distance) > 300
    assert np.abs(distance - 50).max() < 1.2


def test_an_operator_s_outline_is_drawn_instead_of_the_mask_s_border() -> None:
    drawn = overlay(sites=(), outline=circle(100, 75, 30))
    layout = layout_of(drawn)
    down, across = np.nonzero(where(draw_overlay(drawn), MUSCLE_COLOUR))
    on_frame = down < layout.top + layout.height
    distance = np.hypot(
        (across[on_frame] + 0.5 - layout.left) / layout.magnification - 100,
        (down[on_frame] + 0.5 - layout.top) / layout.magnification - 75,
    )
    assert np.abs(distance - 30).max() < 1.2


@pytest.mark.parametrize("grey_level", [0, 128, 255])
def test_marker_and_contour_stand_out_on_dark_and_bright_frames(grey_level: int) -> None:
    drawn = overlay(grey_level)
    picture = draw_overlay(drawn)
    layout = layout_of(drawn)
    across, down = (round(v) for v in layout.to_canvas(drawn.sites[0].point))
    around = picture[down - 18 : down + 19, across - 18 : across + 19].reshape(-1, 3).astype(int)
    brightness = around @ np.array([0.299, 0.587, 0.114])
    assert brightness.max() - brightness.min() > 200


def test_the_ruler_counts_millimetres_from_the_skin() -> None:
    picture = draw_overlay(overlay(skin_row=25, sites=()))
    layout = layout_of(overlay(skin_row=25))
    tick_column = layout.left - 18
    ticks = np.flatnonzero(where(picture, WHITE)[:, tick_column])
    ticks = ticks[(ticks >= layout.top) & (ticks <= layout.top + layout.height)]
    starts = ticks[np.diff(ticks, prepend=-9) > 1]
    per_10_mm = 10 / 0.2 * layout.magnification
    zero = layout.top + 25 * layout.magnification
    assert len(starts) == 3
    assert (starts - zero) / per_10_mm == pytest.approx(np.arange(3), abs=0.01)


def test_without_a_scale_there_is_no_ruler() -> None:
    assert "no scale" in overlay_svg(overlay(calibration=None))
    assert " mm<" not in overlay_svg(overlay(calibration=None, sites=()))


def test_the_frame_itself_is_shown_unchanged_where_nothing_is_drawn() -> None:
    rng = np.random.default_rng(3)
    grey = rng.integers(0, 256, (700, 900), dtype=np.uint8)
    drawn = overlay(grey=grey, muscle=None, sites=(), calibration=None)
    layout = layout_of(drawn)
    assert layout.magnification == 1.0
    part = draw_overlay(drawn)[layout.top : layout.top + 700, layout.left : layout.left + 900]
    assert np.array_equal(part, np.repeat(grey[:, :, None], 3, axis=2))


def test_small_frames_are_enlarged_until_the_words_fit() -> None:
    small = replace(overlay(), grey=np.zeros((60, 90), dtype=np.uint8), muscle=None, sites=())
    assert layout_of(small).magnification == 4.0
    assert draw_overlay(small).shape[1] >= 360


def test_the_png_is_the_picture() -> None:
    back = cv2.imdecode(np.frombuffer(overlay_png(overlay()), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(cv2.cvtColor(back, cv2.COLOR_BGR2RGB), draw_overlay(overlay()))


def test_the_svg_holds_the_same_sites_and_words_as_the_png() -> None:
    drawn = overlay()
    layout = layout_of(drawn)
    root = ElementTree.fromstring(overlay_svg(drawn))  # noqa: S314 -- our own document
    texts = {"".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {
        "Biceps brachii, left",
        "Żółć Łukasz",
        "PH-1",
        "SUGGESTION: CONFIRM BEFORE USE",
        "DEMONSTRATION: NOMINAL CALIBRATION",
        "18 mm · 20 U",
        "1",
        "2",
        "confidence 0.93",
    } <= texts
    centres = {
        (float(e.get("cx", "0")), float(e.get("cy", "0")))
        for e in root.iter("{http://www.w3.org/2000/svg}circle")
    }
    for site in drawn.sites:
        across, down = layout.to_canvas(site.point)
        assert any(abs(a - across) < 0.01 and abs(d - down) < 0.01 for a, d in centres)


def test_markup_in_words_is_inert() -> None:
    evil = "<script>alert(1)</script>\"'&\x00\x1b"
    for text in (
        overlay_svg(overlay(heading=(evil,), identifiers=(evil,), marks=(evil,))),
        drawing_svg(overlay(marks=(evil,))),
    ):
        assert "<script" not in text
        ElementTree.fromstring(text)  # noqa: S314 -- our own document


def test_the_drawing_alone_is_in_image_pixels_and_has_no_frame() -> None:
    text = drawing_svg(overlay())
    assert f'viewBox="0 0 {COLUMNS} {ROWS}"' in text
    assert "<image" not in text
    magnification = layout_of(overlay()).magnification
    scale_of = re.search(r"scale\(([\d.]+)\)", text)
    assert scale_of is not None
    assert float(scale_of[1]) * magnification == pytest.approx(1.0)
    assert f'cx="{70.25 * magnification:.3f}"' in text


def test_labels_that_find_no_room_are_listed_below_the_frame() -> None:
    sites = tuple(
        OverlaySite(
            number=n + 1,
            point=ImagePoint(column=60 + 12.0 * (n % 6), row=50 + 9.0 * (n // 6)),
            label=f"{10 + n} mm deep, 20 U of the product",
        )
        for n in range(24)
    )
    drawn = overlay(sites=sites)
    text = overlay_svg(drawn)
    for site in sites:
        assert site.label in text
    bottom = layout_of(drawn).top + layout_of(drawn).height
    listed = re.findall(r'y="([\d.]+)"[^>]*>\d+: ', text)
    assert listed
    assert all(bottom < float(y) < layout_of(drawn).canvas_height for y in listed)


def test_a_needle_that_meets_something_to_avoid_is_drawn_as_a_warning() -> None:
    entry = ImagePoint(column=60, row=2)
    clear = overlay(
        sites=(OverlaySite(number=1, point=ImagePoint(column=70, row=80), entry=entry),), marks=()
    )
    blocked = replace(clear, sites=(replace(clear.sites[0], clear=False),))
    assert where(draw_overlay(blocked), VERMILION).sum() > 50
    assert where(draw_overlay(clear), VERMILION).sum() == 0


def test_the_same_overlay_has_the_same_bytes() -> None:
    assert overlay_png(overlay()) == overlay_png(overlay())


def test_a_clip_s_overlay_moves_as_animated_webp() -> None:
    overlays = [
        overlay(sites=(OverlaySite(number=n, point=ImagePoint(column=60.0 + 20 * n, row=70)),))
        for n in (1, 2, 3)
    ]
    with Image.open(io.BytesIO(overlay_animation(overlays, frame_ms=50))) as moving:
        assert moving.n_frames == 3
        assert moving.size == (
            draw_overlay(overlays[0]).shape[1],
            draw_overlay(overlays[0]).shape[0],
        )
        assert moving.info["loop"] == 0


def test_an_animation_of_nothing_and_of_unlike_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a picture"):
        overlay_animation([])
    other = overlay(grey=np.zeros((40, 60), dtype=np.uint8), muscle=None, sites=())
    with pytest.raises(ValueError, match="one size"):
        overlay_animation([overlay(), other])

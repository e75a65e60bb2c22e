"""The picture of a plan: contour, numbered sites, millimetre scale, whose it is and what it is not.

Colours are Okabe and Ito's, told apart by colour-blind readers; lines have a dark rim so that
they stand on bright and on dark tissue; nerve and vessel carry a letter besides their colour.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
from PIL import Image

from imaging.arrays import BoolMask, ColourImage, GreyImage
from imaging.calibration import Calibration
from imaging.geometry import ImagePoint, TissuePoint
from imaging.lettering import fitted, text_width_px
from imaging.mask import smooth_contours
from imaging.measure import polygon_centroid
from imaging.scene import (
    Area,
    CanvasPoint,
    Colour,
    Disc,
    Line,
    Photo,
    Scene,
    Words,
    render,
    rounded_box,
    svg,
)

# Okabe and Ito, "Color Universal Design", 2008.
ORANGE: Colour = (230, 159, 0)
SKY_BLUE: Colour = (86, 180, 233)
YELLOW: Colour = (240, 228, 66)
VERMILION: Colour = (213, 94, 0)
BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)
GROUND: Colour = (14, 17, 22)
QUIET: Colour = (170, 178, 189)

MUSCLE_COLOUR, NERVE_COLOUR, VESSEL_COLOUR, SITE_COLOUR = SKY_BLUE, YELLOW, VERMILION, ORANGE

SMALLEST_PICTURE_WIDTH = 840
LARGEST_MAGNIFICATION = 4.0
MARGIN = 24
RULER_WIDTH = 66
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 22, 16, 14
SITE_RADIUS = 14.0
MARKS_HEIGHT = 34
ONE_MM = TissuePoint(lateral_mm=1.0, depth_mm=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlaySite:
    """A numbered site: its point, its words (depth, Units, mL), and where the needle enters.

    The way is not `clear` if it meets something that the needle must keep off.
    """

    number: int
    point: ImagePoint
    label: str = ""
    entry: ImagePoint | None = None
    clear: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Overlay:
    """All that one picture shows, in image pixels and words.

    Masks are (rows, columns) bool of the frame's size. `outline`, where an operator drew one,
    is shown instead of the muscle mask's border. `skin_row` is where the ruler's zero lies.
    `identifiers` are the patient's two where they are known; `marks` say what the picture is not.
    `layout`, where it is given, is kept to: of a clip whose pictures are all of one size.
    """

    grey: GreyImage
    muscle: BoolMask | None = None
    nerve: BoolMask | None = None
    vessel: BoolMask | None = None
    outline: tuple[ImagePoint, ...] | None = None
    sites: tuple[OverlaySite, ...] = ()
    calibration: Calibration | None = None
    skin_row: int = 0
    heading: tuple[str, ...] = ()
    identifiers: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    confidence: str | None = None
    layout: Layout | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the frame lies on the canvas; `to_canvas` is the only way from image to picture."""

    magnification: float
    left: int
    top: int
    width: int
    height: int
    canvas_width: int
    canvas_height: int

    def to_canvas(self, point: ImagePoint) -> CanvasPoint:
        """The canvas pixel of an image point."""
        return (
            self.left + point.column * self.magnification,
            self.top + point.row * self.magnification,
        )


def draw_overlay(overlay: Overlay) -> ColourImage:
    """The picture (height, width, 3) uint8 RGB, larger than the frame.

    `layout_of` says where the frame lies on it.
    """
    return render(compose(overlay))


def overlay_png(overlay: Overlay) -> bytes:
    """The picture as PNG."""
    picture = cv2.cvtColor(draw_overlay(overlay), cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".png", picture)
    if not done:  # pragma: no cover -- an encoder without memory
        raise MemoryError("the PNG encoder gave up")
    return bytes(data.tobytes())


def overlay_svg(overlay: Overlay) -> str:
    """The same picture as SVG, from the same shapes; the frame is embedded as PNG."""
    return svg(compose(overlay))


def overlay_animation(overlays: Iterable[Overlay], *, frame_ms: float = 40.0) -> bytes:
    """The pictures of a clip, one after the other for ever, as animated WebP.

    Pictures are drawn one at a time; the first one's size holds for all. Raises ValueError for
    none and for a frame of another size.
    """
    pictures = (Image.fromarray(draw_overlay(overlay)) for overlay in overlays)
    first = next(pictures, None)
    if first is None:
        raise ValueError("an animation needs a picture")
    buffer = io.BytesIO()
    first.save(
        buffer,
        format="WEBP",
        save_all=True,
        append_images=_of_size(pictures, first.size),
        duration=max(1, round(frame_ms)),
        loop=0,
        quality=80,
        method=0,
    )
    return buffer.getvalue()


def _of_size(pictures: Iterable[Image.Image], size: tuple[int, int]) -> Iterator[Image.Image]:
    for picture in pictures:
        if picture.size != size:
            raise ValueError("all frames of an animation must be of one size")
        yield picture


def drawing_svg(overlay: Overlay) -> str:
    """The drawing alone as SVG in image pixels (view box columns × rows), to lie over the frame.

    Contours, sites, needles and scale as on the picture, with the marks along the upper edge.
    """
    whole = layout_of(overlay)
    rows, columns = overlay.grey.shape
    layout = Layout(
        magnification=whole.magnification,
        left=0,
        top=0,
        width=whole.width,
        height=whole.height,
        canvas_width=whole.width,
        canvas_height=whole.height,
    )
    scene = Scene(width=columns, height=rows, ground=None, photo=None, title=_title(overlay))
    _frame_shapes(scene, layout, overlay)
    for index, mark in enumerate(overlay.marks):
        scene.shapes.append(
            Words(
                text=mark,
                at=(10.0, 22.0 + index * 20.0),
                size_px=TEXT_SIZE,
                colour=ORANGE,
                bold=True,
                halo=2,
            )
        )
    return svg(scene, magnification=1.0 / layout.magnification)


def _title(overlay: Overlay) -> str:
    return " · ".join((*overlay.heading, *overlay.marks)) or "Ultrasound frame"


def layout_of(overlay: Overlay) -> Layout:
    """The layout: a header, the marks, the frame with the ruler at its left, a footer."""
    if overlay.layout is not None:
        return overlay.layout
    rows, columns = overlay.grey.shape
    magnification = SMALLEST_PICTURE_WIDTH / columns
    magnification = min(LARGEST_MAGNIFICATION, max(1.0, math.ceil(magnification * 2) / 2))
    width, height = round(columns * magnification), round(rows * magnification)
    lines = max(len(overlay.heading), len(overlay.identifiers), 1)
    top = MARGIN + TITLE_SIZE + (lines - 1) * (TEXT_SIZE + 6) + 14
    top += MARKS_HEIGHT + 12 if overlay.marks else 0
    footer = 16 + TEXT_SIZE + MARGIN
    # Labels that find no room on the picture are listed below it.
    footer += (SMALL_SIZE + 6) * math.ceil(len(overlay.sites) / _per_row(overlay.sites, width))
    return Layout(
        magnification=magnification,
        left=MARGIN + RULER_WIDTH,
        top=top,
        width=width,
        height=height,
        canvas_width=width + 2 * MARGIN + RULER_WIDTH,
        canvas_height=top + height + footer,
    )


def common_layout(overlays: Iterable[Overlay]) -> Layout:
    """The layout with room for the header and the footer of each of these frames of one size."""
    layouts = [layout_of(overlay) for overlay in overlays]
    first = layouts[0]
    top = max(layout.top for layout in layouts)
    footer = max(layout.canvas_height - layout.top - layout.height for layout in layouts)
    return replace(first, top=top, canvas_height=top + first.height + footer)


def _list_entry(site: OverlaySite) -> str:
    return f"{site.number}: {site.label}"


def _list_column(sites: Sequence[OverlaySite]) -> float:
    """How wide the list's columns are: the longest entry and a gap."""
    return max((text_width_px(_list_entry(s), SMALL_SIZE) for s in sites), default=1.0) + 24


def _per_row(sites: Sequence[OverlaySite], width: int) -> int:
    return max(1, int(width // _list_column(sites)))


def compose(overlay: Overlay) -> Scene:
    """The picture as shapes."""
    layout = layout_of(overlay)
    scene = Scene(
        width=layout.canvas_width,
        height=layout.canvas_height,
        ground=GROUND,
        photo=Photo(
            pixels=overlay.grey,
            corner=(float(layout.left), float(layout.top)),
            magnification=layout.magnification,
        ),
        title=_title(overlay),
    )
    _header(scene, layout, overlay)
    _ruler(scene, layout, overlay)
    _frame_shapes(scene, layout, overlay)
    _footer(scene, layout, overlay)
    return scene


def _frame_shapes(scene: Scene, layout: Layout, overlay: Overlay) -> None:
    """What lies on the frame itself, in the order of drawing."""
    _structures(scene, layout, overlay)
    _scale_bar(scene, layout, overlay)
    for site in overlay.sites:
        if site.entry is None:
            continue
        way = (layout.to_canvas(site.entry), layout.to_canvas(site.point))
        colour = WHITE if site.clear else VERMILION
        scene.shapes.append(Line(points=way, colour=colour, width=2, halo=1.5, dash=(9, 6)))
    _sites(scene, layout, overlay)


def _header(scene: Scene, layout: Layout, overlay: Overlay) -> None:
    right = layout.canvas_width - MARGIN
    wide = layout.canvas_width - 2 * MARGIN
    for index, line in enumerate(overlay.heading):
        size = TITLE_SIZE if index == 0 else TEXT_SIZE
        scene.shapes.append(
            Words(
                text=fitted(line, size, wide * 0.62, bold=index == 0),
                at=(MARGIN, MARGIN + TITLE_SIZE - 4 + index * (TEXT_SIZE + 6)),
                size_px=size,
                colour=WHITE if index == 0 else QUIET,
                bold=index == 0,
            )
        )
    for index, line in enumerate(overlay.identifiers):
        scene.shapes.append(
            Words(
                text=fitted(line, TEXT_SIZE, wide * 0.36),
                at=(right, MARGIN + TITLE_SIZE - 4 + index * (TEXT_SIZE + 6)),
                size_px=TEXT_SIZE,
                colour=WHITE if index == 0 else QUIET,
                anchor="end",
            )
        )
    _marks(scene, layout, overlay.marks)


def _marks(scene: Scene, layout: Layout, marks: Sequence[str]) -> None:
    """A strip of solid labels right above the frame: the first in orange, warnings in vermilion."""
    at = float(MARGIN)
    top = layout.top - MARKS_HEIGHT - 12.0
    for index, mark in enumerate(marks):
        room = layout.canvas_width - MARGIN - at
        text = fitted(mark, TEXT_SIZE, room - 28, bold=True)
        width = text_width_px(text, TEXT_SIZE, bold=True) + 28
        ground, ink = (ORANGE, BLACK) if index == 0 else (VERMILION, WHITE)
        box = rounded_box(at, top, width, MARKS_HEIGHT, 6)
        scene.shapes.append(Area(rings=(box,), colour=ground))
        scene.shapes.append(
            Words(text=text, at=(at + 14, top + 23), size_px=TEXT_SIZE, colour=ink, bold=True)
        )
        at += width + 10


def _ruler(scene: Scene, layout: Layout, overlay: Overlay) -> None:
    """Depth in millimetres along the frame's left side, zero at the skin line."""
    edge = layout.left - 10.0
    if overlay.calibration is None:
        scene.shapes.append(
            Words(
                text="no scale",
                at=(layout.left - 8.0, layout.top + SMALL_SIZE),
                size_px=12,
                colour=QUIET,
                anchor="end",
            )
        )
        return
    per_mm = layout.magnification * overlay.calibration.to_image(ONE_MM).row
    zero = layout.top + overlay.skin_row * layout.magnification
    bottom = layout.top + layout.height
    step = 1 if per_mm >= 4 else 5 if per_mm >= 1 else 10
    numbered = 10 if per_mm >= 2.4 else 20 if per_mm >= 1 else 50
    scene.shapes.append(
        Line(points=((edge, zero), (edge, bottom)), colour=QUIET, width=1, closed=False)
    )
    deepest = int((bottom - zero) / per_mm)
    for depth in range(0, deepest + 1, step):
        down = zero + depth * per_mm
        length = 12 if depth % 10 == 0 else 8 if depth % 5 == 0 else 4
        scene.shapes.append(
            Line(
                points=((edge - length, down), (edge, down)),
                colour=WHITE if depth % 10 == 0 else QUIET,
                width=2 if depth % 10 == 0 else 1,
            )
        )
        if depth % numbered == 0:
            scene.shapes.append(
                Words(
                    text=f"{depth}",
                    at=(edge - 17, down + 5),
                    size_px=SMALL_SIZE,
                    colour=WHITE,
                    anchor="end",
                )
            )
    scene.shapes.append(
        Words(
            text="mm",
            at=(edge + 2, bottom + SMALL_SIZE + 4),
            size_px=SMALL_SIZE,
            colour=QUIET,
            anchor="end",
        )
    )


def _structures(scene: Scene, layout: Layout, overlay: Overlay) -> None:
    muscle = smooth_contours(overlay.muscle)
    if overlay.outline is not None:
        muscle = (overlay.outline,)
    _structure(scene, layout, muscle, MUSCLE_COLOUR, opacity=0.10, letter=None)
    _structure(
        scene, layout, smooth_contours(overlay.vessel), VESSEL_COLOUR, opacity=0.35, letter="V"
    )
    _structure(
        scene, layout, smooth_contours(overlay.nerve), NERVE_COLOUR, opacity=0.30, letter="N"
    )


def _structure(
    scene: Scene,
    layout: Layout,
    borders: Sequence[Sequence[ImagePoint]],
    colour: Colour,
    *,
    opacity: float,
    letter: str | None,
) -> None:
    for border in borders:
        ring = tuple(layout.to_canvas(point) for point in border)
        scene.shapes.append(Area(rings=(ring,), colour=colour, opacity=opacity))
        scene.shapes.append(Line(points=ring, colour=colour, width=2, closed=True, halo=1.5))
        if letter is not None:
            across, down = layout.to_canvas(polygon_centroid(border))
            scene.shapes.append(
                Words(
                    text=letter,
                    at=(across, down + 5),
                    size_px=SMALL_SIZE,
                    colour=WHITE,
                    bold=True,
                    anchor="middle",
                    halo=2,
                )
            )


def _scale_bar(scene: Scene, layout: Layout, overlay: Overlay) -> None:
    """A bar of 10 mm across (5 or 20 where that fits better) in the frame's lower right corner."""
    if overlay.calibration is None:
        return
    per_mm = layout.magnification * overlay.calibration.to_image(ONE_MM).column
    length_mm = next((mm for mm in (50, 20, 10, 5) if mm * per_mm <= layout.width * 0.25), 2)
    right, down = layout.left + layout.width - 18.0, layout.top + layout.height - 18.0
    left = right - length_mm * per_mm
    for bar in (
        ((left, down), (right, down)),
        ((left, down - 6), (left, down + 6)),
        ((right, down - 6), (right, down + 6)),
    ):
        scene.shapes.append(Line(points=bar, colour=WHITE, width=2, halo=1.5))
    scene.shapes.append(
        Words(
            text=f"{length_mm} mm",
            at=((left + right) / 2, down - 9),
            size_px=SMALL_SIZE,
            colour=WHITE,
            anchor="middle",
            halo=2,
        )
    )


def _sites(scene: Scene, layout: Layout, overlay: Overlay) -> None:
    centres = [layout.to_canvas(site.point) for site in overlay.sites]
    taken = [_around(centre) for centre in centres]
    for structure in (overlay.nerve, overlay.vessel):
        taken += [_box_of(border, layout) for border in smooth_contours(structure)]
    listed: list[OverlaySite] = []
    for site, centre in zip(overlay.sites, centres, strict=True):
        if site.label:
            box = _place_label(site.label, centre, layout, taken)
            if box is None:
                listed.append(site)
            else:
                taken.append(box)
                _label(scene, site.label, box)
        for radius, colour in (
            (SITE_RADIUS + 2.5, BLACK),
            (SITE_RADIUS + 1, WHITE),
            (SITE_RADIUS - 1, SITE_COLOUR),
        ):
            scene.shapes.append(Disc(centre=centre, radius=radius, colour=colour))
        scene.shapes.append(
            Words(
                text=f"{site.number}",
                at=(centre[0], centre[1] + 6),
                size_px=TEXT_SIZE,
                colour=BLACK,
                bold=True,
                anchor="middle",
            )
        )
    per_row, column_width = _per_row(overlay.sites, layout.width), _list_column(overlay.sites)
    for index, site in enumerate(listed):
        row, column = divmod(index, per_row)
        scene.shapes.append(
            Words(
                text=fitted(_list_entry(site), SMALL_SIZE, layout.width),
                at=(
                    layout.left + 8 + column * column_width,
                    layout.top + layout.height + 20 + TEXT_SIZE + (row + 1) * (SMALL_SIZE + 6),
                ),
                size_px=SMALL_SIZE,
                colour=WHITE,
            )
        )


_Box = tuple[float, float, float, float]
"""left, top, right, bottom"""


def _around(centre: CanvasPoint) -> _Box:
    reach = SITE_RADIUS + 3
    return (centre[0] - reach, centre[1] - reach, centre[0] + reach, centre[1] + reach)


def _box_of(border: Sequence[ImagePoint], layout: Layout) -> _Box:
    points = [layout.to_canvas(point) for point in border]
    across, down = [x for x, _ in points], [y for _, y in points]
    return (min(across), min(down), max(across), max(down))


def _place_label(
    label: str, centre: CanvasPoint, layout: Layout, taken: Sequence[_Box]
) -> _Box | None:
    """A free box beside the site: right, left, below, above, then the corners; None if none is."""
    width, height = text_width_px(label, SMALL_SIZE) + 14, SMALL_SIZE + 10.0
    gap = SITE_RADIUS + 5
    across, down = centre
    candidates = (
        (across + gap, down - height / 2),
        (across - gap - width, down - height / 2),
        (across - width / 2, down + gap),
        (across - width / 2, down - gap - height),
        (across + gap * 0.6, down + gap * 0.8),
        (across + gap * 0.6, down - gap * 0.8 - height),
        (across - gap * 0.6 - width, down + gap * 0.8),
        (across - gap * 0.6 - width, down - gap * 0.8 - height),
    )
    for left, top in candidates:
        box = (left, top, left + width, top + height)
        inside = (
            box[0] >= layout.left + 4
            and box[1] >= layout.top + 4
            and box[2] <= layout.left + layout.width - 4
            and box[3] <= layout.top + layout.height - 4
        )
        if inside and not any(_meet(box, other) for other in taken):
            return box
    return None


def _meet(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _label(scene: Scene, text: str, box: _Box) -> None:
    left, top, right, bottom = box
    ground = rounded_box(left, top, right - left, bottom - top, 6)
    scene.shapes.append(Area(rings=(ground,), colour=BLACK, opacity=0.78))
    scene.shapes.append(
        Words(text=text, at=(left + 7, bottom - 8), size_px=SMALL_SIZE, colour=WHITE)
    )


def _footer(scene: Scene, layout: Layout, overlay: Overlay) -> None:
    """The legend of what is on the picture, and the confidence."""
    down = layout.top + layout.height + 16.0 + TEXT_SIZE - 3
    at = float(layout.left) + 8
    legend = [
        (colour, text)
        for shown, colour, text in (
            (overlay.muscle is not None and bool(overlay.muscle.any()), MUSCLE_COLOUR, "muscle"),
            (overlay.nerve is not None and bool(overlay.nerve.any()), NERVE_COLOUR, "N nerve"),
            (
                overlay.vessel is not None and bool(overlay.vessel.any()),
                VESSEL_COLOUR,
                "V vessel",
            ),
            (bool(overlay.sites), SITE_COLOUR, "injection site"),
        )
        if shown
    ]
    for colour, text in legend:
        if colour == SITE_COLOUR:
            scene.shapes.append(Disc(centre=(at + 8, down - 5), radius=7, colour=colour))
        else:
            scene.shapes.append(
                Line(points=((at, down - 5), (at + 18, down - 5)), colour=colour, width=3)
            )
        scene.shapes.append(Words(text=text, at=(at + 26, down), size_px=SMALL_SIZE, colour=QUIET))
        at += 26 + text_width_px(text, SMALL_SIZE) + 24
    if overlay.confidence:
        right = layout.left + layout.width
        scene.shapes.append(
            Words(
                text=fitted(overlay.confidence, SMALL_SIZE, right - at),
                at=(float(right), down),
                size_px=SMALL_SIZE,
                colour=QUIET,
                anchor="end",
            )
        )

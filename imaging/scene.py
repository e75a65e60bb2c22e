"""A picture as a list of shapes in canvas pixels: drawn once, rendered as PNG or as SVG."""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from xml.sax.saxutils import escape, quoteattr

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from imaging.arrays import ColourImage, GreyImage
from imaging.lettering import font

Colour: TypeAlias = tuple[int, int, int]
CanvasPoint: TypeAlias = tuple[float, float]
"""(across, down) in canvas pixels from the top-left corner."""

SUBPIXEL_BITS = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Photo:
    """A grey picture (rows, columns) uint8 put on the canvas at a magnification."""

    pixels: GreyImage
    corner: CanvasPoint
    magnification: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line through points, open or closed; `halo` is the width of its dark rim, 0 for none."""

    points: tuple[CanvasPoint, ...]
    colour: Colour
    width: float
    closed: bool = False
    halo: float = 0.0
    dash: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """A filled shape of one or more closed rings (even-odd), `opacity` 0 to 1."""

    rings: tuple[tuple[CanvasPoint, ...], ...]
    colour: Colour
    opacity: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Disc:
    """A filled circle."""

    centre: CanvasPoint
    radius: float
    colour: Colour


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """One line of text; `at` is its baseline's left end, middle or right end by `anchor`."""

    text: str
    at: CanvasPoint
    size_px: int
    colour: Colour
    bold: bool = False
    anchor: Literal["start", "middle", "end"] = "start"
    halo: float = 0.0


Shape: TypeAlias = Line | Area | Disc | Words
HALO: Colour = (0, 0, 0)


@dataclass(slots=True, kw_only=True, eq=False)
class Scene:
    """A canvas with a photo and shapes on it, in drawing order; words always lie on top.

    Without a ground and a photo it is a drawing to lie over something else.
    """

    width: int
    height: int
    ground: Colour | None
    photo: Photo | None
    title: str
    shapes: list[Shape] = field(default_factory=list)


def rounded_box(
    left: float, top: float, width: float, height: float, radius: float
) -> tuple[CanvasPoint, ...]:
    """The outline of a box with round corners."""
    radius = min(radius, width / 2, height / 2)
    points: list[CanvasPoint] = []
    for across, down, start in (
        (left + width - radius, top + radius, -0.5),
        (left + width - radius, top + height - radius, 0.0),
        (left + radius, top + height - radius, 0.5),
        (left + radius, top + radius, 1.0),
    ):
        for step in range(7):
            turn = (start + step / 12.0) * math.pi
            points.append((across + radius * math.cos(turn), down + radius * math.sin(turn)))
    return tuple(points)


def render(scene: Scene) -> ColourImage:
    """The scene as (height, width, 3) uint8 RGB."""
    canvas: NDArray[np.uint8] = np.empty((scene.height, scene.width, 3), dtype=np.uint8)
    canvas[:] = scene.ground or HALO
    if scene.photo is not None:
        _lay_photo(canvas, scene.photo)
    for shape in scene.shapes:
        if isinstance(shape, Line):
            _draw_line(canvas, shape)
        elif isinstance(shape, Area):
            _fill(canvas, shape)
        elif isinstance(shape, Disc):
            _draw_disc(canvas, shape)
    image = Image.fromarray(canvas)
    pen = ImageDraw.Draw(image)
    for shape in scene.shapes:
        if isinstance(shape, Words):
            pen.text(
                shape.at,
                shape.text,
                fill=shape.colour,
                font=font(shape.size_px, bold=shape.bold),
                anchor={"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor],
                stroke_width=round(shape.halo),
                stroke_fill=HALO,
            )
    return np.asarray(image)


def _lay_photo(canvas: NDArray[np.uint8], photo: Photo) -> None:
    rows, columns = photo.pixels.shape
    size = round(columns * photo.magnification), round(rows * photo.magnification)
    enlarged = photo.pixels
    if size != (columns, rows):
        enlarged = cv2.resize(photo.pixels, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    left, top = (round(v) for v in photo.corner)
    canvas[top : top + size[1], left : left + size[0]] = enlarged[:, :, None]


def _fixed(points: Sequence[CanvasPoint]) -> NDArray[np.int32]:
    """Points for cv2 in fixed point: its pixel centres are whole numbers, ours are halves."""
    array = (np.array(points, dtype=np.float64) - 0.5) * 2**SUBPIXEL_BITS
    fixed: NDArray[np.int32] = np.rint(array).astype(np.int32).reshape(-1, 1, 2)
    return fixed


def _draw_line(canvas: NDArray[np.uint8], line: Line) -> None:
    pieces = _dashes(line) if line.dash else [line.points]
    passes = [(line.colour, line.width)]
    if line.halo:
        passes.insert(0, (HALO, line.width + 2 * line.halo))
    for colour, width in passes:
        cv2.polylines(
            canvas,
            [_fixed(piece) for piece in pieces],
            line.closed and line.dash is None,
            colour,
            max(1, round(width)),
            cv2.LINE_AA,
            SUBPIXEL_BITS,
        )


def _dashes(line: Line) -> list[tuple[CanvasPoint, ...]]:
    """The line cut into dashes along its length."""
    on, off = line.dash or (1.0, 0.0)
    points = [*line.points, line.points[0]] if line.closed else list(line.points)
    pieces: list[tuple[CanvasPoint, ...]] = []
    walked = 0.0
    for (ax, ay), (bx, by) in itertools.pairwise(points):
        length = math.hypot(bx - ax, by - ay)
        at = 0.0
        while at < length:
            phase = (walked + at) % (on + off)
            step = min(length - at, (on if phase < on else on + off) - phase + 1e-9)
            if phase < on:
                ends = (at / length, (at + step) / length)
                pieces.append(tuple((ax + (bx - ax) * t, ay + (by - ay) * t) for t in ends))
            at += step
        walked += length
    return pieces


def _fill(canvas: NDArray[np.uint8], area: Area) -> None:
    everything = np.array([point for ring in area.rings for point in ring])
    height, width = canvas.shape[:2]
    left, top = np.clip(np.floor(everything.min(axis=0)).astype(int) - 1, 0, (width, height))
    right, bottom = np.clip(np.ceil(everything.max(axis=0)).astype(int) + 1, 0, (width, height))
    if right <= left or bottom <= top:
        return
    cover = np.zeros((bottom - top, right - left), dtype=np.uint8)
    rings = [_fixed([(x - left, y - top) for x, y in ring]) for ring in area.rings]
    cv2.fillPoly(cover, rings, 255, cv2.LINE_AA, SUBPIXEL_BITS)
    weight = cover[:, :, None].astype(np.float32) * (area.opacity / 255.0)
    patch = canvas[top:bottom, left:right]
    blended = patch * (1.0 - weight) + np.array(area.colour, dtype=np.float32) * weight
    canvas[top:bottom, left:right] = np.rint(blended).astype(np.uint8)


def _draw_disc(canvas: NDArray[np.uint8], disc: Disc) -> None:
    across, down = _fixed([disc.centre])[0, 0].tolist()
    radius = round(disc.radius * 2**SUBPIXEL_BITS)
    cv2.circle(canvas, (across, down), radius, disc.colour, -1, cv2.LINE_AA, SUBPIXEL_BITS)


def svg(scene: Scene, *, magnification: float = 1.0) -> str:
    """The scene as a standalone SVG document, its shapes magnified; every text in it is inert."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {scene.width} {scene.height}" '
        f'width="{scene.width}" height="{scene.height}" role="img" '
        f"font-family=\"'DejaVu Sans', Verdana, sans-serif\">",
        f"<title>{_inert(scene.title)}</title>",
    ]
    if scene.ground is not None:
        parts.append(f'<rect width="100%" height="100%" fill="{_hex(scene.ground)}"/>')
    if scene.photo is not None:
        parts.append(_svg_photo(scene.photo))
    parts += [
        f'<g transform="scale({magnification:.8g})">' if magnification != 1.0 else "<g>",
        *(_svg_shape(shape) for shape in scene.shapes if not isinstance(shape, Words)),
        *(_svg_words(shape) for shape in scene.shapes if isinstance(shape, Words)),
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _svg_photo(photo: Photo) -> str:
    rows, columns = photo.pixels.shape
    _, data = cv2.imencode(".png", photo.pixels)
    encoded = base64.b64encode(data.tobytes()).decode("ascii")
    left, top = photo.corner
    return (
        f'<image x="{left:g}" y="{top:g}" width="{columns * photo.magnification:g}" '
        f'height="{rows * photo.magnification:g}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{encoded}"/>'
    )


def _svg_shape(shape: Line | Area | Disc) -> str:
    if isinstance(shape, Disc):
        (x, y), colour = shape.centre, _hex(shape.colour)
        return f'<circle cx="{x:.3f}" cy="{y:.3f}" r="{shape.radius:g}" fill="{colour}"/>'
    if isinstance(shape, Area):
        way = " ".join(_way(ring, closed=True) for ring in shape.rings)
        return (
            f'<path d="{way}" fill="{_hex(shape.colour)}" fill-rule="evenodd" '
            f'fill-opacity="{shape.opacity:g}"/>'
        )
    way = _way(shape.points, closed=shape.closed)
    dash = f' stroke-dasharray="{shape.dash[0]:g} {shape.dash[1]:g}"' if shape.dash else ""
    common = f'd="{way}" fill="none" stroke-linejoin="round" stroke-linecap="round"{dash}'
    line = f'<path {common} stroke="{_hex(shape.colour)}" stroke-width="{shape.width:g}"/>'
    if not shape.halo:
        return line
    rim = f'<path {common} stroke="{_hex(HALO)}" stroke-width="{shape.width + 2 * shape.halo:g}"/>'
    return rim + line


def _svg_words(words: Words) -> str:
    weight = ' font-weight="bold"' if words.bold else ""
    rim = (
        f' stroke="{_hex(HALO)}" stroke-width="{2 * words.halo:g}" paint-order="stroke"'
        ' stroke-linejoin="round"'
        if words.halo
        else ""
    )
    return (
        f'<text x="{words.at[0]:.2f}" y="{words.at[1]:.2f}" font-size="{words.size_px}" '
        f'fill="{_hex(words.colour)}" text-anchor={quoteattr(words.anchor)}{weight}{rim}>'
        f"{_inert(words.text)}</text>"
    )


def _way(points: Sequence[CanvasPoint], *, closed: bool) -> str:
    steps = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
    return f"M{steps}" + ("Z" if closed else "")


def _inert(text: str) -> str:
    """The text with markup escaped and control characters, which XML forbids, left out."""
    return escape("".join(ch for ch in text if ch >= " " and not "\ud800" <= ch <= "\udfff"))


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)

"""One random view of a sample, with its prompts: what the network sees of an image in a step.

Variety is what carries a net to other scanners: the geometry bends (mirror, tilt, stretch,
panorama), layers change (a subcutaneous fat layer is put on top), and the scanner changes
(gain over depth, shadows, speckle, blur, noise floor, burned-in marks).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.arrays import GreyImage
from models.channels import VIEW_OUTPUTS
from models.training.sample import Sample, Target

_Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One training example: input planes and what is known about each output."""

    image: GreyImage
    """(size, size) uint8."""
    labels: GreyImage
    """(4, size / 2, size / 2) uint8 0 to 255: target, nerve, vessel, aponeurosis."""
    clicks: tuple[tuple[float, float, bool], ...]
    """(column, row, positive) in pixels of the image."""
    box: tuple[float, float, float, float] | None
    """(column0, row0, column1, row1)."""
    asked: str | None
    """The view that the operator named."""
    known: _Float32
    """(4,) float32: the weight of each output's loss; 0 where nothing is known."""
    view: int
    """Index into `VIEW_OUTPUTS`."""
    not_muscle: float
    """1 where no muscle can be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentSettings:
    """How strong the variation is; `none()` keeps only the resampling."""

    scale_log2: float = 0.65
    stretch_log2: float = 0.35
    rotation_degrees: float = 9.0
    panorama: float = 0.1
    bend: float = 0.4
    fat: float = 0.25
    intensity: float = 0.75


Random = np.random.Generator
_BORDER: Final = cv2.BORDER_CONSTANT


def draw_example(
    sample: Sample,
    target: Target | None,
    *,
    size: int,
    prompted: bool,
    random: Random,
    settings: AugmentSettings,
    donor: Sample | None = None,
) -> Draw:
    """A random view of `sample` with `target` as the muscle asked for.

    From a `donor` a nerve or a vessel is put into the picture.
    """
    source = sample.image.shape[0]
    stack = _label_stack(sample, target)
    shown = sample.image
    if donor is not None:
        shown = _graft(shown, stack, donor, random)
    for attempt in range(6):
        columns, rows = _geometry(source, size, sample.view, target, random, settings, attempt)
        image = cv2.remap(shown, columns, rows, cv2.INTER_LINEAR, borderMode=_BORDER)
        labels = cv2.remap(stack, columns, rows, cv2.INTER_LINEAR, borderMode=_BORDER)
        inside = np.count_nonzero(labels[..., 0] > 127)
        if target is None or inside > 0.006 * size * size:
            break
    grey = np.asarray(image, np.uint8)
    field = np.asarray(labels, np.uint8)
    if (
        sample.view == "long_axis"
        and target is not None
        and target.automatic
        and (random.random() < settings.fat)
    ):
        grey = _put_fat_on_top(grey, field[..., 0], random)
    if settings.intensity > 0:
        grey = vary_intensity(grey, random, settings.intensity)
    mask = field[..., 0] > 127
    clicks: list[tuple[float, float, bool]] = []
    box = None
    if prompted and mask.any():
        clicks = sample_clicks(mask, random)
        if random.random() < 0.15:
            box = _jittered_box(mask, random)
            if random.random() < 0.5:
                clicks = []
    view = sample.view if random.random() < 0.4 else None
    known = np.array(
        [
            0.0 if target is None else target.weight,
            1.0 if sample.structures is not None else 0.1,
            1.0 if sample.structures is not None else 0.1,
            1.0 if sample.aponeurosis is not None else 0.0,
        ],
        np.float32,
    )
    if not prompted and target is not None and sample.view == "short_axis":
        # Which muscle is the largest whole one is often unsure: not all are outlined.
        known[0] *= 0.5
    return Draw(
        image=grey,
        labels=_halved(field),
        clicks=tuple(clicks),
        box=box,
        asked=view,
        known=known,
        view=VIEW_OUTPUTS.index(sample.view),
        not_muscle=0.0,
    )


def _halved(field: GreyImage) -> GreyImage:
    # The labels at the size of the training logits, planes first.
    size = field.shape[0] // 2
    half = np.asarray(cv2.resize(field, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
    return np.ascontiguousarray(half.transpose(2, 0, 1))


def plain_example(image: GreyImage, *, random: Random, size: int) -> Draw:
    """A negative: an image without muscle, sometimes with a click that must not matter."""
    grey = np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
    if random.random() < 0.5:
        grey = np.ascontiguousarray(grey[:, ::-1])
    if random.random() < 0.5:
        grey = vary_intensity(grey, random, 0.6)
    clicks = []
    if random.random() < 0.5:
        clicks = [(float(random.uniform(0, size)), float(random.uniform(0, size)), True)]
    view = str(random.choice(VIEW_OUTPUTS[:2])) if random.random() < 0.3 else None
    return Draw(
        image=grey,
        labels=np.zeros((4, size // 2, size // 2), np.uint8),
        clicks=tuple(clicks),
        box=None,
        asked=view,
        known=np.array([0.3, 0.3, 0.3, 0.3], np.float32),
        view=VIEW_OUTPUTS.index("other"),
        not_muscle=1.0,
    )


def _label_stack(sample: Sample, target: Target | None) -> GreyImage:
    empty = np.zeros_like(sample.image)
    nerve = vessel = empty
    if sample.structures is not None:
        nerve = np.where(sample.structures == 1, 255, 0).astype(np.uint8)
        vessel = np.where(sample.structures == 2, 255, 0).astype(np.uint8)
    lines = empty if sample.aponeurosis is None else sample.aponeurosis
    mask = empty if target is None else target.mask
    return np.ascontiguousarray(np.stack([mask, nerve, vessel, lines], axis=-1))


def _graft(image: GreyImage, stack: GreyImage, donor: Sample, random: Random) -> GreyImage:
    # One nerve or vessel of the donor with its rim, at about its depth, where nothing lies yet.
    # The labels in `stack` follow; the image comes back anew.
    if donor.structures is None:
        return image
    count, parts, stats, _ = cv2.connectedComponentsWithStats(
        (donor.structures > 0).astype(np.uint8)
    )
    large = [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] > 60]
    if not large:
        return image
    part = int(random.choice(large))
    left, top, width, height = (int(value) for value in stats[part][:4])
    rim = 10
    box = (
        slice(max(0, top - rim), min(image.shape[0], top + height + rim)),
        slice(max(0, left - rim), min(image.shape[1], left + width + rim)),
    )
    own = np.asarray(parts[box] == part)
    kind = int(donor.structures[box][own][0])
    patch = donor.image[box].astype(np.float32)
    if random.random() < 0.5:
        own, patch = own[:, ::-1], patch[:, ::-1]
    rows, columns = own.shape
    for _ in range(8):
        row = int(np.clip(box[0].start + random.normal() * 40, 0, image.shape[0] - rows))
        column = int(random.integers(0, image.shape[1] - columns + 1))
        there = (slice(row, row + rows), slice(column, column + columns))
        ground = image[there].astype(np.float32)
        if stack[there][..., 1:3].any() or float(np.mean(ground > 0)) < 0.9:
            continue
        soft = cv2.GaussianBlur(
            np.asarray(cv2.dilate(own.astype(np.uint8), np.ones((9, 9), np.uint8)), np.float32),
            (0, 0),
            2.5,
        )
        outside = ~own
        fit = (float(ground[outside].mean()) + 4.0) / (float(patch[outside].mean()) + 4.0)
        mixed = ground * (1.0 - soft) + patch * float(np.clip(fit, 0.5, 2.0)) * soft
        grown = image.copy()
        grown[there] = np.clip(mixed, 0, 255).astype(np.uint8)
        labels = stack[there]
        labels[own, 0] = 0
        labels[own, kind] = 255
        return grown
    return image


def _geometry(
    source: int,
    size: int,
    view: str,
    target: Target | None,
    random: Random,
    settings: AugmentSettings,
    attempt: int,
) -> tuple[_Float32, _Float32]:
    # Maps of source columns and rows for each output pixel: one resampling for all of it.
    calm = 0.6**attempt
    unit = (np.arange(size, dtype=np.float32) + 0.5) / size * 2.0 - 1.0
    across: _Float32
    down: _Float32
    across, down = np.meshgrid(unit, unit)
    if random.random() < settings.panorama * (2.0 if view == "short_axis" else 0.6):
        across, down = _panorama(across, down, random)
    scale = 2.0 ** (random.uniform(-0.75, 1.1) * settings.scale_log2 * calm)
    stretch = 2.0 ** (random.normal() * settings.stretch_log2 * 0.6 * calm)
    angle = np.deg2rad(random.normal() * settings.rotation_degrees * calm)
    zoom_across, zoom_down = 1.0 / (scale * np.sqrt(stretch)), np.sqrt(stretch) / scale
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    turned_across = cosine * across - sine * down
    turned_down = sine * across + cosine * down
    u = turned_across * np.float32(zoom_across)
    v = turned_down * np.float32(zoom_down)
    if random.random() < settings.bend:
        amplitude = random.normal() * 0.08 * calm
        phase, waves = random.uniform(0, 6.28), random.uniform(0.5, 2.5)
        v = v + np.float32(amplitude) * np.sin(np.float32(waves) * u * 1.6 + np.float32(phase))
        amplitude = random.normal() * 0.05 * calm
        phase, waves = random.uniform(0, 6.28), random.uniform(0.5, 2.5)
        u = u + np.float32(amplitude) * np.sin(np.float32(waves) * v * 1.6 + np.float32(phase))
    # A zoomed-in view looks anywhere in the image, a zoomed-out one keeps the image in view.
    room_across, room_down = abs(1.0 - zoom_across), abs(1.0 - zoom_down)
    u = u + np.float32(random.uniform(-1, 1) * room_across + random.normal() * 0.08 * calm)
    shift_down = random.uniform(-1, 1) * room_down + random.normal() * 0.08 * calm
    if view == "long_axis" and zoom_down < 1.0 and random.random() < 0.7:
        # Zoomed in by depth, most scanners still show the skin at the top.
        shift_down = -room_down + abs(random.normal()) * 0.05
    v = v + np.float32(shift_down)
    if random.random() < 0.5:
        u = -u
    columns = (u + 1.0) * (0.5 * source) - 0.5
    rows = (v + 1.0) * (0.5 * source) - 0.5
    return columns.astype(np.float32), rows.astype(np.float32)


def _panorama(across: _Float32, down: _Float32, random: Random) -> tuple[_Float32, _Float32]:
    # The flat picture bent to a fan, as a sweep around a limb or a curved probe shows it.
    half_angle = random.uniform(0.35, 1.5)
    inner = random.uniform(0.15, 0.6)
    radius_rows = random.uniform(0.8, 1.3)
    centre = radius_rows + random.uniform(-0.1, 0.3)
    convex = random.random() < 0.75
    vertical = (down + 1.0) * 0.5 if convex else (1.0 - down) * 0.5
    reach = max(np.sin(min(half_angle, np.pi / 2)), 0.3)
    side = across * np.float32(reach * 1.05)
    below = centre - vertical * np.float32(1.25)
    radius = np.hypot(side, below)
    theta = np.arctan2(side, below)
    depth = (np.float32(centre) - radius) / np.float32(centre * (1.0 - inner))
    if not convex:
        depth = 1.0 - depth
    return (
        (theta / np.float32(half_angle)).astype(np.float32),
        (depth * 2.0 - 1.0).astype(np.float32),
    )


def _smooth_noise(shape: tuple[int, int], grid: tuple[int, int], random: Random) -> _Float32:
    coarse = random.normal(size=grid).astype(np.float32)
    resized = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(resized, np.float32)


def fat_texture(rows: int, columns: int, random: Random) -> _Float32:
    """(rows, columns) float32 0 to 255: a made-up fat layer, dark lobules in bright septa."""
    base = random.uniform(25, 120)
    field = base * (1.0 + 0.25 * _smooth_noise((rows, columns), (4, 5), random))
    field += base * 0.5 * np.abs(_smooth_noise((rows, columns), (max(3, rows // 5), 6), random))
    position = np.arange(rows, dtype=np.float32)[:, None]
    for _ in range(int(random.integers(0, 2 + rows // 12))):
        height = random.uniform(0, rows)
        slope = random.normal() * 0.06
        wave = _smooth_noise((1, columns), (1, 6), random) * random.uniform(1, 6)
        centre = height + slope * np.arange(columns, dtype=np.float32)[None, :] + wave
        thick = random.uniform(0.7, 2.2)
        strength = random.uniform(20, 130) * np.clip(
            0.6 + 0.6 * _smooth_noise((1, columns), (1, 7), random), 0, 1
        )
        field += strength * np.exp(-(((position - centre) / thick) ** 2))
    grain = _smooth_noise((rows, columns), (rows // 2 + 1, columns // 3 + 1), random)
    field *= np.exp(0.3 * grain)
    skin = random.uniform(2, 7)
    field += random.uniform(40, 130) * np.exp(-((position / skin) ** 2))
    return np.asarray(np.clip(field, 0, 255), np.float32)


def _put_fat_on_top(grey: GreyImage, target: GreyImage, random: Random) -> GreyImage:
    # Everything above the belly's upper aponeurosis becomes fat, where there is room for it.
    size = grey.shape[0]
    inside = target > 127
    has = inside.any(0)
    if np.count_nonzero(has) < 0.5 * size:
        return grey
    top = np.where(has, np.argmax(inside, axis=0), -1).astype(np.float32)
    columns = np.arange(size)
    top = np.interp(columns, columns[has], top[has]).astype(np.float32)
    top = np.asarray(cv2.blur(top[None, :], (15, 1))[0], np.float32)
    margin = random.uniform(5, 11) * size / 256
    limit = top - margin
    if float(np.median(limit)) < 0.05 * size:
        return grey
    fat = fat_texture(size, size, random)
    rows = np.arange(size, dtype=np.float32)[:, None]
    steepness = random.uniform(0.8, 2.0)
    blend = 1.0 / (1.0 + np.exp(np.clip((rows - limit[None, :]) / steepness, -30, 30)))
    lit = (grey > 0).astype(np.float32)
    mixed = grey.astype(np.float32) * (1.0 - blend) + fat * lit * blend
    return np.asarray(np.clip(mixed, 0, 255), np.uint8)


def vary_intensity(grey: GreyImage, random: Random, strength: float) -> GreyImage:
    """(rows, columns) uint8: the same anatomy as another scanner might show it."""
    size = grey.shape[0]
    lit = grey > 0
    field = grey.astype(np.float32) / 255.0

    def chance(probability: float) -> bool:
        return bool(random.random() < probability * strength)

    if chance(0.3):
        # A blurred or coarse scanner.
        if random.random() < 0.5:
            field = np.asarray(
                cv2.GaussianBlur(
                    field, (0, 0), random.uniform(0.4, 2.6), sigmaY=random.uniform(0.4, 2.0)
                ),
                np.float32,
            )
        else:
            factor = random.uniform(0.3, 0.8)
            small = cv2.resize(field, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            field = np.asarray(
                cv2.resize(small, (grey.shape[1], size), interpolation=cv2.INTER_LINEAR), np.float32
            )
    if chance(0.2):
        sharp = field - np.asarray(cv2.GaussianBlur(field, (0, 0), 2.0), np.float32)
        field = np.clip(field + random.uniform(0.3, 1.2) * sharp, 0, 1)
    if chance(0.8):
        field = np.power(np.clip(field, 0, 1), np.float32(2.0 ** (random.normal() * 0.5)))
    if chance(0.5):
        ramp = _smooth_noise((size, 1), (int(random.integers(2, 5)), 1), random)
        field = field * np.exp(random.uniform(0.1, 0.6) * ramp)
    if chance(0.3):
        gains = _smooth_noise((1, grey.shape[1]), (1, int(random.integers(3, 8))), random)
        field = field * np.exp(random.uniform(0.1, 0.4) * gains)
    if chance(0.25):
        field = field * _shadow(size, grey.shape[1], random)
    if chance(0.4):
        grid = (int(size / random.uniform(1.0, 3.0)), int(size / random.uniform(1.0, 5.0)))
        grain = _smooth_noise((size, grey.shape[1]), grid, random)
        field = field * np.exp(random.uniform(0.05, 0.4) * grain)
    if chance(0.3):
        # A noise floor taken away, or a haze put over everything.
        floor = random.uniform(-0.12, 0.12)
        field = np.clip((field + floor) / (1.0 + floor), 0, 1)
    if chance(0.15):
        field = field + random.uniform(0.01, 0.05) * random.normal(size=field.shape).astype(
            np.float32
        )
    gain = 2.0 ** (random.normal() * 0.35 * strength)
    out = np.clip(field * gain * 255.0, 0, 255).astype(np.uint8)
    if chance(0.1):
        clahe = cv2.createCLAHE(clipLimit=random.uniform(1, 4), tileGridSize=(6, 6))
        out = np.asarray(clahe.apply(out), np.uint8)
    out = np.where(lit, out, 0).astype(np.uint8)
    if chance(0.15):
        _burn_in_marks(out, random)
    if chance(0.08):
        _black_margins(out, random)
    return out


def _shadow(rows: int, columns: int, random: Random) -> _Float32:
    # Behind bone, gas or a lifted probe a column is dark from some depth on.
    position = np.arange(columns, dtype=np.float32)[None, :]
    centre = random.uniform(0, columns)
    if random.random() < 0.5:
        centre = float(random.choice([0.0, float(columns)]))
    width = random.uniform(0.03, 0.22) * columns
    profile = np.exp(-(((position - centre) / width) ** 4))
    start = random.uniform(0, 0.6) * rows if random.random() < 0.6 else -rows
    depth = 1.0 / (1.0 + np.exp(-(np.arange(rows, dtype=np.float32)[:, None] - start) / 6.0))
    return np.asarray(1.0 - random.uniform(0.4, 0.95) * profile * depth, np.float32)


def _burn_in_marks(grey: GreyImage, random: Random) -> None:
    size = grey.shape[0]
    for _ in range(int(random.integers(1, 4))):
        level = int(random.integers(120, 256))
        spot = (int(random.integers(0, size)), int(random.integers(0, size)))
        kind = random.random()
        if kind < 0.4:
            text = "".join(random.choice(list("0123456789.cmGDBRL "), 6))
            cv2.putText(
                grey, text, spot, cv2.FONT_HERSHEY_SIMPLEX, random.uniform(0.25, 0.6), level
            )
        elif kind < 0.7:
            column = int(random.choice([2, size - 5]))
            for row in range(0, size, int(random.integers(8, 40))):
                cv2.line(grey, (column, row), (column + 3, row), level)
        else:
            end = (int(random.integers(0, size)), int(random.integers(0, size)))
            cv2.line(grey, spot, end, level)


def _black_margins(grey: GreyImage, random: Random) -> None:
    size = grey.shape[0]
    level = int(random.choice([0, 0, 20, 50]))
    width = int(random.uniform(0.02, 0.15) * size)
    side = int(random.integers(0, 3))
    if side == 0:
        grey[:, :width] = level
    elif side == 1:
        grey[:, -width:] = level
    else:
        grey[-width:] = level


def sample_clicks(mask: NDArray[np.bool_], random: Random) -> list[tuple[float, float, bool]]:
    """Clicks that a person might make for a mask: (column, row, positive), the first positive.

    The first lies anywhere well inside, not only in the middle.
    """
    depth = _depth_inside(mask)
    deepest = float(depth.max())
    share = random.uniform(0.2, 0.85)
    clicks = [(*_pick(depth >= share * deepest, random), True)]
    extra = int(random.choice([0, 0, 0, 0, 1, 2, 3]))
    for _ in range(extra):
        if random.random() < 0.6:
            clicks.append((*_pick(depth >= min(2.5, deepest), random), True))
        else:
            outside = ~mask
            near = np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((41, 41), np.uint8))) > 0
            ring = outside & near & (_depth_inside(outside) > 3)
            if ring.any():
                clicks.append((*_pick(ring, random), False))
    return clicks


def correct_click(
    truth: NDArray[np.bool_], answer: NDArray[np.bool_], random: Random | None
) -> tuple[float, float, bool] | None:
    """The click that mends the largest error: (column, row, positive); None if there is none.

    With `random` it lies anywhere well inside the error, without it at the deepest place.
    """
    best: tuple[float, NDArray[np.float32], bool] | None = None
    for error, positive in ((truth & ~answer, True), (answer & ~truth, False)):
        if not error.any():
            continue
        count, labels, stats, _ = cv2.connectedComponentsWithStats(error.astype(np.uint8))
        largest = 1 + int(np.argmax(stats[1:count, cv2.CC_STAT_AREA]))
        area = float(stats[largest, cv2.CC_STAT_AREA])
        if best is None or area > best[0]:
            best = (area, _depth_inside(np.asarray(labels == largest)), positive)
    if best is None:
        return None
    depth = best[1]
    if random is None:
        row, column = np.unravel_index(int(np.argmax(depth)), depth.shape)
        return float(column), float(row), best[2]
    column_row = _pick(depth >= 0.5 * float(depth.max()), random)
    return (*column_row, best[2])


def _depth_inside(mask: NDArray[Any]) -> NDArray[np.float32]:
    padded = cv2.copyMakeBorder(
        np.asarray(mask, np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0
    )
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 3)
    return np.asarray(distance[1:-1, 1:-1], np.float32)


def _pick(where: NDArray[np.bool_], random: Random) -> tuple[float, float]:
    places = np.flatnonzero(where)
    place = int(places[int(random.integers(0, places.size))])
    row, column = divmod(place, where.shape[1])
    return float(column), float(row)


def _jittered_box(mask: NDArray[np.bool_], random: Random) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    noise: Sequence[float] = [float(value) for value in random.normal(size=4) * 0.06]
    return (
        float(columns[0] + noise[0] * width),
        float(rows[0] + noise[1] * height),
        float(columns[-1] + 1 + noise[2] * width),
        float(rows[-1] + 1 + noise[3] * height),
    )

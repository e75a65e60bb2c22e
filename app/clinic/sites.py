"""Injection sites: inside the muscle by a margin, evenly spread in millimetres, clear of nerve
and vessel, on the frames that lie in the endplate zone, each with a needle's way in.

The pattern is mirrored when the image is mirrored: it is made of quantiles and centroids, with
ties shared, never of an order of pixels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.ndimage import distance_transform_edt  # type: ignore[import-untyped]  # no stubs

from app.clinic.inputs import ClinicalInputs
from app.clinic.muscles import EndplateZone
from app.clinic.needle import ALIKE_MM, NeedlePath, Obstacles, best_path, centres_mm, obstacles_of
from app.clinic.observation import Observation, ObservedSection
from app.clinic.policy import Policy
from app.clinic.tables import ClinicalTables
from app.clinic.volume import position_mm
from imaging.arrays import BoolMask, FloatArray
from imaging.calibration import Calibration
from imaging.geometry import ImagePoint, TissuePoint

GRID_CELLS = 2500
"""About how many cells a section's muscle is divided into to find margins and spread sites."""

MOST_CELLS = 40_000
"""About how many cells there are at most with the margins around the muscle."""

LLOYD_ROUNDS = 20
"""Most rounds of moving each site to the centre of its part."""

STILL_MM = 0.02
"""A round that moves no site further than this is the last."""

MOVES_TRIED = 60
"""How many other places are tried, nearest first, for a site that no needle reaches safely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionSite:
    """One suggested site: where, how deep (mm below the skin), how much, and the needle's way.

    `margin_mm` is the exact distance to the muscle's edge, `avoid_mm` to the nearest nerve or
    vessel (None where there is none). `units` and `ml` are None where there is no dose, or the
    dose belongs to a group. `violations` names what a site that was moved by hand violates.
    """

    number: int
    point: ImagePoint
    frame_key: str
    depth_mm: float
    margin_mm: float
    avoid_mm: float | None
    path: NeedlePath | None
    units: float | None = None
    ml: float | None = None
    moved: bool = False
    by_hand: bool = False
    violations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SitesRefused:
    """Why no site can be suggested, and the way out."""

    reason: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedSite:
    """A site that the physician put there by hand: its number, frame and continuous point."""

    number: int
    frame_key: str
    point: ImagePoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The sites found, what there is to say about them, and where the endplates lie in words."""

    sites: tuple[InjectionSite, ...]
    notes: tuple[str, ...]
    endplates: tuple[str, ...]
    refused: SitesRefused | None = None


# --- one section as millimetres -------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tissue:
    """One section divided into cells, all lengths in mm from the image's top-left corner.

    `cells_mm` (n, 2) are (lateral, depth) of the cells inside the muscle, `inside_mm` (n,) how far
    inside at least; `allowed` (n,) bool those with every margin kept; `edge_mm` (m, 2) and
    `obstacles` are for exact distances. `middle_mm` is where the muscle's centre lies from side
    to side.
    """

    section: ObservedSection
    calibration: Calibration
    cells_mm: FloatArray
    allowed: BoolMask
    inside_mm: FloatArray
    edge_mm: FloatArray
    obstacles: Obstacles
    margin_mm: float
    middle_mm: float

    @property
    def allowed_mm(self) -> FloatArray:
        return self.cells_mm[self.allowed]


def _tissue(section: ObservedSection, calibration: Calibration, policy: Policy) -> _Tissue | None:
    """The section's cells with their margins; None for an empty mask."""
    mask = section.mask
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    if len(rows) == 0:
        return None
    row0, row1, column0, column1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    row_mm, column_mm = calibration.row_mm_per_px, calibration.column_mm_per_px
    area_mm2 = calibration.area_mm2(float(np.count_nonzero(mask[row0:row1, column0:column1])))
    around = policy.avoid_margin_mm
    with_margins_mm2 = ((row1 - row0) * row_mm + 2 * around) * (
        (column1 - column0) * column_mm + 2 * around
    )
    cell_mm = math.sqrt(max(area_mm2 / GRID_CELLS, with_margins_mm2 / MOST_CELLS))
    per_row, per_column = _odd(cell_mm / row_mm), _odd(cell_mm / column_mm)
    grow_row, grow_column = math.ceil(around / row_mm) + 1, math.ceil(around / column_mm) + 1
    inside = _blocks(
        _window(mask, row0, row1, column0, column1, grow_row, grow_column), per_row, per_column
    ).all(axis=(1, 3))
    height, width = per_row * row_mm, per_column * column_mm
    half_mm = math.hypot(height, width) / 2
    to_edge = distance_transform_edt(inside, sampling=(height, width)) - half_mm
    widest = float(to_edge.max())
    margin_mm = min(policy.site_margin_mm, max(policy.smallest_site_margin_mm, widest / 2))
    allowed = inside & (to_edge >= margin_mm)
    obstacles = obstacles_of(section, calibration)
    for structure in (section.avoid, section.possible_bone):
        if structure is None or not structure.any():
            continue
        near = _blocks(
            _window(structure, row0, row1, column0, column1, grow_row, grow_column),
            per_row,
            per_column,
        ).any(axis=(1, 3))
        if near.any():
            away = distance_transform_edt(~near, sampling=(height, width)) - half_mm
            allowed &= away >= policy.avoid_margin_mm
    at_row, at_column = np.nonzero(inside)
    middle_column = (column0 + column1) / 2
    middle_row = (row0 + row1) / 2
    cells = np.column_stack(
        [
            middle_column * column_mm + (at_column + 0.5 - inside.shape[1] / 2) * width,
            middle_row * row_mm + (at_row + 0.5 - inside.shape[0] / 2) * height,
        ]
    )
    edge = centres_mm(_just_outside(mask[row0:row1, column0:column1]), calibration) + np.array(
        [(column0 - 1) * column_mm, (row0 - 1) * row_mm]
    )
    return _Tissue(
        section=section,
        calibration=calibration,
        cells_mm=cells,
        allowed=allowed[at_row, at_column],
        inside_mm=to_edge[at_row, at_column],
        edge_mm=edge,
        obstacles=obstacles,
        margin_mm=margin_mm,
        middle_mm=float(cells[:, 0].mean()) if len(cells) else middle_column * column_mm,
    )


def _odd(pixels: float) -> int:
    """The odd number of pixels nearest below: an odd block can be centred on any muscle."""
    whole = max(1, int(pixels))
    return whole if whole % 2 else whole - 1


def _window(
    mask: BoolMask, row0: int, row1: int, column0: int, column1: int, rows: int, columns: int
) -> BoolMask:
    """The mask's box grown by so many rows and columns on each side; False beyond the image."""
    window = np.zeros((row1 - row0 + 2 * rows, column1 - column0 + 2 * columns), dtype=np.bool_)
    top, left = max(0, row0 - rows), max(0, column0 - columns)
    part = mask[top : row1 + rows, left : column1 + columns]
    at_row, at_column = top - (row0 - rows), left - (column0 - columns)
    window[at_row : at_row + part.shape[0], at_column : at_column + part.shape[1]] = part
    return window


def _blocks(window: BoolMask, rows: int, columns: int) -> BoolMask:
    """The window cut into blocks, (block rows, rows, block columns, columns), grown evenly to fit.

    Blocks have odd sides, so some even growth always fits.
    """
    pads = []
    for length, block in ((window.shape[0], rows), (window.shape[1], columns)):
        grow = next(g for g in range(block) if (length + 2 * g) % block == 0)
        pads.append((grow, grow))
    grown = np.pad(window, pads)
    return grown.reshape(grown.shape[0] // rows, rows, grown.shape[1] // columns, columns)


def _just_outside(box: BoolMask) -> BoolMask:
    """The pixels outside a mask that touch it, corners included, one pixel around its box."""
    padded = np.pad(box, 2)
    touching = np.zeros((box.shape[0] + 2, box.shape[1] + 2), dtype=np.bool_)
    for down, right in itertools.product(range(3), range(3)):
        touching |= padded[down : down + touching.shape[0], right : right + touching.shape[1]]
    return touching & ~padded[1:-1, 1:-1]


def _distance_mm(points: FloatArray, at: TissuePoint, calibration: Calibration) -> float:
    """The exact distance in mm from a point to the squares of pixels with these centres."""
    aside = np.abs(points[:, 0] - at.lateral_mm) - calibration.column_mm_per_px / 2
    deep = np.abs(points[:, 1] - at.depth_mm) - calibration.row_mm_per_px / 2
    gaps = np.hypot(np.maximum(aside, 0.0), np.maximum(deep, 0.0))
    return float(gaps.min()) if len(gaps) else math.inf


def _inside(mask: BoolMask, point: ImagePoint) -> bool:
    row, column = math.floor(point.row), math.floor(point.column)
    return 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1] and bool(mask[row, column])


def _margins(tissue: _Tissue, at: TissuePoint) -> tuple[float, float, float]:
    """(to the muscle's edge, to nerve or vessel, to possible bone) in mm, exact."""
    calibration, obstacles = tissue.calibration, tissue.obstacles
    return (
        _distance_mm(tissue.edge_mm, at, calibration),
        _distance_mm(obstacles.structures_mm, at, calibration),
        _distance_mm(obstacles.bone_mm, at, calibration),
    )


def _keeps_margins(tissue: _Tissue, at: TissuePoint, policy: Policy) -> bool:
    if not _inside(tissue.section.mask, tissue.calibration.to_image(at)):
        return False
    edge, structure, bone = _margins(tissue, at)
    return (
        edge >= tissue.margin_mm - ALIKE_MM
        and min(structure, bone) >= policy.avoid_margin_mm - ALIKE_MM
    )


# --- spreading ------------------------------------------------------------------------------


def _patterns(count: int) -> Iterator[tuple[int, ...]]:
    """The ways to put `count` sites in columns from side to side that read the same both ways."""
    for columns in range(1, count + 1):
        for half in itertools.product(range(1, count + 1), repeat=(columns + 1) // 2):
            pattern = half + half[::-1] if columns % 2 == 0 else half + half[-2::-1]
            if sum(pattern) == count:
                yield pattern


def _quantiles(values: FloatArray) -> FloatArray:
    """The mid-rank of each value as a fraction, ties alike: mirrored values give 1 − q."""
    _, index, counts = np.unique(np.round(values, 9), return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    quantile: FloatArray = middle[index] / len(values)
    return quantile


def _seeds(cells: FloatArray, pattern: Sequence[int]) -> FloatArray | None:
    """One starting point for each site: centroids of equal parts, column by column."""
    count = sum(pattern)
    across = _quantiles(cells[:, 0])
    seeds = []
    start = 0
    for in_column in pattern:
        end = start + in_column
        column = cells[(across > start / count) & (across < end / count)]
        start = end
        if len(column) < in_column:
            return None
        down = _quantiles(column[:, 1])
        for part in range(in_column):
            chosen = column[(down > part / in_column) & (down < (part + 1) / in_column)]
            if len(chosen) == 0:
                return None
            seeds.append(chosen.mean(axis=0))
    return np.array(seeds)


def _shares(cells: FloatArray, sites: FloatArray) -> tuple[FloatArray, float]:
    """(sites, cells) share of each cell in its nearest site, ties halved; and the mean squared
    distance in mm²."""
    squared = -2.0 * (sites @ cells.T) + (sites**2).sum(axis=1)[:, None]
    nearest = squared.min(axis=0)
    shares = (squared <= nearest + 1e-7).astype(np.float64)
    shares /= shares.sum(axis=0)
    return shares, float(nearest.mean() + (cells**2).sum() / len(cells))


def spread_evenly(cells: FloatArray, count: int) -> FloatArray:
    """(count, 2) points in mm, each the centre of its part of the cells (centroidal Voronoi).

    Of the symmetric starting patterns the one with the smallest mean squared distance is taken.
    """
    middle = cells.mean(axis=0)
    centred = cells - middle
    starts = [
        (round(_shares(centred, seeds)[1], 6), index, seeds)
        for index, pattern in enumerate(_patterns(count))
        if (seeds := _seeds(centred, pattern)) is not None
    ]
    if not starts:
        return np.repeat(middle[None, :], count, axis=0)
    sites: FloatArray = min(starts, key=lambda start: start[:2])[2]
    for _ in range(LLOYD_ROUNDS):
        shares, _ = _shares(centred, sites)
        weight = shares.sum(axis=1)
        if (weight == 0).any():
            break
        moved: FloatArray = shares @ centred / weight[:, None]
        still = float(np.abs(moved - sites).max()) < STILL_MM
        sites = moved
        if still:
            break
    spread: FloatArray = sites + middle
    return spread


def _along_belly(tissue: _Tissue, count: int) -> FloatArray:
    """(count, 2) points in mm along a long-axis belly, evenly spaced, at mid-thickness."""
    mask, calibration = tissue.section.mask, tissue.calibration
    columns = np.nonzero(mask.any(axis=0))[0]
    top = mask[:, columns].argmax(axis=0)
    bottom = mask.shape[0] - mask[::-1, columns].argmax(axis=0)
    lateral = (columns + 0.5) * calibration.column_mm_per_px
    middle = (top + bottom) / 2 * calibration.row_mm_per_px
    allowed = tissue.allowed_mm[:, 0]
    low, high = float(allowed.min()), float(allowed.max())
    at = low + (np.arange(count) + 0.5) / count * (high - low)
    return np.column_stack([at, np.interp(at, lateral, middle)])


def _smallest_gap(points: FloatArray) -> float:
    gaps = [math.dist(a, b) for a, b in itertools.combinations(points.tolist(), 2)]
    return min(gaps, default=math.inf)


# --- which frames ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frames:
    """The sections that sites may lie on, and how they were chosen."""

    sections: tuple[ObservedSection, ...]
    notes: tuple[str, ...]


def _frames(inputs: ClinicalInputs, observation: Observation, tables: ClinicalTables) -> _Frames:
    """The frames of a sweep in the endplate zone; else those of the belly's middle; else one."""
    shown = [s for s in observation.sections if s.mask.any()]
    if not shown:
        return _Frames(sections=(), notes=())
    largest = max(shown, key=lambda s: s.area_mm2 or 0.0)
    placed = [
        (at, s)
        for index, s in enumerate(observation.sections)
        if s.mask.any() and (at := position_mm(index, s, inputs)) is not None
    ]
    if observation.view != "short_axis" or len(placed) < 2:
        return _Frames(sections=(largest,), notes=())
    placed.sort(key=lambda pair: pair[0])
    chosen = _in_zone(inputs, observation, placed, tables)
    if chosen is not None:
        return chosen
    thick = [s for _, s in placed if (s.area_mm2 or 0.0) >= (largest.area_mm2 or 0.0) / 2]
    return _Frames(
        sections=tuple(thick),
        notes=(
            "Sites lie on the sections with at least half of the largest area, because the sweep "
            "was not placed on a reference line with a known endplate zone.",
        ),
    )


def _in_zone(
    inputs: ClinicalInputs,
    observation: Observation,
    placed: Sequence[tuple[float, ObservedSection]],
    tables: ClinicalTables,
) -> _Frames | None:
    sweep = inputs.sweep
    if (
        sweep is None
        or sweep.reference_line is None
        or sweep.start_percent is None
        or sweep.end_percent is None
    ):
        return None
    zones = [
        z
        for z in tables.zones_of(inputs.muscle)
        if sweep.reference_line in (z.line, z.reference_line) and z.direction_known
    ]
    if not zones:
        return None
    every = [
        at
        for index, s in enumerate(observation.sections)
        if (at := position_mm(index, s, inputs)) is not None
    ]
    first, span = min(every), max(every) - min(every)
    start, end = sweep.start_percent, sweep.end_percent
    reach = tables.policy.endplate_reach_percent
    inside = tuple(
        s
        for at, s in placed
        if any(
            _in_one_zone(start + (at - first) / span * (end - start), zone, reach) for zone in zones
        )
    )
    told = "; ".join(_zone_words(zone) for zone in zones)
    if not inside:
        return _Frames(
            sections=(),
            notes=(f"No frame of the sweep lies in the endplate zone ({told}).",),
        )
    return _Frames(
        sections=inside,
        notes=(f"Sites lie on the {len(inside)} frames in the endplate zone ({told}).",),
    )


def _in_one_zone(percent: float, zone: EndplateZone, reach: float) -> bool:
    low, high = zone.from_percent or 0.0, zone.to_percent or 0.0
    aside = reach if low == high else 0.0
    return low - aside <= percent <= high + aside


def _zone_words(zone: EndplateZone) -> str:
    part = f"{zone.part}: " if zone.part else ""
    if zone.from_percent is None or zone.to_percent is None:
        where = "no percentages found"
    elif zone.from_percent == zone.to_percent:
        where = f"{zone.from_percent:g} %"
    else:
        where = f"{zone.from_percent:g} to {zone.to_percent:g} %"
    return f"{part}{where} of {zone.reference_line} [{', '.join(zone.sources)}]"


def endplate_words(muscle: str, tables: ClinicalTables) -> tuple[str, ...]:
    """Where to put the probe, in words with reference line and source, conflicts included."""
    said = []
    for zone in tables.zones_of(muscle):
        more = "; ".join(part for part in (zone.note, zone.conflict) if part)
        said.append(_zone_words(zone) + (f" ({more})" if more else "") + ".")
    if not said:
        said.append(f"No endplate zone of {tables.english(muscle)} was found in a source.")
    return tuple(said)


def _counts(sections: Sequence[ObservedSection], count: int) -> list[tuple[ObservedSection, int]]:
    """How many sites on which frame: frames evenly spaced, the larger sections first."""
    frames = min(count, len(sections))
    picked = [sections[round((i + 0.5) / frames * len(sections) - 0.5)] for i in range(frames)]
    least, more = divmod(count, frames)
    by_area = sorted(range(frames), key=lambda i: (-(picked[i].area_mm2 or 0.0), i))
    extra = set(by_area[:more])
    return [(section, least + (i in extra)) for i, section in enumerate(picked)]


# --- placing --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Log:
    """What placing has to say, gathered on the way, each once."""

    notes: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def place_sites(
    inputs: ClinicalInputs, observation: Observation, wanted: int, tables: ClinicalTables
) -> Placement:
    """Up to `wanted` sites with margins kept and a clear needle path each, or the refusal."""
    endplates = endplate_words(inputs.muscle, tables)
    if not observation.is_calibrated:
        return _refusal(
            "Without a scale no margin can be kept, so no site is suggested.",
            "Give the scale: two marks of the depth ruler and their distance.",
            endplates,
        )
    log = _Log()
    frames = _frames(inputs, observation, tables)
    for note in frames.notes:
        log.say(note)
    if not frames.sections:
        return _refusal(
            " ".join(frames.notes) or "No frame shows the muscle.",
            "Move the probe to the endplate zone, or outline the muscle.",
            endplates,
        )
    sites: list[InjectionSite] = []
    for section, count in _counts(frames.sections, wanted):
        sites += _place_on(section, count, observation.view, tables.policy, log)
    if not sites:
        return _refusal(
            " ".join(log.notes) or "No place in the muscle keeps every margin.",
            "Move the probe to where the muscle is thicker or clear of nerve and vessel.",
            endplates,
        )
    if len(sites) < wanted:
        log.say(f"{len(sites)} of {wanted} sites could be placed.")
    numbered = tuple(replace(site, number=n) for n, site in enumerate(sites, start=1))
    return Placement(sites=numbered, notes=tuple(log.notes), endplates=endplates)


def _refusal(reason: str, remedy: str, endplates: tuple[str, ...]) -> Placement:
    return Placement(
        sites=(),
        notes=(),
        endplates=endplates,
        refused=SitesRefused(reason=reason, remedy=remedy),
    )


def _place_on(
    section: ObservedSection, count: int, view: str | None, policy: Policy, log: _Log
) -> list[InjectionSite]:
    """The sites of one frame, from left to right, then from skin to depth."""
    calibration = section.calibration
    tissue = None if calibration is None else _tissue(section, calibration, policy)
    if tissue is None or not tissue.allowed.any():
        log.say(
            f"On frame {section.frame_key} no place is {policy.smallest_site_margin_mm:g} mm "
            f"inside the muscle and {policy.avoid_margin_mm:g} mm off nerve and vessel."
        )
        return []
    if section.possible_bone is not None and section.possible_bone.any():
        log.say(
            f"On frame {section.frame_key} a bright line with a shadow behind it is possibly bone: "
            "sites and needle paths keep clear of it."
        )
    if tissue.margin_mm < policy.site_margin_mm:
        log.say(
            f"On frame {section.frame_key} the muscle is thin: the margin to its edge is "
            f"{tissue.margin_mm:.1f} instead of {policy.site_margin_mm:g} mm."
        )
    allowed = tissue.allowed_mm
    while True:
        points = (
            _along_belly(tissue, count) if view == "long_axis" else spread_evenly(allowed, count)
        )
        points = np.array([_snapped(tissue, point, policy) for point in points])
        if count == 1 or _smallest_gap(points) >= policy.site_spacing_mm - ALIKE_MM:
            break
        log.say(
            f"On frame {section.frame_key} the muscle is too small for {count} sites "
            f"{policy.site_spacing_mm:g} mm apart; a sweep gives room for more along the muscle."
        )
        count -= 1
    # From the middle outwards: an order that a mirrored image has too.
    outwards = np.lexsort((points[:, 1], np.round(np.abs(points[:, 0] - tissue.middle_mm), 6)))
    found: list[InjectionSite] = []
    for point in points[outwards]:
        others = [(s.point.column, s.point.row) for s in found]
        site = _with_path(tissue, point, others, policy, log)
        if site is not None:
            found.append(site)
    return sorted(found, key=lambda s: (round(s.point.column, 6), round(s.point.row, 6)))


def _snapped(tissue: _Tissue, point: FloatArray, policy: Policy) -> FloatArray:
    """The point itself if it keeps every margin, else the nearest allowed cell's centre.

    Where several cells are as near, the point between the shallowest of them comes first, so that
    a symmetric muscle keeps its sites on its middle line.
    """
    allowed = tissue.allowed_mm
    distance = np.hypot(*(allowed - point).T)
    tied = allowed[distance <= distance.min() + ALIKE_MM]
    between: FloatArray = tied[tied[:, 1] <= tied[:, 1].min() + ALIKE_MM].mean(axis=0)
    for place in (point, between):
        at = TissuePoint(lateral_mm=float(place[0]), depth_mm=float(place[1]))
        if _keeps_margins(tissue, at, policy):
            return place
    nearest: FloatArray = _by_distance(tissue, point)[0]
    return nearest


def _by_distance(tissue: _Tissue, point: FloatArray) -> FloatArray:
    """The allowed cells, nearest first; of two as near the one deeper inside the muscle, then
    the one nearer its centre from side to side, then the one nearer the skin."""
    allowed = tissue.allowed_mm
    distance = np.round(np.hypot(*(allowed - point).T), 6)
    inside = np.round(tissue.inside_mm[tissue.allowed], 6)
    to_middle = np.round(np.abs(allowed[:, 0] - tissue.middle_mm), 6)
    ordered: FloatArray = allowed[np.lexsort((allowed[:, 1], to_middle, -inside, distance))]
    return ordered


def _with_path(
    tissue: _Tissue,
    point: FloatArray,
    others_px: Sequence[tuple[float, float]],
    policy: Policy,
    log: _Log,
) -> InjectionSite | None:
    """The site with its needle path; moved to the nearest place that a needle reaches, or None."""
    section, calibration = tissue.section, tissue.calibration
    others = [
        calibration.to_tissue(ImagePoint(column=column, row=row)) for column, row in others_px
    ]
    for tries, place in enumerate(_places(tissue, point)):
        at = TissuePoint(lateral_mm=float(place[0]), depth_mm=float(place[1]))
        tip = calibration.to_image(at)
        too_near = any(
            math.hypot(at.lateral_mm - o.lateral_mm, at.depth_mm - o.depth_mm)
            < policy.site_spacing_mm - ALIKE_MM
            for o in others
        )
        path = best_path(tip, section, calibration, tissue.obstacles, policy)
        if path is None or too_near:
            continue
        if tries > 0:
            log.say(
                f"On frame {section.frame_key} a site was moved to where a needle reaches it "
                "clear of nerve, vessel and bone."
            )
        if not path.seen_in_full:
            log.say(
                f"On frame {section.frame_key} part of a needle's path lies outside the picture: "
                "look there for nerve and vessel before any needle."
            )
        edge, structure, _ = _margins(tissue, at)
        return InjectionSite(
            number=0,
            point=tip,
            frame_key=section.frame_key,
            depth_mm=path.depth_mm,
            margin_mm=edge,
            avoid_mm=None if math.isinf(structure) else structure,
            path=path,
            moved=tries > 0,
        )
    log.say(
        f"On frame {section.frame_key} a site was dropped: no needle path to it or near it is "
        f"clear and at most {policy.needle_longest_mm:g} mm long."
    )
    return None


def _places(tissue: _Tissue, point: FloatArray) -> Iterator[FloatArray]:
    """The place itself, then others, nearest first, thinned to about `MOVES_TRIED`."""
    yield point
    ordered = _by_distance(tissue, point)
    yield from ordered[:: max(1, math.ceil(len(ordered) / MOVES_TRIED))]


# --- by hand --------------------------------------------------------------------------------


def check_moved_site(
    moved: MovedSite, observation: Observation, tables: ClinicalTables
) -> InjectionSite | SitesRefused:
    """The site where the physician put it, with everything that it now violates named.

    Nothing is silently put right.
    """
    policy = tables.policy
    section = next((s for s in observation.sections if s.frame_key == moved.frame_key), None)
    calibration = None if section is None else section.calibration
    tissue = (
        None if section is None or calibration is None else _tissue(section, calibration, policy)
    )
    if section is None or calibration is None or tissue is None:
        return SitesRefused(
            reason=f"Site {moved.number} was put on frame {moved.frame_key}, which shows no "
            "outlined muscle with a scale.",
            remedy="Put it on a frame with the muscle outlined and a scale.",
        )
    at = calibration.to_tissue(moved.point)
    edge, structure, bone = _margins(tissue, at)
    violations = []
    if not _inside(section.mask, moved.point):
        violations.append("The site lies outside the muscle.")
        edge = 0.0
    elif edge < policy.site_margin_mm:
        violations.append(
            f"The site is {edge:.1f} mm from the muscle's edge, less than "
            f"{policy.site_margin_mm:g} mm."
        )
    if structure < policy.avoid_margin_mm:
        violations.append(
            f"The site is {structure:.1f} mm from a nerve or vessel, less than "
            f"{policy.avoid_margin_mm:g} mm."
        )
    if bone < policy.avoid_margin_mm:
        violations.append(f"The site is {bone:.1f} mm from possible bone.")
    path = best_path(moved.point, section, calibration, tissue.obstacles, policy)
    if path is None:
        violations.append("No needle path to the site is clear and short enough.")
    skin = calibration.to_tissue(ImagePoint(column=0.0, row=float(section.skin_row)))
    return InjectionSite(
        number=moved.number,
        point=moved.point,
        frame_key=moved.frame_key,
        depth_mm=at.depth_mm - skin.depth_mm,
        margin_mm=edge,
        avoid_mm=None if math.isinf(structure) else structure,
        path=path,
        by_hand=True,
        violations=tuple(violations),
    )


def name_near_sites(
    sites: tuple[InjectionSite, ...], observation: Observation, tables: ClinicalTables
) -> tuple[InjectionSite, ...]:
    """The sites, those moved by hand with a violation for each other site that is too near."""
    scales = {s.frame_key: s.calibration for s in observation.sections}
    least = tables.policy.site_spacing_mm
    named = []
    for site in sites:
        scale = scales[site.frame_key]
        near = [
            f"The site is {gap:.1f} mm from site {other.number}, less than {least:g} mm."
            for other in sites
            if site.by_hand
            and scale is not None
            and other.number != site.number
            and other.frame_key == site.frame_key
            and (gap := scale.distance_mm(site.point, other.point)) < least
        ]
        named.append(replace(site, violations=(*site.violations, *near)))
    return tuple(named)

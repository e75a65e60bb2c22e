"""Injection sites: inside the muscle by a margin, evenly spread in millimetres, clear of nerve
and vessel, on the frames that lie in the endplate zone, each with a needle's way in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from app.clinic.endplates import counts_on, endplate_words, site_frames
from app.clinic.inputs import ClinicalInputs
from app.clinic.needle import ALIKE_MM, NeedlePath, best_path
from app.clinic.observation import Observation, ObservedSection
from app.clinic.policy import Policy
from app.clinic.spread import along_belly, smallest_gap, spread_evenly
from app.clinic.tables import ClinicalTables
from app.clinic.tissue import Tissue, is_inside, keeps_margins, margins_mm, tissue_of
from imaging.arrays import FloatArray
from imaging.geometry import ImagePoint, TissuePoint

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
    frames = site_frames(inputs, observation, tables)
    for note in frames.notes:
        log.say(note)
    if not frames.sections:
        return _refusal(
            " ".join(frames.notes) or "No frame shows the muscle.",
            "Move the probe to the endplate zone, or outline the muscle.",
            endplates,
        )
    sites: list[InjectionSite] = []
    for section, count in counts_on(frames.sections, wanted):
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
    tissue = None if calibration is None else tissue_of(section, calibration, policy)
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
            along_belly(tissue, count) if view == "long_axis" else spread_evenly(allowed, count)
        )
        points = np.array([_snapped(tissue, point, policy) for point in points])
        if count == 1 or smallest_gap(points) >= policy.site_spacing_mm - ALIKE_MM:
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


def _snapped(tissue: Tissue, point: FloatArray, policy: Policy) -> FloatArray:
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
        if keeps_margins(tissue, at, policy):
            return place
    nearest: FloatArray = _by_distance(tissue, point)[0]
    return nearest


def _by_distance(tissue: Tissue, point: FloatArray) -> FloatArray:
    """The allowed cells, nearest first; of two as near the one deeper inside the muscle, then
    the one nearer its centre from side to side, then the one nearer the skin."""
    allowed = tissue.allowed_mm
    distance = np.round(np.hypot(*(allowed - point).T), 6)
    inside = np.round(tissue.inside_mm[tissue.allowed], 6)
    to_middle = np.round(np.abs(allowed[:, 0] - tissue.middle_mm), 6)
    ordered: FloatArray = allowed[np.lexsort((allowed[:, 1], to_middle, -inside, distance))]
    return ordered


def _with_path(
    tissue: Tissue,
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
        edge, structure, _ = margins_mm(tissue, at)
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


def _places(tissue: Tissue, point: FloatArray) -> Iterator[FloatArray]:
    """The place itself, then others, nearest first, thinned to about `MOVES_TRIED`."""
    yield point
    ordered = _by_distance(tissue, point)
    yield from ordered[:: max(1, math.ceil(len(ordered) / MOVES_TRIED))]


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
        None if section is None or calibration is None else tissue_of(section, calibration, policy)
    )
    if section is None or calibration is None or tissue is None:
        return SitesRefused(
            reason=f"Site {moved.number} was put on frame {moved.frame_key}, which shows no "
            "outlined muscle with a scale.",
            remedy="Put it on a frame with the muscle outlined and a scale.",
        )
    at = calibration.to_tissue(moved.point)
    edge, structure, bone = margins_mm(tissue, at)
    violations = []
    if not is_inside(section.mask, moved.point):
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
    skin = calibration.to_tissue(
        ImagePoint(column=0.0, row=section.skin_row_at(moved.point.column))
    )
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

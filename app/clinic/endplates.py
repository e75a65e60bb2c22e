"""Where along the muscle the endplates lie: which frames of a sweep sites may lie on, and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.clinic.inputs import ClinicalInputs
from app.clinic.muscles import EndplateZone
from app.clinic.observation import Observation, ObservedSection
from app.clinic.tables import ClinicalTables
from app.clinic.volume import position_mm


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFrames:
    """The sections that sites may lie on, and how they were chosen."""

    sections: tuple[ObservedSection, ...]
    notes: tuple[str, ...]


def site_frames(
    inputs: ClinicalInputs, observation: Observation, tables: ClinicalTables
) -> SiteFrames:
    """The frames of a sweep in the endplate zone; else those of the belly's middle; else one."""
    shown = [s for s in observation.sections if s.mask.any()]
    if not shown:
        return SiteFrames(sections=(), notes=())
    largest = max(shown, key=lambda s: s.area_mm2 or 0.0)
    placed = [
        (at, s)
        for index, s in enumerate(observation.sections)
        if s.mask.any() and (at := position_mm(index, s, inputs)) is not None
    ]
    if observation.view != "short_axis" or len(placed) < 2:
        return SiteFrames(sections=(largest,), notes=())
    placed.sort(key=lambda pair: pair[0])
    chosen = _in_zone(inputs, observation, placed, tables)
    if chosen is not None:
        return chosen
    thick = [s for _, s in placed if (s.area_mm2 or 0.0) >= (largest.area_mm2 or 0.0) / 2]
    return SiteFrames(
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
) -> SiteFrames | None:
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
        return SiteFrames(
            sections=(),
            notes=(f"No frame of the sweep lies in the endplate zone ({told}).",),
        )
    return SiteFrames(
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


def counts_on(sections: Sequence[ObservedSection], count: int) -> list[tuple[ObservedSection, int]]:
    """How many sites on which frame: frames evenly spaced, the larger sections first."""
    frames = min(count, len(sections))
    picked = [sections[round((i + 0.5) / frames * len(sections) - 0.5)] for i in range(frames)]
    least, more = divmod(count, frames)
    by_area = sorted(range(frames), key=lambda i: (-(picked[i].area_mm2 or 0.0), i))
    extra = set(by_area[:more])
    return [(section, least + (i in extra)) for i, section in enumerate(picked)]

"""Muscles, the groups that dose rows name, and where their endplates lie."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleReference:
    """What a sample of healthy adults measured, in mL: mean, and spread where it was found."""

    mean_ml: float
    sd_ml: float | None
    population: str
    grade: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BodySizeReference:
    """A healthy adult's volume by body size: slope × height[m] × mass[kg] + intercept, in mL
    (V_HANDSFIELD14); no spread was found."""

    slope_ml_per_m_kg: float
    intercept_ml: float
    grade: str
    sources: tuple[str, ...]


ReferenceVolume = SampleReference | BodySizeReference


@dataclass(frozen=True, slots=True, kw_only=True)
class Muscle:
    """One muscle: names, codes, region, limb, reference volume and hazards, each with sources."""

    name: str
    english: str
    latin: str
    region: str
    limb: str
    uberon: str | None
    fma: str | None
    sct_entire: str | None
    ncit: str | None
    sct_dicom: str | None
    reference: ReferenceVolume | None
    hazard: str | None
    hazard_sources: tuple[str, ...]
    grade: str
    sources: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MuscleGroup:
    """A name of dose rows that is no row of the muscles' table.

    `kind` is `group` (several muscles: its dose is never one member's), `part` (the dose is for
    one `part` of a muscle, such as a fascicle) or `single` (one muscle of which nothing but its
    name was found).
    """

    name: str
    english: str
    region: str
    limb: str
    kind: str
    members: tuple[str, ...]
    part: str | None
    grade: str
    sources: tuple[str, ...]
    note: str = ""

    @property
    def is_single(self) -> bool:
        return self.kind == "single"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndplateZone:
    """Where on a reference line a study found a muscle's motor endplates, in per cent of it.

    `direction_known` is false where the source does not say which end is 0: such a zone is told
    in words and never used to choose frames. A zone of known direction has both percentages.
    """

    muscle: str
    line: str
    reference_line: str
    part: str
    from_percent: float | None
    to_percent: float | None
    direction_known: bool
    grade: str
    sources: tuple[str, ...]
    note: str
    conflict: str

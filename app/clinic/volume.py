"""A muscle's volume in millilitres, from what was given, with its interval and published error.

A long-axis area never becomes a volume. In this order: a sweep of short-axis sections, one
section × length × shape factor, an equation with its own measurement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.clinic.derivation import Step
from app.clinic.evidence import VolumeEquation
from app.clinic.inputs import ClinicalInputs, Patient
from app.clinic.muscles import SampleReference
from app.clinic.observation import Observation, ObservedSection
from app.clinic.policy import Policy
from app.clinic.tables import ClinicalTables

MM3_PER_ML = 1000.0
MM_PER_CM = 10.0
SMALLEST_LOW = 0.01
"""An interval's lower end is at least this fraction of the volume: a volume is above zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodRefused:
    """A way to the volume that was asked for or possible, and why it was not taken."""

    method: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MuscleVolume:
    """A muscle's volume in mL with its interval, the method, and what is published of its error.

    `open_ends` counts the ends of a sweep that stopped inside the belly; `step` is the
    derivation; `refused` tells the ways that were not taken and why.
    """

    volume_ml: float
    interval_ml: tuple[float, float]
    method: str
    published_error: str
    sections_used: tuple[str, ...]
    step: Step
    open_ends: int = 0
    refused: tuple[MethodRefused, ...] = ()

    def __post_init__(self) -> None:
        low, high = self.interval_ml
        if not 0 < low <= self.volume_ml <= high < math.inf:
            raise ValueError(f"a volume needs 0 < low <= volume <= high: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeUnknown:
    """Why there is no volume, and the way to one."""

    reason: str
    remedy: str
    refused: tuple[MethodRefused, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A healthy adult's volume in mL with its plausibility band, and how it was found."""

    volume_ml: float
    band_ml: tuple[float, float]
    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class NoReference:
    """Why there is no reference volume to compare with."""

    reason: str


def muscle_volume(
    inputs: ClinicalInputs, observation: Observation, tables: ClinicalTables
) -> MuscleVolume | VolumeUnknown:
    """The volume by the first way that what was given allows, or why there is none."""
    if not observation.sections:
        return VolumeUnknown(
            reason="No section of the muscle was measured.",
            remedy="Outline the muscle on at least one frame.",
        )
    if not observation.is_calibrated:
        return VolumeUnknown(
            reason="The image has no scale, so nothing can be given in millimetres.",
            remedy="Give the scale: two marks of the depth ruler and their distance, or "
            "millimetres per pixel.",
        )
    refused: list[MethodRefused] = []
    for attempt in (_by_sweep, _by_section_and_length, _by_equation):
        found = attempt(inputs, observation, tables)
        if isinstance(found, MuscleVolume):
            return replace(found, refused=tuple(refused))
        refused += found
    first = refused[0]
    return VolumeUnknown(reason=first.reason, remedy=first.remedy, refused=tuple(refused))


def _short_axis(method: str, observation: Observation) -> MethodRefused | None:
    if observation.view == "short_axis":
        return None
    if observation.view == "long_axis":
        return MethodRefused(
            method=method,
            reason="A long-axis area is no cross-section and never becomes a volume.",
            remedy="Take a short-axis section and give the muscle's length, or sweep the muscle "
            "in short axis.",
        )
    return MethodRefused(
        method=method,
        reason="It is not known whether the image is a long-axis or a short-axis view.",
        remedy="Say which view it is: long axis or short axis.",
    )


# --- sweep ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptVolume:
    """A sweep added up, in mm³: between the sections, beyond both ends, and how many ends are open.

    An end is open where the sweep stopped inside the belly.
    """

    between_mm3: float
    beyond_mm3: float
    open_ends: int


def swept_mm3(
    positions_mm: Sequence[float], areas_mm2: Sequence[float], policy: Policy
) -> SweptVolume:
    """The volume in mm³ of sections at rising positions, at least three of them with an area.

    Between sections truncated cones, Σ d/3 (A₁ + A₂ + √(A₁A₂)) (G_FITZE25). Towards an end where
    the areas fall ever faster, as on a rounded belly, the parabola through the last three
    sections takes the cone's place and closes the end (exact for an ellipsoid); elsewhere the
    last cone runs on. No end reaches further than `sweep_longest_closure` of the swept length, or
    than the first section that no longer shows the muscle (area zero).
    """
    shown = [index for index, area in enumerate(areas_mm2) if area > 0]
    first, last = shown[0], shown[-1]
    beside = (
        positions_mm[first] - positions_mm[first - 1] if first > 0 else math.inf,
        positions_mm[last + 1] - positions_mm[last] if last + 1 < len(areas_mm2) else math.inf,
    )
    positions_mm, areas_mm2 = positions_mm[first : last + 1], areas_mm2[first : last + 1]
    cones = [
        (z1 - z0) / 3 * (a0 + a1 + math.sqrt(a0 * a1))
        for z0, z1, a0, a1 in zip(
            positions_mm, positions_mm[1:], areas_mm2, areas_mm2[1:], strict=False
        )
    ]
    longest = policy.sweep_longest_closure * (positions_mm[-1] - positions_mm[0])
    open_area = policy.sweep_open_end * max(areas_mm2)
    beyond = 0.0
    open_ends = 0
    for end, gap, positions, areas in (
        (0, beside[0], positions_mm, areas_mm2),
        (-1, beside[1], positions_mm[::-1], areas_mm2[::-1]),
    ):
        limit = min(longest, gap)
        h1, h2 = abs(positions[1] - positions[0]), abs(positions[2] - positions[0])
        a0, a1, a2 = areas[:3]
        open_ends += a0 > open_area and math.isinf(gap)
        # A(s) = a0 + b s + c s², s outwards from the end section, through (−h1, a1), (−h2, a2).
        c = ((a2 - a0) / h2 - (a1 - a0) / h1) / (h2 - h1)
        b = c * h1 - (a1 - a0) / h1
        if c <= 0 and a1 > a0:
            cones[end] = a0 * h1 - b * h1**2 / 2 + c * h1**3 / 3
            reach = min(limit, _root_outwards(a0, b, c))
            beyond += a0 * reach + b * reach**2 / 2 + c * reach**3 / 3
        elif a1 > a0 > 0:
            r0, r1 = math.sqrt(a0), math.sqrt(a1)
            # The share of the way to the cone's tip; 0 where both radii are one, a cylinder.
            taper = (r1 - r0) / (r0 * h1)
            reach = min(limit, 1 / taper) if taper > 0 else limit
            share = reach * taper
            beyond += a0 * reach * (1 - share + share**2 / 3)
    return SweptVolume(between_mm3=sum(cones), beyond_mm3=beyond, open_ends=open_ends)


def _root_outwards(a0: float, b: float, c: float) -> float:
    """The s ≥ 0 where a0 + b s + c s² falls to zero, for a0 ≥ 0, b < 0, c ≤ 0."""
    return 2 * a0 / (-b + math.sqrt(b * b - 4 * a0 * c))


def _by_sweep(
    inputs: ClinicalInputs, observation: Observation, tables: ClinicalTables
) -> MuscleVolume | list[MethodRefused]:
    policy = tables.policy
    tracked = inputs.sweep is None
    method = "sweep_tracked" if tracked else "sweep"
    placed = [
        (position, s)
        for index, s in enumerate(observation.sections)
        if (position := position_mm(index, s, inputs)) is not None
    ]
    if inputs.sweep is None and len(placed) < 2:
        return []
    wrong_view = _short_axis(method, observation)
    if wrong_view is not None:
        return [wrong_view]
    placed.sort(key=lambda pair: pair[0])
    positions = [position for position, _ in placed]
    sections = [section for _, section in placed]
    areas = [_area_mm2(section) for section in sections]
    showing = sum(area > 0 for area in areas)
    if showing < policy.sweep_least_sections or len(set(positions)) < len(positions):
        return [
            MethodRefused(
                method=method,
                reason=f"A sweep needs at least {policy.sweep_least_sections} sections, each at "
                f"its own place and showing the muscle; there are "
                f"{min(showing, len(set(positions)))}.",
                remedy="Sweep the whole belly in short axis from end to end, or give the "
                "muscle's length for one section.",
            )
        ]
    swept = swept_mm3(positions, areas, policy)
    between, beyond = swept.between_mm3, swept.beyond_mm3
    volume_ml = (between + beyond) / MM3_PER_ML
    low_areas = [
        min(max(_interval_mm2(s)[0], SMALLEST_LOW * a), a)
        for s, a in zip(sections, areas, strict=True)
    ]
    high_areas = [max(_interval_mm2(s)[1], a) for s, a in zip(sections, areas, strict=True)]
    error = policy.tracked_volume_error if tracked else policy.volume_error_floor
    doubt = 1.0 if swept.open_ends else 0.5
    shrunk = swept_mm3(positions, low_areas, policy).between_mm3 + beyond * (1 - doubt)
    grown = swept_mm3(positions, high_areas, policy).between_mm3 + beyond * (1 + doubt)
    low_ml = max(shrunk * (1 - error) / MM3_PER_ML, volume_ml * SMALLEST_LOW)
    high_ml = grown * (1 + error) / MM3_PER_ML
    step = Step(
        name="volume",
        value=volume_ml,
        unit="mL",
        equation="V = Σ d/3 · (A₁ + A₂ + √(A₁·A₂)) + both ends closed by extrapolation",
        sources=("G_FITZE25", "POLICY"),
        inputs=(
            *(
                Step(
                    name=f"section {section.frame_key}",
                    value=area,
                    unit="mm²",
                    equation=f"at {position:g} mm",
                    sources=(),
                )
                for position, section, area in zip(positions, sections, areas, strict=True)
            ),
            Step(
                name="between the sections",
                value=between / MM3_PER_ML,
                unit="mL",
                equation="Σ d/3 · (A₁ + A₂ + √(A₁·A₂))",
                sources=("G_FITZE25",),
            ),
            Step(
                name="beyond the ends",
                value=beyond / MM3_PER_ML,
                unit="mL",
                equation="parabola through the last three sections to zero",
                sources=("POLICY",),
            ),
        ),
        text=f"{len(areas)} short-axis sections over {positions[-1] - positions[0]:.0f} mm, added "
        f"up as truncated cones with the ends closed, give {volume_ml:.1f} mL.",
    )
    return MuscleVolume(
        volume_ml=volume_ml,
        interval_ml=(min(low_ml, volume_ml), max(high_ml, volume_ml)),
        method=method,
        published_error="bias −0.13 %, standard error 2.23 % against MRI (G_NOORKOIV19)"
        if tracked
        else "truncated cones over-estimate by 6 to 14 %, limits of agreement −1 to 19 % "
        "(quadriceps and hamstrings, G_FITZE25)",
        sections_used=tuple(section.frame_key for section in sections),
        step=step,
        open_ends=swept.open_ends,
    )


def position_mm(index: int, section: ObservedSection, inputs: ClinicalInputs) -> float | None:
    """Where a section lies along the muscle, in mm: tracked, else by the operator's spacing."""
    if section.position_mm is not None:
        return section.position_mm
    return None if inputs.sweep is None else index * inputs.sweep.spacing_mm


def _area_mm2(section: ObservedSection) -> float:
    return section.area_mm2 or 0.0


def _interval_mm2(section: ObservedSection) -> tuple[float, float]:
    area = _area_mm2(section)
    return section.area_interval_mm2 or (area, area)


def _no_area(method: str) -> MethodRefused:
    return MethodRefused(
        method=method,
        reason="No section has an area above 0 mm².",
        remedy="Outline the muscle again.",
    )


# --- one section × length × shape factor ----------------------------------------------------


def _by_section_and_length(
    inputs: ClinicalInputs, observation: Observation, tables: ClinicalTables
) -> MuscleVolume | list[MethodRefused]:
    policy, method = tables.policy, "section_length"
    wrong_view = _short_axis(method, observation)
    if wrong_view is not None:
        return [wrong_view]
    length_mm = inputs.muscle_length_mm
    if length_mm is None:
        return [
            MethodRefused(
                method=method,
                reason="One section gives an area; a volume needs the muscle's length too.",
                remedy="Measure the muscle's length along the limb, or sweep the muscle.",
            )
        ]
    section = max(observation.sections, key=_area_mm2)
    area_mm2 = _area_mm2(section)
    if area_mm2 <= 0:
        return [_no_area(method)]
    typed = inputs.shape_factor
    if typed is None:
        least, factor, most = policy.shape_factor_bracket
        sources: tuple[str, ...] = ("POLICY",)
        origin = "judgement: between a paraboloid (0.50) and an ellipsoid (0.67)"
        published = (
            "no factor of this muscle was found in a source; with published factors the error is "
            "4 to 7 % in the calf (G_ALBRACHT08), bias 2 to 9 % in the thigh (G_FITZE25)"
        )
    else:
        factor, least, most = typed.value, typed.value, typed.value
        sources = ("OPERATOR",)
        origin = f"typed by the operator, from: {typed.source}"
        published = f"as of the operator's source: {typed.source}"
    area_low, area_high = _interval_mm2(section)
    length_error = policy.length_error
    floor = policy.volume_error_floor
    volume_ml = factor * area_mm2 * length_mm / MM3_PER_ML
    low_ml = least * area_low * length_mm * (1 - length_error) / MM3_PER_ML
    high_ml = most * area_high * length_mm * (1 + length_error) / MM3_PER_ML
    step = Step(
        name="volume",
        value=volume_ml,
        unit="mL",
        equation="V = shape factor × section × length",
        sources=("G_ALBRACHT08", *sources),
        inputs=(
            Step(
                name="section",
                value=area_mm2,
                unit="mm²",
                equation=f"largest measured section, frame {section.frame_key}",
                sources=(),
            ),
            Step(
                name="muscle length",
                value=length_mm,
                unit="mm",
                equation="given by the operator",
                sources=(),
            ),
            Step(name="shape factor", value=factor, unit="1", equation=origin, sources=sources),
        ),
        text=f"A section of {area_mm2 / 100:.2f} cm² over a length of {length_mm:.0f} mm with the "
        f"shape factor {factor:g} ({origin}) gives {volume_ml:.1f} mL.",
    )
    return MuscleVolume(
        volume_ml=volume_ml,
        interval_ml=(
            min(low_ml, volume_ml * (1 - floor)) if area_low > 0 else volume_ml * (1 - floor),
            max(high_ml, volume_ml * (1 + floor)),
        ),
        method=method,
        published_error=published,
        sections_used=(section.frame_key,),
        step=step,
    )


# --- equations ------------------------------------------------------------------------------


def _by_equation(
    inputs: ClinicalInputs, observation: Observation, tables: ClinicalTables
) -> MuscleVolume | list[MethodRefused]:
    known = {equation.measurement: equation for equation in tables.equations}
    refused: list[MethodRefused] = []
    for name, thickness_mm in inputs.measurements_mm.items():
        equation = known.get(name)
        if equation is None:
            refused.append(
                MethodRefused(
                    method="equation",
                    reason=f"No equation asks for the measurement {name}.",
                    remedy=f"Known measurements: {', '.join(known)}.",
                )
            )
            continue
        found = equation_volume(equation, thickness_mm, inputs, tables)
        if isinstance(found, MuscleVolume):
            return found
        refused.append(found)
    return refused


def equation_volume(
    equation: VolumeEquation,
    thickness_mm: float,
    inputs: ClinicalInputs,
    tables: ClinicalTables,
) -> MuscleVolume | MethodRefused:
    """The volume by one published equation, refused outside its measurement, muscle and ranges."""
    limb_mm, age = inputs.limb_length_mm, inputs.patient.age_years
    taken = f"{equation.taken}; {equation.position}"
    ages, thicknesses, limbs = (
        equation.age_range_years,
        equation.thickness_range_mm,
        equation.limb_range_mm,
    )

    def refuse(reason: str, remedy: str) -> MethodRefused:
        return MethodRefused(method=equation.id, reason=reason, remedy=remedy)

    if inputs.muscle not in equation.covers:
        return refuse(
            f"{equation.id} gives the volume of {equation.result}, not of {inputs.muscle}.",
            f"It may be used for: {', '.join(equation.covers)}.",
        )

    def judged(name: str) -> str:
        return " (judgement)" if name in equation.judged else ""

    if age is None or not ages[0] <= age <= ages[1]:
        outside = f"{age or 0:g} is outside {ages[0]:g} to {ages[1]:g} years{judged('age')}"
        return refuse(
            f"{equation.id} was fitted on {equation.population}; the age "
            f"{'is unknown' if age is None else outside}.",
            "Use a sweep, or a section with the muscle's length.",
        )
    if limb_mm is None:
        return refuse(f"{equation.id} needs the length of the limb.", "Give limb_length_mm.")
    for name, what, value, (low, high) in (
        ("thickness", equation.measurement, thickness_mm, thicknesses),
        ("limb", "limb_length_mm", limb_mm, limbs),
    ):
        if not low <= value <= high:
            return refuse(
                f"{equation.id}: {what} is {value:g} mm, outside {low:g} to {high:g} mm"
                f"{judged(name)}.",
                f"The measurement is: {taken}. Otherwise use a sweep.",
            )
    volume_ml = (
        equation.thickness_ml_per_cm * thickness_mm / MM_PER_CM
        + equation.limb_ml_per_cm * limb_mm / MM_PER_CM
        + equation.constant_ml
    )
    if volume_ml <= 0:
        return refuse(
            f"{equation.id} gives {volume_ml:.0f} mL, which no muscle has.",
            f"The measurement is: {taken}.",
        )
    step = Step(
        name="volume",
        value=volume_ml,
        unit="mL",
        equation=f"V = {equation.thickness_ml_per_cm:g} · thickness[cm] + "
        f"{equation.limb_ml_per_cm:g} · limb length[cm] + {equation.constant_ml:g}",
        sources=equation.sources,
        inputs=(
            Step(
                name=equation.measurement,
                value=thickness_mm,
                unit="mm",
                equation=f"given by the operator: {taken}",
                sources=(),
            ),
            Step(
                name="limb length",
                value=limb_mm,
                unit="mm",
                equation="given by the operator",
                sources=(),
            ),
        ),
        text=f"The equation {equation.id} ({equation.population}) with {thickness_mm:g} mm and a "
        f"limb of {limb_mm:g} mm gives {volume_ml:.1f} mL for {equation.result}. It is used for "
        f"{thicknesses[0]:g} to {thicknesses[1]:g} mm{judged('thickness')}, limbs of {limbs[0]:g} "
        f"to {limbs[1]:g} mm{judged('limb')} and {ages[0]:g} to {ages[1]:g} years{judged('age')}.",
    )
    error = max(equation.relative_error, tables.policy.volume_error_floor)
    return MuscleVolume(
        volume_ml=volume_ml,
        interval_ml=(volume_ml * (1 - error), volume_ml * (1 + error)),
        method=equation.id,
        published_error=equation.published_error,
        sections_used=(),
        step=step,
    )


# --- reference ------------------------------------------------------------------------------


def reference_volume(
    muscle: str, patient: Patient, tables: ClinicalTables
) -> Reference | NoReference:
    """What a healthy adult of this height and mass (or any adult) measures, with its band."""
    policy = tables.policy
    if patient.age_years is None or patient.age_years < policy.adult_age_years:
        return NoReference(reason="no reference volume is known for children")
    known = tables.muscles.get(muscle)
    if tables.is_group(muscle):
        return NoReference(reason="a group of muscles has no reference volume")
    english = tables.english(muscle)
    reference = None if known is None else known.reference
    if reference is None:
        return NoReference(reason=f"no reference volume of {english} was found in a source")
    given: tuple[Step, ...] = ()
    sd_ml = None
    if isinstance(reference, SampleReference):
        mean_ml, sd_ml = reference.mean_ml, reference.sd_ml
        equation = f"mean of {reference.population}"
    else:
        height_m, weight_kg = patient.height_m, patient.weight_kg
        if height_m is None or weight_kg is None:
            return NoReference(
                reason="the reference volume grows with height × mass; give height and weight"
            )
        mean_ml = reference.slope_ml_per_m_kg * height_m * weight_kg + reference.intercept_ml
        equation = (
            f"V = {reference.slope_ml_per_m_kg:g} · height[m] · mass[kg] + "
            f"{reference.intercept_ml:g}"
        )
        given = (
            Step(name="height", value=height_m, unit="m", equation="given", sources=()),
            Step(name="mass", value=weight_kg, unit="kg", equation="given", sources=()),
        )
        if mean_ml <= 0:
            return NoReference(reason="height × mass is outside what the reference holds for")
    if sd_ml is None:
        spread_ml = policy.reference_band_without_sd * mean_ml
        band = f"± {policy.reference_band_without_sd:.0%} (judgement: no spread was found)"
    else:
        spread_ml = policy.reference_band_sds * sd_ml
        band = f"± {policy.reference_band_sds:g} SD of {sd_ml:g} mL"
    low, high = max(0.0, mean_ml - spread_ml), mean_ml + spread_ml
    return Reference(
        volume_ml=mean_ml,
        band_ml=(low, high),
        step=Step(
            name="reference volume",
            value=mean_ml,
            unit="mL",
            equation=equation,
            sources=reference.sources,
            inputs=given,
            text=f"A healthy adult's {english} measures {mean_ml:.1f} mL "
            f"({equation}; band {low:.0f} to {high:.0f} mL, {band}).",
        ),
    )

"""The caps that hold for a dose, and what earlier treatments leave of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.clinic.evidence import CAP_GRADES, Cap, CapKind, DoseRow
from app.clinic.inputs import ClinicalInputs, PriorTreatment
from app.clinic.tables import ClinicalTables

CEILING_JURISDICTION = "US"
"""Whose caps also hold elsewhere, as ceilings: a cap only ever lowers; ranges are never merged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapHeld:
    """A cap that the dose was held to: Units left of it for this muscle, and in words."""

    cap: Cap
    left_units: float
    text: str


def applicable_caps(
    product: str, population: str, jurisdiction: str, tables: ClinicalTables
) -> tuple[Cap, ...]:
    """The caps with a usable value for a product and population: the asked jurisdiction's and, as
    ceilings, those of the US."""
    return tuple(
        cap
        for cap in tables.caps
        if cap.product == product
        and cap.population in (population, "any")
        and cap.jurisdiction in (jurisdiction, CEILING_JURISDICTION)
        and cap.value is not None
        and cap.grade in CAP_GRADES
    )


def cap_units(cap: Cap, weight_kg: float | None) -> float:
    """A cap in Units (or mL, or weeks), per kg times the weight in kg where it goes by weight."""
    return cap.limit(weight_kg)


def interval_caps(
    product: str, population: str, limb: str, jurisdiction: str, tables: ClinicalTables
) -> tuple[Cap, ...]:
    """The minimum intervals in weeks that hold for a limb."""
    return tuple(
        cap
        for cap in applicable_caps(product, population, jurisdiction, tables)
        if cap.kind is CapKind.INTERVAL and cap.where in ("any", limb)
    )


def given_in_window(
    prior: Sequence[PriorTreatment],
    product: str,
    today: dt.date | None,
    *,
    days: float,
    counts: Callable[[PriorTreatment], bool],
) -> float:
    """Units of this product given within the last `days` days, today included, in the treatments
    that count; all of those if today is not known."""
    return sum(
        p.units
        for p in prior
        if p.product == product
        and counts(p)
        and (today is None or 0 <= (today - p.date).days < days)
    )


def site_caps(caps: Sequence[Cap], muscle: str, limb: str) -> tuple[Cap, ...]:
    """The caps on one site of a muscle, whether they are for the muscle, its limb or any."""
    return tuple(c for c in caps if c.kind is CapKind.SITE and c.where in ("any", limb, muscle))


def limits_total(cap: Cap, limb: str) -> bool:
    """True for a cap on all that one treatment of this limb gets: limb, session or window."""
    return cap.kind in (CapKind.SESSION, CapKind.LIMB, CapKind.CUMULATIVE) and cap.where in (
        "any",
        limb,
    )


def limits_of(
    caps: Sequence[Cap],
    row: DoseRow,
    limb: str,
    inputs: ClinicalInputs,
    today: dt.date | None,
    tables: ClinicalTables,
) -> tuple[CapHeld, ...]:
    """The caps on the muscle, limb, session and window, less what was already given."""
    prior, weight_kg = inputs.treatments, inputs.patient.weight_kg

    def in_limb(treatment: PriorTreatment) -> bool:
        return treatment.muscles is None or any(
            not tables.knows_muscle(m) or tables.limb_of(m) == limb for m in treatment.muscles
        )

    def in_muscle(treatment: PriorTreatment) -> bool:
        return treatment.muscles is None or row.muscle in treatment.muscles

    limits = []
    for cap in caps:
        if cap.kind is CapKind.MUSCLE and cap.where == row.muscle:
            days, counts = 1.0, in_muscle
        elif not limits_total(cap, limb):
            continue
        elif cap.kind is CapKind.CUMULATIVE:
            days, counts = cap.window_days, lambda treatment: True
        else:
            days, counts = 1.0, in_limb if cap.where == limb else lambda treatment: True
        whole = cap.limit(weight_kg)
        given = given_in_window(prior, row.product, today, days=days, counts=counts)
        scope = cap.note or f"{cap.kind} {cap.where}"
        less = f", less {given:g} Units already given" if given else ""
        limits.append(
            CapHeld(
                cap=cap,
                left_units=max(0.0, whole - given),
                text=f"Cap ({scope}): {cap_words(cap, weight_kg)}{less}.",
            )
        )
    return tuple(limits)


def cap_words(cap: Cap, weight_kg: float | None) -> str:
    """A cap's value in words, with the multiplication where it goes by weight."""
    if cap.unit == "units_per_kg":
        return f"{cap.value:g} Units/kg × {weight_kg or 0:g} kg = {cap.limit(weight_kg):g} Units"
    return f"{cap.value:g} {'mL' if cap.unit == 'ml' else 'Units'}"

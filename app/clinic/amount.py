"""The arithmetic of a dose: from the range to whole dispensing steps, never above any cap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from app.clinic.caps import CapHeld, cap_words
from app.clinic.evidence import Cap, DoseRow, Grade
from app.clinic.inputs import ClinicalInputs
from app.clinic.tables import ClinicalTables
from app.clinic.volume import NoReference, Reference

TOLERANCE = 1e-9
"""Units: what floating point may add or take; far below any dispensing step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseAdjustment:
    """One change of the dose on its way: Units before and after, why, and by which source."""

    reason: str
    before_units: float
    after_units: float
    sources: tuple[str, ...]
    grade: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseCase:
    """What stays the same for one request, whatever the volume is.

    `low` and `high` are the range in Units, `base` the dose before the volume counts;
    `most_units` is what the last treatment allows at most (None: no limit);
    `sites_available` is above 0;
    `site_limit` is (Units per site in whole dispensing steps, the cap) of the tightest site cap.
    """

    tables: ClinicalTables
    row: DoseRow
    is_group: bool
    low: float
    high: float
    base: float
    most_units: float | None
    most_text: str
    reference: Reference | NoReference
    limits: tuple[CapHeld, ...]
    site_limit: tuple[float, Cap] | None
    step_units: float
    site_range: tuple[int, int]
    sites_available: int | None
    sites_by_hand: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseAmount:
    """Units after all steps, the ratio used, the number of sites, and the adjustments.

    No Units, no sites.
    """

    units: float
    ratio: float
    site_count: int
    adjustments: tuple[DoseAdjustment, ...]


def amount_of(case: DoseCase, volume_ml: float | None) -> DoseAmount:
    """The dose for a volume in mL (None: ratio 1), never above any cap, rounded down.

    No site is left without a dispensing step, unless the physician chose the number of sites.
    """
    policy, row = case.tables.policy, case.row
    adjustments: list[DoseAdjustment] = []

    def adjust(
        reason: str, before: float, after: float, sources: tuple[str, ...], grade: str, text: str
    ) -> float:
        if abs(after - before) > TOLERANCE:
            adjustments.append(
                DoseAdjustment(
                    reason=reason,
                    before_units=before,
                    after_units=after,
                    sources=sources,
                    grade=grade,
                    text=text,
                )
            )
        return after

    units, ratio = case.base, 1.0
    # A group has no reference volume, so its dose is never scaled by one member's.
    if volume_ml is not None and isinstance(case.reference, Reference):
        low, high = policy.volume_ratio_bounds
        measured = volume_ml / case.reference.volume_ml
        ratio = min(high, max(low, measured))
        bounded = "" if ratio == measured else f", bounded to {ratio:g}"
        units = adjust(
            "volume_ratio",
            units,
            units * ratio,
            ("POLICY", *case.reference.step.sources),
            Grade.JUDGEMENT,
            f"Measured over reference volume is {measured:.2f}{bounded} (research feature).",
        )
    units = adjust(
        "label_maximum",
        units,
        min(units, case.high),
        row.sources,
        row.grade,
        f"Upper end of the range: {case.high:g} Units.",
    )
    units = adjust(
        "label_minimum",
        units,
        max(units, case.low),
        row.sources,
        row.grade,
        f"Lower end of the range: {case.low:g} Units.",
    )
    if case.most_units is not None:
        units = adjust(
            "follow_up_limit",
            units,
            min(units, case.most_units),
            ("POLICY",),
            Grade.JUDGEMENT,
            case.most_text,
        )
    for limit in case.limits:
        units = adjust(
            f"{limit.cap.kind}_cap",
            units,
            min(units, limit.left_units),
            limit.cap.sources,
            limit.cap.grade,
            limit.text,
        )
    sites = _site_count(case, units, volume_ml)
    if case.site_limit is not None:
        per_site, cap = case.site_limit
        units = adjust(
            "site_cap",
            units,
            min(units, per_site * sites),
            cap.sources,
            cap.grade,
            f"Cap per site ({cap_words(cap, None)}) × {sites} "
            f"site{'s' if sites > 1 else ''}: {per_site * sites:g} Units.",
        )
    units = adjust(
        "dispensing_step",
        units,
        down_to_step(units, case.step_units),
        ("POLICY",),
        Grade.JUDGEMENT,
        f"Rounded down to the dispensing step of {case.step_units:g} Units.",
    )
    if case.sites_by_hand is None:
        sites = min(sites, round(units / case.step_units))
    return DoseAmount(units=units, ratio=ratio, site_count=sites, adjustments=tuple(adjustments))


def _site_count(case: DoseCase, units: float, volume_ml: float | None) -> int:
    """How many sites: what the site cap and the muscle's size ask for, inside the label's range,
    and no more than could be placed; or as many as the physician chose."""
    if case.sites_by_hand is not None:
        return case.sites_by_hand
    fewest, most = case.site_range
    wanted = fewest
    if case.site_limit is not None and case.site_limit[0] > 0:
        wanted = max(wanted, math.ceil(units / case.site_limit[0] - TOLERANCE))
    if volume_ml is not None and not case.is_group:
        wanted = max(wanted, math.ceil(volume_ml / case.tables.policy.ml_per_site - TOLERANCE))
    wanted = min(wanted, most)
    return wanted if case.sites_available is None else min(wanted, case.sites_available)


def site_limit_of(
    caps: Sequence[Cap], inputs: ClinicalInputs, step_units: float
) -> tuple[float, Cap] | None:
    """(Units per site in whole steps, the cap) of the tightest of the caps on a site; a cap in mL
    needs a dilution."""
    found: list[tuple[float, Cap]] = []
    for cap in caps:
        units = cap.limit(inputs.patient.weight_kg)
        if cap.unit == "ml":
            if inputs.dilution is None:
                continue
            units *= inputs.dilution.units_per_ml
        found.append((down_to_step(units, step_units), cap))
    return min(found, key=lambda pair: pair[0]) if found else None


def down_to_step(units: float, step_units: float) -> float:
    """The largest multiple of the step that is not above `units`: rounding goes down, here."""
    return math.floor(units / step_units + TOLERANCE) * step_units


def share_out(units: float, sites: int, step_units: float) -> tuple[float, ...]:
    """The Units of each site, in whole dispensing steps, which add up to `units`.

    No site gets more than one step above another; the first sites get the steps left over.
    """
    steps = round(units / step_units)
    least, more = divmod(steps, sites)
    return tuple((least + (index < more)) * step_units for index in range(sites))

"""The dose in one product's Units: a range from the tables, a place in it, and the caps over it.

No range, no dose. Every change on the way is a `DoseAdjustment` with its source; the caps win
over everything; rounding goes down, in `app.clinic.amount.down_to_step` alone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.clinic.amount import (
    TOLERANCE,
    DoseAdjustment,
    DoseAmount,
    DoseCase,
    amount_of,
    share_out,
    site_limit_of,
)
from app.clinic.caps import CapHeld, applicable_caps, limits_of, limits_total, site_caps
from app.clinic.caps import cap_units as cap_units
from app.clinic.derivation import Step
from app.clinic.dose_cautions import DoseCaution, dose_cautions
from app.clinic.dose_rows import DoseRefused, find_row, refused
from app.clinic.evidence import DoseRow
from app.clinic.inputs import ClinicalInputs
from app.clinic.position import position_of
from app.clinic.products import ToxinUnits
from app.clinic.tables import ClinicalTables
from app.clinic.volume import (
    MuscleVolume,
    NoReference,
    Reference,
    VolumeUnknown,
    reference_volume,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DosePlan:
    """A dose for one muscle or group: Units with their interval, shared out over the sites.

    `label_min_units` and `label_max_units` are the row's range for this patient; `site_count`
    lies in the row's `label_sites` unless fewer could be placed. For a group row (`group`) the
    Units are the whole group's (or one `group_part`'s) and never one member's.
    `below_label_min`: a cap or the rounding left less than the range's lower end; it is never
    raised.
    """

    units: ToxinUnits
    interval_units: tuple[float, float]
    label_min_units: float
    label_max_units: float
    site_count: int
    label_sites: tuple[int, int] | None
    units_per_site: tuple[float, ...]
    ml_per_site: tuple[float, ...] | None
    total_ml: float | None
    volume_ratio: float
    position: float
    reference: Reference | NoReference
    adjustments: tuple[DoseAdjustment, ...]
    caps: tuple[CapHeld, ...]
    cautions: tuple[DoseCaution, ...]
    row: DoseRow
    group: str | None
    group_part: str | None
    below_label_min: bool
    step: Step

    @property
    def grade(self) -> str:
        return self.row.grade.value

    @property
    def sources(self) -> tuple[str, ...]:
        return self.row.sources


def plan_dose(
    inputs: ClinicalInputs,
    volume: MuscleVolume | VolumeUnknown,
    tables: ClinicalTables,
    *,
    today: dt.date | None = None,
    sites_available: int | None = None,
    sites_by_hand: int | None = None,
) -> DosePlan | DoseRefused:
    """The dose for one muscle or group, or why there is none.

    `sites_available` is how many sites could be placed on the image; fewer sites than wanted
    lower the dose where a cap holds per site. `sites_by_hand` is how many the physician chose:
    then it is that many, and a number outside the row's is named.
    """
    row = find_row(inputs, tables)
    if isinstance(row, DoseRefused):
        return row
    policy, weight_kg = tables.policy, inputs.patient.weight_kg
    caps = applicable_caps(row.product, row.population, inputs.jurisdiction, tables)
    by_weight = row.units is None or any(cap.unit == "units_per_kg" for cap in caps)
    if weight_kg is None and (by_weight or row.population == "paediatric"):
        return refused(
            "needs_weight",
            "The dose or a cap goes by weight, and the weight is unknown.",
            "patient.weight_kg",
            "Give the weight in kilograms.",
        )
    limb = tables.limb_of(row.muscle)
    totals = tuple(c for c in caps if limits_total(c, limb))
    if row.population == "paediatric" and not totals:
        return refused(
            "missing_paediatric_total",
            f"No total for children was found for {row.product} in the "
            f"{limb.replace('_', ' ')}, and without it no child's dose is planned.",
            f"caps.csv {row.product}/paediatric: session, limb or cumulative cap",
            "Have the site's own reviewed cap added with its source.",
        )
    low, high = row.range_units(weight_kg)
    position = position_of(inputs, policy)
    reference = reference_volume(row.muscle, inputs.patient, tables)
    step_units = policy.dispensing_step_units[row.product]
    per_site_caps = site_caps(caps, row.muscle, limb)
    site_limit = site_limit_of(per_site_caps, inputs, step_units)
    case = DoseCase(
        tables=tables,
        row=row,
        is_group=tables.is_group(row.muscle),
        low=low,
        high=high,
        base=low + position.fraction * (high - low),
        most_units=position.most_units,
        most_text=position.most_text,
        reference=reference,
        limits=limits_of(caps, row, limb, inputs, today, tables),
        site_limit=site_limit,
        step_units=step_units,
        site_range=row.sites or policy.sites_without_label,
        sites_available=sites_available,
        sites_by_hand=sites_by_hand,
    )
    amount = amount_of(case, volume.volume_ml if isinstance(volume, MuscleVolume) else None)
    if amount.units <= 0:
        too_thin = site_limit is not None and site_limit[0] <= 0
        return refused(
            "nothing_left_under_caps",
            "Under the caps, with what was already given, no dose is left: "
            + " ".join(a.text for a in amount.adjustments if a.after_units < a.before_units),
            "dilution" if too_thin else "prior_treatments",
            "Use a stronger dilution: one site holds less than a dispensing step."
            if too_thin
            else "Wait until the window has passed, or check the earlier treatments.",
        )
    ends = (
        [amount_of(case, end).units for end in volume.interval_ml]
        if isinstance(volume, MuscleVolume)
        else [amount.units]
    )
    per_site = share_out(amount.units, amount.site_count, case.step_units)
    dilution = inputs.dilution
    below = amount.units < low - TOLERANCE
    return DosePlan(
        units=ToxinUnits(row.product, amount.units),
        interval_units=(min(*ends, amount.units), max(*ends, amount.units)),
        label_min_units=low,
        label_max_units=high,
        site_count=amount.site_count,
        label_sites=row.sites,
        units_per_site=per_site,
        ml_per_site=None
        if dilution is None
        else tuple(dilution.ml_of(units) for units in per_site),
        total_ml=None if dilution is None else dilution.ml_of(amount.units),
        volume_ratio=amount.ratio,
        position=position.fraction,
        reference=reference,
        adjustments=amount.adjustments,
        caps=case.limits,
        cautions=(
            *position.cautions,
            *dose_cautions(case, amount, volume, inputs, caps, totals),
        ),
        row=row,
        group=row.muscle if case.is_group else None,
        group_part=tables.groups[row.muscle].part if case.is_group else None,
        below_label_min=below,
        step=_derivation(case, amount, position.step, volume, weight_kg),
    )


def with_less(
    dose: DosePlan,
    units: float,
    adjustments: Sequence[DoseAdjustment],
    inputs: ClinicalInputs,
    tables: ClinicalTables,
) -> DosePlan | DoseRefused:
    """The dose cut to fewer Units (whole dispensing steps) by a session's joint caps.

    Refused where nothing is left; never more than it was.
    """
    if units > dose.units.value:
        raise ValueError(f"a cut cannot raise {dose.units} to {units}")
    if units <= 0:
        return refused(
            "nothing_left_under_caps",
            "Under the session's caps no dose is left for this muscle.",
            "priority",
            "Give it a higher priority, or treat it in another session.",
        )
    product, dilution = dose.units.product, inputs.dilution
    step_units = tables.policy.dispensing_step_units[product]
    site_count = min(dose.site_count, round(units / step_units))
    per_site = share_out(units, site_count, step_units)
    step = dose.step
    for adjustment in adjustments:
        step = Step(
            name=adjustment.reason,
            value=adjustment.after_units,
            unit=f"{product} Units",
            equation=f"{adjustment.before_units:g} → {adjustment.after_units:g}",
            sources=adjustment.sources,
            inputs=(step,),
            text=f"{adjustment.text} {adjustment.before_units:g} → {adjustment.after_units:g} "
            "Units.",
        )
    # What is cut lies under the dose, so under the interval's upper end too.
    low, _ = dose.interval_units
    return replace(
        dose,
        units=ToxinUnits(product, units),
        interval_units=(min(low, units), units),
        site_count=site_count,
        units_per_site=per_site,
        ml_per_site=None
        if dilution is None
        else tuple(dilution.ml_of(amount) for amount in per_site),
        total_ml=None if dilution is None else dilution.ml_of(units),
        adjustments=(*dose.adjustments, *adjustments),
        below_label_min=units < dose.label_min_units - TOLERANCE,
        step=step,
    )


def _derivation(
    case: DoseCase,
    amount: DoseAmount,
    position: Step,
    volume: MuscleVolume | VolumeUnknown,
    weight_kg: float | None,
) -> Step:
    row = case.row
    per_kg = row.units_per_kg
    range_step = Step(
        name="range",
        value=f"{case.low:g} to {case.high:g}",
        unit=f"{row.product} Units",
        equation=f"row {row.key}"
        if per_kg is None
        else f"row {row.key}: {per_kg[0]:g} to {per_kg[1]:g} Units/kg × {weight_kg or 0:g} kg",
        sources=row.sources,
        text=f"The range of {row.product} for {case.tables.english(row.muscle)} "
        f"({row.indication}, {row.population}, {row.jurisdiction}, grade {row.grade}) is "
        f"{case.low:g} to {case.high:g} Units.",
    )
    step = Step(
        name="dose before volume",
        value=case.base,
        unit=f"{row.product} Units",
        equation="minimum + position × (maximum − minimum)",
        sources=("POLICY",),
        inputs=(range_step, position),
        text=f"That is {case.base:g} Units before the volume counts.",
    )
    volume_inputs: tuple[Step, ...] = ()
    if isinstance(volume, MuscleVolume):
        volume_inputs = (volume.step,)
    if isinstance(case.reference, Reference):
        volume_inputs = (*volume_inputs, case.reference.step)
    for index, adjustment in enumerate(amount.adjustments):
        beside = volume_inputs if adjustment.reason == "volume_ratio" else ()
        step = Step(
            name=adjustment.reason,
            value=adjustment.after_units,
            unit=f"{row.product} Units",
            equation=f"{adjustment.before_units:g} → {adjustment.after_units:g}",
            sources=adjustment.sources,
            inputs=(step, *beside),
            text=f"{adjustment.text} {adjustment.before_units:g} → {adjustment.after_units:g} "
            f"Units (step {index + 1}).",
        )
    return Step(
        name="dose",
        value=amount.units,
        unit=f"{row.product} Units",
        equation="the range's dose after every adjustment",
        sources=row.sources,
        inputs=(step,),
        text=f"The dose is {amount.units:g} {row.product} Units over {amount.site_count} "
        f"site{'s' if amount.site_count > 1 else ''}.",
    )

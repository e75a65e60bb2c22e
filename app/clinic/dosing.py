"""The dose in one product's Units: a range from the tables, a place in it, and the caps over it.

No range, no dose. Every change on the way is a `DoseAdjustment` with its source; the caps win
over everything; rounding goes down, in `down_to_step` alone.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from app.clinic.derivation import Step
from app.clinic.evidence import CAP_GRADES, DOSE_GRADES, Cap, CapKind, DoseRow, Grade
from app.clinic.inputs import ClinicalInputs, Dilution, Patient, PriorTreatment
from app.clinic.policy import Policy
from app.clinic.products import ToxinUnits
from app.clinic.tables import ClinicalTables
from app.clinic.volume import (
    MuscleVolume,
    NoReference,
    Reference,
    VolumeUnknown,
    reference_volume,
)

OFF_LABEL = "off_label_consensus"
"""The indication's name of the consensus rows, used only where off-label planning is asked for."""

CEILING_JURISDICTION = "US"
"""Whose caps also hold elsewhere, as ceilings: a cap only ever lowers; ranges are never merged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseRefused:
    """Why there is no dose: a stable code, the reason, the field or row that is missing, the way
    out."""

    code: str
    reason: str
    missing_field: str | None
    remedy: str
    available_from: dt.date | None = None


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
class DoseCaution:
    """Something about the dose that the physician must know."""

    code: str
    text: str
    sources: tuple[str, ...]
    blocks_confirmation: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CapHeld:
    """A cap that the dose was held to: Units left of it for this muscle, and in words."""

    cap: Cap
    left_units: float
    text: str


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


# --- which row ------------------------------------------------------------------------------


def population_of(patient: Patient, policy: Policy) -> str | None:
    """`adult` or `paediatric`, None where the age is unknown."""
    if patient.age_years is None:
        return None
    return "adult" if patient.age_years >= policy.adult_age_years else "paediatric"


def find_row(inputs: ClinicalInputs, tables: ClinicalTables) -> DoseRow | DoseRefused:
    """The one dose row that answers the request, or the refusal that names what is missing.

    A label row of the asked indication comes first; a consensus row only with `off_label`; a row
    of another jurisdiction never.
    """
    if inputs.product is None:
        return _refused(
            "needs_product",
            "No product was named, so this is a measurement only.",
            "product",
            "Name the product to get a dose.",
        )
    if inputs.indication is None:
        return _refused(
            "needs_indication",
            "No indication was named, and the dose depends on it.",
            "indication",
            "Name the indication, for example upper_limb_spasticity.",
        )
    population = population_of(inputs.patient, tables.policy)
    if population is None or inputs.patient.age_years is None:
        return _refused(
            "needs_age",
            "The age is unknown, and children and adults have different rows.",
            "patient.age_years",
            "Give the patient's age in years.",
        )
    if inputs.indication == OFF_LABEL and not inputs.off_label:
        return _refused(
            "off_label_not_asked",
            "The consensus rows are off-label and used only when that is asked for.",
            "off_label",
            "Set off_label to true to plan off-label, as the physician's own decision.",
        )
    row = _row(inputs, inputs.indication, population, tables)
    if (row is None or not _usable(row)) and inputs.off_label:
        row = _row(inputs, OFF_LABEL, population, tables) or row
    if row is None:
        return _no_row(inputs, population, tables)
    if not row.has_range or row.grade is Grade.MISSING:
        return _refused(
            "missing_dose_range",
            f"The dose range of {row.product} for {tables.english(row.muscle)} was not found in a "
            f"source ({row.note or 'no note'}).",
            f"dose_rows.csv {row.key}: units_min, units_max",
            "Choose another product, or have the site's own reviewed row added with its source.",
        )
    if row.grade not in DOSE_GRADES or (row.grade is Grade.CONSENSUS and not inputs.off_label):
        return _refused(
            "grade_not_usable",
            f"The row {row.key} is of grade {row.grade}, which gives no dose here.",
            f"dose_rows.csv {row.key}: grade",
            "Have the site's own reviewed row added with its source.",
        )
    too_young = _below_label_age(inputs, row, population, tables)
    return too_young or row


def _refused(code: str, reason: str, field: str | None, remedy: str) -> DoseRefused:
    return DoseRefused(code=code, reason=reason, missing_field=field, remedy=remedy)


def _row(
    inputs: ClinicalInputs, indication: str, population: str, tables: ClinicalTables
) -> DoseRow | None:
    asked = (inputs.product, indication, population, inputs.jurisdiction, inputs.muscle)
    for row in tables.dose_rows:
        if (row.product, row.indication, row.population, row.jurisdiction, row.muscle) == asked:
            return row
    return None


def _usable(row: DoseRow) -> bool:
    return row.has_range and row.grade in DOSE_GRADES


def _below_label_age(
    inputs: ClinicalInputs, row: DoseRow, population: str, tables: ClinicalTables
) -> DoseRefused | None:
    age = inputs.patient.age_years
    for i in tables.indications:
        same = (i.product, i.indication, i.population, i.jurisdiction) == (
            row.product,
            row.indication,
            population,
            row.jurisdiction,
        )
        if same and age is not None and age < i.age_min_years:
            return _refused(
                "below_label_age",
                f"{row.product} for {row.indication} is for patients of {i.age_min_years:g} years "
                f"or older ({', '.join(i.sources)}); this patient is {age:g}.",
                "patient.age_years",
                "No dose can be planned at this age.",
            )
    return None


def _no_row(inputs: ClinicalInputs, population: str, tables: ClinicalTables) -> DoseRefused:
    """The refusal for a request without a row, naming the rows that come near it."""
    wanted = (
        f"{inputs.product}/{inputs.indication}/{population}/{inputs.jurisdiction}/{inputs.muscle}"
    )
    name = tables.english(inputs.muscle)
    near = [
        r for r in tables.dose_rows if r.product == inputs.product and r.population == population
    ]
    here = [r for r in near if r.jurisdiction == inputs.jurisdiction]
    groups = tables.groups_with(inputs.muscle)
    asked = (inputs.indication, OFF_LABEL) if inputs.off_label else (inputs.indication,)
    in_group = [r.muscle for r in here if r.muscle in groups and r.indication in asked]
    if in_group:
        listed = ", ".join(dict.fromkeys(in_group))
        return _refused(
            "group_row_only",
            f"There is no row for {name} alone; only the group row {listed} exists, and a group's "
            "dose is never given to one member.",
            f"dose_rows.csv {wanted}",
            f"Ask for the group by name (muscle: {listed}), or have a reviewed row for {name} "
            "added.",
        )
    hints = []
    off_label = [
        r.muscle
        for r in here
        if r.indication == OFF_LABEL and (r.muscle == inputs.muscle or r.muscle in groups)
    ]
    if off_label and not inputs.off_label:
        listed = ", ".join(dict.fromkeys(off_label))
        hints.append(f"an off-label consensus row exists for {listed}, if asked for by off_label")
    elsewhere = sorted(
        {
            r.jurisdiction
            for r in near
            if r.muscle == inputs.muscle
            and r.indication == inputs.indication
            and r.jurisdiction != inputs.jurisdiction
        }
    )
    if elsewhere:
        hints.append(
            f"the label of {', '.join(elsewhere)} has one, if that jurisdiction is asked for"
        )
    known = "; ".join(hints)
    return _refused(
        "no_dose_row",
        f"No dose range of {inputs.product} for {name} ({inputs.indication}, {population}, "
        f"{inputs.jurisdiction}) was found in a source" + (f"; {known}." if known else "."),
        f"dose_rows.csv {wanted}",
        "Choose another product, or have the site's own reviewed row added with its source.",
    )


# --- caps -----------------------------------------------------------------------------------


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
    counts: Callable[[PriorTreatment], bool] = lambda treatment: True,
) -> float:
    """Units of this product given within the last `days` days, today included; all if no date."""
    return sum(
        p.units
        for p in prior
        if p.product == product
        and counts(p)
        and (today is None or 0 <= (today - p.date).days < days)
    )


# --- the dose -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What stays the same for one request, whatever the volume is.

    `low` and `high` are the range in Units, `base` the dose before the volume counts;
    `site_limit` is (Units per site in whole dispensing steps, the cap) of the tightest site cap.
    """

    tables: ClinicalTables
    row: DoseRow
    is_group: bool
    low: float
    high: float
    base: float
    reference: Reference | NoReference
    limits: tuple[CapHeld, ...]
    site_limit: tuple[float, Cap] | None
    step_units: float
    site_range: tuple[int, int]
    sites_available: int | None
    sites_by_hand: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Amount:
    """Units after all steps, the ratio used, the number of sites, and the adjustments."""

    units: float
    ratio: float
    site_count: int
    adjustments: tuple[DoseAdjustment, ...]


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
        return _refused(
            "needs_weight",
            "The dose or a cap goes by weight, and the weight is unknown.",
            "patient.weight_kg",
            "Give the weight in kilograms.",
        )
    limb = tables.limb_of(row.muscle)
    totals = tuple(c for c in caps if _limits_total(c, limb))
    if row.population == "paediatric" and not totals:
        return _refused(
            "missing_paediatric_total",
            f"No total for children was found for {row.product} in the "
            f"{limb.replace('_', ' ')}, and without it no child's dose is planned.",
            f"caps.csv {row.product}/paediatric: session, limb or cumulative cap",
            "Have the site's own reviewed cap added with its source.",
        )
    low, high = row.range_units(weight_kg)
    position, position_step, cautions = _position(inputs, policy)
    reference = reference_volume(row.muscle, inputs.patient, tables)
    site_limit = _site_limit(caps, inputs, policy.dispensing_step_units[row.product])
    case = _Case(
        tables=tables,
        row=row,
        is_group=tables.is_group(row.muscle),
        low=low,
        high=high,
        base=low + position * (high - low),
        reference=reference,
        limits=_limits(caps, row, limb, inputs, today, tables),
        site_limit=site_limit,
        step_units=policy.dispensing_step_units[row.product],
        site_range=row.sites or policy.sites_without_label,
        sites_available=sites_available,
        sites_by_hand=sites_by_hand,
    )
    amount = _amount(case, volume.volume_ml if isinstance(volume, MuscleVolume) else None)
    if amount.units <= 0:
        return _refused(
            "nothing_left_under_caps",
            "Under the caps, with what was already given, no dose is left: "
            + " ".join(a.text for a in amount.adjustments if a.after_units < a.before_units),
            "prior_treatments",
            "Wait until the window has passed, or check the earlier treatments.",
        )
    ends = (
        [_amount(case, end).units for end in volume.interval_ml]
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
        position=position,
        reference=reference,
        adjustments=amount.adjustments,
        caps=case.limits,
        cautions=(
            *cautions,
            *_row_cautions(row, inputs, tables),
            *_volume_cautions(case, volume),
            *_cap_cautions(case, caps, totals, amount, inputs),
            *_amount_cautions(case, amount, below),
        ),
        row=row,
        group=row.muscle if case.is_group else None,
        group_part=tables.groups[row.muscle].part if case.is_group else None,
        below_label_min=below,
        step=_derivation(case, amount, position_step, volume, weight_kg),
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
        return _refused(
            "nothing_left_under_caps",
            "Under the session's caps no dose is left for this muscle.",
            "priority",
            "Give it a higher priority, or treat it in another session.",
        )
    product, dilution = dose.units.product, inputs.dilution
    per_site = share_out(units, dose.site_count, tables.policy.dispensing_step_units[product])
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
    low, high = dose.interval_units
    return replace(
        dose,
        units=ToxinUnits(product, units),
        interval_units=(min(low, units), min(high, units)),
        units_per_site=per_site,
        ml_per_site=None
        if dilution is None
        else tuple(dilution.ml_of(amount) for amount in per_site),
        total_ml=None if dilution is None else dilution.ml_of(units),
        adjustments=(*dose.adjustments, *adjustments),
        below_label_min=units < dose.label_min_units - TOLERANCE,
        step=step,
    )


TOLERANCE = 1e-9
"""Units: what floating point may add or take; far below any dispensing step."""


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


def _limits_total(cap: Cap, limb: str) -> bool:
    return cap.kind in (CapKind.SESSION, CapKind.LIMB, CapKind.CUMULATIVE) and cap.where in (
        "any",
        limb,
    )


def _position(
    inputs: ClinicalInputs, policy: Policy
) -> tuple[float, Step, tuple[DoseCaution, ...]]:
    """Where in the range (0 to 1) severity and the last treatment's response put the dose."""
    cautions: list[DoseCaution] = []
    if inputs.severity is None:
        position, name = policy.severity_missing_position, "severity not given"
        cautions.append(
            DoseCaution(
                code="severity_missing",
                text="Severity was not given: the bottom of the range is used.",
                sources=("POLICY",),
            )
        )
    else:
        position = policy.severity_position_mas[inputs.severity.value]
        name = f"{inputs.severity.scale} {inputs.severity.value}"
        if inputs.severity.value == "0":
            cautions.append(
                DoseCaution(
                    code="no_spasticity",
                    text="MAS 0 is no increase in tone: is there an indication at all?",
                    sources=("POLICY",),
                )
            )
    shift, why = _follow_up_shift(inputs, policy, cautions)
    shifted = min(1.0, max(0.0, position + shift))
    return (
        shifted,
        Step(
            name="position in the range",
            value=shifted,
            unit="1",
            equation=f"{name} → {position:g}" + (f"; {why} → {shift:+g}" if why else ""),
            sources=("POLICY",),
            text=f"{name} puts the dose at {shifted:.0%} of the range"
            + (f" after {why}" if why else "")
            + " (judgement).",
        ),
        tuple(cautions),
    )


def _follow_up_shift(
    inputs: ClinicalInputs, policy: Policy, cautions: list[DoseCaution]
) -> tuple[float, str]:
    """How far the response to the last treatment with this product moves the position, and why.

    Upwards only where that treatment named this muscle; downwards also where it named none.
    """
    earlier = [
        p
        for p in inputs.prior_treatments or ()
        if p.product == inputs.product
        and p.response is not None
        and (p.muscles is None or inputs.muscle in p.muscles)
    ]
    if not earlier:
        return 0.0, ""
    last = max(earlier, key=lambda p: p.date)
    response = last.response or ""
    shift = policy.follow_up_step.get(response)
    if shift is None:
        cautions.append(
            DoseCaution(
                code="response_not_used",
                text=f"The response {response!r} of the last treatment was not used; known are "
                f"{', '.join(policy.follow_up_step)}.",
                sources=("POLICY",),
            )
        )
        return 0.0, ""
    if shift > 0 and last.muscles is None:
        return 0.0, ""
    return shift, f"the response {response!r} to {last.units:g} Units on {last.date.isoformat()}"


def _limits(
    caps: Sequence[Cap],
    row: DoseRow,
    limb: str,
    inputs: ClinicalInputs,
    today: dt.date | None,
    tables: ClinicalTables,
) -> tuple[CapHeld, ...]:
    """The caps on the muscle, limb, session and window, less what was already given."""
    prior, weight_kg = inputs.prior_treatments or (), inputs.patient.weight_kg

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
        elif not _limits_total(cap, limb):
            continue
        elif cap.kind is CapKind.CUMULATIVE:
            days, counts = 7 * (cap.window_weeks or 0.0), lambda treatment: True
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
                text=f"Cap ({scope}): {_cap_words(cap, weight_kg)}{less}.",
            )
        )
    return tuple(limits)


def _cap_words(cap: Cap, weight_kg: float | None) -> str:
    if cap.unit == "units_per_kg":
        return f"{cap.value:g} Units/kg × {weight_kg or 0:g} kg = {cap.limit(weight_kg):g} Units"
    return f"{cap.value:g} {'mL' if cap.unit == 'ml' else 'Units'}"


def _site_limit(
    caps: Sequence[Cap], inputs: ClinicalInputs, step_units: float
) -> tuple[float, Cap] | None:
    """(Units per site in whole steps, the cap) of the tightest site cap; mL needs a dilution."""
    found: list[tuple[float, Cap]] = []
    for cap in caps:
        if cap.kind is not CapKind.SITE:
            continue
        units = cap.limit(inputs.patient.weight_kg)
        if cap.unit == "ml":
            if inputs.dilution is None:
                continue
            units *= inputs.dilution.units_per_ml
        found.append((down_to_step(units, step_units), cap))
    return min(found, key=lambda pair: pair[0]) if found else None


def _amount(case: _Case, volume_ml: float | None) -> _Amount:
    """The dose for a volume in mL (None: ratio 1), never above any cap, rounded down."""
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
    if volume_ml is not None and not case.is_group and isinstance(case.reference, Reference):
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
            f"Cap per site ({_cap_words(cap, None)}) × {sites} "
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
    return _Amount(units=units, ratio=ratio, site_count=sites, adjustments=tuple(adjustments))


def _site_count(case: _Case, units: float, volume_ml: float | None) -> int:
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
    return wanted if case.sites_available is None else max(1, min(wanted, case.sites_available))


# --- what to say beside the dose ------------------------------------------------------------


def _row_cautions(
    row: DoseRow, inputs: ClinicalInputs, tables: ClinicalTables
) -> list[DoseCaution]:
    words = {
        Grade.COMPENDIUM: (
            "compendium_row",
            "The range was read in a drug compendium that quotes the label, not in the label.",
        ),
        Grade.REGIONAL_LABEL: (
            "regional_label_row",
            f"The range is that of the label of {row.jurisdiction}, as asked for.",
        ),
        Grade.CORROBORATED: (
            "corroborated_row",
            "The range was recalled and agrees with sourced totals: check it in the label before "
            "use.",
        ),
        Grade.CONSENSUS: (
            "off_label_consensus",
            "OFF-LABEL: a consensus table of 2005, used because off-label planning was asked for.",
        ),
        Grade.SITE: (
            "site_row",
            f"The range is the site's own ({row.origin or 'own table'}).",
        ),
    }
    found = []
    if row.grade in words:
        code, text = words[row.grade]
        note = f" Note: {row.note}." if row.note else ""
        found.append(DoseCaution(code=code, text=text + note, sources=row.sources))
    if tables.is_group(row.muscle):
        group = tables.groups[row.muscle]
        what = f"one {group.part}" if group.part else "the whole group"
        found.append(
            DoseCaution(
                code="group_row",
                text=f"The dose is for {what} ({group.english}), not for one muscle of it; the "
                "physician shares it out.",
                sources=row.sources,
            )
        )
    for i in tables.indications:
        same = (i.product, i.indication, i.population, i.jurisdiction) == (
            row.product,
            row.indication,
            row.population,
            row.jurisdiction,
        )
        if same and "excludes" in i.note:
            found.append(
                DoseCaution(
                    code="label_exclusion",
                    text=f"{row.product}: {i.note}.",
                    sources=i.sources,
                )
            )
    if row.sites is None:
        found.append(
            DoseCaution(
                code="no_cap_found",
                text="No cap found: the source gives no number of sites for this row.",
                sources=row.sources,
            )
        )
    return found


def _volume_cautions(case: _Case, volume: MuscleVolume | VolumeUnknown) -> list[DoseCaution]:
    def one(code: str, text: str, *sources: str) -> list[DoseCaution]:
        return [DoseCaution(code=code, text=text, sources=sources or ("POLICY",))]

    if case.is_group:
        return one(
            "dose_not_scaled",
            "The dose of a group is not scaled by a volume (ratio 1).",
        )
    if isinstance(volume, VolumeUnknown):
        return one(
            "volume_unknown",
            f"The volume is unknown, so the dose is not scaled (ratio 1). {volume.reason}",
        )
    reference = case.reference
    if isinstance(reference, NoReference):
        return one(
            "no_reference_volume",
            f"The dose is not scaled by the volume (ratio 1): {reference.reason}.",
        )
    low, high = reference.band_ml
    if low <= volume.volume_ml <= high:
        return []
    return one(
        "volume_outside_reference_band",
        f"The volume {volume.volume_ml:.0f} mL lies outside the plausible {low:.0f} to "
        f"{high:.0f} mL around the reference {reference.volume_ml:.0f} mL: check outline, scale "
        "and length.",
        *reference.step.sources,
    )


def _cap_cautions(
    case: _Case,
    caps: Sequence[Cap],
    totals: Sequence[Cap],
    amount: _Amount,
    inputs: ClinicalInputs,
) -> list[DoseCaution]:
    row, tables = case.row, case.tables
    limb = tables.limb_of(row.muscle)
    found = []
    site_caps = [c for c in caps if c.kind is CapKind.SITE]
    intervals = interval_caps(row.product, row.population, limb, inputs.jurisdiction, tables)
    for what, known in (
        ("for one site", site_caps),
        ("for the interval between treatments", intervals),
        ("for the session", totals),
    ):
        if not known:
            found.append(
                DoseCaution(
                    code="no_cap_found",
                    text=f"No cap found {what} of {row.product} ({row.population}).",
                    sources=("POLICY",),
                )
            )
    if inputs.dilution is None:
        in_ml = [c for c in site_caps if c.unit == "ml"]
        found.append(
            DoseCaution(
                code="dilution_unknown",
                text=f"The dilution is unknown, so the cap of {_cap_words(in_ml[0], None)} per "
                "site cannot be checked. Give it before confirming."
                if in_ml
                else "The dilution is unknown, so no millilitres can be given.",
                sources=in_ml[0].sources if in_ml else ("POLICY",),
                blocks_confirmation=bool(in_ml),
            )
        )
    else:
        found += _dilution_caution(row.product, inputs.dilution, tables.policy)
    binding = {(a.sources, a.text) for a in amount.adjustments}
    for limit in case.limits:
        cap = limit.cap
        binds = (cap.sources, limit.text) in binding
        only = all(c.grade is Grade.SECONDARY for c in totals)
        if cap.grade is Grade.SECONDARY and (binds or only):
            found.append(
                DoseCaution(
                    code="secondary_cap",
                    text=f"{limit.text} It was read in a secondary source: check it in the label.",
                    sources=cap.sources,
                )
            )
        if binds and cap.jurisdiction != inputs.jurisdiction:
            found.append(
                DoseCaution(
                    code="cap_of_other_jurisdiction",
                    text=f"{limit.text} It is the cap of {cap.jurisdiction}, kept as a ceiling.",
                    sources=cap.sources,
                )
            )
    return found


def _dilution_caution(product: str, dilution: Dilution, policy: Policy) -> list[DoseCaution]:
    usual = policy.dilution_usual_units_per_ml.get(product)
    if usual is None or usual[0] <= dilution.units_per_ml <= usual[1]:
        return []
    return [
        DoseCaution(
            code="dilution_unusual",
            text=f"{dilution.units:g} Units in {dilution.ml:g} mL is {dilution.units_per_ml:g} "
            f"Units/mL, outside the usual {usual[0]:g} to {usual[1]:g}: check it before drawing "
            "up.",
            sources=policy.entries["dilution_usual_units_per_ml"].sources,
        )
    ]


def _amount_cautions(case: _Case, amount: _Amount, below: bool) -> list[DoseCaution]:
    found = []
    if below:
        found.append(
            DoseCaution(
                code="below_label_minimum",
                text=f"{amount.units:g} Units are below the range's lower end of {case.low:g}; "
                "the dose is not raised.",
                sources=case.row.sources,
            )
        )
    if case.row.sites is not None and amount.site_count > case.row.sites[1]:
        found.append(
            DoseCaution(
                code="more_sites_than_label",
                text=f"{amount.site_count} sites were chosen by hand; the row has at most "
                f"{case.row.sites[1]}.",
                sources=case.row.sources,
            )
        )
    if case.row.sites is not None and amount.site_count < case.row.sites[0]:
        found.append(
            DoseCaution(
                code="fewer_sites_than_label",
                text=f"{amount.site_count} sites, where the row has at least {case.row.sites[0]}.",
                sources=case.row.sources,
            )
        )
    return found


def _derivation(
    case: _Case,
    amount: _Amount,
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

"""Which dose row answers a request, or why none does."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from app.clinic.evidence import DOSE_GRADES, DoseRow, Grade
from app.clinic.inputs import ClinicalInputs, Patient
from app.clinic.policy import Policy
from app.clinic.tables import ClinicalTables

OFF_LABEL = "off_label_consensus"
"""The indication's name of the consensus rows, used only where off-label planning is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseRefused:
    """Why there is no dose: a stable code, the reason, the field or row that is missing, the way
    out."""

    code: str
    reason: str
    missing_field: str | None
    remedy: str
    available_from: dt.date | None = None


def refused(code: str, reason: str, field: str | None, remedy: str) -> DoseRefused:
    return DoseRefused(code=code, reason=reason, missing_field=field, remedy=remedy)


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
        return refused(
            "needs_product",
            "No product was named, so this is a measurement only.",
            "product",
            "Name the product to get a dose.",
        )
    if inputs.indication is None:
        return refused(
            "needs_indication",
            "No indication was named, and the dose depends on it.",
            "indication",
            "Name the indication, for example upper_limb_spasticity.",
        )
    population = population_of(inputs.patient, tables.policy)
    if population is None:
        return refused(
            "needs_age",
            "The age is unknown, and children and adults have different rows.",
            "patient.age_years",
            "Give the patient's age in years.",
        )
    if inputs.indication == OFF_LABEL and not inputs.off_label:
        return refused(
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
        return refused(
            "missing_dose_range",
            f"The dose range of {row.product} for {tables.english(row.muscle)} was not found in a "
            f"source ({row.note or 'no note'}).",
            f"dose_rows.csv {row.key}: units_min, units_max",
            "Choose another product, or have the site's own reviewed row added with its source.",
        )
    if row.grade not in DOSE_GRADES or (row.grade is Grade.CONSENSUS and not inputs.off_label):
        return refused(
            "grade_not_usable",
            f"The row {row.key} is of grade {row.grade}, which gives no dose here.",
            f"dose_rows.csv {row.key}: grade",
            "Have the site's own reviewed row added with its source.",
        )
    too_young = _below_label_age(inputs, row, population, tables)
    return too_young or row


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
            return refused(
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
        return refused(
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
    if off_label:
        listed = ", ".join(dict.fromkeys(off_label))
        hints.append(f"an off-label consensus row exists for {listed}, if asked for by off_label")
    elsewhere = sorted(
        {
            r.jurisdiction
            for r in near
            if r.muscle == inputs.muscle and r.indication == inputs.indication
        }
    )
    if elsewhere:
        hints.append(
            f"the label of {', '.join(elsewhere)} has one, if that jurisdiction is asked for"
        )
    known = "; ".join(hints)
    return refused(
        "no_dose_row",
        f"No dose range of {inputs.product} for {name} ({inputs.indication}, {population}, "
        f"{inputs.jurisdiction}) was found in a source" + (f"; {known}." if known else "."),
        f"dose_rows.csv {wanted}",
        "Choose another product, or have the site's own reviewed row added with its source.",
    )

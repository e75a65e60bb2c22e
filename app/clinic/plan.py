"""The plan for one muscle: volume, dose, sites, cautions, and where every number comes from.

Pure: no I/O, no clock. `check_request` raises what can be judged at once; `plan_muscle` never
raises for a missing fact but refuses the part that needs it and says which.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.clinic.amount import DoseAdjustment
from app.clinic.cautions import Caution, Question, safety_findings, treatment_cautions
from app.clinic.derivation import Step, sentences
from app.clinic.dose_rows import OFF_LABEL, DoseRefused, population_of
from app.clinic.dosing import DosePlan, plan_dose
from app.clinic.errors import (
    InvalidInput,
    MissingPatientFact,
    ProductNotForIndication,
    UnknownIndication,
    UnknownMuscle,
    UnknownProduct,
)
from app.clinic.follow_up import FollowUp, follow_up_of, too_early
from app.clinic.inputs import ClinicalInputs
from app.clinic.observation import Observation
from app.clinic.sites import (
    InjectionSite,
    MovedSite,
    SitesRefused,
    check_moved_site,
    name_near_sites,
    place_sites,
)
from app.clinic.tables import ClinicalTables, TableOverride
from app.clinic.volume import MuscleVolume, VolumeUnknown, muscle_volume

__all__ = [
    "Caution",
    "DoseAdjustment",
    "DosePlan",
    "DoseRefused",
    "InjectionSite",
    "MovedSite",
    "MusclePlan",
    "MuscleVolume",
    "Question",
    "SitesRefused",
    "VolumeUnknown",
    "check_request",
    "plan_muscle",
    "what_if",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MusclePlan:
    """A suggestion for one muscle; nothing in it is a treatment until a clinician confirms it.

    `cautions` holds stops too (`blocks_confirmation`); `unanswered` are the questions without
    which confirmation is refused. `follow_up` is None before the first treatment with the
    product. `explanation` is the derivation as a tree.
    """

    muscle: str
    side: str
    inputs: ClinicalInputs
    volume: MuscleVolume | VolumeUnknown
    dose: DosePlan | DoseRefused
    sites: tuple[InjectionSite, ...]
    sites_refused: SitesRefused | None
    site_notes: tuple[str, ...]
    endplates: tuple[str, ...]
    cautions: tuple[Caution, ...]
    unanswered: tuple[Question, ...]
    follow_up: FollowUp | None
    explanation: Step
    tables_version: str
    tables_sha256: str
    tables_override: TableOverride | None

    @property
    def stops(self) -> tuple[Caution, ...]:
        """The cautions that refuse confirmation."""
        return tuple(c for c in self.cautions if c.blocks_confirmation)

    @property
    def may_be_confirmed(self) -> bool:
        """True if there is a dose with sites, no stop, and every question is answered."""
        return (
            isinstance(self.dose, DosePlan)
            and self.sites_refused is None
            and not self.stops
            and not self.unanswered
        )

    @property
    def explanation_sentences(self) -> tuple[str, ...]:
        """The derivation in plain sentences, causes before results."""
        return sentences(self.explanation)


def check_request(inputs: ClinicalInputs, tables: ClinicalTables) -> None:
    """Raises what can be judged without pixels: the ClinicErrors that become a 422.

    UnknownMuscle, UnknownProduct, UnknownIndication, ProductNotForIndication, MissingPatientFact
    (a child without weight), InvalidInput.
    """
    if not tables.knows_muscle(inputs.muscle):
        raise UnknownMuscle(
            f"The muscle {inputs.muscle!r} is in no table.",
            remedy="Use a name of the list of muscles, for example biceps_brachii. "
            + _closest(inputs.muscle, [*tables.muscles, *tables.groups]),
            field="muscle",
        )
    product, indication = inputs.product, inputs.indication
    if product is not None and product not in tables.products:
        raise UnknownProduct(
            f"The product {product!r} is in no table.",
            remedy=f"Use one of: {', '.join(tables.products)}.",
            field="product",
        )
    known = list(dict.fromkeys(i.indication for i in tables.indications))
    if indication is not None and indication not in known:
        raise UnknownIndication(
            f"The indication {indication!r} is in no table.",
            remedy=f"Use one of: {', '.join(known)}.",
            field="indication",
        )
    if product is not None and indication is not None:
        _check_indication(inputs, product, indication, tables)
    _check_treatments(inputs, tables)
    population = population_of(inputs.patient, tables.policy)
    if product is not None and population == "paediatric" and inputs.patient.weight_kg is None:
        raise MissingPatientFact(
            "The patient is a child and the weight is missing: a child's dose goes by weight.",
            remedy="Give the patient's weight in kilograms.",
            field="patient.weight_kg",
        )


def _closest(name: str, known: Sequence[str]) -> str:
    parts = {part for part in name.lower().replace("-", "_").split("_") if len(part) > 3}
    near = [candidate for candidate in known if parts & set(candidate.split("_"))]
    return f"Near it: {', '.join(near[:5])}." if near else ""


def _check_indication(
    inputs: ClinicalInputs, product: str, indication: str, tables: ClinicalTables
) -> None:
    """Raises ProductNotForIndication unless a label has it, or off-label planning was asked for."""
    if inputs.off_label:
        return
    population = population_of(inputs.patient, tables.policy)
    mine = [i for i in tables.indications if i.product == product and i.indication == indication]
    here = [
        i
        for i in mine
        if i.jurisdiction == inputs.jurisdiction and population in (None, i.population)
    ]
    if here and indication != OFF_LABEL:
        return
    others = sorted(
        {
            i.product
            for i in tables.indications
            if i.indication == indication and i.jurisdiction == inputs.jurisdiction
        }
    )
    if indication == OFF_LABEL:
        text = "The consensus rows are off-label and off-label planning was not asked for."
        remedy = "Set off_label to true, as the physician's own decision, or name an indication."
    else:
        who = "" if population is None else f" for {population} patients"
        text = (
            f"{product} has no {indication.replace('_', ' ')} indication{who} in "
            f"{inputs.jurisdiction}."
        )
        remedy = (
            f"Products with that indication there: {', '.join(others) or 'none'}. Or ask for "
            "off-label planning by name (off_label: true), or for another jurisdiction."
        )
    raise ProductNotForIndication(text, remedy=remedy, field="product")


def _check_treatments(inputs: ClinicalInputs, tables: ClinicalTables) -> None:
    for treatment in inputs.treatments:
        if treatment.product not in tables.products:
            raise UnknownProduct(
                f"An earlier treatment names the product {treatment.product!r}, which is in no "
                "table.",
                remedy=f"Use one of: {', '.join(tables.products)}.",
                field="prior_treatments",
            )
    for key in inputs.safety or {}:
        if key not in tables.cautions or tables.cautions[key].kind != "safety":
            questions = [c.code for c in tables.cautions.values() if c.kind == "safety"]
            raise InvalidInput(
                f"The safety answer {key!r} belongs to no question.",
                remedy=f"Questions: {', '.join(questions)}.",
                field=f"safety.{key}",
            )


def what_if(
    inputs: ClinicalInputs,
    volume: MuscleVolume | VolumeUnknown,
    tables: ClinicalTables,
    *,
    today: dt.date | None = None,
) -> DosePlan | DoseRefused:
    """The dose for a measured volume with other clinical inputs, without any image.

    Raises the same ClinicErrors as `check_request`.
    """
    check_request(inputs, tables)
    return too_early(inputs, tables, today=today) or plan_dose(inputs, volume, tables, today=today)


def plan_muscle(
    inputs: ClinicalInputs,
    observation: Observation,
    tables: ClinicalTables,
    *,
    today: dt.date | None,
    moved_sites: Sequence[MovedSite] = (),
) -> MusclePlan:
    """The plan for one muscle of one patient: volume in mL, dose in Units, sites in mm.

    Sites moved by hand take the place of the suggested one with the same number and are checked,
    not put right. Raises the ClinicErrors of `check_request`.
    """
    check_request(inputs, tables)
    volume = muscle_volume(inputs, observation, tables)
    wanted_dose = _dose(inputs, observation, volume, tables, today=today)
    wanted = (
        wanted_dose.site_count
        if isinstance(wanted_dose, DosePlan)
        else _sites_without_dose(observation, tables)
    )
    placement = place_sites(inputs, observation, wanted, tables)
    sites, refused = placement.sites, placement.refused
    extra: list[Caution] = []
    if moved_sites and observation.is_calibrated:
        sites, refused, extra = _with_moved(sites, moved_sites, observation, tables)
    dose = wanted_dose
    if isinstance(wanted_dose, DosePlan) and wanted_dose.group is None and sites:
        if len(sites) != wanted_dose.site_count:
            dose = plan_dose(
                inputs,
                volume,
                tables,
                today=today,
                sites_available=len(sites),
                sites_by_hand=len(sites) if moved_sites else None,
            )
        sites = _with_units(sites, dose)
    findings, unanswered = safety_findings(inputs, tables)
    cautions = (
        *_observation_cautions(inputs, observation, volume, tables),
        *treatment_cautions(inputs, tables, today=today),
        *findings,
        *_dose_cautions(dose, tables),
        *_site_cautions(placement.notes, refused, dose, observation),
        *extra,
        *_muscle_cautions(inputs, tables),
    )
    return MusclePlan(
        muscle=inputs.muscle,
        side=inputs.side,
        inputs=inputs,
        volume=volume,
        dose=dose,
        sites=sites,
        sites_refused=refused,
        site_notes=placement.notes,
        endplates=placement.endplates,
        cautions=tuple(dict.fromkeys(cautions)),
        unanswered=unanswered,
        follow_up=follow_up_of(inputs, tables, today=today),
        explanation=_explanation(volume, dose, sites),
        tables_version=tables.version,
        tables_sha256=tables.sha256,
        tables_override=tables.override,
    )


def _dose(
    inputs: ClinicalInputs,
    observation: Observation,
    volume: MuscleVolume | VolumeUnknown,
    tables: ClinicalTables,
    *,
    today: dt.date | None,
) -> DosePlan | DoseRefused:
    if observation.sections and not observation.is_calibrated:
        return DoseRefused(
            code="needs_calibration",
            reason="The image has no scale: no millimetres, no millilitres and no Units.",
            missing_field="calibration",
            remedy="Give the scale: two marks of the depth ruler and their distance, or "
            "millimetres per pixel.",
        )
    if not observation.sections:
        return DoseRefused(
            code="needs_target",
            reason="No muscle was outlined, so nothing is planned.",
            missing_field="outlines",
            remedy="Click on the muscle or outline it.",
        )
    return too_early(inputs, tables, today=today) or plan_dose(inputs, volume, tables, today=today)


def _sites_without_dose(observation: Observation, tables: ClinicalTables) -> int:
    """How many places to show where there is no dose: by the largest section (judgement)."""
    fewest, most = tables.policy.sites_without_label
    largest_mm2 = max((s.area_mm2 or 0.0 for s in observation.sections), default=0.0)
    return min(most, max(fewest, math.ceil(largest_mm2 / tables.policy.section_mm2_per_site)))


def _with_units(
    sites: tuple[InjectionSite, ...], dose: DosePlan | DoseRefused
) -> tuple[InjectionSite, ...]:
    """The sites, as many as the dose has, each with its Units and mL."""
    if isinstance(dose, DoseRefused):
        return sites
    ml = dose.ml_per_site or (None,) * dose.site_count
    return tuple(
        replace(site, units=units, ml=site_ml)
        for site, units, site_ml in zip(sites, dose.units_per_site, ml, strict=False)
    )


def _with_moved(
    sites: tuple[InjectionSite, ...],
    moved_sites: Sequence[MovedSite],
    observation: Observation,
    tables: ClinicalTables,
) -> tuple[tuple[InjectionSite, ...], SitesRefused | None, list[Caution]]:
    """The sites with those moved by hand in place, and a caution for all that they violate."""
    by_number = {site.number: site for site in sites}
    refused: SitesRefused | None = None
    for moved in moved_sites:
        site = check_moved_site(moved, observation, tables)
        if isinstance(site, SitesRefused):
            refused = site
        else:
            by_number[moved.number] = site
    placed = name_near_sites(tuple(by_number[n] for n in sorted(by_number)), observation, tables)
    said = [
        Caution(
            code="site_moved_by_hand",
            text=f"Site {site.number}, put there by hand: {violation}",
            source="POLICY",
            blocks_confirmation=False,
        )
        for site in placed
        for violation in site.violations
    ]
    return placed, refused, said


def _observation_cautions(
    inputs: ClinicalInputs,
    observation: Observation,
    volume: MuscleVolume | VolumeUnknown,
    tables: ClinicalTables,
) -> list[Caution]:
    found = []
    rules = tables.cautions
    if observation.is_nominal:
        found.append(Caution.of(rules["nominal_calibration"]))
    if observation.laterality is not None and observation.laterality != inputs.side:
        found.append(Caution.of(rules["laterality_mismatch"]))
    known = observation.patient_id
    if None not in (known, inputs.patient.id) and known != inputs.patient.id:
        found.append(Caution.of(rules["patient_mismatch"]))
    if isinstance(volume, MuscleVolume) and volume.open_ends:
        found.append(
            Caution(
                code="sweep_incomplete",
                text="The sweep stopped inside the belly, so part of the volume is extrapolated: "
                "sweep from end to end.",
                source="POLICY",
                blocks_confirmation=False,
            )
        )
    found += [
        Caution(
            code="equation_range_judged",
            text=f"The volume is by the equation {equation.id} ({equation.population}); its source "
            f"gives no valid range of {', '.join(equation.judged)}, so those used are judgement.",
            source=";".join(equation.sources),
            blocks_confirmation=False,
        )
        for equation in tables.equations
        if isinstance(volume, MuscleVolume) and volume.method == equation.id and equation.judged
    ]
    if isinstance(volume, MuscleVolume) and volume.method == "section_length":
        found.append(
            Caution(
                code="shape_factor_judgement"
                if inputs.shape_factor is None
                else "shape_factor_typed",
                text="The volume rests on one section, the given length and a shape factor "
                + (
                    "that is judgement."
                    if inputs.shape_factor is None
                    else f"typed by the operator ({inputs.shape_factor.source})."
                )
                + " It holds for the largest section of the muscle.",
                source="POLICY",
                blocks_confirmation=False,
            )
        )
    return found


def _dose_cautions(dose: DosePlan | DoseRefused, tables: ClinicalTables) -> list[Caution]:
    if isinstance(dose, DoseRefused):
        return []
    said = [
        Caution(
            code=c.code,
            text=c.text,
            source=";".join(c.sources),
            blocks_confirmation=c.blocks_confirmation,
        )
        for c in dose.cautions
    ]
    for rule in tables.cautions.values():
        scaled = rule.code != "volume_scaling_is_research" or dose.volume_ratio != 1.0
        if rule.kind == "dose" and scaled:
            said.append(Caution.of(rule))
    return said


def _site_cautions(
    notes: Sequence[str],
    refused: SitesRefused | None,
    dose: DosePlan | DoseRefused,
    observation: Observation,
) -> list[Caution]:
    found = [
        Caution(code="sites", text=note, source="POLICY", blocks_confirmation=False)
        for note in notes
    ]
    if refused is not None and isinstance(dose, DosePlan):
        found.append(
            Caution(
                code="no_sites",
                text=f"No site is suggested. {refused.reason} {refused.remedy}",
                source="POLICY",
                blocks_confirmation=True,
            )
        )
    if any(s.avoid is None for s in observation.sections) and refused is None:
        found.append(
            Caution(
                code="structures_not_looked_for",
                text="Nobody looked for nerves and vessels on these images: find them before any "
                "needle.",
                source="POLICY",
                blocks_confirmation=False,
            )
        )
    return found


def _muscle_cautions(inputs: ClinicalInputs, tables: ClinicalTables) -> list[Caution]:
    muscle = tables.muscles.get(inputs.muscle)
    if muscle is None or muscle.hazard is None:
        return []
    return [
        Caution(
            code="hazard",
            text=f"{muscle.english}: {muscle.hazard}.",
            source=";".join(muscle.hazard_sources),
            blocks_confirmation=False,
        )
    ]


def _explanation(
    volume: MuscleVolume | VolumeUnknown,
    dose: DosePlan | DoseRefused,
    sites: Sequence[InjectionSite],
) -> Step:
    """The whole derivation: volume, dose and sites under one root."""
    volume_step = (
        volume.step
        if isinstance(volume, MuscleVolume)
        else Step(
            name="volume",
            value=None,
            unit="mL",
            equation="unknown",
            sources=(),
            text=f"The volume is unknown: {volume.reason}",
        )
    )
    dose_step = (
        dose.step
        if isinstance(dose, DosePlan)
        else Step(
            name="dose",
            value=None,
            unit="Units",
            equation=f"refused: {dose.code}",
            sources=(),
            text=f"No dose: {dose.reason}",
        )
    )
    site_steps = tuple(
        Step(
            name=f"site {site.number}",
            value=site.units,
            unit="Units",
            equation="share of the dose in whole dispensing steps",
            sources=("POLICY",),
            text=f"Site {site.number} lies {site.depth_mm:.1f} mm below the skin, "
            f"{site.margin_mm:.1f} mm inside the muscle"
            + ("." if site.units is None else f", and gets {site.units:g} Units."),
        )
        for site in sites
    )
    return Step(
        name="plan",
        value=None,
        unit="",
        equation="volume → dose → sites",
        sources=(),
        inputs=(volume_step, dose_step, *site_steps),
    )

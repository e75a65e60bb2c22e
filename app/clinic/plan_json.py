"""A plan as plain JSON: the same plan gives the same text, numbers rounded for display only."""

from __future__ import annotations

from typing import Any

from app.clinic.derivation import Step
from app.clinic.dose_rows import DoseRefused
from app.clinic.dosing import DosePlan
from app.clinic.follow_up import FollowUp
from app.clinic.inputs import PriorTreatment
from app.clinic.needle import NeedlePath
from app.clinic.plan import MusclePlan
from app.clinic.sites import InjectionSite
from app.clinic.volume import MuscleVolume, NoReference, Reference, VolumeUnknown


def plan_to_json(plan: MusclePlan) -> dict[str, Any]:
    """The plan as dicts, lists, strings and numbers; keys carry their units."""
    return {
        "volume": volume_to_json(plan.volume),
        "dose": dose_to_json(plan.dose),
        "sites": [_site(site) for site in plan.sites],
        "sites_refused": None
        if plan.sites_refused is None
        else {"reason": plan.sites_refused.reason, "remedy": plan.sites_refused.remedy},
        "site_notes": list(plan.site_notes),
        "endplates": list(plan.endplates),
        "cautions": [
            {
                "code": c.code,
                "text": c.text,
                "source": c.source,
                "blocks_confirmation": c.blocks_confirmation,
            }
            for c in plan.cautions
        ],
        "unanswered": [{"field": q.field, "text": q.text} for q in plan.unanswered],
        "may_be_confirmed": plan.may_be_confirmed,
        "treatments": [_treatment(treatment) for treatment in plan.inputs.treatments],
        "follow_up": None if plan.follow_up is None else _follow_up(plan.follow_up),
        "explanation": {
            "tree": step_to_json(plan.explanation),
            "sentences": list(plan.explanation_sentences),
        },
        "tables": {
            "version": plan.tables_version,
            "sha256": plan.tables_sha256,
            "override": None
            if plan.tables_override is None
            else {
                "name": plan.tables_override.name,
                "sha256": plan.tables_override.sha256,
                "tables": list(plan.tables_override.tables),
            },
        },
    }


def _treatment(treatment: PriorTreatment) -> dict[str, Any]:
    muscles = treatment.muscles
    return {
        "product": treatment.product,
        "units": _number(treatment.units, 4),
        "date": treatment.date.isoformat(),
        "muscles": None if muscles is None else list(muscles),
        "response": treatment.response,
        "recorded": treatment.recorded,
    }


def _follow_up(follow_up: FollowUp) -> dict[str, Any]:
    start = follow_up.possible_from
    return {
        "last_on": follow_up.last_on.isoformat(),
        "days_since": follow_up.days_since,
        "possible_from": None if start is None else start.isoformat(),
    }


def _number(value: float | None, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)


def volume_to_json(volume: MuscleVolume | VolumeUnknown) -> dict[str, Any]:
    """The volume in mL with interval, method and error, or why it is unknown."""
    refused = [{"method": r.method, "reason": r.reason, "remedy": r.remedy} for r in volume.refused]
    if isinstance(volume, VolumeUnknown):
        return {
            "known": False,
            "reason": volume.reason,
            "remedy": volume.remedy,
            "refused_methods": refused,
        }
    return {
        "known": True,
        "volume_ml": _number(volume.volume_ml, 2),
        "interval_ml": [_number(end, 2) for end in volume.interval_ml],
        "method": volume.method,
        "published_error": volume.published_error,
        "sections_used": list(volume.sections_used),
        "open_ends": volume.open_ends,
        "refused_methods": refused,
    }


def dose_to_json(dose: DosePlan | DoseRefused) -> dict[str, Any]:
    """The dose in its product's Units with every adjustment, or why there is none."""
    if isinstance(dose, DoseRefused):
        return {
            "planned": False,
            "code": dose.code,
            "reason": dose.reason,
            "missing_field": dose.missing_field,
            "remedy": dose.remedy,
            "available_from": None
            if dose.available_from is None
            else dose.available_from.isoformat(),
        }
    return {
        "planned": True,
        "product": dose.units.product,
        "units": _number(dose.units.value, 4),
        "interval_units": [_number(end, 4) for end in dose.interval_units],
        "label_min_units": _number(dose.label_min_units, 4),
        "label_max_units": _number(dose.label_max_units, 4),
        "below_label_min": dose.below_label_min,
        "volume_ratio": _number(dose.volume_ratio, 4),
        "position_in_range": _number(dose.position, 4),
        "reference": _reference(dose.reference),
        "site_count": dose.site_count,
        "label_sites": None if dose.label_sites is None else list(dose.label_sites),
        "units_per_site": [_number(units, 4) for units in dose.units_per_site],
        "ml_per_site": None
        if dose.ml_per_site is None
        else [_number(ml, 3) for ml in dose.ml_per_site],
        "total_ml": _number(dose.total_ml, 3),
        "adjustments": [
            {
                "reason": a.reason,
                "before_units": _number(a.before_units, 4),
                "after_units": _number(a.after_units, 4),
                "sources": list(a.sources),
                "grade": str(a.grade),
                "text": a.text,
            }
            for a in dose.adjustments
        ],
        "caps": [
            {
                "kind": held.cap.kind.value,
                "where": held.cap.where,
                "left_units": _number(held.left_units, 4),
                "sources": list(held.cap.sources),
                "grade": held.cap.grade.value,
                "text": held.text,
            }
            for held in dose.caps
        ],
        "row": dose.row.key,
        "row_origin": dose.row.origin or None,
        "grade": dose.grade,
        "sources": list(dose.sources),
        "group": dose.group,
        "group_part": dose.group_part,
    }


def _reference(reference: Reference | NoReference) -> dict[str, Any]:
    if isinstance(reference, NoReference):
        return {"known": False, "reason": reference.reason}
    return {
        "known": True,
        "volume_ml": _number(reference.volume_ml, 2),
        "band_ml": [_number(end, 2) for end in reference.band_ml],
        "sources": list(reference.step.sources),
    }


def _site(site: InjectionSite) -> dict[str, Any]:
    return {
        "number": site.number,
        "frame_key": site.frame_key,
        "column": _number(site.point.column, 3),
        "row": _number(site.point.row, 3),
        "depth_mm": _number(site.depth_mm, 2),
        "margin_mm": _number(site.margin_mm, 2),
        "avoid_mm": _number(site.avoid_mm, 2),
        "units": _number(site.units, 4),
        "ml": _number(site.ml, 3),
        "moved": site.moved,
        "by_hand": site.by_hand,
        "violations": list(site.violations),
        "needle": None if site.path is None else _path(site.path),
    }


def _path(path: NeedlePath) -> dict[str, Any]:
    return {
        "approach": path.approach,
        "entry_column": _number(path.entry.column, 3),
        "entry_row": _number(path.entry.row, 3),
        "angle_deg": _number(path.angle_deg, 1),
        "depth_mm": _number(path.depth_mm, 2),
        "length_mm": _number(path.length_mm, 2),
        "clearance_mm": _number(path.clearance_mm, 2),
        "near": path.near,
        "clear": path.clear,
        "seen_in_full": path.seen_in_full,
    }


def step_to_json(step: Step) -> dict[str, Any]:
    """A derivation's step with the steps it was made from."""
    return {
        "name": step.name,
        "value": _number(step.value, 6) if isinstance(step.value, float) else step.value,
        "unit": step.unit,
        "equation": step.equation,
        "sources": list(step.sources),
        "text": step.text,
        "inputs": [step_to_json(s) for s in step.inputs],
    }

"""Several plans for one visit, under the caps that hold for all of them together."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.clinic.dosing import DosePlan, cap_units, plan_dose
from app.clinic.inputs import PriorTreatment
from app.clinic.session import JointCap, SessionItem, SessionPlan, plan_session
from app.clinic.tables import ClinicalTables
from app.errors import RequestConflict, StateConflict
from app.planning.request import AnalysisRequest
from app.planning.request_inputs import clinical_inputs
from app.planning.what_if import volume_of_plan
from app.store.records import AnalysisRecord

ROUNDING = 1e-3


def joint_session(
    plans: Sequence[AnalysisRecord],
    *,
    priorities: Mapping[str, int],
    tables: ClinicalTables,
    today: dt.date,
) -> dict[str, Any]:
    """The Units of all plans, each joint cap with what is left of it, and doses that would fit.

    `allowed` is false when any cap is exceeded, or when none is known. Raises RequestConflict for
    plans of two patients, StateConflict for one without a dose that still holds, and ClinicErrors
    for what is no one session.
    """
    _check_one_patient(plans)
    items = [_item(plan, priorities.get(plan.id, 1), tables, today) for plan in plans]
    session = plan_session(items, tables)
    asked = {item.key: _units(item) for item in items}
    caps = [_cap(cap, items) for cap in session.caps]
    exceeded = [cap for cap in caps if cap["exceeded"]]
    return {
        "product": session.product,
        "total_units": round(sum(asked.values()), 4),
        "analyses": [
            {
                "id": item.key,
                "muscle": item.inputs.muscle,
                "side": item.inputs.side,
                "priority": item.priority,
                "units": round(asked[item.key], 4),
                "units_within_caps": round(_units(after), 4),
            }
            for item, after in zip(items, session.items, strict=True)
        ],
        "caps": caps,
        "allowed": bool(caps) and not exceeded,
        "remedy": _remedy(session, bool(exceeded)),
        "within_caps": {
            "total_units": round(session.total.value, 4),
            "cuts": [
                {
                    "id": cut.key,
                    "before_units": round(cut.before_units, 4),
                    "after_units": round(cut.after_units, 4),
                    "text": cut.text,
                    "sources": list(cut.sources),
                }
                for cut in session.cuts
            ],
            "vials": [
                {
                    "vial_units": vial.vial_units,
                    "vial_ml": vial.vial_ml,
                    "vials": vial.vials,
                    "draw_up_ml": round(vial.draw_up_ml, 3),
                    "units_left_over": round(vial.units_left_over, 4),
                }
                for vial in session.vials
            ],
            "notes": list(session.notes),
        },
        "provenance": {"tables": {"version": tables.version, "sha256": tables.sha256}},
    }


def _item(
    plan: AnalysisRecord, priority: int, tables: ClinicalTables, today: dt.date
) -> SessionItem:
    """The plan's dose as the clinic reasons with it; it must come out as it was stored."""
    stored = (plan.plan or {}).get("dose") or {}
    if plan.plan is None or not stored.get("planned"):
        raise StateConflict(
            f"The analysis {plan.id} has no dose.",
            remedy="Leave it out of the session, or settle first why it has none.",
        )
    inputs = replace(
        clinical_inputs(AnalysisRequest.model_validate(plan.request)),
        prior_treatments=tuple(_treatment(t) for t in plan.plan["treatments"]),
    )
    dose = plan_dose(
        inputs,
        volume_of_plan(plan.plan["volume"]),
        tables,
        today=today,
        sites_available=len(plan.plan["sites"]) or None,
        sites_by_hand=len(plan.plan["sites"]) if plan.request.get("sites") else None,
    )
    if not isinstance(dose, DosePlan) or abs(dose.units.value - stored["units"]) > ROUNDING:
        raise StateConflict(
            f"The dose of the analysis {plan.id} no longer comes out as it was planned.",
            remedy="The tables or the day have changed: run it again (PATCH with {}), then add it.",
        )
    return SessionItem(key=plan.id, inputs=inputs, dose=dose, priority=priority)


def _treatment(counted: Mapping[str, Any]) -> PriorTreatment:
    muscles = counted["muscles"]
    return PriorTreatment(
        product=counted["product"],
        units=counted["units"],
        date=dt.date.fromisoformat(counted["date"]),
        muscles=None if muscles is None else tuple(muscles),
        response=counted["response"],
        recorded=counted["recorded"],
    )


def _units(item: SessionItem) -> float:
    return item.dose.units.value if isinstance(item.dose, DosePlan) else 0.0


def _cap(joint: JointCap, items: Sequence[SessionItem]) -> dict[str, Any]:
    cap = joint.held.cap
    weight_kg = next(i.inputs.patient.weight_kg for i in items if i.key in joint.keys)
    whole = cap_units(cap, weight_kg)
    return {
        "kind": cap.kind.value,
        "where": cap.where,
        "side": joint.side,
        "text": joint.held.text,
        "limit_units": round(whole, 4),
        "given_before_units": round(whole - joint.held.left_units, 4),
        "planned_units": round(joint.asked_units, 4),
        "left_units": round(joint.held.left_units - joint.asked_units, 4),
        "exceeded": joint.asked_units > joint.held.left_units + ROUNDING,
        "jurisdiction": cap.jurisdiction,
        "grade": str(cap.grade),
        "sources": list(cap.sources),
        "analyses": list(joint.keys),
    }


def _check_one_patient(plans: Sequence[AnalysisRecord]) -> None:
    if len({plan.patient_id for plan in plans}) > 1:
        raise RequestConflict(
            "The plans are of different patients.",
            remedy="Plan one session for each patient.",
        )


def _remedy(session: SessionPlan, exceeded: bool) -> str:
    if exceeded:
        return (
            "The plans together exceed a cap. `units_within_caps` shows doses that fit, the least "
            "important muscles cut first; change the plans, nothing is changed by itself."
        )
    if not session.caps:
        return "No cap was found for a whole session of this product: check the label yourself."
    return "The sum stays under every cap that was found; each plan is still to be confirmed."

"""Several plans for one visit, added up under the caps that hold for all of them together."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from app.clinic.dosing import applicable_caps, cap_units, given_in_window, population_of
from app.clinic.evidence import CapKind
from app.clinic.inputs import ClinicalInputs
from app.clinic.tables import ClinicalTables
from app.errors import RequestConflict, StateConflict
from app.records import AnalysisRecord
from app.request import AnalysisRequest
from app.request_inputs import clinical_inputs

JOINT = (CapKind.LIMB, CapKind.SESSION, CapKind.CUMULATIVE)


def joint_session(
    plans: Sequence[AnalysisRecord], *, tables: ClinicalTables, today: dt.date
) -> dict[str, Any]:
    """The Units of all plans, and each joint cap with what is left of it.

    `allowed` is false when any cap is exceeded, or when nothing is known that would cap the sum.
    Raises RequestConflict for plans that cannot be one visit, StateConflict for one without dose.
    """
    inputs = [clinical_inputs(AnalysisRequest.model_validate(plan.request)) for plan in plans]
    units = [_units(plan) for plan in plans]
    _check_together(plans, inputs)
    first = inputs[0]
    product = first.product or ""
    population = population_of(first.patient, tables.policy) or "adult"
    limbs = [tables.limb_of(each.muscle) for each in inputs]
    caps = []
    for cap in applicable_caps(product, population, first.jurisdiction, tables):
        if cap.kind not in JOINT:
            continue
        counted = [u for u, limb in zip(units, limbs, strict=True) if cap.where in ("any", limb)]
        if not counted:
            continue
        whole = cap_units(cap, first.patient.weight_kg)
        days = 7 * (cap.window_weeks or 0) if cap.kind is CapKind.CUMULATIVE else 1
        before = given_in_window(first.prior_treatments or (), product, today, days=days or 1)
        planned = round(sum(counted), 4)
        caps.append(
            {
                "kind": cap.kind.value,
                "where": cap.where,
                "limit_units": round(whole, 4),
                "given_before_units": before,
                "planned_units": planned,
                "left_units": round(whole - before - planned, 4),
                "exceeded": planned + before > whole,
                "jurisdiction": cap.jurisdiction,
                "grade": str(cap.grade),
                "sources": list(cap.sources),
            }
        )
    exceeded = [cap for cap in caps if cap["exceeded"]]
    return {
        "product": product,
        "total_units": round(sum(units), 4),
        "analyses": [
            {"id": plan.id, "muscle": each.muscle, "side": each.side, "units": amount}
            for plan, each, amount in zip(plans, inputs, units, strict=True)
        ],
        "caps": caps,
        "allowed": bool(caps) and not exceeded,
        "remedy": _remedy(caps, exceeded),
    }


def _units(plan: AnalysisRecord) -> float:
    dose = (plan.plan or {}).get("dose") or {}
    if not dose.get("planned"):
        raise StateConflict(
            f"The analysis {plan.id} has no dose.",
            remedy="Leave it out of the session, or settle first why it has none.",
        )
    return float(dose["units"])


def _check_together(plans: Sequence[AnalysisRecord], inputs: Sequence[ClinicalInputs]) -> None:
    if len({each.product for each in inputs}) > 1:
        raise RequestConflict(
            "The plans are of different products, whose Units cannot be added.",
            remedy="Plan one session with one product.",
        )
    patients = {plan.request.get("patient", {}).get("id") for plan in plans}
    facts = {(each.patient, each.jurisdiction, each.prior_treatments) for each in inputs}
    if len(patients) > 1 or len(facts) > 1:
        raise RequestConflict(
            "The plans do not say the same of the patient, the jurisdiction and what was given "
            "before.",
            remedy="Correct the plans with PATCH, so that all are of one patient.",
        )
    muscles = [(each.muscle, each.side) for each in inputs]
    if len(set(muscles)) < len(muscles):
        raise RequestConflict(
            "A muscle is planned twice.", remedy="Leave one of the two plans out."
        )


def _remedy(caps: Sequence[dict[str, Any]], exceeded: Sequence[dict[str, Any]]) -> str:
    if exceeded:
        return (
            "Lower the doses or treat fewer muscles until no cap is exceeded; nothing is shared "
            "out by itself."
        )
    if not caps:
        return "No cap was found for a whole session of this product: check the label yourself."
    return "The sum stays under every cap that was found; each plan is still to be confirmed."

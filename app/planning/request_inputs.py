"""From the request's JSON parts to what the clinic reasons with."""

from __future__ import annotations

from collections.abc import Sequence

from app.clinic.inputs import (
    ClinicalInputs,
    Dilution,
    Patient,
    PriorTreatment,
    Severity,
    ShapeFactor,
    Sweep,
)
from app.planning.request import AnalysisRequest


def clinical_inputs(
    request: AnalysisRequest, recorded: Sequence[PriorTreatment] = ()
) -> ClinicalInputs:
    """The clinical side of a request; absent stays None, which means unknown.

    `recorded` are the patient's treatments that the service's own record has.
    """
    patient, severity, dilution = request.patient, request.severity, request.dilution
    factor, sweep = request.shape_factor, request.sweep
    return ClinicalInputs(
        muscle=request.muscle,
        side=request.side,
        view=request.view,
        product=request.product,
        indication=request.indication,
        jurisdiction=request.jurisdiction,
        off_label=request.off_label,
        patient=Patient(
            age_years=patient.age_years,
            weight_kg=patient.weight_kg,
            height_m=patient.height_m,
            id=patient.id,
        ),
        severity=None if severity is None else Severity(scale=severity.scale, value=severity.value),
        dilution=None if dilution is None else Dilution(units=dilution.units, ml=dilution.ml),
        limb_length_mm=request.limb_length_mm,
        muscle_length_mm=request.muscle_length_mm,
        shape_factor=None
        if factor is None
        else ShapeFactor(value=factor.value, source=factor.source),
        measurements_mm=request.measurements_mm or {},
        sweep=None
        if sweep is None
        else Sweep(
            spacing_mm=sweep.spacing_mm,
            reference_line=sweep.reference_line,
            start_percent=sweep.start_percent,
            end_percent=sweep.end_percent,
        ),
        prior_treatments=None
        if request.prior_treatments is None
        else tuple(
            PriorTreatment(
                product=prior.product,
                units=prior.units,
                date=prior.date,
                muscles=prior.muscles,
                response=prior.response,
            )
            for prior in request.prior_treatments
        ),
        recorded_treatments=tuple(recorded),
        safety=request.safety,
    )

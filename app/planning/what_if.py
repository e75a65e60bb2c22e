"""The dose for a volume that was measured before, without an image."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from app.clinic.derivation import Step
from app.clinic.errors import InvalidInput
from app.clinic.plan import MuscleVolume, VolumeUnknown, what_if
from app.clinic.plan_json import dose_to_json, volume_to_json
from app.clinic.tables import ClinicalTables
from app.planning.request import AnalysisRequest
from app.planning.request_inputs import clinical_inputs


def dose_without_image(
    request: AnalysisRequest,
    volume_ml: float | None,
    interval_ml: tuple[float, float] | None,
    *,
    tables: ClinicalTables,
    today: dt.date,
) -> dict[str, Any]:
    """The volume and the dose as a plan shows them. Raises ClinicErrors of the request."""
    volume = _volume(volume_ml, interval_ml)
    dose = what_if(clinical_inputs(request), volume, tables, today=today)
    return {
        "volume": volume_to_json(volume),
        "dose": dose_to_json(dose),
        "provenance": {"tables": {"version": tables.version, "sha256": tables.sha256}},
    }


def volume_of_plan(volume: Mapping[str, Any]) -> MuscleVolume | VolumeUnknown:
    """The volume that a stored plan was made with."""
    if not volume["known"]:
        return VolumeUnknown(reason=volume["reason"], remedy=volume["remedy"])
    low, high = volume["interval_ml"]
    return _given(volume["volume_ml"], (low, high), volume["method"], volume["published_error"])


def _volume(
    volume_ml: float | None, interval_ml: tuple[float, float] | None
) -> MuscleVolume | VolumeUnknown:
    if volume_ml is None:
        return VolumeUnknown(
            reason="No volume was given.", remedy="Give volume.volume_ml to see its part."
        )
    low, high = interval_ml or (volume_ml, volume_ml)
    if not low <= volume_ml <= high:
        raise InvalidInput(
            f"The volume {volume_ml:g} mL lies outside its own interval {low:g} to {high:g} mL.",
            remedy="Give an interval that holds the volume, or leave it out.",
            field="volume.interval_ml",
        )
    return _given(volume_ml, (low, high), "given", "as given")


def _given(
    volume_ml: float, interval_ml: tuple[float, float], method: str, published_error: str
) -> MuscleVolume:
    return MuscleVolume(
        volume_ml=volume_ml,
        interval_ml=interval_ml,
        method=method,
        published_error=published_error,
        sections_used=(),
        step=Step(
            name="volume",
            value=volume_ml,
            unit="ml",
            equation=method,
            sources=("operator",),
            text=f"The volume of {volume_ml:g} mL was given.",
        ),
    )

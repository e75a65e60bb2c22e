"""What was really given, and the next dose that follows from it.

The administration, not the plan, counts for windows, intervals and follow-up.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

from app.clinic.cautions import possible_from
from app.clinic.comparison import VolumeComparison, compare_sessions
from app.clinic.dose_rows import DoseRefused
from app.clinic.dosing import DosePlan, plan_dose
from app.clinic.errors import InvalidInput
from app.clinic.inputs import ClinicalInputs, PriorTreatment, require_positive
from app.clinic.products import ToxinUnits
from app.clinic.tables import ClinicalTables
from app.clinic.volume import MuscleVolume, VolumeUnknown


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenSite:
    """What one site really got: Units and mL."""

    number: int
    units: float
    ml: float

    def __post_init__(self) -> None:
        require_positive(self.units, "administration.sites.units")
        require_positive(self.ml, "administration.sites.ml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Administration:
    """What was really given to one muscle: product, sites, lot, expiry, wastage, guidance.

    `guidance` says how the needle was guided (ultrasound, stimulation, EMG, palpation).
    """

    product: str
    muscle: str
    side: str
    date: dt.date
    sites: tuple[GivenSite, ...]
    lot: str
    expiry: dt.date
    wastage_units: float
    guidance: str

    def __post_init__(self) -> None:
        if not self.sites:
            raise InvalidInput(
                "The administration has no site.",
                remedy="Record Units and mL of every site; if nothing was given, record nothing.",
                field="administration.sites",
            )
        if self.expiry < self.date:
            raise InvalidInput(
                f"Lot {self.lot} expired on {self.expiry.isoformat()}, before "
                f"{self.date.isoformat()}.",
                remedy="Check lot and expiry on the vial.",
                field="administration.expiry",
            )
        if not self.lot.strip() or not self.guidance.strip():
            raise InvalidInput(
                "The lot or the guidance is missing.",
                remedy="Record the vial's lot, and how the needle was guided.",
                field="administration.lot",
            )
        ToxinUnits(self.product, self.wastage_units)

    @property
    def given(self) -> ToxinUnits:
        """The Units that the muscle really got."""
        return ToxinUnits(self.product, sum(site.units for site in self.sites))

    @property
    def given_ml(self) -> float:
        """The millilitres that the muscle really got."""
        return sum(site.ml for site in self.sites)

    def as_prior_treatment(self, response: str | None = None) -> PriorTreatment:
        """The administration as an earlier treatment of the next request."""
        return PriorTreatment(
            product=self.product,
            units=self.given.value,
            date=self.date,
            muscles=(self.muscle,),
            response=response,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """The next dose after earlier ones, or its refusal with the date from which it is possible.

    `days_since` counts from the last treatment with this product; `comparison` sets today's volume
    beside the last session's.
    """

    dose: DosePlan | DoseRefused
    possible_from: dt.date | None
    days_since: int | None
    comparison: VolumeComparison | None


def plan_follow_up(
    inputs: ClinicalInputs,
    volume: MuscleVolume | VolumeUnknown,
    tables: ClinicalTables,
    *,
    today: dt.date,
    last_volume: MuscleVolume | None = None,
) -> FollowUp:
    """The follow-up dose, moved in its range by the last response (policy `follow_up_step`).

    Too early is refused with the date from which it is possible.
    """
    start = possible_from(inputs, tables, today=today)
    dates = [
        p.date
        for p in inputs.prior_treatments or ()
        if p.product == inputs.product and p.date < today
    ]
    dose = plan_dose(inputs, volume, tables, today=today)
    if start is not None and today < start:
        dose = DoseRefused(
            code="too_early",
            reason=f"The last treatment with {inputs.product} was on {max(dates).isoformat()}; the "
            "minimum interval has not passed.",
            missing_field=None,
            remedy=f"A follow-up is possible from {start.isoformat()}.",
            available_from=start,
        )
    comparison = (
        compare_sessions(last_volume, volume, tables)
        if last_volume is not None and isinstance(volume, MuscleVolume)
        else None
    )
    return FollowUp(
        dose=dose,
        possible_from=start,
        days_since=(today - max(dates)).days if dates else None,
        comparison=comparison,
    )


def with_administrations(
    inputs: ClinicalInputs, given: tuple[tuple[Administration, str | None], ...]
) -> ClinicalInputs:
    """The inputs with recorded administrations, each with its response, as earlier treatments."""
    earlier = tuple(record.as_prior_treatment(response) for record, response in given)
    return replace(inputs, prior_treatments=(*(inputs.prior_treatments or ()), *earlier))

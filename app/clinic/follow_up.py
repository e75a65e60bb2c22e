"""What was really given, and when the next treatment is possible.

The administration, not the plan, counts for windows, intervals and follow-up.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from app.clinic.cautions import possible_from
from app.clinic.dose_rows import DoseRefused
from app.clinic.errors import InvalidInput
from app.clinic.inputs import ClinicalInputs, PriorTreatment, require_positive
from app.clinic.products import ToxinUnits
from app.clinic.tables import ClinicalTables


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenSite:
    """What one site really got: Units, and mL where they were noted."""

    number: int
    units: float
    ml: float | None = None

    def __post_init__(self) -> None:
        require_positive(self.units, "sites.units")
        require_positive(self.ml, "sites.ml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Administration:
    """What was really given to one muscle: product, sites, and of which vial.

    `expiry` is the last day on which the vial may be used; `wastage_units` what was thrown away.
    """

    product: str
    muscle: str
    date: dt.date
    sites: tuple[GivenSite, ...]
    expiry: dt.date | None = None
    wastage_units: float = 0.0

    def __post_init__(self) -> None:
        if not self.sites:
            raise InvalidInput(
                "The administration has no site.",
                remedy="Record Units and mL of every site; if nothing was given, record nothing.",
                field="sites",
            )
        if self.expiry is not None and self.expiry < self.date:
            raise InvalidInput(
                f"The vial expired on {self.expiry.isoformat()}, before {self.date.isoformat()}.",
                remedy="Check the expiry on the vial, and the date on which it was given.",
                field="expiry",
            )
        ToxinUnits(self.product, self.wastage_units)

    @property
    def given(self) -> ToxinUnits:
        """The Units that the muscle really got."""
        return ToxinUnits(self.product, sum(site.units for site in self.sites))

    def as_treatment(self) -> PriorTreatment:
        """The administration as an earlier treatment that the record has."""
        return PriorTreatment(
            product=self.product,
            units=self.given.value,
            date=self.date,
            muscles=(self.muscle,),
            recorded=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """The last treatment with this product, how long it is ago, and the first day for the next.

    `possible_from` is None where no minimum interval is known.
    """

    last_on: dt.date
    days_since: int
    possible_from: dt.date | None


def follow_up_of(
    inputs: ClinicalInputs, tables: ClinicalTables, *, today: dt.date | None
) -> FollowUp | None:
    """What follows from the last treatment with this product; None without one before today."""
    if today is None:
        return None
    dates = [p.date for p in inputs.treatments if p.product == inputs.product and p.date < today]
    if not dates:
        return None
    return FollowUp(
        last_on=max(dates),
        days_since=(today - max(dates)).days,
        possible_from=possible_from(inputs, tables, today=today),
    )


def too_early(
    inputs: ClinicalInputs, tables: ClinicalTables, *, today: dt.date | None
) -> DoseRefused | None:
    """The refusal, with the first possible day, of a dose before the minimum interval is over."""
    after = follow_up_of(inputs, tables, today=today)
    if after is None or today is None or after.possible_from is None:
        return None
    if today >= after.possible_from:
        return None
    return DoseRefused(
        code="too_early",
        reason=f"The last treatment with {inputs.product} was on {after.last_on.isoformat()}, "
        f"{after.days_since} days ago; the minimum interval has not passed.",
        missing_field=None,
        remedy=f"A follow-up is possible from {after.possible_from.isoformat()}.",
        available_from=after.possible_from,
    )

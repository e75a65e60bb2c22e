"""What the clinic is told about patient and question; absent stays None and means unknown."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from app.clinic.errors import InvalidInput

MAS_VALUES = ("0", "1", "1+", "2", "3", "4")
"""The grades of the Modified Ashworth Scale, lowest first."""

SAME_UNITS = 1e-6
"""Sums of Units that differ by no more than this are the same."""


def require_positive(value: float | None, name: str, *, most: float = math.inf) -> None:
    """Nothing for None or a finite value above 0 and at most `most`; InvalidInput otherwise."""
    if value is None:
        return
    if not math.isfinite(value) or not 0 < value <= most:
        limit = "" if math.isinf(most) else f" and at most {most:g}"
        raise InvalidInput(
            f"{name} is {value:g}, which cannot be true.",
            remedy=f"Give a number above 0{limit}, in the unit that the name ends with.",
            field=name,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """The facts that a dose depends on; weight in kg, height in m. Each may be unknown."""

    age_years: float | None = None
    weight_kg: float | None = None
    height_m: float | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        if self.age_years is not None and not 0 <= self.age_years <= 130:
            raise InvalidInput(
                f"The age {self.age_years:g} years cannot be true.",
                remedy="Give the age in years, 0 to 130.",
                field="patient.age_years",
            )
        require_positive(self.weight_kg, "patient.weight_kg", most=500)
        require_positive(self.height_m, "patient.height_m", most=2.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Severity:
    """How severe the spasticity is: a grade of the Modified Ashworth Scale."""

    scale: str
    value: str

    def __post_init__(self) -> None:
        if self.scale != "MAS" or self.value not in MAS_VALUES:
            raise InvalidInput(
                f"{self.scale} {self.value} is no grade that the tables know.",
                remedy=f"Give the Modified Ashworth Scale: MAS {', '.join(MAS_VALUES)}.",
                field="severity",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dilution:
    """How a vial is made up: this many Units of the plan's product in this many millilitres."""

    units: float
    ml: float

    def __post_init__(self) -> None:
        require_positive(self.units, "dilution.units")
        require_positive(self.ml, "dilution.ml")

    @property
    def units_per_ml(self) -> float:
        return self.units / self.ml

    def ml_of(self, units: float) -> float:
        """The millilitres that hold this many Units."""
        return units / self.units_per_ml


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeFactor:
    """Volume over largest section × length, 0 to 1, with the source it was taken from."""

    value: float
    source: str

    def __post_init__(self) -> None:
        require_positive(self.value, "shape_factor.value", most=1)
        if not self.source.strip():
            raise InvalidInput(
                "The shape factor has no source.",
                remedy="Say where the factor was taken from, or leave it out: then the bracket of "
                "the policy is used.",
                field="shape_factor.source",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Short-axis sections `spacing_mm` apart, and where on a reference line they lie."""

    spacing_mm: float
    reference_line: str | None = None
    start_percent: float | None = None
    end_percent: float | None = None

    def __post_init__(self) -> None:
        require_positive(self.spacing_mm, "sweep.spacing_mm")
        for name, value in (("start", self.start_percent), ("end", self.end_percent)):
            if value is not None and not 0 <= value <= 100:
                raise InvalidInput(
                    f"The sweep's {name} lies at {value:g} % of the reference line.",
                    remedy="Give 0 to 100 per cent.",
                    field=f"sweep.{name}_percent",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorTreatment:
    """One earlier treatment that was really given: product, Units, date, muscles, response.

    `recorded`: it stands in this service's own record and was not told by the operator.
    """

    product: str
    units: float
    date: dt.date
    muscles: tuple[str, ...] | None = None
    response: str | None = None
    recorded: bool = False

    def __post_init__(self) -> None:
        require_positive(self.units, "prior_treatments.units")

    def tells(self, recorded: PriorTreatment) -> bool:
        """True if this is about the same product and day, and about the same muscles or any."""
        return (self.product, self.date) == (recorded.product, recorded.date) and (
            self.muscles is None or set(recorded.muscles or ()) <= set(self.muscles)
        )


def _nothing() -> Mapping[str, float]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinicalInputs:
    """Everything that the operator says about one muscle of one patient.

    `product` or `indication` None: measurement only. `prior_treatments` or `safety` None means
    unknown; an empty tuple means none were given. `recorded_treatments` are those that the
    service's own record has of the patient. `measurements_mm` are the named measurements that a
    volume equation asks for, each taken as its source took it.
    """

    muscle: str
    side: str
    view: str | None = None
    product: str | None = None
    indication: str | None = None
    jurisdiction: str = "US"
    off_label: bool = False
    patient: Patient = field(default_factory=Patient)
    severity: Severity | None = None
    dilution: Dilution | None = None
    limb_length_mm: float | None = None
    muscle_length_mm: float | None = None
    shape_factor: ShapeFactor | None = None
    measurements_mm: Mapping[str, float] = field(default_factory=_nothing)
    sweep: Sweep | None = None
    prior_treatments: tuple[PriorTreatment, ...] | None = None
    recorded_treatments: tuple[PriorTreatment, ...] = ()
    safety: Mapping[str, bool | None] | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("side", self.side, ("left", "right")),
            ("view", self.view, ("long_axis", "short_axis", None)),
        ):
            if value not in allowed:
                raise InvalidInput(
                    f"The {name} {value!r} is not known.",
                    remedy=f"Give one of: {', '.join(str(a) for a in allowed if a)}.",
                    field=name,
                )
        require_positive(self.limb_length_mm, "limb_length_mm", most=1500)
        require_positive(self.muscle_length_mm, "muscle_length_mm", most=1000)
        for name, value_mm in self.measurements_mm.items():
            require_positive(value_mm, f"measurements_mm.{name}", most=1000)

    @property
    def treatments(self) -> tuple[PriorTreatment, ...]:
        """Every earlier treatment that counts: those told, and what the record has besides.

        A recorded treatment is told if one of that product and day names its muscle (or none);
        where the record has more Units than were told, the rest counts as one of its own.
        """
        told, besides = self.prior_treatments or (), []
        recorded = [0.0] * len(told)
        for treatment in self.recorded_treatments:
            at = next((i for i, t in enumerate(told) if t.tells(treatment)), None)
            if at is None:
                besides.append(treatment)
            else:
                recorded[at] += treatment.units
        for t, units in zip(told, recorded, strict=True):
            if units > t.units + SAME_UNITS:
                rest = units - t.units
                besides.append(replace(t, units=rest, response=None, recorded=True))
        return (*told, *besides)

"""What a request may say: values that cannot be true are refused with the way out."""

from __future__ import annotations

import datetime as dt
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from app.clinic.errors import (
    ClinicError,
    InvalidInput,
    MissingPatientFact,
    ProductNotForIndication,
    TableError,
    UnknownIndication,
    UnknownMuscle,
    UnknownProduct,
)
from app.clinic.inputs import (
    Dilution,
    Patient,
    PriorTreatment,
    Severity,
    ShapeFactor,
    Sweep,
)
from app.clinic.plan import check_request
from app.clinic.tables import ClinicalTables

DAY = dt.date(2026, 1, 1)

WRONG: dict[str, Callable[[Any], object]] = {
    "age": lambda make: Patient(age_years=-1),
    "old": lambda make: Patient(age_years=131),
    "weight": lambda make: Patient(weight_kg=0),
    "heavy": lambda make: Patient(weight_kg=501),
    "height": lambda make: Patient(height_m=174),
    "not a number": lambda make: Patient(weight_kg=float("nan")),
    "scale": lambda make: Severity(scale="Tardieu", value="2"),
    "grade": lambda make: Severity(scale="MAS", value="5"),
    "dilution units": lambda make: Dilution(units=0, ml=1),
    "dilution ml": lambda make: Dilution(units=100, ml=-1),
    "factor": lambda make: ShapeFactor(value=1.2, source="a book"),
    "factor source": lambda make: ShapeFactor(value=0.6, source=" "),
    "spacing": lambda make: Sweep(spacing_mm=0),
    "start": lambda make: Sweep(spacing_mm=10, start_percent=-1),
    "end": lambda make: Sweep(spacing_mm=10, end_percent=101),
    "treatment": lambda make: PriorTreatment(product="BOTOX", units=0, date=DAY),
    "side": lambda make: make.inputs(side="middle"),
    "view": lambda make: make.inputs(view="oblique"),
    "length": lambda make: make.inputs(muscle_length_mm=0),
    "limb": lambda make: make.inputs(limb_length_mm=5000),
    "measurement": lambda make: make.inputs(measurements_mm={"soleus_thickness_mm": -2}),
    "area": lambda make: make.section(area_mm2=-1),
    "position": lambda make: make.section(position_mm=float("inf")),
    "masks": lambda make: make.section(avoid=np.zeros((2, 2), dtype=np.bool_)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_true_is_refused(make: Any, name: str) -> None:
    """A value that cannot be true is refused where it is made, with a remedy."""
    with pytest.raises(InvalidInput) as caught:
        WRONG[name](make)
    assert caught.value.remedy


REFUSED: dict[str, tuple[type[ClinicError], str, dict[str, Any]]] = {
    "muscle": (UnknownMuscle, "muscle", {"muscle": "Biceps-femoris"}),
    "muscle like nothing": (UnknownMuscle, "muscle", {"muscle": "xyz"}),
    "product": (UnknownProduct, "product", {"product": "NEWTOX"}),
    "indication": (UnknownIndication, "indication", {"indication": "wrinkles"}),
    "product for it": (
        ProductNotForIndication,
        "product",
        {"product": "MYOBLOC", "indication": "upper_limb_spasticity"},
    ),
    "jurisdiction": (ProductNotForIndication, "product", {"jurisdiction": "FR"}),
    "child indication": (
        ProductNotForIndication,
        "product",
        {"indication": "cervical_dystonia", "patient": Patient(age_years=9, weight_kg=30)},
    ),
    "consensus": (
        ProductNotForIndication,
        "product",
        {"product": "BOTOX", "indication": "off_label_consensus"},
    ),
    "child without weight": (
        MissingPatientFact,
        "patient.weight_kg",
        {"patient": Patient(age_years=9)},
    ),
    "treatment": (
        UnknownProduct,
        "prior_treatments",
        {"prior_treatments": (PriorTreatment(product="NEWTOX", units=5, date=DAY),)},
    ),
    "safety": (InvalidInput, "safety.luck", {"safety": {"luck": True}}),
    "safety of a plan rule": (
        InvalidInput,
        "safety.nominal_calibration",
        {"safety": {"nominal_calibration": True}},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_be_judged_at_once(make: Any, tables: ClinicalTables, name: str) -> None:
    """Each request that can be judged without pixels raises its own error, naming the field."""
    kind, field, changed = REFUSED[name]
    with pytest.raises(kind) as caught:
        check_request(make.inputs(**changed), tables)
    assert caught.value.field == field
    assert caught.value.remedy
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 -- own bytes
    assert (type(again), again.message, again.remedy) == (
        kind,
        caught.value.message,
        caught.value.remedy,
    )


def test_near_names_are_offered(make: Any, tables: ClinicalTables) -> None:
    """A muscle's name that is nearly right is told the names near it."""
    with pytest.raises(UnknownMuscle) as caught:
        check_request(make.inputs(muscle="biceps"), tables)
    assert "biceps_brachii" in caught.value.remedy


@pytest.mark.parametrize(
    "changed",
    [
        {"product": None},
        {"indication": None},
        {"off_label": True, "indication": "lower_limb_spasticity"},
        {"patient": Patient()},
        {"product": None, "patient": Patient(age_years=9)},
    ],
)
def test_what_only_the_plan_can_judge_passes(
    make: Any, tables: ClinicalTables, changed: dict[str, Any]
) -> None:
    """A request that leaves facts open is no error: the plan refuses the part that needs them."""
    check_request(make.inputs(**changed), tables)


def test_every_code_is_its_own() -> None:
    """Each error of the tree has a stable code of its own."""
    kinds = [ClinicError, *ClinicError.__subclasses__()]
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert TableError("a", remedy="b").field is None

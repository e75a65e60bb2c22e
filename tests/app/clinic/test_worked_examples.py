"""Worked examples: one for each row of the dose table, its arithmetic written out beside it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from app.clinic.derivation import Step
from app.clinic.dose_rows import DoseRefused
from app.clinic.dosing import DosePlan, plan_dose
from app.clinic.inputs import Dilution, Patient, Severity
from app.clinic.tables import ClinicalTables
from app.clinic.volume import MuscleVolume, VolumeUnknown

EXAMPLES = list(
    csv.DictReader(
        (Path(__file__).parent / "worked_examples.csv").read_text(encoding="utf-8").splitlines()
    )
)


def volume_of(text: str) -> MuscleVolume | VolumeUnknown:
    if not text:
        return VolumeUnknown(reason="not measured", remedy="-")
    volume_ml = float(text)
    return MuscleVolume(
        volume_ml=volume_ml,
        interval_ml=(volume_ml * 0.9, volume_ml * 1.1),
        method="sweep",
        published_error="-",
        sections_used=(),
        step=Step(name="volume", value=volume_ml, unit="mL", equation="given", sources=()),
    )


def name_of(row: dict[str, str]) -> str:
    keys = ("product", "indication", "population", "jurisdiction", "muscle")
    return "/".join(row[key] for key in keys)


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_worked_example(example: dict[str, str], make: Any, tables: ClinicalTables) -> None:
    """The dose and the number of sites are those of the arithmetic written out in the table."""
    units, _, ml = example["dilution"].removesuffix(" mL").partition(" U in ")
    inputs = make.inputs(
        muscle=example["muscle"],
        product=example["product"],
        indication=example["indication"],
        jurisdiction=example["jurisdiction"],
        off_label=example["off_label"] == "yes",
        patient=Patient(
            age_years=float(example["age_years"]),
            weight_kg=float(example["weight_kg"]),
            height_m=float(example["height_m"]),
        ),
        severity=Severity(scale="MAS", value=example["mas"]) if example["mas"] else None,
        dilution=Dilution(units=float(units), ml=float(ml)),
    )
    dose = plan_dose(inputs, volume_of(example["volume_ml"]), tables)
    if example["refused"]:
        assert isinstance(dose, DoseRefused)
        assert dose.code == example["refused"]
        return
    assert isinstance(dose, DosePlan)
    assert dose.row.key == name_of(example)
    assert dose.units.value == pytest.approx(float(example["expected_units"]), abs=1e-9)
    assert dose.site_count == int(example["expected_sites"])


def test_every_row_has_its_example(tables: ClinicalTables) -> None:
    """No row of the dose table is without a worked example, and none stands twice."""
    assert sorted(map(name_of, EXAMPLES)) == sorted(row.key for row in tables.dose_rows)

"""Tables, phantom sections and requests that the clinic's tests share."""

from __future__ import annotations

import datetime as dt
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from app.clinic.inputs import ClinicalInputs, Dilution, Patient, Severity, Sweep
from app.clinic.observation import Observation, ObservedSection
from app.clinic.tables import ClinicalTables, load_tables
from imaging.arrays import BoolMask
from imaging.calibration import Calibration, CalibrationProvenance

SLOW = os.environ.get("SONODOSE_SLOW") == "1"
CASES = int(os.environ.get("SONODOSE_CASES", "10000" if SLOW else "300"))
settings.register_profile(
    "clinic",
    max_examples=CASES,
    deadline=None,
    derandomize=not SLOW,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("clinic")

TODAY = dt.date(2026, 3, 2)


@functools.cache
def _tables() -> ClinicalTables:
    return load_tables()


@dataclass(frozen=True, slots=True)
class Make:
    """Builders of small valid inputs; every keyword overrides one field."""

    today: dt.date = TODAY

    @staticmethod
    def calibration(mm: float = 0.1, *, nominal: bool = False) -> Calibration:
        return Calibration(
            row_mm_per_px=mm,
            column_mm_per_px=mm,
            provenance=CalibrationProvenance.NOMINAL
            if nominal
            else CalibrationProvenance.ULTRASOUND_REGION,
        )

    @staticmethod
    def ellipse(
        shape: tuple[int, int] = (300, 400),
        centre: tuple[float, float] = (140.0, 200.0),
        half: tuple[float, float] = (60.0, 110.0),
    ) -> BoolMask:
        """A filled ellipse; centre and half axes are (row, column) in pixels."""
        row, column = np.mgrid[0 : shape[0], 0 : shape[1]] + 0.5
        inside: BoolMask = ((row - centre[0]) / half[0]) ** 2 + (
            (column - centre[1]) / half[1]
        ) ** 2 <= 1
        return inside

    @staticmethod
    def section(
        mask: BoolMask | None = None,
        calibration: Calibration | None = None,
        *,
        calibrated: bool = True,
        **other: Any,
    ) -> ObservedSection:
        mask = Make.ellipse() if mask is None else mask
        scale = (calibration or Make.calibration()) if calibrated else None
        fields: dict[str, Any] = {
            "frame_key": "0",
            "position_mm": None,
            "area_mm2": None if scale is None else scale.area_mm2(float(mask.sum())),
            "thickness_mm": None,
            "width_mm": None,
            "depth_mm": None,
            "area_interval_mm2": None,
            "mask": mask,
            "avoid": np.zeros_like(mask),
            "calibration": scale,
            "skin_row": 5,
        }
        return ObservedSection(**{**fields, **other})

    @staticmethod
    def observation(
        *sections: ObservedSection, view: str | None = "short_axis", **other: Any
    ) -> Observation:
        return Observation(view=view, sections=sections or (Make.section(),), **other)

    @staticmethod
    def sweep_of_ellipsoid(
        *,
        length_mm: float,
        half_row_mm: float,
        half_column_mm: float,
        positions: Sequence[float],
        mm: float = 0.1,
    ) -> Observation:
        """Sections of an ellipsoid at fractions −1 to 1 of its half length."""
        rows = int(2.6 * half_row_mm / mm) + 20
        columns = int(2.4 * half_column_mm / mm) + 20
        sections = []
        for index, at in enumerate(positions):
            shrink = max(0.0, 1 - at * at) ** 0.5
            mask = (
                Make.ellipse(
                    (rows, columns),
                    (rows / 2, columns / 2),
                    (half_row_mm / mm * shrink, half_column_mm / mm * shrink),
                )
                if shrink
                else np.zeros((rows, columns), dtype=np.bool_)
            )
            sections.append(
                Make.section(
                    mask,
                    Make.calibration(mm),
                    frame_key=str(index),
                    position_mm=(at + 1) / 2 * length_mm,
                )
            )
        return Observation(view="short_axis", sections=tuple(sections))

    @staticmethod
    def inputs(**other: Any) -> ClinicalInputs:
        """XEOMIN for an adult's biceps, MAS 2, everything answered with no."""
        fields: dict[str, Any] = {
            "muscle": "biceps_brachii",
            "side": "left",
            "view": "short_axis",
            "product": "XEOMIN",
            "indication": "upper_limb_spasticity",
            "patient": Patient(age_years=54, weight_kg=72, height_m=1.74),
            "severity": Severity(scale="MAS", value="2"),
            "dilution": Dilution(units=100, ml=2),
            "muscle_length_mm": 240.0,
            "prior_treatments": (),
            "safety": Make.all_no(),
        }
        return ClinicalInputs(**{**fields, **other})

    @staticmethod
    def all_no() -> dict[str, bool | None]:
        return {c.code: False for c in _tables().cautions.values() if c.kind == "safety"}

    @staticmethod
    def sweep(spacing_mm: float = 10.0, **other: Any) -> Sweep:
        return Sweep(spacing_mm=spacing_mm, **other)


@pytest.fixture(scope="session")
def tables() -> ClinicalTables:
    """The shipped tables, read once."""
    return _tables()


@pytest.fixture(scope="session")
def make() -> Make:
    """The builders."""
    return Make()

"""Real parts for the imaging tests: a phantom, its DICOM, a clip, a writer's names."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from imaging.arrays import BoolMask, GreyImage
from imaging.calibration import Calibration, CalibrationProvenance
from imaging.dicom.codes import CodedAnatomy
from imaging.dicom.instance import NewInstance, derived_uid
from imaging.dicom.ultrasound import StudyFacts, write_ultrasound
from imaging.geometry import ImagePoint
from imaging.limits import DecodeLimits
from imaging.mask import fill_outline
from imaging.phantom import SweepPhantom, ellipsoid_sweep

settings.register_profile("lean", max_examples=60, deadline=None)
settings.load_profile("lean")

CREATED = dt.datetime(2026, 3, 4, 5, 6, 7)
LIMITS = DecodeLimits()
BICEPS = CodedAnatomy(code="127954009", scheme="SCT", meaning="Biceps brachii", laterality="L")
FACTS = StudyFacts(
    patient_id="PH-1",
    patient_name="Phantom^Ellipsoid",
    study_instance_uid=derived_uid("tests", "study"),
    birth_date="19700101",
    sex="O",
    study_date="20260304",
    study_time="050607",
    laterality="L",
    body_part="ARM",
)


def names(kind: str, number: int = 1) -> NewInstance:
    """UIDs and numbers of an object under test, the same at every run."""
    return NewInstance(
        series_instance_uid=derived_uid("tests", kind, "series"),
        sop_instance_uid=derived_uid("tests", kind, "instance"),
        series_number=number,
        created=CREATED,
        software_version="test",
        series_description=kind,
    )


def scale(row: float = 0.15, column: float = 0.15) -> Calibration:
    return Calibration(
        row_mm_per_px=row,
        column_mm_per_px=column,
        provenance=CalibrationProvenance.ULTRASOUND_REGION,
    )


def circle(
    column: float, row: float, radius: float, *, points: int = 180
) -> tuple[ImagePoint, ...]:
    turns = np.linspace(0.0, 2.0 * np.pi, points, endpoint=False)
    return tuple(
        ImagePoint(column=column + radius * float(np.cos(t)), row=row + radius * float(np.sin(t)))
        for t in turns
    )


def disc(rows: int, columns: int, column: float, row: float, radius: float) -> BoolMask:
    return fill_outline(circle(column, row, radius), rows, columns)


@pytest.fixture(scope="session")
def phantom() -> SweepPhantom:
    return ellipsoid_sweep()


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """Writes frames as one of our ultrasound files and gives its path."""

    def write(
        frames: Sequence[GreyImage], calibration: Calibration | None = None, **more: object
    ) -> Path:
        path = tmp_path / f"us{len(list(tmp_path.iterdir()))}.dcm"
        kind = f"us{len(frames)}x{frames[0].shape}"
        facts = replace(FACTS, **more.pop("facts", {}))
        path.write_bytes(
            write_ultrasound(
                frames,
                facts=facts,
                instance=names(kind),
                calibration=calibration,
                **more,
            )
        )
        return path

    return write


@pytest.fixture
def noise() -> Callable[..., list[GreyImage]]:
    """Frames (rows, columns) uint8 of seeded noise, each its own."""

    def make(rows: int = 64, columns: int = 80, frames: int = 1) -> list[GreyImage]:
        rng = np.random.default_rng(rows * 10_007 + columns * 101 + frames)
        return [rng.integers(0, 256, (rows, columns), dtype=np.uint8) for _ in range(frames)]

    return make


def fill(phantom: SweepPhantom, section: int) -> BoolMask:
    """The mask of a phantom's section."""
    return fill_outline(phantom.outlines[section], *phantom.frames[section].shape)

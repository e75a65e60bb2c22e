"""Writes sample_dicoms/ again from its originals: the same bytes each time.

Patients and studies are made up; scales that nobody knows are marked as nominal. Run it with
`python tools/make_samples.py [FOLDER]`.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from imaging.calibration import Calibration, CalibrationProvenance
from imaging.dicom.instance import NewInstance, derived_uid
from imaging.dicom.ultrasound import StudyFacts, write_ultrasound
from imaging.geometry import PixelBox
from imaging.phantom import SweepPhantom, ellipsoid_sweep

HERE = Path(__file__).resolve().parent.parent / "sample_dicoms"
ORIGINALS = HERE / "originals"
MADE = dt.datetime(2026, 11, 25, 9, 30, tzinfo=dt.UTC)

USGRA = (
    "Image: usgra-seg data set (tmkand/usgra-seg), CC BY 4.0, stored as DICOM with a made-up scale"
)
DL_TRACK = (
    "Image: DL_Track (njcronin/DL_Track, Cronin, Finni, Seynnes 2020), Apache-2.0, stored as "
    "DICOM with a made-up scale"
)
PANORAMA = (
    "Image: kenziew/ultrasound_vl_csa_and_ei, MIT, (c) 2025 McKenzie White, stored as DICOM with "
    "its true scale"
)


def grey(name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An original as (rows, columns) uint8."""
    image = cv2.imread(str(ORIGINALS / name), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise SystemExit(f"sample_dicoms/originals/{name} is missing")
    return np.asarray(image, dtype=np.uint8)


def scale(mm_per_px: float, *, true: bool) -> Calibration:
    return Calibration(
        row_mm_per_px=mm_per_px,
        column_mm_per_px=mm_per_px,
        provenance=CalibrationProvenance.ULTRASOUND_REGION
        if true
        else CalibrationProvenance.NOMINAL,
    )


def facts(name: str, number: int, side: str, part: str, comments: str) -> StudyFacts:
    return StudyFacts(
        patient_id=f"SAMPLE-{number}",
        patient_name=f"Sample^{name}",
        study_instance_uid=derived_uid("sample", name, "study"),
        birth_date="19720101",
        sex="O",
        study_date="20261125",
        study_time="093000",
        study_id=str(number),
        study_description="sonodose sample",
        laterality=side,
        body_part=part,
        comments=comments,
    )


def instance(name: str) -> NewInstance:
    return NewInstance(
        series_instance_uid=derived_uid("sample", name, "series"),
        sop_instance_uid=derived_uid("sample", name, "instance"),
        series_number=1,
        series_description="sonodose sample",
        created=MADE,
        software_version="sample",
    )


def phantom() -> SweepPhantom:
    """The ellipsoid of the sweep sample; its true volume stands in the sample's README."""
    return ellipsoid_sweep(rows=240, columns=320, mm_per_px=0.18)


ADULT = {"age_years": 54, "weight_kg": 75, "height_m": 1.75}
NO_HISTORY: dict[str, Any] = {"prior_treatments": []}


def requests() -> dict[str, dict[str, Any]]:
    """What is asked of each sample; the file name without its ending is the key."""
    sweep = phantom()
    return {
        "biceps_short_axis": {
            "muscle": "biceps_brachii",
            "side": "left",
            "view": "short_axis",
            "product": "XEOMIN",
            "indication": "upper_limb_spasticity",
            "patient": ADULT,
            "severity": {"scale": "MAS", "value": "2"},
            "dilution": {"units": 100, "ml": 2},
            "muscle_length_mm": 240,
            "clicks": [{"column": 180, "row": 105, "positive": True}],
            **NO_HISTORY,
        },
        "phantom_sweep": {
            "muscle": "biceps_brachii",
            "side": "right",
            "view": "short_axis",
            "product": "XEOMIN",
            "indication": "upper_limb_spasticity",
            "patient": ADULT,
            "severity": {"scale": "MAS", "value": "3"},
            "dilution": {"units": 100, "ml": 2},
            "sweep": {"spacing_mm": sweep.spacing_mm},
            "outlines": [
                {"frame": index, "points": [[p.column, p.row] for p in outline]}
                for index, outline in enumerate(sweep.outlines)
            ],
            **NO_HISTORY,
        },
        "gastrocnemius_long_axis": {
            "muscle": "gastrocnemius_medial",
            "side": "right",
            "view": "long_axis",
            "product": "DYSPORT",
            "indication": "lower_limb_spasticity",
            "patient": ADULT,
            "severity": {"scale": "MAS", "value": "3"},
            "dilution": {"units": 500, "ml": 2.5},
            **NO_HISTORY,
        },
        "vastus_lateralis_panorama": {
            "muscle": "vastus_lateralis",
            "side": "right",
            "view": "short_axis",
            "product": "BOTOX",
            "indication": "lower_limb_spasticity",
            "patient": ADULT,
            "severity": {"scale": "MAS", "value": "2"},
            "dilution": {"units": 100, "ml": 2},
            "clicks": [{"column": 620, "row": 225, "positive": True}],
            **NO_HISTORY,
        },
        "no_calibration": {
            "muscle": "biceps_brachii",
            "side": "left",
            "view": "short_axis",
            "product": "XEOMIN",
            "indication": "upper_limb_spasticity",
            "patient": ADULT,
            "severity": {"scale": "MAS", "value": "2"},
            "muscle_length_mm": 240,
            "clicks": [{"column": 180, "row": 105, "positive": True}],
            **NO_HISTORY,
        },
    }


def files() -> dict[str, bytes]:
    """Every sample's bytes by file name."""
    sweep = phantom()
    return {
        "biceps_short_axis.dcm": write_ultrasound(
            [grey("biceps_short_axis.png")],
            facts=facts("Biceps", 1, "L", "UPPER ARM", USGRA),
            instance=instance("biceps"),
            calibration=scale(0.12, true=False),
            nominal=True,
            region=PixelBox(column0=0, row0=0, column1=516, row1=436),
        ),
        "phantom_sweep.dcm": write_ultrasound(
            sweep.frames,
            facts=facts("Phantom", 2, "R", "UPPER ARM", "Computed phantom of known volume"),
            instance=instance("phantom"),
            calibration=sweep.calibration,
        ),
        "gastrocnemius_long_axis.dcm": write_ultrasound(
            [grey("gastrocnemius_long_axis.png")],
            facts=facts("Gastrocnemius", 3, "R", "CALF", DL_TRACK),
            instance=instance("gastrocnemius"),
            calibration=scale(0.09, true=False),
            nominal=True,
            region=PixelBox(column0=233, row0=39, column1=1001, row1=688),
        ),
        "vastus_lateralis_panorama.dcm": write_ultrasound(
            [grey("vastus_lateralis_panorama.png")],
            facts=facts("Vastus", 4, "R", "THIGH", PANORAMA),
            instance=instance("vastus"),
            calibration=scale(0.115262688663478, true=True),
        ),
    }


def main(folder: Path = HERE) -> None:
    """Writes the samples and their requests into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files().items():
        (folder / name).write_bytes(content)
    shutil.copyfile(ORIGINALS / "biceps_short_axis.png", folder / "no_calibration.png")
    for name, request in requests().items():
        (folder / f"{name}.json").write_text(json.dumps(request, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))

"""Plans of outlined phantoms as the store holds them, made by the real pipeline."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2

from app.analysis import SourceFile
from app.clinic.tables import load_tables
from app.pipeline import analyse
from app.reporting import StoredAnalysis
from app.request import AnalysisRequest
from imaging.dicom.instance import NewInstance
from imaging.dicom.ultrasound import StudyFacts, write_ultrasound
from imaging.limits import DecodeLimits
from imaging.phantom import ellipsoid_sweep
from imaging.read import read_clip
from models.segment import load_segmenter

NOW = dt.datetime(2026, 11, 25, 10, 0, tzinfo=dt.UTC)
STUDY = "1.2.3"
PATIENT = {
    "id": "P-1",
    "name": "Smith^Ada",
    "birth_date": "1970-02-03",
    "age_years": 56,
}


def stored_plan(
    folder: Path,
    *,
    frames: int = 5,
    rows: int = 240,
    columns: int = 320,
    plain: bool = False,
    patient_name: str = "Smith^Ada",
    request: Mapping[str, Any] | None = None,
) -> StoredAnalysis:
    """The plan of a phantom with so many frames, as DICOM or as plain PNG or MP4."""
    mm_per_px = 0.18 * 320 / columns
    phantom = ellipsoid_sweep(
        sections=max(frames, 3), rows=rows, columns=columns, mm_per_px=mm_per_px
    )
    first = (len(phantom.frames) - frames) // 2
    pictures = phantom.frames[first : first + frames]
    outlines = phantom.outlines[first : first + frames]
    name = f"a.{('png' if frames == 1 else 'mp4') if plain else 'dcm'}"
    path = folder / f"stored_{frames}_{rows}x{columns}.{name}"
    if not plain:
        path.write_bytes(
            write_ultrasound(
                pictures,
                facts=StudyFacts(
                    patient_id="P-1",
                    patient_name=patient_name,
                    study_instance_uid=STUDY,
                    laterality="L",
                ),
                instance=NewInstance(
                    series_instance_uid="1.2.3.1",
                    sop_instance_uid="1.2.3.1.1",
                    series_number=1,
                    created=NOW,
                    software_version="test",
                ),
                calibration=phantom.calibration,
            )
        )
    elif frames == 1:
        cv2.imwrite(str(path), pictures[0])
    else:
        writer = cv2.VideoWriter(
            str(path), cv2.VideoWriter.fourcc(*"mp4v"), 20.0, (columns, rows), isColor=False
        )
        for each in pictures:
            writer.write(each)
        writer.release()
    asked = {
        "muscle": "biceps_brachii",
        "side": "left",
        "product": "XEOMIN",
        "indication": "upper_limb_spasticity",
        "patient": {"age_years": 40},
        "severity": {"value": "2"},
        "dilution": {"units": 100, "ml": 2},
        **({"sweep": {"spacing_mm": phantom.spacing_mm}} if frames > 1 else {}),
        **({"muscle_length_mm": 240} if frames == 1 else {}),
        "outlines": [
            {"frame": index, "points": [[p.column, p.row] for p in outline]}
            for index, outline in enumerate(outlines)
        ],
        **(
            {"calibration": {"row_mm_per_px": mm_per_px, "column_mm_per_px": mm_per_px}}
            if plain
            else {}
        ),
        **(request or {}),
    }
    found = analyse(
        [read_clip(path, name=name, limits=DecodeLimits())],
        AnalysisRequest.model_validate(asked),
        segmenter=load_segmenter(),
        tables=load_tables(),
        today=NOW.date(),
    )
    return StoredAnalysis(
        analysis_id="0123456789abcdef",
        revision=1,
        created_at=NOW,
        state=found.state,
        plan=found.plan,
        masks=found.masks,
        sources=(SourceFile(path=str(path), name=name),),
        request=asked,
        submitted_at=NOW,
    )

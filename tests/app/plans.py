"""Plans of outlined phantoms as the store holds them, made by the real pipeline."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2

from app.analysis import SourceFile
from app.clinic.tables import load_tables
from app.planning.pipeline import analyse
from app.planning.request import AnalysisRequest
from app.results.stored_analysis import StoredAnalysis
from imaging.arrays import GreyImage
from imaging.calibration import Calibration
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
    stills: bool = False,
    patient_name: str = "Smith^Ada",
    study: str = STUDY,
    uids: str = "1.2.3.1",
    request: Mapping[str, Any] | None = None,
) -> StoredAnalysis:
    """The plan of a phantom with so many frames, as DICOM or as plain PNG or MP4.

    With `stills` each frame is a file of its own: the instances of one series, or PNGs.
    """
    mm_per_px = 0.18 * 320 / columns
    phantom = ellipsoid_sweep(
        sections=max(frames, 3), rows=rows, columns=columns, mm_per_px=mm_per_px
    )
    first = (len(phantom.frames) - frames) // 2
    pictures = phantom.frames[first : first + frames]
    outlines = phantom.outlines[first : first + frames]
    files = [[picture] for picture in pictures] if stills else [pictures]
    kind = "dcm" if not plain else "png" if stills or frames == 1 else "mp4"
    sources = []
    for number, shown in enumerate(files, start=1):
        uid = f"{uids}.{number}"
        name = f"{'abcdefghijklmnopqrstuvwxyz'[number - 1]}.{kind}"
        path = folder / f"stored_{frames}_{rows}x{columns}.{name}"
        if not plain:
            path.write_bytes(
                _ultrasound(shown, study, uid, number, phantom.calibration, patient_name)
            )
        elif kind == "png":
            cv2.imwrite(str(path), shown[0])
        else:
            _write_video(path, shown)
        sources.append(
            SourceFile(path=str(path), name=name, sop_instance_uid=None if plain else uid)
        )
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
            {
                **({"file": sources[index].name} if stills else {"frame": index}),
                "points": [[p.column, p.row] for p in outline],
            }
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
        [read_clip(Path(s.path), name=s.name, limits=DecodeLimits()) for s in sources],
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
        sources=tuple(sources),
        request=asked,
        submitted_at=NOW,
    )


def _ultrasound(
    pictures: Sequence[GreyImage],
    study: str,
    uid: str,
    number: int,
    calibration: Calibration,
    patient_name: str,
) -> bytes:
    return write_ultrasound(
        pictures,
        facts=StudyFacts(
            patient_id="P-1",
            patient_name=patient_name,
            study_instance_uid=study,
            laterality="L",
        ),
        instance=NewInstance(
            series_instance_uid=uid.rpartition(".")[0],
            sop_instance_uid=uid,
            series_number=1,
            instance_number=number,
            created=NOW,
            software_version="test",
        ),
        calibration=calibration,
    )


def _write_video(path: Path, pictures: Sequence[GreyImage]) -> None:
    rows, columns = pictures[0].shape
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*"mp4v"), 20.0, (columns, rows), isColor=False
    )
    for each in pictures:
        writer.write(each)
    writer.release()

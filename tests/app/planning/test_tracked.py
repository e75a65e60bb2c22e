"""Frames that say where they lie: a volume or tracked stills give the places of the sweep."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from app.analysis import Analysis
from app.clinic.tables import ClinicalTables, load_tables
from app.planning.pipeline import analyse
from app.planning.request import AnalysisRequest
from imaging.limits import DecodeLimits
from imaging.phantom import SweepPhantom, ellipsoid_sweep
from imaging.plane import plane_of, positions_mm
from imaging.read import read_clip
from models.segment import Segmenter, load_segmenter

ENHANCED_US_VOLUME = "1.2.840.10008.5.1.4.1.1.6.2"
STILL = "1.2.840.10008.5.1.4.1.1.6.1"
ACROSS, DOWN = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
FRAME_OF_REFERENCE = generate_uid()


@pytest.fixture(scope="module")
def tables() -> ClinicalTables:
    return load_tables()


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load_segmenter()


@pytest.fixture(scope="module")
def phantom() -> SweepPhantom:
    return ellipsoid_sweep()


def item(**values: Any) -> Items:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return Items([ds])


def image(sop_class: str, pixels: np.ndarray, mm_per_px: float) -> FileDataset:
    """An ultrasound image of these (frames, rows, columns) with its pixel measures."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.Modality, ds.PatientID, ds.FrameOfReferenceUID = "US", "P-1", FRAME_OF_REFERENCE
    ds.Rows, ds.Columns, ds.SamplesPerPixel = *pixels.shape[1:], 1
    ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    if len(pixels) > 1:
        ds.NumberOfFrames = len(pixels)
    ds.SharedFunctionalGroupsSequence = item(
        PixelMeasuresSequence=item(PixelSpacing=[mm_per_px, mm_per_px])
    )
    ds.PixelData = pixels.tobytes()
    return ds


def volume_file(phantom: SweepPhantom, path: Path, depths_mm: Sequence[float]) -> Path:
    """An Enhanced US Volume whose frames lie at these places along their normal."""
    ds = image(ENHANCED_US_VOLUME, np.stack(phantom.frames), phantom.calibration.row_mm_per_px)
    shared = ds.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationVolumeSequence = item(ImageOrientationVolume=[*ACROSS, *DOWN])
    ds.PerFrameFunctionalGroupsSequence = Items(
        [
            item(PlanePositionVolumeSequence=item(ImagePositionVolume=[-20.0, 5.0, depth]))[0]
            for depth in depths_mm
        ]
    )
    ds.save_as(path, enforce_file_format=True)
    return path


def planned(
    files: Sequence[Path],
    phantom: SweepPhantom,
    segmenter: Segmenter,
    tables: ClinicalTables,
    **changes: Any,
) -> Analysis:
    clips = [read_clip(f, name=f.name, frames=None, limits=DecodeLimits()) for f in files]
    single = len(files) == 1
    request = AnalysisRequest.model_validate(
        {
            "muscle": "biceps_brachii",
            "side": "left",
            "view": "short_axis",
            "outlines": [
                {
                    **({"frame": index} if single else {"file": files[index].name}),
                    "points": [[p.column, p.row] for p in outline],
                }
                for index, outline in enumerate(phantom.outlines)
            ],
            **changes,
        }
    )
    day = dt.date(2026, 3, 2)
    return analyse(clips, request, segmenter=segmenter, tables=tables, today=day)


def codes(analysis: Analysis) -> set[str]:
    return {c["code"] for c in analysis.plan["cautions"]}


def test_an_enhanced_volume_needs_no_spacing(
    phantom: SweepPhantom, tmp_path: Path, segmenter: Segmenter, tables: ClinicalTables
) -> None:
    """The frames' own places give the volume, to 1 % of the truth, as a tracked sweep; so do
    places that fall along the sweep."""
    rising = [100 + index * phantom.spacing_mm for index in range(len(phantom.frames))]
    for depths in (rising, [-depth for depth in rising]):
        file = volume_file(phantom, tmp_path / "volume.dcm", depths)
        volume = planned([file], phantom, segmenter, tables).plan["volume"]
        assert volume["method"] == "sweep_tracked"
        assert volume["volume_ml"] == pytest.approx(phantom.whole_volume_ml, rel=0.01)
        assert "G_NOORKOIV19" in volume["published_error"]


def test_the_operators_spacing_is_used_and_a_disagreement_said(
    phantom: SweepPhantom, tmp_path: Path, segmenter: Segmenter, tables: ClinicalTables
) -> None:
    """A spacing that is given holds; one that the frames contradict is named."""
    places = [index * phantom.spacing_mm for index in range(len(phantom.frames))]
    file = volume_file(phantom, tmp_path / "volume.dcm", places)
    for factor, said in ((1.0, False), (1.2, True)):
        sweep = {"spacing_mm": factor * phantom.spacing_mm}
        found = planned([file], phantom, segmenter, tables, sweep=sweep)
        assert found.plan["volume"]["method"] == "sweep"
        expected = phantom.whole_volume_ml * factor
        assert found.plan["volume"]["volume_ml"] == pytest.approx(expected, rel=0.01)
        assert ("sweep_spacing_disagrees" in codes(found)) == said


def test_tracked_stills_make_a_sweep(
    phantom: SweepPhantom, tmp_path: Path, segmenter: Segmenter, tables: ClinicalTables
) -> None:
    """Single images with position and orientation in one frame of reference are a sweep."""
    files = []
    for index, pixels in enumerate(phantom.frames):
        ds = image(STILL, pixels[None], phantom.calibration.row_mm_per_px)
        ds.ImagePositionPatient = [3.0, 4.0, index * phantom.spacing_mm]
        ds.ImageOrientationPatient = [*ACROSS, *DOWN]
        ds.PixelSpacing = [phantom.calibration.row_mm_per_px] * 2
        files.append(tmp_path / f"{index:02}.dcm")
        ds.save_as(files[-1], enforce_file_format=True)
    found = planned(files, phantom, segmenter, tables)
    assert found.plan["volume"]["method"] == "sweep_tracked"
    assert found.plan["volume"]["volume_ml"] == pytest.approx(phantom.whole_volume_ml, rel=0.01)


def test_without_places_there_is_no_tracked_sweep(
    phantom: SweepPhantom, tmp_path: Path, segmenter: Segmenter, tables: ClinicalTables
) -> None:
    """Positions that are damaged, or missing for one frame, are not guessed."""
    places = [index * phantom.spacing_mm for index in range(len(phantom.frames))]
    file = volume_file(phantom, tmp_path / "volume.dcm", places)
    found = planned([file], phantom, segmenter, tables)
    assert json.loads(json.dumps(found.plan))["volume"]["known"]
    file = volume_file(phantom, tmp_path / "short.dcm", places[:-1])
    assert not planned([file], phantom, segmenter, tables).plan["volume"]["known"]


def plane(centre: float, *, tilt_deg: float = 0.0, reference: str = "1") -> Any:
    turned = math.radians(tilt_deg)
    return plane_of(
        corner_mm=(-10.0, 0.0, centre),
        along_row=(1.0, 0.0, 0.0),
        along_column=(0.0, math.cos(turned), math.sin(turned)),
        width_mm=20.0,
        height_mm=0.0,
        frame_of_reference=reference,
    )


def test_places_along_a_sweep() -> None:
    """Distances along the common normal, from the outermost; a little tilt is borne."""
    assert positions_mm([plane(3.0), plane(1.0), plane(8.0)]) == pytest.approx([2.0, 0.0, 7.0])
    tilted = positions_mm([plane(0.0), plane(10.0, tilt_deg=4.9)])
    assert tilted == pytest.approx([0.0, 10.0], abs=0.1)


@pytest.mark.parametrize(
    "planes",
    [
        [],
        [plane(0.0)],
        [plane(0.0), None],
        [plane(0.0), plane(1.0, reference="2")],
        [plane(0.0), plane(10.0, tilt_deg=5.1)],
        [plane(2.0), plane(2.0)],
    ],
)
def test_no_places_along_a_sweep(planes: list[Any]) -> None:
    """One plane, an unknown one, two frames of reference, a tilt, or one place: no sweep."""
    assert positions_mm(planes) is None


@pytest.mark.parametrize(
    "vectors",
    [
        {"along_row": (1.1, 0.0, 0.0)},
        {"along_column": (0.0, 0.0, 0.0)},
        {"along_column": (0.1, 0.995, 0.0)},
        {"corner_mm": (math.nan, 0.0, 0.0)},
    ],
)
def test_directions_that_are_none(vectors: dict[str, Any]) -> None:
    """Directions that are no unit vectors at a right angle make no plane."""
    right: dict[str, Any] = {
        "corner_mm": (0.0, 0.0, 0.0),
        "along_row": (1.0, 0.0, 0.0),
        "along_column": (0.0, 1.0, 0.0),
        "width_mm": 10.0,
        "height_mm": 10.0,
        "frame_of_reference": "1",
    }
    assert plane_of(**right) is not None
    assert plane_of(**{**right, **vectors}) is None

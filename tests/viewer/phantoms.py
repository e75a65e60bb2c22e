"""Ultrasound-like files for the viewer's tests, and a segmenter that knows their answer."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

import app.jobs.worker
from app.analysis import Analysis, Stage
from app.jobs.worker import AnalysisTask
from imaging.dicom.regions import NOMINAL_MARK
from imaging.errors import UnreadableFile
from imaging.geometry import PixelBox
from models.segment import AbstentionReason, Prompt, Segmentation, SegmentedObject, View

ROWS, COLUMNS = 480, 640
SCALE_MM = 0.1
CENTRE, RADII = (300.0, 250.0), (150.0, 95.0)
"""The muscle of frame 0: centre (column, row) and half axes in pixels."""
SLOW_ROWS = 481
"""A picture of so many rows is planned slowly, one of BROKEN_ROWS not at all."""
BROKEN_ROWS = 482

Grey = NDArray[np.uint8]


def picture(frame: int = 0, *, rows: int = ROWS, columns: int = COLUMNS) -> Grey:
    """(rows, columns) uint8: bright speckle with a dark oval muscle that drifts with the frame."""
    rng = np.random.default_rng(frame)
    noise = rng.gamma(3.0, 34.0, size=(rows, columns))
    grey = np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.2))
    row, column = np.mgrid[:rows, :columns]
    oval = _oval(column, row, frame)
    grey[oval] = grey[oval] * 0.45
    edge = np.abs(_radius(column, row, frame) - 1) < 0.03
    grey[edge] = 200
    vessel = (column - 455) ** 2 + (row - 380) ** 2 < 22**2
    grey[vessel] = 12
    nerve = ((column - 190) / 26) ** 2 + ((row - 385) / 14) ** 2 < 1
    grey[nerve] = 215
    return np.clip(grey, 0, 255).astype(np.uint8)


def _radius(column: Any, row: Any, frame: int) -> Any:
    return np.hypot(
        (column + 0.5 - CENTRE[0] - 40 * np.sin(frame / 25)) / RADII[0],
        (row + 0.5 - CENTRE[1]) / RADII[1],
    )


def _oval(column: Any, row: Any, frame: int) -> Any:
    return _radius(column, row, frame) < 1


def png(*, rows: int = ROWS, ruler: bool = False) -> bytes:
    """A plain frame: no scale, no patient; with a ruler of nine ticks 50 pixels apart beside it."""
    grey = picture(rows=rows)
    if ruler:
        grey = np.hstack([grey, np.zeros((rows, 60), np.uint8)])
        for row in range(40, 441, 50):
            grey[row - 1 : row + 1, COLUMNS + 20 : COLUMNS + 32] = 230
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    return file.getvalue()


def dicom(
    *,
    frames: int = 1,
    rows: int = ROWS,
    laterality: str | None = None,
    nominal: bool = False,
    patient: tuple[str, str] = ("", ""),
    day: str = "20260102",
) -> bytes:
    """A calibrated ultrasound image, or a clip of so many frames."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(
        "1.2.840.10008.5.1.4.1.1." + ("6.1" if frames == 1 else "3.1")
    )
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.Modality, (ds.PatientID, ds.PatientName) = "US", patient
    ds.PatientBirthDate, ds.PatientSex = "19700101", "F"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = day, "101112", "", "1"
    ds.ReferringPhysicianName, ds.SeriesNumber, ds.InstanceNumber = "", 1, 1
    ds.Manufacturer, ds.PatientOrientation, ds.ImageType = "", "", ["ORIGINAL", "PRIMARY"]
    if nominal:
        ds.ImageComments = NOMINAL_MARK
    if laterality is not None:
        ds.Laterality = laterality
    ds.Rows, ds.Columns, ds.SamplesPerPixel = rows, COLUMNS, 1
    ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    if frames > 1:
        ds.NumberOfFrames, ds.FrameTime = frames, 33.3
        ds.FrameIncrementPointer = 0x00181063
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = COLUMNS - 1, rows - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = SCALE_MM / 10
    ds.SequenceOfUltrasoundRegions = Sequence([region])
    ds.PixelData = b"".join(picture(n, rows=rows).tobytes() for n in range(frames))
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


class KnowingSegmenter:
    """Finds the dark oval from a click; without one, or with a click outside, it abstains."""

    def segment(
        self, grey: Grey, prompt: Prompt | None = None, *, region: PixelBox | None = None
    ) -> Segmentation:
        prompt = prompt or Prompt()
        rows, columns = grey.shape
        smooth = cv2.GaussianBlur(grey, (0, 0), 5)
        specks = (smooth < 72).astype(np.uint8)
        dark = cv2.morphologyEx(specks, cv2.MORPH_OPEN, np.ones((9, 9), np.uint8))
        _, parts = cv2.connectedComponents(dark)
        wanted = {int(parts[c.row, c.column]) for c in prompt.clicks if c.positive} - {0}
        muscle = np.isin(parts, list(wanted)) if wanted else np.zeros(grey.shape, bool)
        muscle = cv2.morphologyEx(muscle.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((15, 15)))
        at_row, at_column = np.mgrid[:rows, :columns]
        for click in prompt.clicks:
            near = (at_column - click.column) ** 2 + (at_row - click.row) ** 2 < 40**2
            muscle = np.where(near, 1 if click.positive and wanted else 0, muscle)
        found = muscle.astype(bool)
        vessel = (at_column - 455) ** 2 + (at_row - 380) ** 2 < 22**2
        nerve = ((at_column - 190) / 26) ** 2 + ((at_row - 385) / 14) ** 2 < 1
        area = float(found.sum())
        return Segmentation(
            muscle=found,
            candidate=found,
            nerve=nerve,
            vessel=vessel,
            aponeurosis=np.zeros(grey.shape, bool),
            objects=(
                _object("nerve", nerve),
                _object("vessel", vessel),
            ),
            view=View.SHORT_AXIS,
            view_score=0.99,
            confidence=0.93 if area else 0.2,
            area_px=area,
            area_interval_px=(0.9 * area, 1.1 * area),
            thickness_px=0.0,
            thickness_interval_px=(0.0, 0.0),
            abstained=None if area else AbstentionReason.TARGET_NOT_FOUND,
            sector=PixelBox(column0=0, row0=0, column1=columns, row1=rows),
            weights_version="phantom",
        )


def _object(kind: Any, mask: NDArray[np.bool_]) -> SegmentedObject:
    rows, columns = np.nonzero(mask)
    return SegmentedObject(
        kind=kind,
        score=0.9,
        area_px=int(mask.sum()),
        box=PixelBox(
            column0=int(columns.min()),
            row0=int(rows.min()),
            column1=int(columns.max()) + 1,
            row1=int(rows.max()) + 1,
        ),
    )


def warm_up() -> None:
    """What a worker loads before its first job, but for the network."""
    app.jobs.worker.tables(None)
    KnowingSegmenter().segment(picture())


def run(task: AnalysisTask, progress: Callable[[Stage], None] = lambda stage: None) -> Analysis:
    """The real analysis with the knowing segmenter; slow or broken where the picture says so."""
    app.jobs.worker.segmenter = lambda: KnowingSegmenter()
    rows = _rows_of(task)
    if rows == BROKEN_ROWS:
        progress(Stage.DECODE)
        raise UnreadableFile("The pixels are cut off.", remedy="Export the image again.")
    if rows == SLOW_ROWS:
        progress(Stage.SEGMENT)
        time.sleep(float(os.environ.get("SONODOSE_TEST_SLOW_S", "4")))
    return app.jobs.worker.run_analysis(task, progress)


def _rows_of(task: AnalysisTask) -> int:
    from pathlib import Path

    from imaging.read import peek

    source = task.sources[0]
    return peek(Path(source.path), name=source.name, limits=task.limits).rows

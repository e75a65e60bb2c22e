"""Secondary Capture: the overlay as a picture for every PACS, and plain frames put into a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import RLELossless

from imaging.arrays import ColourImage, GreyImage
from imaging.calibration import Calibration
from imaging.dicom.codes import SOURCE_IMAGE, code_sequence
from imaging.dicom.content import image_reference
from imaging.dicom.header import SECONDARY_CAPTURE
from imaging.dicom.instance import NewInstance, date_and_time, header_of, new_dataset, to_bytes
from imaging.dicom.regions import NOMINAL_MARK
from imaging.dicom.rle import set_pixels
from imaging.dicom.seg import decimal_string
from imaging.dicom.ultrasound import StudyFacts, study_of

MULTI_FRAME_GREY = f"{SECONDARY_CAPTURE}.2"
MULTI_FRAME_COLOUR = f"{SECONDARY_CAPTURE}.4"


def write_capture(
    study: Dataset | Path | StudyFacts,
    pictures: Sequence[GreyImage | ColourImage],
    *,
    instance: NewInstance,
    modality: Literal["OT", "US"] = "OT",
    source_frame: int | None = None,
    calibration: Calibration | None = None,
    laterality: str | None = None,
    description: str = "",
    words_burned_in: bool = True,
    frame_time_ms: float = 40.0,
) -> bytes:
    """A Secondary Capture of one picture, a Multi-frame one of several, RLE Lossless.

    `pictures` are all (rows, columns) or all (rows, columns, 3) uint8 of one size. `study` is the
    image that they belong to (its `source_frame` is referenced) or the facts of a study. With
    modality OT the reader here never takes our own picture for an ultrasound image; plain
    frames of a patient are wrapped with US. Raises ValueError for no or unlike pictures.
    """
    if not pictures or any(
        p.shape != pictures[0].shape or p.dtype != np.uint8 or p.ndim not in (2, 3)
        for p in pictures
    ):
        raise ValueError("a capture needs pictures of uint8 and of one size")
    rows, columns = pictures[0].shape[:2]
    whose = study if isinstance(study, StudyFacts) else header_of(study)
    ds = capture_header(
        whose,
        rows=rows,
        columns=columns,
        frames=len(pictures),
        colour=pictures[0].ndim == 3,
        instance=instance,
        modality=modality,
        source_frame=source_frame,
        calibration=calibration,
        laterality=laterality,
        description=description,
        words_burned_in=words_burned_in,
        frame_time_ms=frame_time_ms,
    )
    set_pixels(ds, pictures)
    like = None if isinstance(whose, StudyFacts) else whose
    return to_bytes(ds, like=like, transfer_syntax=RLELossless)


def capture_header(
    study: Dataset | StudyFacts,
    *,
    rows: int,
    columns: int,
    frames: int,
    colour: bool,
    instance: NewInstance,
    modality: Literal["OT", "US"] = "OT",
    source_frame: int | None = None,
    calibration: Calibration | None = None,
    laterality: str | None = None,
    description: str = "",
    words_burned_in: bool = True,
    frame_time_ms: float = 40.0,
) -> Dataset:
    """All that `write_capture` writes but the pixels: enough for objects that refer to it."""
    many = frames > 1
    sop_class = SECONDARY_CAPTURE
    if many:
        sop_class = MULTI_FRAME_COLOUR if colour else MULTI_FRAME_GREY
    source = None if isinstance(study, StudyFacts) else study
    taken_over = study_of(study) if isinstance(study, StudyFacts) else source
    assert taken_over is not None  # noqa: S101 -- one of the two, told to the type checker
    ds = new_dataset(taken_over, instance, sop_class=sop_class, modality=modality)
    ds.ConversionType = "WSD" if source is not None else "DI"
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.ContentDate, ds.ContentTime = date_and_time(instance.created)
    ds.PatientOrientation = ""
    ds.BurnedInAnnotation = "YES" if words_burned_in else "NO"
    _laterality(ds, study, source, laterality)
    if description:
        ds.DerivationDescription = description[:1024]
    if source is not None:
        reference = image_reference(source, source_frame)
        reference.PurposeOfReferenceCodeSequence = code_sequence(SOURCE_IMAGE)
        ds.SourceImageSequence = DicomSequence([reference])
    if calibration is not None:
        _spacing(ds, calibration)
    _image(ds, rows, columns, frames, colour=colour, frame_time_ms=frame_time_ms)
    return ds


def _laterality(ds: Dataset, study: object, source: Dataset | None, laterality: str | None) -> None:
    if laterality is None and isinstance(study, StudyFacts):
        laterality = study.laterality
    if laterality is None and source is not None:
        laterality = source.get("Laterality") or source.get("ImageLaterality")
    # Type 2C of the General Series module: empty where no side is named.
    ds.Laterality = laterality or ""


def _spacing(ds: Dataset, calibration: Calibration) -> None:
    """Basic Pixel Spacing Calibration (PS3.3 10.7) of a frame whose scale a person gave."""
    ds.PixelSpacing = [
        decimal_string(calibration.height_mm(1.0)),
        decimal_string(calibration.width_mm(1.0)),
    ]
    ds.PixelSpacingCalibrationType = "FIDUCIAL"
    ds.PixelSpacingCalibrationDescription = calibration.provenance.value
    if calibration.is_nominal:
        ds.ImageComments = NOMINAL_MARK + ": the true scale is unknown"


def _image(
    ds: Dataset, rows: int, columns: int, frames: int, *, colour: bool, frame_time_ms: float
) -> None:
    ds.Rows, ds.Columns = rows, columns
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    ds.LossyImageCompression = "00"
    if frames > 1:
        ds.NumberOfFrames = frames
        ds.FrameTime = f"{frame_time_ms:g}"
        ds.FrameIncrementPointer = Tag("FrameTime")
        if not colour:
            # PS3.3 C.8.6.3, for grey multi-frame captures.
            ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
            ds.PresentationLUTShape = "IDENTITY"

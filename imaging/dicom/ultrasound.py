"""Our own ultrasound images: samples, phantoms, and plain frames put under a study.

A scale that is made up is marked as `imaging.dicom.regions` describes (`NOMINAL_MARK`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag

from imaging.arrays import GreyImage
from imaging.calibration import Calibration
from imaging.dicom.header import US_IMAGE, US_MULTI_FRAME
from imaging.dicom.instance import NewInstance, date_and_time, new_dataset, to_bytes
from imaging.dicom.regions import CENTIMETRES, MM_PER_CM, NOMINAL_MARK, SPATIAL_2D, TISSUE
from imaging.geometry import PixelBox


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts:
    """Of whom and of what an image is; dates are DICOM's YYYYMMDD, laterality L or R."""

    patient_id: str
    patient_name: str
    study_instance_uid: str
    issuer: str = ""
    birth_date: str = ""
    sex: str = ""
    study_date: str = ""
    study_time: str = ""
    study_id: str = "1"
    study_description: str = ""
    accession: str = ""
    laterality: str | None = None
    body_part: str | None = None
    comments: str = ""


def write_ultrasound(
    frames: Sequence[GreyImage],
    *,
    facts: StudyFacts,
    instance: NewInstance,
    calibration: Calibration | None,
    nominal: bool = False,
    frame_time_ms: float = 40.0,
    region: PixelBox | None = None,
) -> bytes:
    """A US Image (one frame) or US Multi-frame Image (more), explicit little endian.

    `frames` are (rows, columns) uint8 of one size. Without a calibration no region is written;
    `nominal` marks the scale as made up. Raises ValueError for no frames or unlike sizes.
    """
    if not frames:
        raise ValueError("an image needs a frame")
    rows, columns = frames[0].shape
    if any(frame.shape != (rows, columns) or frame.dtype != np.uint8 for frame in frames):
        raise ValueError("frames must be (rows, columns) uint8 of one size")
    many = len(frames) > 1
    ds = new_dataset(
        study_of(facts), instance, sop_class=US_MULTI_FRAME if many else US_IMAGE, modality="US"
    )
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.ContentDate, ds.ContentTime = date_and_time(instance.created)
    # Type 2C of the General Image module: unknown on a hand-held probe, so empty.
    ds.PatientOrientation = ""
    if facts.laterality is not None:
        ds.Laterality = facts.laterality
    if facts.body_part is not None:
        ds.BodyPartExamined = facts.body_part
    comments = [NOMINAL_MARK + ": the true scale is unknown"] if nominal else []
    if facts.comments:
        comments.append(facts.comments)
    if comments:
        ds.ImageComments = ". ".join(comments)
    if nominal:
        ds.DerivationDescription = NOMINAL_MARK + ", for demonstration only"
    ds.LossyImageCompression = "00"
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    if many:
        ds.NumberOfFrames = len(frames)
        ds.FrameTime = f"{frame_time_ms:g}"
        ds.FrameIncrementPointer = Tag("FrameTime")
    if calibration is not None:
        box = region or calibration.region
        box = box or PixelBox(column0=0, row0=0, column1=columns, row1=rows)
        ds.SequenceOfUltrasoundRegions = DicomSequence([region_item(calibration, box)])
    pixels = b"".join(np.ascontiguousarray(frame).tobytes() for frame in frames)
    ds.PixelData = pixels + b"\0" * (len(pixels) % 2)
    ds["PixelData"].VR = "OB"
    return to_bytes(ds)


def region_item(calibration: Calibration, box: PixelBox) -> Dataset:
    """The item of (0018,6011) for a B-mode picture in `box` with this scale."""
    item = Dataset()
    item.RegionSpatialFormat = SPATIAL_2D
    item.RegionDataType = TISSUE
    item.RegionFlags = 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = box.column0, box.row0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = box.column1 - 1, box.row1 - 1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = CENTIMETRES
    item.PhysicalDeltaX = calibration.width_mm(1.0) / MM_PER_CM
    item.PhysicalDeltaY = calibration.height_mm(1.0) / MM_PER_CM
    return item


def study_of(facts: StudyFacts) -> Dataset:
    """The facts as a data set that new objects take their patient and study from."""
    ds = Dataset()
    ds.PatientID = facts.patient_id
    if facts.issuer:
        ds.IssuerOfPatientID = facts.issuer
    ds.PatientName = facts.patient_name
    ds.PatientBirthDate = facts.birth_date
    ds.PatientSex = facts.sex
    ds.StudyInstanceUID = facts.study_instance_uid
    ds.StudyDate, ds.StudyTime = facts.study_date, facts.study_time
    ds.StudyID = facts.study_id
    ds.StudyDescription = facts.study_description
    ds.AccessionNumber = facts.accession
    ds.ReferringPhysicianName = ""
    return ds

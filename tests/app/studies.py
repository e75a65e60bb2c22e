"""Small ultrasound files and requests for the tests of the service."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

ROWS, COLUMNS = 240, 320
US_IMAGE = "1.2.840.10008.5.1.4.1.1.6.1"

OUTLINE = [[80.0, 60.0], [240.0, 60.0], [240.0, 180.0], [80.0, 180.0]]
REQUEST: dict[str, Any] = {
    "muscle": "biceps_brachii",
    "side": "left",
    "view": "short_axis",
    "product": "XEOMIN",
    "indication": "upper_limb_spasticity",
    "patient": {"age_years": 54, "weight_kg": 72, "height_m": 1.74},
    "severity": {"scale": "MAS", "value": "2"},
    "dilution": {"units": 100, "ml": 2},
    "muscle_length_mm": 240,
    "outlines": [{"points": OUTLINE}],
}


def speckle(seed: int = 7, *, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """(rows, columns) uint8 that looks enough like tissue to be graded usable."""
    rng = np.random.default_rng(seed)
    grey = rng.gamma(2.0, 28.0, size=(rows, columns))
    grey[60:180, 80:240] *= 0.6
    return np.clip(grey, 0, 255).astype(np.uint8)


def png_still(seed: int = 7, *, rows: int = ROWS, columns: int = COLUMNS) -> bytes:
    """A plain frame, which has no scale and names nobody."""
    file = io.BytesIO()
    Image.fromarray(speckle(seed, rows=rows, columns=columns)).save(file, "PNG")
    return file.getvalue()


def dicom_still(
    seed: int = 7,
    *,
    calibrated: bool = True,
    rows: int = ROWS,
    columns: int = COLUMNS,
    **changes: Any,
) -> bytes:
    """An uncompressed ultrasound image of 0.2 mm a pixel; `changes` are keywords and values."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = changes.get("SOPClassUID", US_IMAGE)
    meta.MediaStorageSOPInstanceUID = changes.get("SOPInstanceUID", generate_uid())
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID = meta.MediaStorageSOPClassUID
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.Modality, ds.PatientID, ds.PatientName = "US", "P-1", "Example^Ada"
    ds.PatientBirthDate, ds.PatientSex = "19700101", "F"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20260102", "101112", "", "1"
    ds.ReferringPhysicianName, ds.SeriesNumber, ds.InstanceNumber = "", 1, 1
    ds.Manufacturer, ds.PatientOrientation, ds.ImageType = "", "", ["ORIGINAL", "PRIMARY"]
    ds.Rows, ds.Columns, ds.SamplesPerPixel = rows, columns, 1
    ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    if calibrated:
        region = Dataset()
        region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
        region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 0
        region.RegionLocationMaxX1, region.RegionLocationMaxY1 = columns - 1, rows - 1
        region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
        region.PhysicalDeltaX = region.PhysicalDeltaY = 0.02
        ds.SequenceOfUltrasoundRegions = Sequence([region])
    ds.PixelData = speckle(seed, rows=rows, columns=columns).tobytes()
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()

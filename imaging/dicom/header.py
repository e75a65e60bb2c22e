"""What a DICOM header says: whether it is ultrasound, of whom, and how large."""

from __future__ import annotations

import re
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID

from imaging.errors import NotUltrasound, UnreadableFile
from imaging.frame import ImageIdentity

# PS3.4 table B.5-1 and, for the retired ones, PS3.6 table A-1.
US_IMAGE = "1.2.840.10008.5.1.4.1.1.6.1"
US_MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.3.1"
ENHANCED_US_VOLUME = "1.2.840.10008.5.1.4.1.1.6.2"
RETIRED_US = ("1.2.840.10008.5.1.4.1.1.6", "1.2.840.10008.5.1.4.1.1.3")
ULTRASOUND_CLASSES = frozenset({US_IMAGE, US_MULTI_FRAME, ENHANCED_US_VOLUME, *RETIRED_US})

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SECONDARY_CAPTURE_CLASSES = frozenset(
    {SECONDARY_CAPTURE, *(f"{SECONDARY_CAPTURE}.{kind}" for kind in (1, 2, 3, 4))}
)

LEFT_CODES = frozenset({"7771000", "G-A101"})
RIGHT_CODES = frozenset({"24028007", "G-A100"})
"""Laterality modifiers, SNOMED CT and the retired SRT (PS3.16 CID 244)."""


# PS3.5 9.1, but that a component may begin with 0: some scanners write such.
UID_FORM = re.compile(r"[0-9]+(\.[0-9]+)*")
MAX_UID_LENGTH = 64

CODE_VALUES = ("CodeValue", "LongCodeValue", "URNCodeValue")
ORDER_NUMBERS = (
    "AccessionNumber",
    "RequestedProcedureID",
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
)


def text_of(ds: Dataset, keyword: str) -> str | None:
    """The element's value as stripped text, the first of several; None if absent or empty."""
    value: Any = ds.get(keyword)
    if isinstance(value, MultiValue | list):
        value = value[0] if value else None
    if value is None:
        return None
    return str(value).strip() or None


def items_of(ds: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence element; empty where it is absent or no sequence."""
    value: Any = ds.get(keyword)
    return list(value) if isinstance(value, DicomSequence) else []


def check_ultrasound(ds: Dataset, name: str) -> None:
    """Raises NotUltrasound unless the SOP class (0008,0016) is an ultrasound image's.

    A secondary capture counts when its Modality (0008,0060) is US.
    """
    sop_class = text_of(ds, "SOPClassUID")
    modality = text_of(ds, "Modality")
    if sop_class in ULTRASOUND_CLASSES:
        return
    if sop_class in SECONDARY_CAPTURE_CLASSES and modality == "US":
        return
    kind = "an object without an SOP class" if sop_class is None else shown_uid(sop_class)
    # Only a code of the standard's kind is told again: any text may stand there.
    told = modality if modality and re.fullmatch("[A-Z]{2,3}", modality) else "not given"
    raise NotUltrasound(
        f"{name} is {kind} (modality {told}), not an ultrasound image.",
        remedy="Send the ultrasound images of the study, not reports, masks or other modalities.",
    )


def shown_uid(uid: str) -> str:
    """What a message may tell of a UID: its name, itself, or that it is none, since text may be a
    patient's name.
    """
    known = UID(uid)
    if known.type:
        return known.name
    return uid if _is_uid(uid) else "what is no UID"


def _is_uid(uid: str) -> bool:
    return len(uid) <= MAX_UID_LENGTH and UID_FORM.fullmatch(uid) is not None


def check_uids(ds: Dataset, name: str) -> None:
    """Raises UnreadableFile unless study, series and instance have UIDs of PS3.5 9.1."""
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        uid = text_of(ds, keyword)
        if uid is None or not _is_uid(uid):
            raise UnreadableFile(
                f"{name} has no {'' if uid is None else 'proper '}{keyword}.",
                remedy="Export it again from the scanner or PACS: a UID is digits and single "
                "dots, at most 64 of them.",
            )


def identity_of(ds: Dataset) -> ImageIdentity:
    """Who and what the image is of, as the header says."""
    return ImageIdentity(
        patient_id=text_of(ds, "PatientID"),
        issuer=text_of(ds, "IssuerOfPatientID"),
        patient_name=text_of(ds, "PatientName"),
        birth_date=text_of(ds, "PatientBirthDate"),
        sex=text_of(ds, "PatientSex"),
        study_instance_uid=text_of(ds, "StudyInstanceUID"),
        series_instance_uid=text_of(ds, "SeriesInstanceUID"),
        sop_instance_uid=text_of(ds, "SOPInstanceUID"),
        sop_class_uid=text_of(ds, "SOPClassUID"),
        accession=text_of(ds, "AccessionNumber"),
        laterality=_laterality(ds),
        body_part=text_of(ds, "BodyPartExamined"),
        study_date=text_of(ds, "StudyDate"),
        study_time=text_of(ds, "StudyTime"),
        study_description=text_of(ds, "StudyDescription"),
        series_description=text_of(ds, "SeriesDescription"),
        protocol=text_of(ds, "ProtocolName"),
        modality=text_of(ds, "Modality"),
        manufacturer=text_of(ds, "Manufacturer"),
        model_name=text_of(ds, "ManufacturerModelName"),
        study_id=text_of(ds, "StudyID"),
        referring_physician=text_of(ds, "ReferringPhysicianName"),
        series_number=_whole_number(ds, "SeriesNumber"),
        instance_number=_whole_number(ds, "InstanceNumber"),
    )


def _whole_number(ds: Dataset, keyword: str) -> int | None:
    """The number of an IS element, of at most 32 bits (PS3.5 6.2)."""
    try:
        number = int(text_of(ds, keyword) or "")
    except ValueError:
        return None
    return number if -(2**31) <= number < 2**31 else None


def _laterality(ds: Dataset) -> str | None:
    """Image Laterality (0020,0062), Laterality (0020,0060), else the coded region's modifier."""
    plain = text_of(ds, "ImageLaterality") or text_of(ds, "Laterality")
    if plain is not None:
        return plain
    for region in items_of(ds, "AnatomicRegionSequence"):
        for modifier in items_of(region, "AnatomicRegionModifierSequence"):
            code = text_of(modifier, "CodeValue")
            if code in LEFT_CODES:
                return "L"
            if code in RIGHT_CODES:
                return "R"
    return None


def number_of_frames(ds: Dataset) -> int:
    """Number of Frames (0028,0008), 1 where it is absent."""
    return int(text_of(ds, "NumberOfFrames") or 1)

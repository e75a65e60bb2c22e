"""What every object of ours has in common: its names, its study, its equipment, its bytes."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.config import IGNORE
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from imaging.dicom.codes import OURS

IMPLEMENTATION_UID = "2.25.200816432709174016283457150913422081377"
IMPLEMENTATION_NAME = "SONODOSE"
MANUFACTURER = "sonodose"

# PS3.3 C.7.1.1, C.7.2.1, C.7.2.2: what the new object takes over of its source.
PATIENT_AND_STUDY = (
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
)
# Type 2: present, if need be empty.
ALWAYS_THERE = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)


Sources = Dataset | Path | Sequence[Dataset | Path]
"""The image that an object is about, or the several images of one study."""

# PS3.5 table 6.2-1: dates as yyyy.mm.dd and times as hh:mm:ss stem from before DICOM.
OLD_FORMS = {"DA": ".", "TM": ":"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInstance:
    """The names of an object to be written: UIDs, series number, when, and by which version.

    UIDs that are made up within it lie under `uid_root`, as its own do.
    """

    series_instance_uid: str
    sop_instance_uid: str
    series_number: int
    instance_number: int = 1
    series_description: str = ""
    created: dt.datetime
    software_version: str
    uid_root: str | None = None


def derived_uid(*parts: str, root: str | None = None) -> str:
    """A UID that is the same whenever its parts are: an analysis, a revision, a kind of object.

    Under a site's `root`, or without one under 2.25 as a UUID (PS3.5 B.2). At most 64
    characters. Raises ValueError for a root that leaves no room or is none.
    """
    digest = hashlib.sha256("\x1f".join(parts).encode()).digest()
    if root is None:
        # The version and variant bits of a name-based UUID (RFC 9562, version 8).
        number = int.from_bytes(digest[:16], "big")
        number = number & ~(0xF << 76) | 8 << 76
        number = number & ~(0x3 << 62) | 2 << 62
        return f"2.25.{number}"
    room = 64 - len(root) - 1
    if room < 16 or not all(p.isdigit() and str(int(p)) == p for p in root.split(".")):
        raise ValueError(f"{root!r} is no UID root with room for 16 digits")
    number = int.from_bytes(digest, "big") % 10 ** min(room, 39)
    return f"{root}.{number}"


def header_of(source: Dataset | Path) -> Dataset:
    """The source's data set; of a path the header only, its pixels left in the file."""
    if isinstance(source, Path):
        return dcmread(source, stop_before_pixels=True)
    return source


def headers_of(sources: Sources) -> list[Dataset]:
    """The header of each source, as `header_of` gives it. Raises ValueError for none."""
    several = [sources] if isinstance(sources, Dataset | Path) else sources
    if not several:
        raise ValueError("an object is about an image")
    return [header_of(source) for source in several]


def new_dataset(
    source: Dataset, instance: NewInstance, *, sop_class: str, modality: str
) -> Dataset:
    """A data set of the source's patient and study, of our equipment, in a series of its own."""
    ds = Dataset()
    # Our words need more than Latin: the source's own text comes over decoded, all as UTF-8.
    ds.SpecificCharacterSet = "ISO_IR 192"
    for keyword in PATIENT_AND_STUDY:
        if keyword in source:
            element = source[keyword]
            value = element.value
            if element.VR == "PN":
                value = str(value)
            elif element.VR in OLD_FORMS and isinstance(value, str):
                value = value.replace(OLD_FORMS[element.VR], "")
            ds[keyword] = DataElement(element.tag, element.VR, value, validation_mode=IGNORE)
    for keyword in ALWAYS_THERE:
        if keyword not in ds:
            setattr(ds, keyword, "")
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = instance.sop_instance_uid
    ds.Modality = modality
    ds.SeriesInstanceUID = instance.series_instance_uid
    ds.SeriesNumber = instance.series_number
    ds.InstanceNumber = instance.instance_number
    if instance.series_description:
        ds.SeriesDescription = instance.series_description[:64]
    ds.InstanceCreationDate = instance.created.strftime("%Y%m%d")
    ds.InstanceCreationTime = instance.created.strftime("%H%M%S.%f")
    ds.Manufacturer = MANUFACTURER
    ds.ManufacturerModelName = MANUFACTURER
    ds.DeviceSerialNumber = "1"
    ds.SoftwareVersions = instance.software_version
    return ds


def date_and_time(moment: dt.datetime) -> tuple[str, str]:
    """(DA, TM) of a moment."""
    return moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")


def coding_scheme_identification() -> DicomSequence:
    """Coding Scheme Identification Sequence (0008,0110): who is behind our own codes."""
    item = Dataset()
    item.CodingSchemeDesignator = OURS
    item.CodingSchemeName = "sonodose planning terms"
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    return DicomSequence([item])


# Specific Character Set (0008,0005), PS3.3 C.12.1.1.2: those of one byte a character.
ONE_BYTE_CHARSETS = {
    "ISO_IR 100": "iso8859_1",
    "ISO_IR 101": "iso8859_2",
    "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 148": "iso8859_9",
}
TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})


def _keep_charset(ds: Dataset, source: Dataset) -> None:
    """Takes over the source's character set where all our words fit into it.

    Then a patient's name has the same bytes in all objects of a study, which some checkers
    compare; words that do not fit stay UTF-8, which every reader knows.
    """
    charset = source.get("SpecificCharacterSet")
    codec = ONE_BYTE_CHARSETS.get(charset) if isinstance(charset, str) else None
    if codec is None:
        return
    try:
        for text in _texts(ds):
            text.encode(codec)
    except UnicodeEncodeError:
        return
    ds.SpecificCharacterSet = charset


def _texts(ds: Dataset) -> Iterator[str]:
    """Every text in a data set; what was encoded by hand (ASCII by its making) is passed over."""
    tags = list(ds.keys())  # looping over a data set itself would parse what is raw
    for tag in tags:
        element = ds.get_item(tag)
        if isinstance(element, RawDataElement) or element is None:
            continue
        if element.VR == "SQ":
            for item in element.value:
                yield from _texts(item)
        elif element.VR in TEXT_VRS and not element.is_empty:
            yield str(element.value)


def names_of(instance: bytes) -> dict[str, str]:
    """What an object of ours is called: its class and the UIDs of study, series and instance."""
    ds = dcmread(io.BytesIO(instance), stop_before_pixels=True)
    return {
        "sop_class_uid": str(ds.SOPClassUID),
        "study_instance_uid": str(ds.StudyInstanceUID),
        "series_instance_uid": str(ds.SeriesInstanceUID),
        "sop_instance_uid": str(ds.SOPInstanceUID),
    }


def to_bytes(
    ds: Dataset, *, like: Dataset | None = None, transfer_syntax: str = ExplicitVRLittleEndian
) -> bytes:
    """The DICOM file (PS3.10) of a data set, in the character set of `like` if that can be."""
    if like is not None:
        _keep_charset(ds, like)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = UID(transfer_syntax)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    buffer = io.BytesIO()
    file = FileDataset(buffer, ds, preamble=b"\0" * 128, file_meta=meta)
    dcmwrite(buffer, file, enforce_file_format=True)
    return buffer.getvalue()

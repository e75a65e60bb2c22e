"""Coded words of the standard and of ours, as data, with where each comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

Laterality = Literal["L", "R"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomCode:
    """A code value, its coding scheme designator and its meaning (PS3.3 8.8)."""

    value: str
    scheme: str
    meaning: str


def code(value: str, scheme: str, meaning: str) -> DicomCode:
    """The code; short, because tables of them are read side by side."""
    return DicomCode(value=value, scheme=scheme, meaning=meaning)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedAnatomy:
    """The muscle as SNOMED CT or another scheme names it, and its side."""

    code: str
    scheme: str
    meaning: str
    laterality: Laterality | None = None

    @property
    def concept(self) -> DicomCode:
        return DicomCode(value=self.code, scheme=self.scheme, meaning=self.meaning)


OURS = "99SONODOSE"
"""Our own coding scheme: only where the standard has no word (PS3.16 knows no injection site)."""

# PS3.16 CID 7150 and 7166, CID 244, CID 7203, CID 7202, CID 7162.
ANATOMICAL_STRUCTURE = code("91723000", "SCT", "Anatomical Structure")
SKELETAL_MUSCLE = code("127954009", "SCT", "Skeletal muscle")
NERVE = code("3057000", "SCT", "Nerve")
BLOOD_VESSEL = code("59820001", "SCT", "Blood Vessel")
LEFT = code("7771000", "SCT", "Left")
RIGHT = code("24028007", "SCT", "Right")
SEGMENTATION = code("113076", "DCM", "Segmentation")
SOURCE_IMAGE = code("121322", "DCM", "Source image for image processing operation")
ARTIFICIAL_INTELLIGENCE = code("123110", "DCM", "Artificial Intelligence")

# PS3.16 TID 1500, 1204, 1002, 1600, 1501, 310.
IMAGING_MEASUREMENT_REPORT = code("126000", "DCM", "Imaging Measurement Report")
LANGUAGE = code("121049", "DCM", "Language of Content Item and Descendants")
ENGLISH = code("en-US", "RFC5646", "English (United States)")
OBSERVER_TYPE = code("121005", "DCM", "Observer Type")
PERSON = code("121006", "DCM", "Person")
PERSON_NAME = code("121008", "DCM", "Person Observer Name")
PERSON_ORGANIZATION = code("121009", "DCM", "Person Observer's Organization Name")
DEVICE = code("121007", "DCM", "Device")
DEVICE_UID = code("121012", "DCM", "Device Observer UID")
DEVICE_NAME = code("121013", "DCM", "Device Observer Name")
DEVICE_MANUFACTURER = code("121014", "DCM", "Device Observer Manufacturer")
DEVICE_MODEL = code("121015", "DCM", "Device Observer Model Name")
PROCEDURE_REPORTED = code("121058", "DCM", "Procedure reported")
ULTRASONOGRAPHY = code("16310003", "SCT", "Diagnostic ultrasonography")
IMAGE_LIBRARY = code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP = code("126200", "DCM", "Image Library Group")
IMAGING_MEASUREMENTS = code("126010", "DCM", "Imaging Measurements")
DERIVED_MEASUREMENTS = code("126011", "DCM", "Derived Imaging Measurements")
MEASUREMENT_GROUP = code("125007", "DCM", "Measurement Group")
QUALITATIVE_EVALUATIONS = code("C0034375", "UMLS", "Qualitative Evaluations")
TRACKING_IDENTIFIER = code("112039", "DCM", "Tracking Identifier")
TRACKING_UID = code("112040", "DCM", "Tracking Unique Identifier")
FINDING = code("121071", "DCM", "Finding")
FINDING_SITE = code("363698007", "SCT", "Finding Site")
LATERALITY = code("272741003", "SCT", "Laterality")
IMAGE_REGION = code("111030", "DCM", "Image Region")
TARGET = code("112162", "DCM", "Target")
METHOD = code("370129005", "SCT", "Measurement Method")
DERIVATION = code("121401", "DCM", "Derivation")
MINIMUM = code("255605001", "SCT", "Minimum")
MAXIMUM = code("56851009", "SCT", "Maximum")
COMMENT = code("121106", "DCM", "Comment")
IMAGE_QUALITY = code("111101", "DCM", "Image Quality")
ALGORITHM_NAME = code("111001", "DCM", "Algorithm Name")
ALGORITHM_VERSION = code("111003", "DCM", "Algorithm Version")

# PS3.16 TID 2010.
OF_INTEREST = code("113000", "DCM", "Of Interest")
KEY_OBJECT_DESCRIPTION = code("113012", "DCM", "Key Object Description")

# What is measured: PS3.16 CID 7469 to 7472, CID 12304.
VOLUME = code("118565006", "SCT", "Volume")
AREA = code("42798000", "SCT", "Area")
DEPTH = code("131197000", "SCT", "Depth")
WIDTH = code("103355008", "SCT", "Width")
LENGTH = code("410668003", "SCT", "Length")
THICKNESS = code("59089-3", "LN", "Thickness")
TOXIN_UNITS = code("TOXIN_UNITS", OURS, "Botulinum toxin units of the named product")
SOLUTION_VOLUME = code("SOLUTION_VOLUME", OURS, "Volume of solution to inject")
PRODUCT = code("PRODUCT", OURS, "Botulinum toxin product")
DOSE_ARITHMETIC = code("DOSE_ARITHMETIC", OURS, "Dose arithmetic")
CAUTION = code("CAUTION", OURS, "Caution")
CALIBRATION = code("CALIBRATION", OURS, "Calibration provenance")
VERSION = code("VERSION", OURS, "Software, model and table versions")
MARK = code("MARK", OURS, "Standing of this document")

# UCUM, PS3.16 CID 7461, 7462, 7181. UCUM "U" is an enzyme unit and never written.
MM = code("mm", "UCUM", "mm")
CM2 = code("cm2", "UCUM", "cm2")
CM3 = code("cm3", "UCUM", "cm3")
ARBITRARY_UNITS = code("[arb'U]", "UCUM", "arbitrary unit")


def code_item(concept: DicomCode) -> Dataset:
    """The item of a code sequence."""
    item = Dataset()
    item.CodeValue = concept.value
    item.CodingSchemeDesignator = concept.scheme
    item.CodeMeaning = concept.meaning[:64]
    return item


def code_sequence(*concepts: DicomCode) -> DicomSequence:
    """A code sequence of these concepts."""
    return DicomSequence([code_item(concept) for concept in concepts])


def side_of(laterality: Laterality) -> DicomCode:
    """The laterality modifier of a side."""
    return LEFT if laterality == "L" else RIGHT

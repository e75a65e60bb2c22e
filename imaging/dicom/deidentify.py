"""Ultrasound images without the person: PS3.15 annex E, the Basic Application Level
Confidentiality Profile with Clean Pixel Data, Clean Descriptors and, where asked for, Retain
Longitudinal Temporal Information with Modified Dates.

Two rules, the stricter one wins. The standard's table E.1-1 (`data/confidentiality.csv`: tag,
keyword, action; read from the 2026c edition) says what must go; and only what is listed below is
taken over at all, so a tag that nobody thought of, a private one, a name in a field for something
else, all stay behind. Texts are made anew: no text of the source is copied, save words that a
list allows and code strings that the standard defines.

UIDs, identifiers and the shift of dates come from a key of the site by HMAC-SHA256: the same
patient and the same study get the same pseudonyms every time, and without the key nobody gets
back (PS3.15 E.3.9 asks for exactly this consistency).
"""

from __future__ import annotations

import base64
import csv
import datetime as dt
import hashlib
import hmac
import io
import math
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from imaging.arrays import ColourImage, GreyImage
from imaging.blank import blanked, luma, shown_part
from imaging.dicom.header import (
    ENHANCED_US_VOLUME,
    SECONDARY_CAPTURE,
    number_of_frames,
    text_of,
)
from imaging.dicom.instance import IMPLEMENTATION_NAME, IMPLEMENTATION_UID
from imaging.dicom.read import iter_shown, read_header
from imaging.dicom.regions import NOMINAL_MARK, is_nominal, read_regions
from imaging.errors import ImagingError, TooLarge, UnreadableFile, UnsupportedSyntax, said
from imaging.limits import DecodeLimits

Dates = Literal["removed", "shifted"]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


NUMBERS = _names(
    """
    SeriesNumber InstanceNumber AcquisitionNumber NumberOfFrames FrameTime FrameTimeVector
    FrameDelay StartTrim StopTrim RecommendedDisplayFrameRate CineRate EffectiveDuration
    ActualFrameDuration PreferredPlaybackSequencing FrameIncrementPointer Rows Columns
    PixelSpacing PixelAspectRatio NumberOfStages StageNumber NumberOfViewsInStage ViewNumber
    NumberOfEventTimers EventTimeOffset HeartRate UltrasoundColorDataPresent
    LossyImageCompressionRatio RegionSpatialFormat RegionDataType RegionFlags RegionLocationMinX0
    RegionLocationMinY0 RegionLocationMaxX1 RegionLocationMaxY1 ReferencePixelX0 ReferencePixelY0
    PhysicalUnitsXDirection PhysicalUnitsYDirection ReferencePixelPhysicalValueX
    ReferencePixelPhysicalValueY PhysicalDeltaX PhysicalDeltaY TransducerFrequency
    PulseRepetitionFrequency DopplerCorrectionAngle SteeringAngle PixelComponentOrganization
    PixelComponentMask PixelComponentRangeStart PixelComponentRangeStop
    PixelComponentPhysicalUnits PixelComponentDataType NumberOfTableBreakPoints
    TableOfXBreakPoints TableOfYBreakPoints NumberOfTableEntries TableOfPixelValues
    TableOfParameterValues ActiveImageAreaOverlayGroup DepthOfScanField MechanicalIndex
    BoneThermalIndex CranialThermalIndex SoftTissueThermalIndex SoftTissueFocusThermalIndex
    SoftTissueSurfaceThermalIndex DepthsOfFocus SliceThickness SpacingBetweenSlices
    """
)
"""Taken over as they are: their values are numbers, and are checked to be nothing else."""

WORDS: Mapping[str, frozenset[str]] = {
    "Modality": frozenset({"US"}),
    "Laterality": frozenset({"L", "R", "B", "U"}),
    "ImageLaterality": frozenset({"L", "R", "B", "U"}),
    # PS3.16 annex L, those of the limbs, the trunk, the neck and the face.
    "BodyPartExamined": _names(
        """
        ARM LEG NECK FACE HEAD HAND FOOT SHOULDER FOREARM UPPERARM CALF THIGH ELBOW KNEE WRIST
        ANKLE HIP BACK CHEST ABDOMEN PELVIS EXTREMITY
        """
    ),
    "LossyImageCompression": frozenset({"00", "01"}),
    "LossyImageCompressionMethod": frozenset(
        {"ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_15444_15", "ISO_13818_2"}
        | {"ISO_14496_10", "ISO_23008_2"}
    ),
    "ConversionType": frozenset({"DV", "DI", "DF", "WSD", "SD", "SI", "DRW", "SYN"}),
}
"""Code strings, taken over where they say what the standard defines."""

SEQUENCES = _names(
    """
    SequenceOfUltrasoundRegions SharedFunctionalGroupsSequence
    PerFrameFunctionalGroupsSequence PixelMeasuresSequence SourceImageSequence
    ReferencedImageSequence
    """
)
UIDS = _names(
    """
    StudyInstanceUID SeriesInstanceUID SOPInstanceUID FrameOfReferenceUID SOPClassUID
    ReferencedSOPClassUID ReferencedSOPInstanceUID SynchronizationFrameOfReferenceUID
    """
)
DATES = _names("StudyDate SeriesDate AcquisitionDate ContentDate AcquisitionDateTime")
TIMES = _names("StudyTime SeriesTime AcquisitionTime ContentTime")
DESCRIPTORS = _names(
    """
    StudyDescription SeriesDescription ProtocolName ImageComments DerivationDescription
    """
)
EMPTY = _names(
    """
    StudyDate StudyTime AccessionNumber ReferringPhysicianName StudyID PatientBirthDate
    PatientSex Manufacturer PatientOrientation
    """
)
"""Type 2 in the modules of an ultrasound image (PS3.3 A.6.4, A.7.4): there, and without a value."""

LOSSY = frozenset(
    {f"1.2.840.10008.1.2.4.{kind}" for kind in (50, 51, 81, 91, 93, 203, *range(100, 109))}
)
"""PS3.6 table A-1: what may have lost something before it came here, as the header must tell."""

# PS3.16 CID 7050.
METHODS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113101", "Clean Pixel Data Option"),
    ("113105", "Clean Descriptors Option"),
)
SHIFTED = ("113107", "Retain Longitudinal Temporal Information Modified Dates Option")
SHIFT_DAYS = 1825
CLOCK = r"(?:[01]\d|2[0-3])(?:[0-5]\d(?:[0-5]\d(?:\.\d{1,6})?)?)?"
"""PS3.5 6.2, VR TM: an hour, perhaps minutes, seconds and their fraction."""
MOST_BYTES = 2**32 - 2
"""PS3.5 7.1.1: what the length of native pixel data can say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What makes pseudonyms: the site's key, and what it wants to keep.

    `words` are those that a description may keep, in lower case.
    """

    key: bytes
    dates: Dates = "removed"
    words: frozenset[str] = frozenset()
    uid_root: str | None = None

    def uid(self, uid: str) -> str:
        """The UID that takes this one's place, the same each time."""
        digest = self._digest("uid", uid)
        if self.uid_root is not None:
            room = 64 - len(self.uid_root) - 1
            return f"{self.uid_root}.{int.from_bytes(digest) % 10 ** min(room, 38)}"
        # PS3.5 B.2: 2.25 and a UUID; RFC 9562 5.8 leaves version 8 to such ones.
        number = bytearray(digest[:16])
        number[6], number[8] = number[6] & 0x0F | 0x80, number[8] & 0x3F | 0x80
        return f"2.25.{int.from_bytes(number)}"

    def patient(self, ds: Dataset) -> str:
        """The pseudonym of a header's patient; of an unnamed one, by the study."""
        known = text_of(ds, "PatientID")
        if known is None:
            return self._name("study", text_of(ds, "StudyInstanceUID") or "")
        return self._name("patient", f"{text_of(ds, 'IssuerOfPatientID') or ''}|{known}")

    def shift(self, pseudonym: str) -> dt.timedelta:
        """How many whole days this patient's dates go back."""
        drawn = int.from_bytes(self._digest("days", pseudonym)) % SHIFT_DAYS
        return dt.timedelta(days=1 + drawn)

    def _name(self, kind: str, value: str) -> str:
        return "SD-" + base64.b32encode(self._digest(kind, value)[:10]).decode()

    def _digest(self, kind: str, value: str) -> bytes:
        return hmac.new(self.key, f"{kind}|{value}".encode(), hashlib.sha256).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of one image: counts by tag and action, never a value."""

    sop_instance_uid: str
    patient: str
    elements: tuple[Mapping[str, Any], ...]
    private_elements: int
    pixels: Mapping[str, Any] = field(default_factory=dict)


def deidentify(ds: Dataset, site: Site) -> tuple[Dataset, Report]:
    """The header without the person, and what was done; pixels are not looked at.

    The result has no pixel data and nothing about how pixels are stored: `deidentify_file` adds
    both. Pure: the same header and the same site give the same result.
    """
    cleaning = _Cleaning(site=site, pseudonym=site.patient(ds))
    out = cleaning.items(ds, top=True)
    for keyword in EMPTY:
        if keyword not in out:
            setattr(out, keyword, "")
    out.PatientName = out.PatientID = cleaning.pseudonym
    out.ImageType = ["DERIVED", "SECONDARY"]
    out.PatientIdentityRemoved = "YES"
    out.BurnedInAnnotation = "NO"
    shifted = site.dates == "shifted"
    out.LongitudinalTemporalInformationModified = "MODIFIED" if shifted else "REMOVED"
    out.DeidentificationMethod = "PS3.15 E.1: what is not known to be safe was left behind"
    methods = [*METHODS, SHIFTED] if shifted else METHODS
    out.DeidentificationMethodCodeSequence = [_code(value, meaning) for value, meaning in methods]
    if is_nominal(ds):
        # Whatever else goes: a made-up scale must never become a true one.
        out.ImageComments = NOMINAL_MARK
    return out, Report(
        sop_instance_uid=out.SOPInstanceUID,
        patient=cleaning.pseudonym,
        elements=tuple(cleaning.lines()),
        private_elements=cleaning.private,
    )


def deidentify_file(
    path: Path, out: Path, *, name: str, site: Site, limits: DecodeLimits
) -> Report:
    """What was done; `out` is the image without the person, Explicit VR Little Endian.

    Raises what `read_header` raises, UnreadableFile for pixels that cannot be decoded,
    PictureNotFound where the picture cannot be told from the writing, and UnsupportedSyntax for
    a volume. `out` exists only where all went well.
    """
    ds = read_header(path, name, limits)
    if text_of(ds, "SOPClassUID") == ENHANCED_US_VOLUME:
        raise UnsupportedSyntax(
            f"{name} is an ultrasound volume; those are not de-identified here.",
            remedy="Send the planes of the volume as images.",
        )
    try:
        header, report = deidentify(ds, site)
        boxes = [r.box for r in read_regions(ds) if r.is_b_mode and r.box is not None]
    except ImagingError:
        raise
    except Exception as error:
        # A value that cannot be what its VR says: what cannot be read cannot be made safe.
        raise UnreadableFile(
            f"The header of {name} cannot be de-identified: {said(error)}",
            remedy="Export the image again from the scanner or PACS; this copy is damaged.",
        ) from None
    if "SOPClassUID" not in header:
        raise UnreadableFile(
            f"{name} does not say what kind of image it is (SOP Class UID).",
            remedy="Export the image again from the scanner or PACS; this copy is damaged.",
        )
    if str(ds.file_meta.get("TransferSyntaxUID", "")) in LOSSY:
        header.LossyImageCompression = "01"
    frames = list(range(number_of_frames(ds)))
    brightest = _brightest(iter_shown(path, ds, frames, name=name))
    part = shown_part(brightest, boxes, name)
    shown = (blanked(picture, part) for picture in iter_shown(path, ds, frames, name=name))
    unfinished = out.with_name(out.name + ".part")
    try:
        _write(unfinished, header, shown, len(frames), name)
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
    pixels = {
        "found_by": "regions" if boxes else "picture",
        "kept_share": round(float(part.mean()), 4),
        "blanked_pixels_a_frame": int((~part).sum()),
        "of_them_not_black": int((brightest[~part] > 0).sum()),
        "frames": len(frames),
    }
    return Report(
        sop_instance_uid=report.sop_instance_uid,
        patient=report.patient,
        elements=report.elements,
        private_elements=report.private_elements,
        pixels=pixels,
    )


@cache
def actions() -> Mapping[str, str]:
    """PS3.15 table E.1-1, Basic Profile: tag pattern (8 characters, x for any) → action code."""
    text = resources.files("imaging.dicom").joinpath("data/confidentiality.csv").read_text("utf-8")
    return {row["tag"]: row["action"] for row in csv.DictReader(io.StringIO(text))}


def action_of(tag: int) -> str | None:
    """The table's action for a tag; None for one that it does not name."""
    plain = f"{tag:08X}"
    found = actions()
    for pattern in (plain, f"{plain[:2]}xx{plain[4:]}", f"{plain[:2]}xxxxxx"):
        if pattern in found:
            return found[pattern]
    return None


@dataclass(kw_only=True)
class _Cleaning:
    """One header on its way, and the count of what was done."""

    site: Site
    pseudonym: str
    private: int = 0
    done: Counter[tuple[int, str, str]] = field(default_factory=Counter)

    def items(self, ds: Dataset, *, top: bool = False) -> Dataset:
        """What may leave of a data set or of an item."""
        out = Dataset()
        for element in ds:
            if element.tag.is_private:
                self.private += 1
                continue
            kept = self._kept(element)
            if kept is not None:
                out.add(kept)
            how = "X" if kept is None else self._how(element, kept)
            if how == "X" and top and element.keyword in EMPTY:
                how = "Z"
            if how != "K":
                known = element.keyword if action_of(element.tag) or element.keyword else ""
                self.done[int(element.tag), known, how] += 1
        return out

    def lines(self) -> Iterator[Mapping[str, Any]]:
        for (tag, keyword, how), count in sorted(self.done.items()):
            yield {
                "tag": f"({tag >> 16:04X},{tag & 0xFFFF:04X})",
                "keyword": keyword,
                "action": how,
                "profile": action_of(tag) or "",
                "count": count,
            }

    def _kept(self, element: DataElement) -> DataElement | None:
        keyword, value = element.keyword, element.value
        made: Any = None
        # A known element in another VR than the standard's is not what is known to be safe.
        if value is None or value == "" or not _as_defined(element):
            return None
        if keyword in SEQUENCES and isinstance(value, DicomSequence):
            made = [self.items(item) for item in value]
        elif keyword in UIDS:
            made = _mapped(str(value), self.site)
        elif keyword in NUMBERS:
            made = _numbers(element)
        elif keyword in WORDS:
            made = value if str(value) in WORDS[keyword] else None
        elif keyword in DESCRIPTORS:
            made = _cleaned(str(value), self.site.words)
        elif keyword in DATES and self.site.dates == "shifted":
            made = _shifted(str(value), self.site.shift(self.pseudonym))
        elif keyword in TIMES and self.site.dates == "shifted":
            made = found[0] if (found := re.fullmatch(CLOCK, str(value))) else None
        return None if made is None else DataElement(element.tag, element.VR, made)

    def _how(self, before: DataElement, after: DataElement) -> str:
        if before.keyword in UIDS:
            return "K" if before.value == after.value else "U"
        if before.keyword in DESCRIPTORS or before.keyword in DATES:
            return "C"
        return "K"


def _as_defined(element: DataElement) -> bool:
    """True if the VR is one that the dictionary names for this element ("US or SS" names two)."""
    if not dictionary_has_tag(element.tag):
        return False
    defined = dictionary_VR(element.tag)
    return element.VR in (defined, *defined.split(" or "))


def _mapped(uid: str, site: Site) -> str | None:
    """The standard's own UIDs stay, all others are replaced."""
    if not re.fullmatch(r"[0-9.]{1,64}", uid):
        return site.uid(uid)
    return uid if UID(uid).type else site.uid(uid)


def _numbers(element: DataElement) -> Any:
    """The value if it is numbers (or tags) through and through, else None."""
    value = element.value
    if element.VR == "SQ" or isinstance(value, bytes | str):
        return None
    values = value if element.VM > 1 else [value]
    if element.VR == "AT":
        # Four bytes of anything are a tag: only those that the standard has are no letters.
        return value if all(dictionary_has_tag(each) for each in values) else None
    if element.VR in ("US", "SS", "UL", "SL", "FL", "FD", "US or SS"):
        plain = all(isinstance(each, int | float) and math.isfinite(each) for each in values)
        return value if plain else None
    if element.VR in ("DS", "IS"):
        # Written anew from the number, so that no text hides in its padding.
        try:
            if not all(math.isfinite(each) for each in values):
                return None
            made = [int(each) if element.VR == "IS" else f"{float(each):.10g}" for each in values]
        except (ValueError, TypeError, OverflowError):
            return None
        return made if element.VM > 1 else made[0]
    return None


def _cleaned(text: str, words: frozenset[str]) -> str | None:
    """The words of a description that are on the list (PS3.15 E.3.5), None if there are none."""
    kept = [word for word in re.findall(r"[a-z]+", text.lower()) if word in words]
    return " ".join(kept)[:64] or None


def _shifted(value: str, by: dt.timedelta) -> str | None:
    """A DA or DT some days earlier; the time of day stays, without its zone."""
    found = re.match(rf"(\d{{8}})((?:{CLOCK})?)", value)
    if found is None:
        return None
    try:
        day = dt.datetime.strptime(found[1], "%Y%m%d").date() - by
    except (ValueError, OverflowError):
        return None  # no day of the calendar, or none that is so long ago
    return f"{day.isoformat().replace('-', '')}{found[2]}"


def _brightest(frames: Iterator[GreyImage | ColourImage]) -> GreyImage:
    most = luma(next(frames))
    for picture in frames:
        most = np.maximum(most, luma(picture))
    return most


def _write(
    path: Path,
    header: Dataset,
    frames: Iterator[GreyImage | ColourImage],
    count: int,
    name: str,
) -> None:
    """Writes header and pixels, a frame at a time. Raises TooLarge."""
    first = next(frames)
    length = first.nbytes * count
    if length > MOST_BYTES:
        raise TooLarge(
            f"{name} has more pixels than one uncompressed image may hold.",
            remedy="De-identify a shorter part of the clip.",
        )
    _describe(header, first, count)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = header.SOPClassUID
    meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    header.file_meta = meta
    with path.open("wb") as file:
        dcmwrite(file, header, enforce_file_format=True)
        # (7FE0,0010) is the last element: it is written after the rest, frame by frame.
        file.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, length + length % 2))
        file.write(np.ascontiguousarray(first).tobytes())
        for picture in frames:
            file.write(np.ascontiguousarray(picture).tobytes())
        file.write(b"\0" * (length % 2))


def _describe(header: Dataset, picture: GreyImage | ColourImage, count: int) -> None:
    """Image Pixel module (PS3.3 C.7.6.3) of the frames as they are written."""
    colours = 1 if picture.ndim == 2 else 3
    header.Rows, header.Columns = picture.shape[:2]
    header.SamplesPerPixel = colours
    header.PhotometricInterpretation = "MONOCHROME2" if colours == 1 else "RGB"
    if colours == 3:
        header.PlanarConfiguration = 0
    header.BitsAllocated = header.BitsStored = 8
    header.HighBit, header.PixelRepresentation = 7, 0
    if str(header.SOPClassUID).startswith(SECONDARY_CAPTURE + "."):
        # PS3.3 A.8: grey frames of a byte, or true colour, whatever they were before.
        header.SOPClassUID = UID(f"{SECONDARY_CAPTURE}.{2 if colours == 1 else 4}")
    if count > 1:
        header.NumberOfFrames = count


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code

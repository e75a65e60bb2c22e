"""DICOM Segmentation of muscle, nerve and vessel, in the form that viewers really show.

Written with pydicom, for stills and clips alike: ultrasound images have no Frame of Reference,
which the usual writers ask for. Four things are there because readers fail without them: Plane
Orientation and Pixel Measures in the shared groups, a source image with Spatial Locations
Preserved in each frame's group, no Referenced Frame Number in the Referenced Series Sequence.

The odd-size rule. 1-bit frames are packed without padding, and viewers mis-slice them when a
frame does not end on a byte: BINARY only if a frame's pixels divide by 8 and all pixels by 16,
else FRACTIONAL / OCCUPANCY of 8 bits that holds only 0 and 255, in RLE Lossless, which makes it
fifty times smaller and which the same viewers read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from imaging.arrays import BoolMask
from imaging.calibration import Calibration
from imaging.dicom import encode
from imaging.dicom.codes import (
    ANATOMICAL_STRUCTURE,
    ARTIFICIAL_INTELLIGENCE,
    BLOOD_VESSEL,
    NERVE,
    SEGMENTATION,
    SOURCE_IMAGE,
    CodedAnatomy,
    DicomCode,
    code_item,
    code_sequence,
    side_of,
)
from imaging.dicom.content import references_by_series
from imaging.dicom.header import number_of_frames
from imaging.dicom.instance import (
    NewInstance,
    Sources,
    date_and_time,
    derived_uid,
    headers_of,
    new_dataset,
    to_bytes,
)
from imaging.dicom.rle import set_masks

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"

Structure = Literal["muscle", "nerve", "vessel"]
STRUCTURES: tuple[Structure, ...] = ("muscle", "nerve", "vessel")
Masks = Mapping[int, Mapping[Structure, BoolMask]]
"""What was found on an image, by its 0-based frames."""
Place = tuple[int, int]
"""A source and a frame of it, both counted from 0."""

# Recommended Display CIELab Value (0062,000D), PS3.3 C.10.7.1.1: sky blue, yellow, vermilion.
DISPLAY_CIELAB: Mapping[Structure, tuple[int, int, int]] = {
    "muscle": (45_350, 30_190, 24_580),
    "nerve": (60_090, 31_350, 49_850),
    "vessel": (35_260, 47_330, 48_600),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """How the outline came about: a network alone, one with a person's click, or by hand."""

    name: str
    version: str
    kind: Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]


def write_seg(
    sources: Sources,
    masks: Masks | Sequence[Masks],
    *,
    calibration: Calibration,
    anatomy: CodedAnatomy,
    algorithm: Algorithm,
    instance: NewInstance,
    label: str = "MUSCLE",
) -> bytes:
    """The SEG file of one source image, or of several of one size and scale.

    `masks` holds for each 0-based source frame the structures found on it, (rows, columns) bool
    of the source's size; of several sources one such mapping for each. Nerve and vessel are cut
    out of the muscle, so that no segments overlap; empty masks are left out. Raises ValueError
    when nothing is left, for masks of another size and for frames that the source does not have.
    """
    headers = headers_of(sources)
    header = headers[0]
    segments = _disjoint(headers, [masks] if isinstance(masks, Mapping) else masks)
    frames = [
        (number, structure, place)
        for number, (structure, per_place) in enumerate(segments.items(), start=1)
        for place in sorted(per_place)
    ]
    if not frames:
        raise ValueError("no mask has a pixel: there is nothing to write")
    ds = new_dataset(header, instance, sop_class=SEGMENTATION_STORAGE, modality="SEG")
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.ContentDate, ds.ContentTime = date_and_time(instance.created)
    ds.ContentLabel = label[:16]
    ds.ContentDescription = f"{anatomy.meaning}: suggestion of the planning software"[:64]
    ds.ContentCreatorName = ""
    used = [headers[image] for image in sorted({image for *_, (image, _) in frames})]
    ds.ReferencedSeriesSequence = references_by_series(used, "ReferencedInstanceSequence")
    _dimensions(ds, instance)
    ds.SegmentSequence = DicomSequence(
        _segment(number, structure, anatomy, algorithm)
        for number, structure in enumerate(segments, start=1)
    )
    ds.SharedFunctionalGroupsSequence = DicomSequence([_shared_group(calibration)])
    order = {place: rank for rank, place in enumerate(sorted({p for *_, p in frames}), start=1)}
    groups = [
        _frame_group(headers[place[0]], number, place[1], order[place])
        for number, _, place in frames
    ]
    encode.set_raw_sequence(ds, "PerFrameFunctionalGroupsSequence", b"".join(groups))
    _pixels(ds, header, [segments[structure][place] for _, structure, place in frames])
    binary = ds.SegmentationType == "BINARY"
    return to_bytes(
        ds, like=header, transfer_syntax=ExplicitVRLittleEndian if binary else RLELossless
    )


def is_binary_safe(*, rows: int, columns: int, frames: int) -> bool:
    """True if 1-bit frames of this size read back right in viewers (the odd-size rule)."""
    return rows * columns % 8 == 0 and rows * columns * frames % 16 == 0


def _disjoint(
    headers: Sequence[Dataset], masks: Sequence[Masks]
) -> dict[Structure, dict[Place, BoolMask]]:
    """Per structure its non-empty masks by place; a pixel belongs to the nerve, then the vessel."""
    size = (int(headers[0].Rows), int(headers[0].Columns))
    found: dict[Structure, dict[Place, BoolMask]] = {structure: {} for structure in STRUCTURES}
    places = [
        (image, header, frame, structures)
        for image, (header, of_image) in enumerate(zip(headers, masks, strict=True))
        for frame, structures in of_image.items()
    ]
    for image, header, frame, structures in places:
        count = number_of_frames(header)
        if not 0 <= frame < count:
            raise ValueError(f"the source has {count} frames, there is no frame {frame}")
        taken: BoolMask | None = None
        for structure in ("nerve", "vessel", "muscle"):
            mask = structures.get(structure)
            if mask is None:
                continue
            if mask.shape != size:
                raise ValueError(f"mask {mask.shape} is not of the source's size {size}")
            own = mask if taken is None else mask & ~taken
            if own.any():
                found[structure][image, frame] = own
                taken = own if taken is None else taken | own
    return {structure: per_place for structure, per_place in found.items() if per_place}


def _dimensions(ds: Dataset, instance: NewInstance) -> None:
    """Segment first, then the place in the clip (PS3.3 C.7.6.17)."""
    uid = derived_uid(instance.sop_instance_uid, "dimensions", root=instance.uid_root)
    organization = Dataset()
    organization.DimensionOrganizationUID = uid
    ds.DimensionOrganizationSequence = DicomSequence([organization])
    ds.DimensionIndexSequence = DicomSequence(
        _dimension(uid, pointer, group, label)
        for pointer, group, label in (
            ("ReferencedSegmentNumber", "SegmentIdentificationSequence", "Segment Number"),
            ("InStackPositionNumber", "FrameContentSequence", "In-Stack Position Number"),
        )
    )


def _dimension(uid: str, pointer: str, group: str, label: str) -> Dataset:
    item = Dataset()
    item.DimensionOrganizationUID = uid
    item.DimensionIndexPointer = Tag(pointer)
    item.FunctionalGroupPointer = Tag(group)
    item.DimensionDescriptionLabel = label
    return item


def _segment(
    number: int, structure: Structure, anatomy: CodedAnatomy, algorithm: Algorithm
) -> Dataset:
    kinds: dict[Structure, DicomCode] = {
        "muscle": anatomy.concept,
        "nerve": NERVE,
        "vessel": BLOOD_VESSEL,
    }
    item = Dataset()
    item.SegmentNumber = number
    item.SegmentLabel = anatomy.meaning[:64] if structure == "muscle" else structure.capitalize()
    item.SegmentDescription = f"{kinds[structure].meaning} as outlined for planning"[:64]
    item.SegmentedPropertyCategoryCodeSequence = code_sequence(ANATOMICAL_STRUCTURE)
    item.SegmentedPropertyTypeCodeSequence = code_sequence(kinds[structure])
    if anatomy.laterality is not None:
        item.SegmentedPropertyTypeCodeSequence[
            0
        ].SegmentedPropertyTypeModifierCodeSequence = code_sequence(side_of(anatomy.laterality))
    item.SegmentAlgorithmType = algorithm.kind
    if algorithm.kind != "MANUAL":
        item.SegmentAlgorithmName = algorithm.name[:64]
        method = Dataset()
        method.AlgorithmFamilyCodeSequence = code_sequence(ARTIFICIAL_INTELLIGENCE)
        method.AlgorithmName = algorithm.name[:64]
        method.AlgorithmVersion = algorithm.version[:64]
        item.SegmentationAlgorithmIdentificationSequence = DicomSequence([method])
    item.RecommendedDisplayCIELabValue = list(DISPLAY_CIELAB[structure])
    return item


def _shared_group(calibration: Calibration) -> Dataset:
    """Pixel Measures (0028,9110) in mm and Plane Orientation (0020,9116), the image plane's own."""
    down_mm, across_mm = calibration.height_mm(1.0), calibration.width_mm(1.0)
    measures = Dataset()
    measures.PixelSpacing = [decimal_string(down_mm), decimal_string(across_mm)]
    # A plane has no thickness of its own; readers want one, and a pixel's is the honest smallest.
    measures.SliceThickness = decimal_string(down_mm)
    measures.SpacingBetweenSlices = decimal_string(down_mm)
    orientation = Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    group = Dataset()
    group.PixelMeasuresSequence = DicomSequence([measures])
    group.PlaneOrientationSequence = DicomSequence([orientation])
    return group


def decimal_string(value: float) -> str:
    """A decimal string (VR DS) of at most 16 characters."""
    return f"{value:.10g}"


def _frame_group(header: Dataset, segment: int, frame: int, rank: int) -> bytes:
    """An encoded item of the Per-frame Functional Groups: content, source image, segment."""
    image = [
        encode.text("ReferencedSOPClassUID", "UI", str(header.SOPClassUID)),
        encode.text("ReferencedSOPInstanceUID", "UI", str(header.SOPInstanceUID)),
    ]
    # Type 1C: for a multi-frame source only (PS3.3 table 10-3).
    if "NumberOfFrames" in header:
        image.append(encode.text("ReferencedFrameNumber", "IS", str(frame + 1)))
    image += [
        encode.text("SpatialLocationsPreserved", "CS", "YES"),
        _encoded_code("PurposeOfReferenceCodeSequence", SOURCE_IMAGE),
    ]
    derivation = (
        encode.sequence("SourceImageSequence", encode.item(*image)),
        _encoded_code("DerivationCodeSequence", SEGMENTATION),
    )
    number = encode.us("ReferencedSegmentNumber", segment)
    content = (
        encode.text("StackID", "SH", "1"),
        encode.ul("InStackPositionNumber", rank),
        encode.ul("DimensionIndexValues", segment, rank),
    )
    return encode.item(
        encode.sequence("DerivationImageSequence", encode.item(*derivation)),
        encode.sequence("FrameContentSequence", encode.item(*content)),
        encode.sequence(
            "SegmentIdentificationSequence",
            encode.item(number),
        ),
    )


@cache
def _encoded_code(keyword: str, concept: DicomCode) -> bytes:
    return encode.sequence(keyword, encode.item(encode.encoded(code_item(concept))))


def _pixels(ds: Dataset, header: Dataset, masks: Sequence[BoolMask]) -> None:
    """The pixel module and data of frames, each (rows, columns) bool."""
    frames, (rows, columns) = len(masks), masks[0].shape
    ds.NumberOfFrames = frames
    ds.Rows, ds.Columns = rows, columns
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelRepresentation = 0
    ds.LossyImageCompression = header.get("LossyImageCompression") or "00"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if ds.LossyImageCompression == "01" and keyword in header:
            ds[keyword] = header[keyword]
    ds.SegmentsOverlap = "NO"
    if is_binary_safe(rows=rows, columns=columns, frames=frames):
        ds.SegmentationType = "BINARY"
        ds.BitsAllocated = ds.BitsStored = 1
        ds.HighBit = 0
        data = np.packbits(np.stack(masks).reshape(-1), bitorder="little").tobytes()
        ds.PixelData = data + b"\0" * (len(data) % 2)
        ds["PixelData"].VR = "OB"
    else:
        ds.SegmentationType = "FRACTIONAL"
        ds.SegmentationFractionalType = "OCCUPANCY"
        ds.MaximumFractionalValue = 255
        ds.BitsAllocated = ds.BitsStored = 8
        ds.HighBit = 7
        set_masks(ds, masks)

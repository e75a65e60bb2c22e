"""What an archive asks of a DICOM object: its names, its place in a study, and that it is whole.

Images, masks, reports: whatever a study brings is looked at here. Only an ultrasound image is
held to what the decoder needs; of the others the header is read and the bytes are counted.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID

from imaging.dicom.header import (
    SECONDARY_CAPTURE_CLASSES,
    ULTRASOUND_CLASSES,
    check_uids,
    identity_of,
    number_of_frames,
    shown_uid,
    text_of,
)
from imaging.dicom.instance import MANUFACTURER
from imaging.dicom.preamble import check_one_kind, second_kind
from imaging.dicom.read import (
    check_size,
    check_structure,
    check_syntax,
    decoded_samples,
    looks_like_dicom,
    syntax_of,
    tolerant,
)
from imaging.dicom.regions import read_scale
from imaging.dicom.whole import check_whole, data_set_at
from imaging.errors import ImagingError, UnknownClass, UnreadableFile, UnsupportedSyntax, said
from imaging.frame import FileFacts
from imaging.limits import DecodeLimits

STORAGE_CLASSES = frozenset(
    uid
    for uid, (name, kind, *_) in UID_dictionary.items()
    if kind == "SOP Class" and "Storage" in name and not name.startswith(("Storage ", "Media "))
)
"""The storage SOP classes of PS3.6 table A-1, retired ones among them."""
DAMAGED = "Export the object again from the scanner or PACS; this copy is damaged or cut off."
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
PALETTE = tuple(
    f"{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for part in ("Descriptor", "Data")
)


def facts_of_object(path: Path, name: str, limits: DecodeLimits) -> FileFacts:
    """What the header of any DICOM object says; `analysable` tells an ultrasound image of others'.

    Rows, columns and frames are 0 for what has no pixels. Raises UnreadableFile for what is no
    DICOM object, is not whole, or has no proper UIDs; UnsupportedSyntax for an unknown coding;
    UnknownClass for what is no storage SOP class of the standard; TooLarge over the limits.
    """
    limits.check_file(name, path.stat().st_size)
    try:
        ds, begins_at, header_bytes = _header(path, name, limits)
    except ImagingError:
        raise
    except Exception as error:
        raise UnreadableFile(
            f"{name} is no readable DICOM file: {said(error)}", remedy=DAMAGED
        ) from None
    check_uids(ds, name)
    sop_class = text_of(ds, "SOPClassUID")
    if sop_class not in STORAGE_CLASSES:
        raise UnknownClass(
            f"{name} is of the SOP class {sop_class}, which is not stored here.",
            remedy="Send objects of the standard's storage classes; leave private ones out.",
        )
    syntax = syntax_of(ds)
    if UID(syntax).type != "Transfer Syntax":
        raise UnsupportedSyntax(
            f"{name} is in the transfer syntax {shown_uid(syntax)}, which is not known here.",
            remedy="Send it uncompressed, as JPEG, JPEG-LS, JPEG 2000 or RLE.",
        )
    check_whole(path, name, data_set_at=begins_at, transfer_syntax_uid=syntax)
    has_image = "Rows" in ds or sop_class in ULTRASOUND_CLASSES
    if has_image:
        check_syntax(ds, name)
        check_size(ds, path.stat().st_size - header_bytes, name, limits)
    analysable = _is_ultrasound(ds)
    return FileFacts(
        file=name,
        media="dicom",
        rows=int(ds.Rows) if has_image else 0,
        columns=int(ds.Columns) if has_image else 0,
        frame_count=number_of_frames(ds) if has_image else 0,
        identity=identity_of(ds),
        transfer_syntax_uid=syntax,
        has_calibration=analysable and read_scale(ds).calibration is not None,
        analysable=analysable,
    )


def _header(path: Path, name: str, limits: DecodeLimits) -> tuple[FileDataset, int, int]:
    """(the header, where the data set begins, where the pixels begin)."""
    with path.open("rb") as file:
        head = file.read(132)
    if not looks_like_dicom(head):
        raise UnreadableFile(f"{name} is no DICOM file.", remedy=DAMAGED)
    check_one_kind(second_kind(head), name)
    check_structure(path, name, limits)
    with tolerant(), path.open("rb") as file:
        ds = dcmread(file, stop_before_pixels=True, force=True)
        header_bytes = file.tell()
        list(ds.iterall())  # what is read lazily fails here, not later
    if not ds:
        raise UnreadableFile(f"{name} is no DICOM file.", remedy=DAMAGED)
    return ds, data_set_at(path), header_bytes


def _is_ultrasound(ds: Dataset) -> bool:
    """True for an ultrasound image, but for a secondary capture only if it is not one of ours."""
    sop_class = text_of(ds, "SOPClassUID")
    return sop_class in ULTRASOUND_CLASSES or (
        sop_class in SECONDARY_CAPTURE_CLASSES
        and text_of(ds, "Modality") == "US"
        and text_of(ds, "Manufacturer") != MANUFACTURER
    )


def same_pixels(one: Path, other: Path) -> bool:
    """True if two objects show the same: the same decoded samples, whatever coding and header.

    Objects without pixels are the same when their data sets are. Raises UnreadableFile for pixels
    that cannot be decoded.
    """
    try:
        with tolerant():
            return _same_pixels(one, other)
    except ImagingError:
        raise
    except Exception as error:
        raise UnreadableFile(
            f"The objects cannot be compared: {said(error)}", remedy=DAMAGED
        ) from None


def _same_pixels(one: Path, other: Path) -> bool:
    a, b = (dcmread(path, stop_before_pixels=True, force=True) for path in (one, other))
    if "Rows" not in a or "Rows" not in b:
        return "Rows" not in a and "Rows" not in b and _same_data_set(one, other)
    if _shape(a) != _shape(b):
        return False
    frames = range(number_of_frames(a))
    pairs = zip(
        decoded_samples(one, a, frames, one.name),
        decoded_samples(other, b, frames, other.name),
        strict=True,
    )
    return all(np.array_equal(left, right) for left, right in pairs)


def _shape(ds: Dataset) -> tuple[object, ...]:
    """What gives the samples their meaning, besides their values."""
    photometric = text_of(ds, "PhotometricInterpretation")
    meaning = photometric if photometric in ("MONOCHROME1", "PALETTE COLOR") else None
    tables = tuple(ds.get(keyword) for keyword in PALETTE) if meaning == "PALETTE COLOR" else ()
    return (int(ds.Rows), int(ds.Columns), number_of_frames(ds), meaning, tables)


def _same_data_set(one: Path, other: Path) -> bool:
    a, b = (dcmread(path, force=True) for path in (one, other))
    return dict(a.to_json_dict()) == dict(b.to_json_dict())

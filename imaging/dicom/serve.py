"""What a viewer fetches of a stored object: its document, frames, binary values, pictures.

All of it is read from foreign bytes, so the service calls it in a process of its own.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    MPEGTransferSyntaxes,
)

from imaging.dicom.document import PIXEL_DATA, Json, bulk_entry, json_of
from imaging.dicom.header import number_of_frames, text_of
from imaging.dicom.read import (
    NATIVE,
    UNENCODED,
    decoded_samples,
    iter_shown,
    panics_refused,
    plugin_of,
    syntax_of,
    tolerant,
)
from imaging.errors import ImagingError, NotThere, UnreadableFile, said

DAMAGED = "Export the object again from the scanner or PACS; this copy is damaged or cut off."
# PS3.18 table 8.7.3-5: the media type that the frames of a transfer syntax have.
MEDIA_TYPES = {
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.4.100": "video/mpeg2",
    "1.2.840.10008.1.2.4.101": "video/mpeg2",
    "1.2.840.10008.1.2.4.102": "video/mp4",
    "1.2.840.10008.1.2.4.103": "video/mp4",
    "1.2.840.10008.1.2.4.107": "video/mp4",
    "1.2.840.10008.1.2.4.108": "video/mp4",
}


@dataclass(frozen=True, slots=True)
class Encoded:
    """Bytes with the transfer syntax that they are in."""

    data: bytes
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Names:
    """What a damaged object still says that it is."""

    sop_class_uid: str | None
    sop_instance_uid: str | None


def names_in(path: Path) -> Names:
    """The class and instance UID of an object that was refused, where they can still be read."""
    try:
        with tolerant():
            ds = dcmread(
                path,
                stop_before_pixels=True,
                force=True,
                specific_tags=["SOPClassUID", "SOPInstanceUID"],
            )
        return Names(text_of(ds, "SOPClassUID"), text_of(ds, "SOPInstanceUID"))
    except Exception:
        return Names(None, None)


def metadata(objects: Sequence[tuple[Path, str]]) -> list[Json]:
    """The JSON model of each (path, address of its binary values), pixels as an address.

    Raises UnreadableFile.
    """
    return [_metadata(path, bulk_at) for path, bulk_at in objects]


def _metadata(path: Path, bulk_at: str) -> Json:
    ds = _header(path)
    document = json_of(ds, bulk_at=bulk_at)
    if "Rows" in ds:
        encapsulated = syntax_of(ds) not in UNENCODED
        vr = "OB" if encapsulated or int(ds.get("BitsAllocated") or 8) <= 8 else "OW"
        document[PIXEL_DATA] = bulk_entry(vr, f"{bulk_at}/{PIXEL_DATA}")
    return document


def stored_frames(path: Path, numbers: Sequence[int]) -> list[Encoded]:
    """The 0-based frames as they are stored; uncompressed ones always as explicit little endian.

    Raises NotThere for a frame that the object has not, UnreadableFile.
    """
    ds = _image(path, numbers)
    syntax = syntax_of(ds)
    if syntax in UNENCODED:
        return plain_frames(path, numbers)
    try:
        return _encoded(path, numbers, count=number_of_frames(ds), syntax=syntax)
    except Exception as error:
        raise UnreadableFile(
            f"The frames cannot be told apart: {said(error)}", remedy=DAMAGED
        ) from None


def _encoded(path: Path, numbers: Sequence[int], *, count: int, syntax: str) -> list[Encoded]:
    with path.open("rb") as file:
        start = _seek_pixels(file)
        if syntax in MPEGTransferSyntaxes:
            # PS3.5 8.2.5: all frames are one stream.
            data = b"".join(generate_frames(file, number_of_frames=1))
            return [Encoded(data, syntax) for _ in numbers]
        found = []
        for number in numbers:
            file.seek(start)
            found.append(Encoded(get_frame(file, number, number_of_frames=count), syntax))
        return found


def plain_frames(path: Path, numbers: Sequence[int]) -> list[Encoded]:
    """The 0-based frames decoded, in explicit little endian: as stored, but colour as RGB.

    Raises NotThere for a frame that the object has not, UnreadableFile.
    """
    ds = _image(path, numbers)
    syntax = str(ExplicitVRLittleEndian)
    try:
        with tolerant():
            if syntax_of(ds) in NATIVE:
                return [Encoded(data, syntax) for data in _native(path, ds, numbers)]
            in_order = sorted(set(numbers))
            samples = dict(
                zip(in_order, decoded_samples(path, ds, in_order, path.name), strict=True)
            )
            return [Encoded(_little_endian(samples[number]), syntax) for number in numbers]
    except ImagingError:
        raise
    except Exception as error:
        raise UnreadableFile(
            f"The pixels cannot be decoded: {said(error)}", remedy=DAMAGED
        ) from None


def _native(path: Path, ds: Dataset, numbers: Sequence[int]) -> list[bytes]:
    """Uncompressed frames as they lie in the file, 16 bits turned to little endian."""
    bits = int(ds.Rows) * int(ds.Columns) * int(ds.get("SamplesPerPixel") or 1)
    bits *= int(ds.BitsAllocated)
    if text_of(ds, "PhotometricInterpretation") == "YBR_FULL_422":
        bits = bits * 2 // 3
    if bits % 8 != 0:
        # Frames of single bits that share a byte: each gets bytes of its own.
        all_samples = decoded_samples(path, ds, sorted(set(numbers)), path.name)
        by_number = dict(zip(sorted(set(numbers)), all_samples, strict=True))
        return [np.packbits(by_number[n].ravel(), bitorder="little").tobytes() for n in numbers]
    size, found = bits // 8, []
    with path.open("rb") as file:
        start = _seek_pixels(file)
        for number in numbers:
            file.seek(start + number * size)
            data = file.read(size)
            if len(data) < size:
                raise UnreadableFile("The pixels end too early.", remedy=DAMAGED)
            if syntax_of(ds) == ExplicitVRBigEndian and int(ds.BitsAllocated) == 16:
                data = np.frombuffer(data, ">u2").astype("<u2").tobytes()
            found.append(data)
    return found


def _little_endian(samples: np.ndarray[Any, Any]) -> bytes:
    return samples.astype(samples.dtype.newbyteorder("<"), copy=False).tobytes()


def binary_value(path: Path, place: str) -> bytes:
    """The binary value at TAG or TAG/item/TAG… in an object. Raises NotThere, UnreadableFile.

    Of pixels in a compressed syntax it is all fragments one after the other.
    """
    steps = place.split("/")
    with tolerant():
        pixels = steps == [PIXEL_DATA]
        if pixels:
            ds = _header(path)
            if "Rows" in ds:
                numbers = range(number_of_frames(ds))
                return b"".join(frame.data for frame in stored_frames(path, numbers))
        ds = _header(path, whole=True)
        try:
            for tag, item in zip(steps[:-1:2], steps[1::2], strict=True):
                ds = ds[Tag(int(tag, 16))].value[int(item)]
            value = ds[Tag(int(steps[-1], 16))].value
        except (KeyError, IndexError, TypeError, ValueError):
            value = None
    if not isinstance(value, bytes):
        raise NotThere("The object has no binary value there.", remedy="Its metadata names them.")
    return value


def picture(
    path: Path,
    number: int,
    kind: Literal["JPEG", "PNG"],
    *,
    longest_px: int | None = None,
    quality: int = 90,
) -> bytes:
    """A 0-based frame as it is shown, in 8 bits, its longer side at most `longest_px`.

    Raises NotThere for an object without pixels or a frame that it has not, UnreadableFile.
    """
    ds = _image(path, [number])
    shown = next(iter(iter_shown(path, ds, [number], name=path.name)))
    image = Image.fromarray(shown)
    if longest_px is not None:
        image.thumbnail((longest_px, longest_px))
    file = io.BytesIO()
    if kind == "JPEG":
        image.save(file, "JPEG", quality=quality)
    else:
        image.save(file, "PNG")
    return file.getvalue()


def as_explicit(path: Path, target: Path) -> str:
    """The transfer syntax of the copy written to `target`: explicit little endian where it can be.

    Video stays as it is. Raises UnreadableFile.
    """
    try:
        with tolerant(), panics_refused():
            ds = dcmread(path, force=True)
            syntax = UID(syntax_of(ds))
            if syntax in MPEGTransferSyntaxes:
                target.write_bytes(path.read_bytes())
                return str(syntax)
            if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
                get_decoder(syntax)
                ds.decompress(decoding_plugin=plugin_of(syntax), generate_instance_uid=False)
            elif "PixelData" in ds and syntax == ExplicitVRBigEndian:
                _swap(ds)
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds.save_as(target, enforce_file_format=True, implicit_vr=False, little_endian=True)
    except Exception as error:
        raise UnreadableFile(f"It cannot be decoded: {said(error)}", remedy=DAMAGED) from None
    return str(ExplicitVRLittleEndian)


def _swap(ds: Dataset) -> None:
    if int(ds.get("BitsAllocated") or 8) == 16:
        ds.PixelData = np.frombuffer(ds.PixelData, ">u2").astype("<u2").tobytes()


def _header(path: Path, *, whole: bool = False) -> Dataset:
    try:
        with tolerant():
            ds = dcmread(path, stop_before_pixels=not whole, force=True)
            list(ds.iterall())
            return ds
    except Exception as error:
        raise UnreadableFile(f"The header cannot be read: {said(error)}", remedy=DAMAGED) from None


def _image(path: Path, numbers: Sequence[int]) -> Dataset:
    ds = _header(path)
    if "Rows" not in ds:
        raise NotThere("The object has no pixels.", remedy="Ask for its metadata or for all of it.")
    count = number_of_frames(ds)
    for number in numbers:
        if not 0 <= number < count:
            raise NotThere(
                f"There is no frame {number + 1}: the object has {count}.",
                remedy=f"Frames are counted from 1 to {count}.",
            )
    return ds


def _seek_pixels(file: BinaryIO) -> int:
    """Moves a file from its beginning to the value of its pixel data; where that is."""
    file.seek(0)
    with tolerant():
        dcmread(file, stop_before_pixels=True, force=True)
    at = file.tell()
    explicit = file.read(6)[4:] in (b"OB", b"OW", b"UN")
    return file.seek(at + (12 if explicit else 8))

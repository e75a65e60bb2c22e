"""Explicit VR little endian by hand (PS3.5 7.1.2), for sequences of many hundred like items.

pydicom takes milliseconds for a frame's functional groups; a clip has hundreds of frames. Only
what the functional groups need is here; everything else goes through pydicom.
"""

from __future__ import annotations

import struct

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import BaseTag, Tag


def us(keyword: str, value: int) -> bytes:
    """An element of VR US."""
    return _short(keyword, b"US", struct.pack("<H", value))


def ul(keyword: str, *values: int) -> bytes:
    """An element of VR UL."""
    return _short(keyword, b"UL", struct.pack(f"<{len(values)}I", *values))


def text(keyword: str, vr: str, value: str) -> bytes:
    """An element of a text VR, padded to an even length (UI with NUL, others with a space)."""
    data = value.encode("ascii")
    pad = b"\0" if vr == "UI" else b" "
    return _short(keyword, vr.encode("ascii"), data + pad * (len(data) % 2))


def item(*elements: bytes) -> bytes:
    """A sequence item of explicit length; the elements must come in the order of their tags."""
    body = b"".join(elements)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body


def sequence(keyword: str, *items: bytes) -> bytes:
    """An element of VR SQ, of explicit length."""
    body = b"".join(items)
    return _tag(keyword) + b"SQ\0\0" + struct.pack("<I", len(body)) + body


def encoded(ds: Dataset) -> bytes:
    """A data set's elements as pydicom writes them."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    return buffer.getvalue()


def set_raw_sequence(ds: Dataset, keyword: str, body: bytes) -> None:
    """Puts an encoded sequence (its items) into a data set, to be written as it is."""
    tag = Tag(keyword)
    ds[tag] = RawDataElement(BaseTag(tag), "SQ", len(body), body, 0, False, True)


def _short(keyword: str, vr: bytes, value: bytes) -> bytes:
    return _tag(keyword) + vr + struct.pack("<H", len(value)) + value


def _tag(keyword: str) -> bytes:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is no DICOM keyword")
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF)

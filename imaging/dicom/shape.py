"""How much structure a data set has, counted before a parser builds an object for each part of it.

A sequence item of eight bytes costs a parser a thousand times that, and a nested one a stack frame.
Elements are stepped over by their lengths (PS3.5 chapter 7), up to the pixels; where the bytes make
no sense counting ends, and the parser says what is wrong with them.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from imaging.dicom.whole import ITEM, ITEM_END, LONG_VRS, SEQUENCE_END, UNDEFINED
from imaging.errors import TooLarge

MAX_DEPTH = 32
MAX_ITEMS = 50_000
"""A clip of 4000 frames has some seven items a frame in its functional groups."""
MAX_ELEMENTS = 250_000
PIXELS = frozenset({(0x7FE0, 0x0008), (0x7FE0, 0x0009), (0x7FE0, 0x0010)})


@dataclass(slots=True)
class _Counted:
    items: int = 0
    elements: int = 0


class _OverLimit(Exception):
    """More than a data set may have."""


def check_shape(path: Path, name: str, *, data_set_at: int, transfer_syntax_uid: str) -> None:
    """Raises TooLarge for more elements, sequence items or levels than any image needs."""
    with path.open("rb") as file:
        if path.stat().st_size <= data_set_at + 8:
            return
        data: bytes | mmap.mmap
        if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
            file.seek(data_set_at)
            try:
                data, at = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read()), 0
            except zlib.error:
                return
        else:
            data, at = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), data_set_at
        order = ">" if transfer_syntax_uid == ExplicitVRBigEndian else "<"
        # As pydicom does: the first element shows whether VRs are written, whatever was said.
        vr = bytes(data[at + 4 : at + 6])
        explicit = transfer_syntax_uid != ImplicitVRLittleEndian
        if not explicit or not vr.isalpha():
            explicit = vr.isalpha() and vr.isupper()
        try:
            _walk(data, at, len(data), order, explicit, 0, _Counted())
        except struct.error:
            return
        except _OverLimit as over:
            raise TooLarge(
                f"{name} {over}, more than any image needs.",
                remedy="The file is damaged or made to harm: export the image again.",
            ) from None


def _walk(
    data: bytes | mmap.mmap,
    at: int,
    end: int,
    order: str,
    explicit: bool,
    depth: int,
    counted: _Counted,
) -> int:
    """Where the elements from `at` on end: at `end`, or behind the delimiter of their item."""
    if depth > MAX_DEPTH:
        raise _OverLimit(f"nests more than {MAX_DEPTH} sequences in each other")
    head, long = struct.Struct(f"{order}HHI"), struct.Struct(f"{order}I")
    short = struct.Struct(f"{order}H")
    while at + 8 <= end:
        group, element, length = head.unpack_from(data, at)
        tag = (group, element)
        if tag in (ITEM_END, SEQUENCE_END) or (depth == 0 and tag in PIXELS):
            return at + 8
        counted.elements += 1
        if counted.elements > MAX_ELEMENTS:
            raise _OverLimit(f"has more than {MAX_ELEMENTS} elements")
        vr = bytes(data[at + 4 : at + 6]) if explicit else b""
        if not (vr.isalpha() and vr.isupper()):
            vr = b""  # some writers switch to implicit within a sequence, and pydicom follows
        at += 8
        if vr in LONG_VRS:
            (length,) = long.unpack_from(data, at)
            at += 4
        elif vr:
            (length,) = short.unpack_from(data, at - 2)
        is_sequence = length == UNDEFINED or vr == b"SQ"
        if not is_sequence and vr in (b"", b"UN") and length >= 8:
            is_sequence = head.unpack_from(data, at)[:2] == ITEM
        if not is_sequence:
            at += length
            continue
        inner = end if length == UNDEFINED else min(end, at + length)
        at = _items(data, at, inner, order, explicit, depth + 1, counted)
        if length != UNDEFINED:
            at = inner
    return at


def _items(
    data: bytes | mmap.mmap,
    at: int,
    end: int,
    order: str,
    explicit: bool,
    depth: int,
    counted: _Counted,
) -> int:
    """Where the items from `at` on end: at `end`, or behind the delimiter of their sequence."""
    head = struct.Struct(f"{order}HHI")
    while at + 8 <= end:
        group, element, length = head.unpack_from(data, at)
        at += 8
        if (group, element) != ITEM:
            return at
        counted.items += 1
        if counted.items > MAX_ITEMS:
            raise _OverLimit(f"has more than {MAX_ITEMS} sequence items")
        if length == UNDEFINED:
            at = _walk(data, at, end, order, explicit, depth, counted)
        else:
            _walk(data, at, min(end, at + length), order, explicit, depth, counted)
            at += length
    return at

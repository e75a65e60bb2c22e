"""Whether a DICOM file is all there: every length is followed to the end, no value is read.

pydicom reads as far as it can, so a file cut off in its pixels looks good to it until somebody
decodes the last frame. Here the elements are stepped over by their lengths (PS3.5 chapter 7 and
annex A.4), which costs a few reads however large the file is.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from imaging.errors import UnreadableFile, said

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
# PS3.5 7.1.2: these have two reserved bytes and a length of four.
LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
MAX_DEPTH = 64
BLOCK = 1 << 16


class _CutOff(Exception):
    """The bytes end, or say something, where they must not."""


@dataclass(frozen=True, slots=True)
class _Coding:
    explicit: bool
    order: str


def data_set_at(path: Path) -> int:
    """The offset of the first element after the file meta group (PS3.10 7.1)."""
    with path.open("rb") as file:
        start = 132 if file.read(132)[128:] == b"DICM" else 0
        file.seek(start)
        while (head := file.read(8))[:2] == b"\x02\x00":
            if head[4:6] in (b"OB", b"UN", b"UT", b"OW"):
                length, long = int.from_bytes(file.read(4), "little"), 12
            else:
                length, long = int.from_bytes(head[6:8], "little"), 8
            start += long + length
            file.seek(start)
    return start


def check_whole(path: Path, name: str, *, data_set_at: int, transfer_syntax_uid: str) -> None:
    """Raises UnreadableFile unless the data set from `data_set_at` on ends where the file ends."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            file.seek(data_set_at)
            if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
                _inflate_to_the_end(file)
                return
            coding = _Coding(
                explicit=transfer_syntax_uid != ImplicitVRLittleEndian,
                order=">" if transfer_syntax_uid == ExplicitVRBigEndian else "<",
            )
            while file.tell() < size and _step(file, size, coding, depth=0) is not None:
                pass
    except (_CutOff, struct.error, zlib.error) as error:
        raise UnreadableFile(
            f"{name} is cut off or damaged: {said(error)}.",
            remedy="Export the image again from the scanner or PACS; this copy is not whole.",
        ) from None


def _step(file: BinaryIO, size: int, coding: _Coding, *, depth: int) -> tuple[int, int] | None:
    """The tag that was stepped over; None at padding after the last element."""
    if depth > MAX_DEPTH:
        raise _CutOff("its sequences are nested too deeply")
    head = _read(file, 8)
    group, element, length = struct.unpack(f"{coding.order}HHI", head)
    tag = (group, element)
    if tag == (0, 0):
        # Some writers fill their last block with zeros.
        return None
    vr = b""
    if coding.explicit and group != 0xFFFE:
        vr = head[4:6]
        if vr in LONG_VRS:
            (length,) = struct.unpack(f"{coding.order}I", _read(file, 4))
        else:
            (length,) = struct.unpack(f"{coding.order}H", head[6:8])
    if length != UNDEFINED:
        if file.tell() + length > size:
            raise _CutOff(f"({group:04x},{element:04x}) says {length} bytes, which are not there")
        file.seek(length, 1)
        return tag
    if vr == b"UN":
        # PS3.5 6.2.2 note 2: of unknown VR and undefined length is an implicit sequence.
        coding = _Coding(explicit=False, order=coding.order)
    _skip_items(file, size, coding, depth + 1)
    return tag


def _skip_items(file: BinaryIO, size: int, coding: _Coding, depth: int) -> None:
    """Moves past the items of an element of undefined length: a sequence, or encoded frames."""
    while True:
        group, element, length = struct.unpack(f"{coding.order}HHI", _read(file, 8))
        if (group, element) == SEQUENCE_END:
            return
        if (group, element) != ITEM:
            raise _CutOff(f"({group:04x},{element:04x}) stands where an item is due")
        if length != UNDEFINED:
            if file.tell() + length > size:
                raise _CutOff(f"an item says {length} bytes, which are not there")
            file.seek(length, 1)
            continue
        while _step(file, size, coding, depth=depth) != ITEM_END:
            pass


def _inflate_to_the_end(file: BinaryIO) -> None:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflater.eof:
        block = inflater.unconsumed_tail or file.read(BLOCK)
        if not block:
            raise _CutOff("its deflated bytes end too early")
        inflater.decompress(block, 1 << 20)


def _read(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise _CutOff("it ends in the middle of an element")
    return data

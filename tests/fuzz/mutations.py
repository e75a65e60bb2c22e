"""Hostile files made of good ones, by what a file of each kind is built of.

A DICOM file is a list of elements, a PNG of chunks, a TIFF of entries, an MP4 of boxes: each is
changed where a reader believes what it reads. Every input follows from a seed and its number
alone, so a failure is found again by them.
"""

from __future__ import annotations

import io
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from imaging.dicom.whole import LONG_VRS
from tests.app import studies

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "imaging" / "fixtures"
PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
MOST_SEED_BYTES = 60_000
US_IMAGE, US_MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"
VIDEO_SYNTAXES = {
    "mpeg2.mpg": "1.2.840.10008.1.2.4.100",
    "h264.mp4": "1.2.840.10008.1.2.4.102",
    "hevc.mp4": "1.2.840.10008.1.2.4.107",
}
NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 4096, 32_767, 32_768, 46_341, 65_534, 65_535)
LONGS = (*NUMBERS, 1 << 20, 0x7FFFFFFE, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
VRS = (
    *b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM".split(),
    *(b"UC", b"UI", b"UL", b"UN", b"UR", b"US", b"UT", b"UV", b"??", b"\0\0"),
)
SYNTAXES = (
    *(f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99", ".2", ".5")),
    *(f"1.2.840.10008.1.2.4.{end}" for end in (50, 51, 57, 70, 80, 81, 90, 91, 100, 102, 201)),
    "1.2.840.10008.1.2.1.98",
    "1.2.3",
    "",
)
CHARACTER_SETS = (
    "ISO_IR 100",
    "ISO_IR 192",
    "ISO 2022 IR 87\\ISO 2022 IR 13",
    "\\ISO 2022 IR 149",
    "GB18030",
    "ISO_IR 999",
    "utf-16",
    "idna",
    "hex\\zip",
    "rot13",
)
SHARES = {"dicom": 64, "mp4": 10, "riff": 4, "png": 8, "tiff": 6, "jpeg": 4, "bmp": 2, "zip": 2}
"""Of a hundred inputs, how many are of a kind."""
TEXTS = (
    b"\x1b$B\x1b$)C\xff\xfe\x80",
    b"../../../../etc/passwd",
    b"<script>alert(1)</script>",
    b"=HYPERLINK(1)",
    b"\0\0\0",
    b"\xed\xa0\x80\xf4\x90",
    b"^" * 400,
    b"\\" * 5000,
    b"1e309",
    b"-1",
    b"NaN",
    b"0x10",
    "٣".encode(),
    b"9" * 4000,
    b"1.2." * 60,
    b"",
)


@dataclass(frozen=True, slots=True)
class Made:
    """A hostile file: what it was made of, how, and its bytes."""

    seed: str
    kind: str
    how: str
    data: bytes


def make(seed: int, number: int) -> Made:
    """The input of this number."""
    rng = random.Random(f"{seed}/{number}")
    good = seeds()
    kind = rng.choices(tuple(SHARES), weights=tuple(SHARES.values()))[0]
    name = rng.choice([name for name, (of, _) in good.items() if of == kind])
    data = good[name][1]
    steps: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change = rng.choice((*CHANGES[kind], *ANY))
        before = data
        try:
            with warnings.catch_warnings(action="ignore"):
                data = change(data, rng)
        except Exception:
            # What is broken already may not be changed any more by its structure.
            data = flip(before, rng)
            change = flip
        steps.append(change.__name__)
    return Made(seed=name, kind=kind, how="+".join(steps), data=data)


@cache
def seeds() -> dict[str, tuple[str, bytes]]:
    """Good files by name: (kind, bytes)."""
    found: dict[str, tuple[str, bytes]] = {}
    with warnings.catch_warnings(action="ignore"):
        # Those that come with pydicom; it would fetch others from the network.
        for path in sorted(PYDICOM.glob("*.dcm")):
            data = path.read_bytes()
            if len(data) > MOST_SEED_BYTES:
                continue
            found[path.name] = ("dicom", data)
            stamped = _as_ultrasound(data)
            if stamped is not None:
                # Twice: most inputs are to get past the question whether they are ultrasound.
                found[f"us {path.name}"] = found[f"us2 {path.name}"] = ("dicom", stamped)
        for name, syntax in VIDEO_SYNTAXES.items():
            found[f"dicom {name}"] = ("dicom", _encapsulated(name, syntax))
        found["dicom grey.htj2k"] = (
            "dicom",
            _encapsulated("grey.htj2k", "1.2.840.10008.1.2.4.201", frames=1),
        )
    still = studies.dicom_still(rows=48, columns=64)
    for number in range(8):
        found[f"still {number}"] = ("dicom", still)
    found["palette"] = ("dicom", _palette())
    found["palette 2"] = ("dicom", _palette(segmented=True))
    found["deep"] = ("dicom", _deep())
    found["rle"] = ("dicom", _rle(still))
    found["sample"] = ("dicom", (ROOT / "sample_dicoms" / "biceps_short_axis.dcm").read_bytes())
    for name in ("h264.mp4", "hevc.mp4"):
        for copy in "ab":
            found[f"{name} {copy}"] = ("mp4", (FIXTURES / name).read_bytes())
    found["mjpg.avi"] = found["mjpg.avi 2"] = ("riff", (FIXTURES / "mjpg.avi").read_bytes())
    found.update(_pictures())
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a/still.dcm", still)
        packed.writestr("b.png", studies.png_still(rows=48, columns=64))
    found["study.zip"] = found["study.zip 2"] = ("zip", archive.getvalue())
    return found


def _pictures() -> dict[str, tuple[str, bytes]]:
    rng = np.random.default_rng(1)
    grey = Image.fromarray(rng.integers(0, 256, (24, 32), dtype=np.uint8))
    colour = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    made: dict[str, tuple[str, bytes]] = {}

    def add(name: str, kind: str, image: Image.Image, form: str, **how: object) -> None:
        file = io.BytesIO()
        image.save(file, form, **how)
        made[name] = (kind, file.getvalue())

    add("grey.png", "png", grey, "PNG")
    add("palette.png", "png", colour.quantize(16), "PNG", transparency=0)
    add(
        "deep.png", "png", Image.fromarray(rng.integers(0, 65535, (24, 32), dtype=np.uint16)), "PNG"
    )
    add("see-through.png", "png", colour.convert("RGBA"), "PNG")
    add("grey.jpg", "jpeg", grey, "JPEG")
    add("progressive.jpg", "jpeg", colour, "JPEG", progressive=True)
    add("cmyk.jpg", "jpeg", colour.convert("CMYK"), "JPEG")
    for packing in ("raw", "tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate"):
        pages = [grey, grey] if packing == "jpeg" else [colour, colour]
        file = io.BytesIO()
        pages[0].save(file, "TIFF", compression=packing, save_all=True, append_images=pages[1:])
        made[f"{packing}.tif"] = ("tiff", file.getvalue())
    add("grey.bmp", "bmp", grey, "BMP")
    add("colour.bmp", "bmp", colour, "BMP")
    return made


def _stamp(ds: Dataset) -> None:
    """An ultrasound image with proper names."""
    many = int(ds.get("NumberOfFrames") or 1) > 1
    ds.SOPClassUID = US_MULTI_FRAME if many else US_IMAGE
    ds.Modality, ds.PatientID, ds.PatientName = "US", "P-1", "Example^Ada"
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(ds, keyword, f"2.25.{zlib.crc32(keyword.encode())}")


def _as_ultrasound(data: bytes) -> bytes | None:
    try:
        ds = dcmread(io.BytesIO(data), force=True)
        if "Rows" not in ds or "PixelData" not in ds:
            return None
        _stamp(ds)
        file = io.BytesIO()
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(file, enforce_file_format=True)
    except Exception:
        return None
    return file.getvalue()


def _written(ds: FileDataset | Dataset) -> bytes:
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _still() -> FileDataset:
    return dcmread(io.BytesIO(studies.dicom_still(rows=48, columns=64)))


def _encapsulated(name: str, syntax: str, frames: int = 5) -> bytes:
    ds = _still()
    _stamp(ds)
    ds.Rows, ds.Columns, ds.NumberOfFrames = 64, 80, frames
    if frames > 1:
        ds.SOPClassUID, ds.SamplesPerPixel = US_MULTI_FRAME, 3
        ds.PhotometricInterpretation, ds.PlanarConfiguration = "YBR_PARTIAL_420", 0
    ds.PixelData = encapsulate([(FIXTURES / name).read_bytes()])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    return _written(ds)


def _palette(*, segmented: bool = False) -> bytes:
    ds = _still()
    ds.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        described = struct.pack("<3H", 256, 0, 16)
        _put(ds, f"{colour}PaletteColorLookupTableDescriptor", "US", described)
        if segmented:
            # One discrete segment of one entry, then a linear one of 255 (PS3.3 C.7.9.2).
            table = struct.pack("<6H", 0, 1, 0, 1, 255, 65_535)
            _put(ds, f"Segmented{colour}PaletteColorLookupTableData", "OW", table)
        else:
            table = np.arange(256, dtype="<u2").tobytes()
            _put(ds, f"{colour}PaletteColorLookupTableData", "OW", table)
    return _written(ds)


def _deep() -> bytes:
    """16 bits with window, rescale and a modality LUT."""
    ds = _still()
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.WindowCenter, ds.WindowWidth = "2048", "4096"
    lut = Dataset()
    lut.ModalityLUTType = "US"
    _put(lut, "LUTDescriptor", "US", struct.pack("<3H", 4096, 0, 16))
    _put(lut, "LUTData", "US", np.arange(4096, dtype="<u2").tobytes())
    ds.ModalityLUTSequence = [lut]
    ds.PixelData = np.arange(48 * 64, dtype="<u2").tobytes()
    ds["PixelData"].VR = "OW"
    return _written(ds)


def _rle(still: bytes) -> bytes:
    ds = dcmread(io.BytesIO(still))
    ds.compress(RLELossless, encoding_plugin="pylibjpeg")
    return _written(ds)


# ---- any bytes


def flip(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, most of them near the beginning."""
    broken = bytearray(data)
    for _ in range(rng.choice((1, 2, 4, 16))):
        if broken:
            broken[int(rng.random() ** 2 * len(broken))] = rng.randrange(256)
    return bytes(broken)


def truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def grow(data: bytes, rng: random.Random) -> bytes:
    """Bytes after the end, or a piece of the file again in the middle of it."""
    if rng.random() < 0.5:
        return data + rng.randbytes(rng.choice((1, 2, 7, 512, 70_000)))
    at, length = rng.randrange(len(data) + 1), rng.choice((1, 4, 100, 5000))
    return data[:at] + data[at : at + length] * rng.choice((2, 3, 40)) + data[at + length :]


def cut_out(data: bytes, rng: random.Random) -> bytes:
    at = int(rng.random() ** 2 * (len(data) + 1))
    return data[:at] + data[at + rng.choice((1, 2, 4, 8, 100)) :]


def mark(data: bytes, rng: random.Random) -> bytes:
    """A number that means something, where a number may be."""
    at = int(rng.random() ** 2 * max(1, len(data) - 4))
    order = rng.choice("<>")
    return data[:at] + struct.pack(f"{order}I", rng.choice(LONGS)) + data[at + 4 :]


ANY = (flip, truncate, grow, cut_out, mark)


# ---- DICOM by its elements


@dataclass(slots=True)
class Element:
    """Where an explicit little endian element lies."""

    at: int
    vr: bytes
    length_at: int
    value_at: int
    end: int

    @property
    def wide(self) -> bool:
        """True for a length of four bytes."""
        return self.value_at - self.length_at == 4


def elements(data: bytes) -> list[Element]:
    """The elements that are found by stepping over lengths, and those inside of sequences."""
    found: list[Element] = []
    at = 132 if data[128:132] == b"DICM" else 0
    while at + 8 <= len(data) and len(found) < 3000:
        if data[at : at + 2] == b"\xfe\xff":
            found.append(Element(at, b"", at + 4, at + 8, at + 8))
            at += 8
            continue
        vr = data[at + 4 : at + 6]
        if not (vr.isalpha() and vr.isupper()):
            break
        if vr in LONG_VRS:
            length, value_at = int.from_bytes(data[at + 8 : at + 12], "little"), at + 12
            length_at = at + 8
        else:
            length, value_at = int.from_bytes(data[at + 6 : at + 8], "little"), at + 8
            length_at = at + 6
        inside = length == 0xFFFFFFFF or vr == b"SQ"
        end = value_at if inside else min(len(data), value_at + length)
        found.append(Element(at, vr, length_at, value_at, end))
        at = end
    return found


def _element(data: bytes, rng: random.Random) -> Element:
    return rng.choice(elements(data))


def lie_about_length(data: bytes, rng: random.Random) -> bytes:
    found = _element(data, rng)
    width = found.value_at - found.length_at
    true = int.from_bytes(data[found.length_at : found.value_at], "little")
    told = rng.choice((*LONGS, true + 1, true - 1, true * 2, true + 2)) % (1 << 8 * width)
    return data[: found.length_at] + told.to_bytes(width, "little") + data[found.value_at :]


def change_vr(data: bytes, rng: random.Random) -> bytes:
    found = _element(data, rng)
    return data[: found.at + 4] + rng.choice(VRS) + data[found.at + 6 :]


def change_value(data: bytes, rng: random.Random) -> bytes:
    """Another value for one element, its length true."""
    found = _element(data, rng)
    value = rng.choice((*TEXTS, struct.pack("<H", rng.choice(NUMBERS)), rng.randbytes(6)))
    return _with(data, found, value)


def _with(data: bytes, found: Element, value: bytes) -> bytes:
    value += b" " * (len(value) % 2)
    width = found.value_at - found.length_at
    value = value[: (1 << 8 * width) - 2]
    told = len(value).to_bytes(width, "little")
    return data[: found.length_at] + told + value + data[found.end :]


def duplicate(data: bytes, rng: random.Random) -> bytes:
    found, place = _element(data, rng), _element(data, rng)
    piece = data[found.at : found.end] * rng.choice((1, 1, 2, 50))
    return data[: place.at] + piece + data[place.at :]


def remove(data: bytes, rng: random.Random) -> bytes:
    found = _element(data, rng)
    return data[: found.at] + data[found.end :]


def swap(data: bytes, rng: random.Random) -> bytes:
    one, other = sorted((_element(data, rng), _element(data, rng)), key=lambda e: e.at)
    if one.end > other.at:
        return data
    return (
        data[: one.at]
        + data[other.at : other.end]
        + data[one.end : other.at]
        + data[one.at : one.end]
        + data[other.end :]
    )


def retag(data: bytes, rng: random.Random) -> bytes:
    """Another tag on an element: pixel data early, a delimiter, a group of the file meta."""
    tags = (b"\xe0\x7f\x10\x00", b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0", b"\x02\x00\x10\x00")
    found = _element(data, rng)
    other = _element(data, rng)
    tag = rng.choice((*tags, data[other.at : other.at + 4], b"\0\0\0\0", rng.randbytes(4)))
    return data[: found.at] + tag + data[found.at + 4 :]


def nest(data: bytes, rng: random.Random) -> bytes:
    """A sequence within a sequence, many times, perhaps without an end."""
    depth = rng.choice((2, 60, 70, 900, 5000))
    undefined = b"\xff\xff\xff\xff"
    vr = rng.choice((b"SQ\0\0", b"UN\0\0"))
    opened = b"\x08\x00\x40\x11" + vr + undefined + b"\xfe\xff\x00\xe0" + undefined
    closed = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    body = opened * depth + closed * (depth if rng.random() < 0.6 else rng.randrange(depth))
    place = _element(data, rng)
    return data[: place.at] + body + data[place.at :]


def many_items(data: bytes, rng: random.Random) -> bytes:
    """A sequence of very many empty items."""
    item = b"\xfe\xff\x00\xe0\0\0\0\0"
    body = item * rng.choice((1000, 50_000))
    tag = rng.choice((b"\x18\x00\x11\x60", b"\x00\x52\x30\x92", b"\x08\x00\x40\x11"))
    place = _element(data, rng)
    head = tag + b"SQ\0\0" + struct.pack("<I", len(body))
    return data[: place.at] + head + body + data[place.at :]


def private(data: bytes, rng: random.Random) -> bytes:
    """A large or odd private element."""
    size = rng.choice((10, 100_000, 1_000_000))
    vr = rng.choice((b"OB", b"UN", b"UT", b"LT", b"UC"))
    value = rng.choice((b"\\", b"A", b"\0", b"\xff")) * size
    head = b"\x09\x00\x10\x00LO\x04\x00FUZZ\x09\x00\x01\x10" + vr + b"\0\0"
    body = head + struct.pack("<I", rng.choice((size, size, size + 7))) + value
    place = _element(data, rng)
    return data[: place.at] + body + data[place.at :]


def change_fragments(data: bytes, rng: random.Random) -> bytes:
    """The items of encapsulated pixels: their offsets, their lengths, their end."""
    at = data.rindex(b"\xe0\x7f\x10\x00")
    items = [i for i in _all(data, b"\xfe\xff\x00\xe0") if at < i < len(data) - 8]
    place = rng.choice(items[:50])
    choice = rng.randrange(4)
    if choice == 0:
        told = struct.pack("<I", rng.choice(LONGS))
        return data[: place + 4] + told + data[place + 8 :]
    if choice == 1:
        table = b"".join(struct.pack("<I", rng.choice(LONGS)) for _ in range(rng.randrange(1, 9)))
        length = int.from_bytes(data[items[0] + 4 : items[0] + 8], "little")
        after = items[0] + 8 + length
        return data[: items[0] + 4] + struct.pack("<I", len(table)) + table + data[after:]
    if choice == 2:
        return data[: place + 8 + rng.randrange(64)]
    empty = b"\xfe\xff\x00\xe0\0\0\0\0" * rng.choice((1, 5, 2000))
    return data[:place] + empty + data[place:]


def _edited(data: bytes, edit: Callable[[Dataset], None]) -> bytes:
    ds = dcmread(io.BytesIO(data), force=True)
    edit(ds)
    file = io.BytesIO()
    ds.save_as(file)
    return file.getvalue()


SIZES = (
    ("Rows", "US", NUMBERS),
    ("Columns", "US", NUMBERS),
    ("BitsAllocated", "US", (0, 1, 2, 7, 8, 12, 16, 24, 32, 64, 65_535)),
    ("BitsStored", "US", (0, 1, 7, 8, 9, 12, 16, 17, 32, 65_535)),
    ("HighBit", "US", (0, 3, 7, 15, 16, 65_535)),
    ("SamplesPerPixel", "US", (0, 1, 2, 3, 4, 255, 65_535)),
    ("PixelRepresentation", "US", (0, 1, 2, 65_535)),
    ("PlanarConfiguration", "US", (0, 1, 2, 65_535)),
    ("SmallestImagePixelValue", "US", NUMBERS),
)
WORDS = (
    ("NumberOfFrames", ("0", "-1", "2", "4000", "4001", "2147483647", "1e9", "9" * 12, "1\\2")),
    ("WindowCenter", ("NaN", "1e308", "-1e308", "0", "x", "1\\2\\3")),
    ("WindowWidth", ("0", "-5", "1e-320", "inf", "1", "2")),
    ("RescaleSlope", ("0", "1e308", "-1e308", "nan", "1e-320")),
    ("RescaleIntercept", ("1e308", "-inf", "0")),
    ("FrameTime", ("nan", "0", "-1", "1e308")),
    ("FrameTimeVector", ("0", "\\".join(["1e308"] * 5), "x")),
    ("PixelAspectRatio", ("0\\0", "1\\-1", "4294967295\\1")),
    ("PixelSpacing", ("0\\0", "1e-320\\1e308", "nan\\nan", "1", "1\\2\\3")),
    ("FrameIncrementPointer", ("x",)),
)
PHOTOMETRIC = (
    *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422"),
    *("YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420", "ARGB", "", "x" * 16),
)


def _put(ds: Dataset, keyword: str, vr: str, value: bytes) -> None:
    """The element with exactly these bytes as its value."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    ds._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def claim_size(data: bytes, rng: random.Random) -> bytes:
    """Sizes, depths and numbers of frames that are not those of the pixels."""

    def edit(ds: Dataset) -> None:
        for _ in range(rng.choice((1, 1, 2, 4))):
            if rng.random() < 0.6:
                keyword, vr, values = rng.choice(SIZES)
                _put(ds, keyword, vr, struct.pack("<H", rng.choice(values)))
            else:
                word, said = rng.choice(WORDS)
                _put(ds, word, "DS", rng.choice(said).encode())

    return _edited(data, edit)


def claim_colour(data: bytes, rng: random.Random) -> bytes:
    def edit(ds: Dataset) -> None:
        _put(ds, "PhotometricInterpretation", "CS", rng.choice(PHOTOMETRIC).encode())
        if rng.random() < 0.5:
            _put(ds, "SamplesPerPixel", "US", struct.pack("<H", rng.choice((1, 3, 4))))

    return _edited(data, edit)


def change_tables(data: bytes, rng: random.Random) -> bytes:
    """Palettes and LUTs whose descriptor says another size, start or depth than the table has."""

    def edit(ds: Dataset) -> None:
        ds.PhotometricInterpretation = rng.choice(("PALETTE COLOR", "PALETTE COLOR", "MONOCHROME2"))
        for colour in ("Red", "Green", "Blue"):
            told = [rng.choice(NUMBERS), rng.choice(NUMBERS), rng.choice((0, 8, 16, 17, 65_535))]
            told = told[: rng.choice((1, 2, 3, 3, 3, 3))]
            _put(
                ds,
                f"{colour}PaletteColorLookupTableDescriptor",
                "US",
                struct.pack(f"<{len(told)}H", *told),
            )
            where = rng.choice(("", "Segmented"))
            table = rng.choice((b"", b"\0", rng.randbytes(512), b"\x01\0\xff\xff\xff\xff" * 9000))
            _put(ds, f"{where}{colour}PaletteColorLookupTableData", "OW", table)
        lut = Dataset()
        told = [rng.choice(NUMBERS), rng.choice(NUMBERS), rng.choice((0, 8, 16, 99))]
        _put(lut, "LUTDescriptor", "US", struct.pack("<3H", *told))
        _put(lut, "LUTData", rng.choice(("US", "OW")), rng.randbytes(rng.choice((0, 2, 8192))))
        ds.ModalityLUTSequence = [lut]
        ds.VOILUTSequence = [lut]

    return _edited(data, edit)


def change_regions(data: bytes, rng: random.Random) -> bytes:
    def edit(ds: Dataset) -> None:
        items = []
        for _ in range(rng.choice((1, 2, 300))):
            region = Dataset()
            for keyword in ("MinX0", "MinY0", "MaxX1", "MaxY1"):
                _put(region, f"RegionLocation{keyword}", "UL", struct.pack("<I", rng.choice(LONGS)))
            for keyword in ("RegionSpatialFormat", "RegionDataType", "PhysicalUnitsXDirection"):
                _put(region, keyword, "US", struct.pack("<H", rng.choice(NUMBERS)))
            for keyword in ("PhysicalDeltaX", "PhysicalDeltaY"):
                value = rng.choice((0.0, 1e-320, 1e308, float("nan"), float("inf"), -0.02))
                _put(region, keyword, "FD", struct.pack("<d", value))
            items.append(region)
        ds.SequenceOfUltrasoundRegions = items

    return _edited(data, edit)


def change_character_set(data: bytes, rng: random.Random) -> bytes:
    def edit(ds: Dataset) -> None:
        _put(ds, "SpecificCharacterSet", "CS", rng.choice(CHARACTER_SETS).encode())
        for keyword, vr in (("PatientName", "PN"), ("PatientID", "LO"), ("StudyDescription", "LO")):
            _put(ds, keyword, vr, rng.choice(TEXTS))

    return _edited(data, edit)


def change_uids(data: bytes, rng: random.Random) -> bytes:
    uids = (
        b"1..2",
        b"../../x",
        b"1.2.3\0\0",
        b"1." * 90,
        b".1",
        b"01.02",
        b"1.2\\1.3",
        b"",
        b"\xff",
    )

    def edit(ds: Dataset) -> None:
        for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"):
            if rng.random() < 0.5:
                _put(ds, keyword, "UI", rng.choice(uids))

    return _edited(data, edit)


def change_syntax(data: bytes, rng: random.Random) -> bytes:
    """Another transfer syntax than the one that the data set is in."""
    at = data.index(b"\x02\x00\x10\x00UI")
    length = int.from_bytes(data[at + 6 : at + 8], "little")
    told = rng.choice(SYNTAXES).encode()
    told += b"\0" * (len(told) % 2)
    head = data[:at] + b"\x02\x00\x10\x00UI" + struct.pack("<H", len(told)) + told
    return head + data[at + 8 + length :]


def deflate(data: bytes, rng: random.Random) -> bytes:
    """The data set deflated, perhaps damaged, perhaps with megabytes of zeros behind it."""
    at = next(e.at for e in elements(data) if data[e.at : e.at + 2] != b"\x02\x00")
    body = data[at:]
    if rng.random() < 0.3:
        size = rng.choice((1 << 20, 1 << 26))
        body += b"\x09\x00\x01\x10OB\0\0" + struct.pack("<I", size) + b"\0" * size
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(body) + packer.flush()
    if rng.random() < 0.5:
        packed = rng.choice((flip, truncate, cut_out))(packed, rng)
    told = b"1.2.840.10008.1.2.1.99"
    syntax = data.index(b"\x02\x00\x10\x00UI")
    length = int.from_bytes(data[syntax + 6 : syntax + 8], "little")
    meta = data[:syntax] + data[syntax : syntax + 6] + struct.pack("<H", len(told)) + told
    return meta + data[syntax + 8 + length : at] + packed


def polyglot(data: bytes, rng: random.Random) -> bytes:
    """Another kind of file in the preamble."""
    heads = (b"MZ\x90\0", b"\x7fELF", b"%PDF-1.7\n", b"GIF89a", b"II*\0", b"<html>", b"#!/bin/sh\n")
    head = rng.choice(heads)
    return head + data[len(head) :]


def implicit(data: bytes, rng: random.Random) -> bytes:
    ds = dcmread(io.BytesIO(data), force=True)
    to = rng.choice((ImplicitVRLittleEndian, ExplicitVRLittleEndian))
    ds.file_meta.TransferSyntaxUID = to
    file = io.BytesIO()
    ds.save_as(file, implicit_vr=to == ImplicitVRLittleEndian, little_endian=True)
    return flip(file.getvalue(), rng)


DICOM = (
    *(lie_about_length, change_vr, change_value, duplicate, remove, swap, retag, nest),
    *(many_items, private, change_fragments, change_fragments, claim_size, claim_size),
    *(claim_size, claim_colour, change_tables, change_tables, change_regions),
    *(change_character_set, change_uids, change_syntax, deflate, polyglot, implicit),
)


# ---- PNG, TIFF, JPEG, BMP, MP4, AVI, ZIP


def chunks(data: bytes, rng: random.Random) -> bytes:
    """A PNG with a chunk changed, its checksum true, or its length a lie."""
    parts, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        parts.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    number = rng.randrange(len(parts))
    name, body = parts[number]
    choice = rng.randrange(5)
    if choice == 0:
        body = mark(body, rng) if len(body) >= 4 else rng.randbytes(8)
    elif choice == 1 and name == b"IDAT":
        body = zlib.compress(b"\0" * rng.choice((10, 1 << 24)), 9)
    elif choice == 2:
        parts.insert(number, (rng.choice((name, b"tEXt", b"zTXt", b"iCCP", b"fdAT")), body))
    elif choice == 3:
        name, body = b"zTXt", b"k\0\0" + zlib.compress(b"A" * (1 << 24), 9)
        parts.insert(1, (name, body))
    else:
        body = flip(body, rng)
    parts[number] = (name, body)
    made = data[:8]
    for name, body in parts:
        crc = struct.pack(">I", zlib.crc32(name + body))
        told = len(body) if rng.random() < 0.97 else rng.choice(LONGS)
        made += struct.pack(">I", told % (1 << 32)) + name + body + crc
    return made


def claim_png_size(data: bytes, rng: random.Random) -> bytes:
    head = struct.pack(">II", rng.choice(LONGS), rng.choice(LONGS)) + data[24:29]
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + head))
    return data[:16] + head + crc + data[33:]


def entries(data: bytes, rng: random.Random) -> bytes:
    """A TIFF with entries of its directory changed: type, count, value; or a chain without end."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    broken = bytearray(data)
    if rng.random() < 0.2:
        struct.pack_into(f"{order}I", broken, at + 2 + 12 * count, rng.choice((at, 8, 0xFFFFFFF0)))
    for _ in range(rng.choice((1, 2, 3))):
        place = at + 2 + 12 * rng.randrange(count)
        field = rng.choice((0, 2, 4, 8))
        if field in (0, 2):
            struct.pack_into(f"{order}H", broken, place + field, rng.choice(NUMBERS[:14]))
        else:
            struct.pack_into(f"{order}I", broken, place + field, rng.choice(LONGS))
    return bytes(broken)


def markers(data: bytes, rng: random.Random) -> bytes:
    """A JPEG with a segment changed or said twice."""
    places = [i for i in range(len(data) - 1) if data[i] == 0xFF and data[i + 1] not in (0, 0xFF)]
    place = rng.choice(places)
    choice = rng.randrange(3)
    if choice == 0:
        return data[: place + 2] + struct.pack(">H", rng.choice(NUMBERS)) + data[place + 4 :]
    if choice == 1:
        return data[: place + 1] + bytes([rng.randrange(0xC0, 0xFF)]) + data[place + 2 :]
    frame = next((i for i in places if data[i + 1] in (0xC0, 0xC1, 0xC2)), place)
    size = struct.pack(">HH", rng.choice(NUMBERS), rng.choice(NUMBERS))
    return data[: frame + 5] + size + data[frame + 9 :]


def boxes(data: bytes, rng: random.Random) -> bytes:
    """An MP4 with a box changed: its size, its name, a number within it."""
    names = (
        *(b"ftyp", b"moov", b"mvhd", b"trak", b"tkhd", b"mdhd", b"stsd", b"stts", b"stsc"),
        *(b"stsz", b"stco", b"mdat", b"avcC", b"hvcC", b"avc1", b"hev1", b"hvc1", b"elst"),
    )
    places = [data.index(name) for name in names if name in data]
    place = rng.choice(places)
    choice = rng.randrange(4)
    if choice == 0:
        return data[: place - 4] + struct.pack(">I", rng.choice(LONGS)) + data[place:]
    if choice == 1:
        return data[:place] + rng.choice(names) + data[place + 4 :]
    at = place + 4 + 4 * rng.randrange(1, 12)
    if choice == 2:
        return data[:at] + struct.pack(">I", rng.choice(LONGS)) + data[at + 4 :]
    return data[:at] + rng.randbytes(8) + data[at + 8 :]


def riff(data: bytes, rng: random.Random) -> bytes:
    """An AVI with a chunk changed: its size, or a number of its header."""
    names = (b"RIFF", b"LIST", b"avih", b"strh", b"strf", b"00dc", b"idx1", b"movi")
    place = data.index(rng.choice([name for name in names if name in data]))
    at = place + 4 + 4 * rng.choice((0, 0, 1, 2, 3, 5, 8, 9))
    return data[:at] + struct.pack("<I", rng.choice(LONGS)) + data[at + 4 :]


def directory(data: bytes, rng: random.Random) -> bytes:
    """A ZIP whose headers lie: sizes, offsets, methods, names."""
    heads = [i for s in (b"PK\1\2", b"PK\3\4", b"PK\5\6") for i in _all(data, s)]
    place = rng.choice(heads)
    at = place + 4 + 2 * rng.randrange(20)
    if rng.random() < 0.3:
        name = rng.choice((b"../../../x", b"/etc/passwd", b"C:\\x\\a.dcm", b"\xff\xfe\0\0aaaaa"))
        return data.replace(b"a/still.dcm", (name + b"_" * 11)[:11])
    value = struct.pack("<I", rng.choice(LONGS))[: rng.choice((2, 4))]
    return data[:at] + value + data[at + len(value) :]


def _all(data: bytes, mark: bytes) -> list[int]:
    found, at = [], -1
    while (at := data.find(mark, at + 1)) >= 0:
        found.append(at)
    return found


CHANGES: dict[str, tuple[Callable[[bytes, random.Random], bytes], ...]] = {
    "dicom": DICOM,
    "png": (chunks, chunks, claim_png_size),
    "jpeg": (markers, markers),
    "tiff": (entries, entries),
    "bmp": (mark, mark),
    "mp4": (boxes, boxes, boxes),
    "riff": (riff, riff, riff),
    "zip": (directory, directory, directory),
}

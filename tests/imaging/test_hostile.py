"""Files made to harm: each class of harm that readers like ours were open to, by its name."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import JPEG2000, RLELossless

from imaging.dicom.deidentify import Site, deidentify_file
from imaging.dicom.plain_syntax import decompress
from imaging.dicom.serve import as_explicit, metadata, stored_frames
from imaging.dicom.shape import MAX_DEPTH, MAX_ITEMS, check_shape
from imaging.dicom.storage import facts_of_object, same_pixels
from imaging.errors import ImagingError, TooLarge, UnreadableFile, said
from imaging.limits import DecodeLimits
from imaging.read import peek, read_clip
from tests.app import studies

LIMITS = DecodeLimits()
DEFLATED = b"1.2.840.10008.1.2.1.99"
EXPLICIT = "1.2.840.10008.1.2.1"
UNDEFINED = b"\xff\xff\xff\xff"
ITEM, ITEM_END, END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"
SEQUENCE = b"\x08\x00\x40\x11SQ\0\0"
TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def still(**changes: object) -> bytes:
    return studies.dicom_still(rows=16, columns=24, **changes)


def data_set_at(data: bytes) -> int:
    """Where the data set begins, by the length of the file meta group."""
    return 132 + 12 + int.from_bytes(data[140:144], "little")


def with_first(body: bytes) -> bytes:
    """A still with these bytes as the first elements of its data set."""
    data = still()
    at = data_set_at(data)
    return data[:at] + body + data[at:]


def put(path: Path, data: bytes) -> Path:
    (path / "file").write_bytes(data)
    return path / "file"


def as_is(ds: Dataset, keyword: str, vr: str, value: bytes) -> None:
    """An element with exactly these bytes for its value."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    ds._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def written(change: Callable[[Dataset], object]) -> bytes:
    ds = dcmread(io.BytesIO(still()))
    change(ds)
    file = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):
        ds.save_as(file)
    return file.getvalue()


def refused_everywhere(path: Path, kind: type[ImagingError]) -> None:
    """The door for uploads and the one for studies refuse it, and so does the decoder."""
    with pytest.raises(kind):
        peek(path, name="file", limits=LIMITS)
    with pytest.raises(kind):
        facts_of_object(path, "file", LIMITS)
    with pytest.raises(kind):
        read_clip(path, name="file", limits=LIMITS)


def read_or_refused(path: Path) -> None:
    """Each reader reads it or raises an error of ours."""
    for read in (
        lambda: peek(path, name="file", limits=LIMITS),
        lambda: read_clip(path, name="file", limits=LIMITS),
        lambda: facts_of_object(path, "file", LIMITS),
        lambda: metadata([(path, "http://x")]),
        lambda: stored_frames(path, [0]),
        lambda: as_explicit(path, path.with_name("copy")),
        lambda: same_pixels(path, path),
    ):
        with suppress(ImagingError):
            read()


# ---- structure


@pytest.mark.parametrize("vr", [b"SQ\0\0", b"UN\0\0"])
def test_sequences_nested_without_end(vr: bytes, tmp_path: Path) -> None:
    """Nesting is counted before a parser recurses into it, whether it is closed again or not."""
    opened = (b"\x08\x00\x40\x11" + vr + UNDEFINED + ITEM + UNDEFINED) * 2000
    for closed in (b"", (ITEM_END + END) * 2000):
        refused_everywhere(put(tmp_path, with_first(opened + closed)), TooLarge)


def test_nesting_of_true_lengths(tmp_path: Path) -> None:
    """Sequences that say their length are looked into as well."""
    body = b""
    for _ in range(MAX_DEPTH + 2):
        item = ITEM + struct.pack("<I", len(body)) + body
        body = SEQUENCE + struct.pack("<I", len(item)) + item
    refused_everywhere(put(tmp_path, with_first(body)), TooLarge)


def test_a_sequence_of_very_many_items(tmp_path: Path) -> None:
    """Items are counted before an object is built for each; what a long clip has is taken."""
    for count, harmful in ((MAX_ITEMS - 10, False), (MAX_ITEMS + 1, True)):
        items = (ITEM + b"\0\0\0\0") * count
        path = put(tmp_path, with_first(SEQUENCE + struct.pack("<I", len(items)) + items))
        if harmful:
            refused_everywhere(path, TooLarge)
        else:
            at = data_set_at(path.read_bytes())
            check_shape(path, "file", data_set_at=at, transfer_syntax_uid=EXPLICIT)


def test_very_many_elements(tmp_path: Path) -> None:
    """A header of a million empty elements is refused, not parsed."""
    elements = b"\x09\x00\x01\x10LO\0\0" * 1_000_000
    refused_everywhere(put(tmp_path, with_first(elements)), TooLarge)


# ---- lengths and bombs


@pytest.mark.parametrize("preamble", [True, False])
def test_a_deflated_data_set_that_swells(preamble: bool, tmp_path: Path) -> None:
    """Inflating stops at two hundred times the file, with and without a preamble."""
    data = still()
    at = data_set_at(data)
    size = 96 << 20
    private = b"\x09\x00\x10\x00LO\x04\x00HARM\x09\x00\x01\x10OB\0\0" + struct.pack("<I", size)
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(private + b"\0" * size + data[at:]) + packer.flush()
    syntax = data.index(b"\x02\x00\x10\x00UI")
    length = int.from_bytes(data[syntax + 6 : syntax + 8], "little")
    grown = len(DEFLATED) - length
    meta = bytearray(data[:at])
    meta[syntax + 6 : syntax + 8 + length] = struct.pack("<H", len(DEFLATED)) + DEFLATED
    told = int.from_bytes(meta[140:144], "little") + grown
    meta[140:144] = struct.pack("<I", told)
    whole = bytes(meta) + packed
    refused_everywhere(put(tmp_path, whole if preamble else whole[132:]), TooLarge)


@pytest.mark.parametrize("told", [0x7FFFFFFE, 0xFFFFFFFE, UNDEFINED])
def test_a_length_without_bounds(told: object, tmp_path: Path) -> None:
    """Pixels or a private value of a length that is not there: refused, nothing is reserved."""
    length = told if isinstance(told, bytes) else struct.pack("<I", told)
    private = b"\x09\x00\x10\x00LO\x04\x00HARM\x09\x00\x01\x10OB\0\0" + length
    path = put(tmp_path, with_first(private))
    with pytest.raises(ImagingError):
        facts_of_object(path, "file", LIMITS)
    read_or_refused(path)
    data = still()
    at = data.index(b"\xe0\x7f\x10\x00O") + 8
    path = put(tmp_path, data[:at] + length + data[at + 4 :])
    with pytest.raises(ImagingError):
        facts_of_object(path, "file", LIMITS)
    read_or_refused(path)


def test_a_large_private_value(tmp_path: Path) -> None:
    """Megabytes in a private tag change nothing: they are stepped over, and never shown."""
    value = b"A" * (4 << 20)
    body = b"\x09\x00\x10\x00LO\x04\x00HARM\x09\x00\x01\x10OB\0\0" + struct.pack("<I", len(value))
    path = put(tmp_path, with_first(body + value))
    assert peek(path, name="file", limits=LIMITS).rows == 16
    (document,) = metadata([(path, "http://x")])
    assert document["00091001"] == {"vr": "OB", "BulkDataURI": "http://x/00091001"}


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("Rows", "US", b"\xff\xff"),
        ("Columns", "US", b"\xff\xff"),
        ("NumberOfFrames", "IS", b"2147483647"),
        ("NumberOfFrames", "IS", b"4294967297"),
        ("NumberOfFrames", "IS", b"9" * 300),
        ("NumberOfFrames", "IS", b"-1"),
        ("BitsAllocated", "US", b"\xff\xff"),
        ("SamplesPerPixel", "US", b"\xff\xff"),
    ],
)
def test_dimensions_that_overflow(keyword: str, vr: str, value: bytes, tmp_path: Path) -> None:
    """A size that wraps around in 32 bits elsewhere is refused before anything is decoded."""
    path = put(tmp_path, written(lambda ds: as_is(ds, keyword, vr, value)))
    refused_everywhere(path, ImagingError)


@pytest.mark.parametrize("vr", ["LO", "SQ", "FD", "OB", "UN", "AT", "PN"])
@pytest.mark.parametrize("keyword", ["Rows", "PatientName", "SequenceOfUltrasoundRegions"])
def test_a_wrong_vr(keyword: str, vr: str, tmp_path: Path) -> None:
    """An element of another VR than the dictionary's is read or refused in words."""
    read_or_refused(put(tmp_path, written(lambda ds: as_is(ds, keyword, vr, b"\x10\0\x20\0"))))


# ---- tables


@pytest.mark.parametrize("entries", [1, 256, 65_535, 0])
@pytest.mark.parametrize("start", [0, 200, 65_535])
@pytest.mark.parametrize("segmented", [False, True])
def test_a_palette_that_is_shorter_than_it_says(
    entries: int, start: int, segmented: bool, tmp_path: Path
) -> None:
    """No index leads out of a palette: it is decoded within its table, or refused."""

    def change(ds: Dataset) -> None:
        ds.PhotometricInterpretation = "PALETTE COLOR"
        for colour in ("Red", "Green", "Blue"):
            told = struct.pack("<3H", entries, start, 16)
            as_is(ds, f"{colour}PaletteColorLookupTableDescriptor", "US", told)
            name = f"{'Segmented' if segmented else ''}{colour}PaletteColorLookupTableData"
            as_is(ds, name, "OW", b"\x01\x00\xff\xff\xff\xff" if segmented else b"\x01\x00")

    read_or_refused(put(tmp_path, written(change)))


@pytest.mark.parametrize("entries", [0, 1, 4096, 65_535])
@pytest.mark.parametrize("bits", [0, 8, 16, 99])
def test_a_lut_that_is_shorter_than_it_says(entries: int, bits: int, tmp_path: Path) -> None:
    """No value leads out of a modality LUT: it is decoded within its table, or refused."""

    def change(ds: Dataset) -> None:
        lut = Dataset()
        as_is(lut, "LUTDescriptor", "US", struct.pack("<3H", entries, 60_000, bits))
        as_is(lut, "LUTData", "OW", b"\x01\x00")
        ds.ModalityLUTSequence = [lut]
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
        as_is(ds, "PixelData", "OW", np.full(16 * 24, 65_535, "<u2").tobytes())

    read_or_refused(put(tmp_path, written(change)))


# ---- encoded pixels


def rle(segment: bytes) -> bytes:
    def change(ds: Dataset) -> None:
        ds.PixelData = encapsulate([struct.pack("<16I", 1, 64, *[0] * 14) + segment])
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
        ds.file_meta.TransferSyntaxUID = RLELossless

    return written(change)


@pytest.mark.parametrize(
    "segment", [b"\x7f" + b"A" * 128, b"\x81A" * 4000, (b"\x7f" + b"A" * 128) * 99, b"\x80"]
)
def test_rle_of_another_length_than_the_frame(segment: bytes, tmp_path: Path) -> None:
    """Too few samples are refused, and too many never leave the frame."""
    path = put(tmp_path, rle(segment))
    read_or_refused(path)
    with suppress(UnreadableFile):
        (frame,) = read_clip(path, name="file", limits=LIMITS).frames
        assert frame.pixels.shape == (16, 24)


def test_a_decoder_that_panics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The panic of a decoder in Rust is no Exception: it is a refusal all the same."""
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})

    def panics(*_: object, **__: object) -> None:
        raise panic("index out of bounds: the len is 8192 but the index is 8193")

    path = put(tmp_path, rle(b"\x81A" * 3))
    monkeypatch.setattr("imaging.dicom.read.iter_pixels", panics)
    monkeypatch.setattr(Dataset, "decompress", panics)
    for read in (
        lambda: read_clip(path, name="file", limits=LIMITS),
        lambda: same_pixels(path, path),
        lambda: as_explicit(path, tmp_path / "copy"),
        lambda: decompress(path, tmp_path / "copy"),
    ):
        with pytest.raises(UnreadableFile):
            read()


def test_jpeg_2000_of_another_number_of_samples(tmp_path: Path) -> None:
    """A stream that contradicts the header is refused; gdcm would end the process over it."""
    ds = dcmread(TEST_FILES / "GDCMJ2K_TextGBR.dcm")
    ds.SOPClassUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.6.1", "US"
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.SamplesPerPixel = 1
    ds.save_as(tmp_path / "file")
    with pytest.raises(UnreadableFile):
        read_clip(tmp_path / "file", name="file", limits=LIMITS)
    read_or_refused(tmp_path / "file")


def whole(path: Path) -> None:
    facts_of_object(path, "file", LIMITS)
    read_clip(path, name="file", limits=LIMITS)
    stored_frames(path, [0])


def test_fragments_that_lie(tmp_path: Path) -> None:
    """Offsets beyond the end, fragments that are cut off, a delimiter too early: refused."""
    ds = dcmread(io.BytesIO(still()))
    ds.compress(RLELossless, encoding_plugin="pylibjpeg")
    file = io.BytesIO()
    ds.save_as(file)
    good = file.getvalue()
    first = good.index(ITEM, good.rindex(b"\xe0\x7f\x10\x00"))
    table = struct.pack("<III", 8, 0xFFFFFFF0, 0x7FFFFFFF)
    cases = [
        good[: first + 4] + table + good[first + 12 :],
        good[: first + 20],
        good[:first] + END + good[first:],
        good[:first] + ITEM + UNDEFINED + good[first:],
        good[:first] + good[first + 4 :],
        good[:first] + (ITEM + b"\0\0\0\0") * 5000 + good[first:],
    ]
    for data in cases:
        path = put(tmp_path, data)
        read_or_refused(path)
        with pytest.raises(ImagingError):
            whole(path)


# ---- text


@pytest.mark.parametrize(
    "said", [b"idna", b"zip", b"hex", b"utf_16", b"unicode_escape", b"ISO_IR 999", b"\\\\", b"\xff"]
)
def test_a_character_set_that_is_a_codec_of_something_else(said: bytes, tmp_path: Path) -> None:
    """Only the character sets of the standard decode text; another name decodes nothing."""

    def change(ds: Dataset) -> None:
        as_is(ds, "SpecificCharacterSet", "CS", b"ISO_IR 100    ")
        as_is(ds, "PatientName", "PN", b"\\u0041^\x1b$B\xff\xfe")

    path = put(tmp_path, written(change).replace(b"ISO_IR 100    ", said.ljust(14)))
    read_or_refused(path)
    facts = peek(path, name="file", limits=LIMITS)
    assert facts.identity is not None
    assert "A^" not in (facts.identity.patient_name or "")


@pytest.mark.parametrize("uid", ["1..2", "../../etc", ".1", "1.2.", "1" * 65, "1.2\0x", "x"])
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_a_uid_against_the_grammar(keyword: str, uid: str, tmp_path: Path) -> None:
    """What is no UID of PS3.5 9.1 is stored under none."""
    path = put(tmp_path, written(lambda ds: as_is(ds, keyword, "UI", uid.encode())))
    with pytest.raises(ImagingError):
        facts_of_object(path, "file", LIMITS)


# ---- pictures and videos


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def test_a_png_of_a_few_bytes_and_many_pixels(tmp_path: Path) -> None:
    """Sixty million pixels out of sixty kilobytes are refused by their number."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8000, 8000, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 8001 * 8000, 9))
    data = b"\x89PNG\r\n\x1a\n" + head + pixels + chunk(b"IEND", b"")
    with pytest.raises(TooLarge):
        peek(put(tmp_path, data), name="file", limits=LIMITS)


def test_a_png_with_a_bomb_of_text(tmp_path: Path) -> None:
    """Compressed text is not inflated without a limit."""
    data = png(Image.fromarray(studies.speckle(rows=16, columns=24)))
    bomb = chunk(b"zTXt", b"k\0\0" + zlib.compress(b"A" * (80 << 20), 9))
    path = put(tmp_path, data[:33] + bomb * 3 + data[33:])
    with pytest.raises(UnreadableFile):
        peek(path, name="file", limits=LIMITS)


def tiff(*pages: Image.Image) -> bytes:
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    return file.getvalue()


def test_a_tiff_whose_second_page_is_larger(tmp_path: Path) -> None:
    """Each page is held to the limits, not only the first one."""
    small, large = Image.new("L", (24, 16)), Image.new("L", (400, 300))
    path = put(tmp_path, tiff(small, large))
    with pytest.raises(TooLarge):
        read_clip(path, name="file", limits=DecodeLimits(max_frame_pixels=100_000))


def test_a_tiff_of_pages_without_end(tmp_path: Path) -> None:
    """Pages are counted to the limit and no further, and a chain that bites its tail ends."""
    page = Image.new("L", (4, 4))
    path = put(tmp_path, tiff(*[page] * 12))
    with pytest.raises(TooLarge):
        peek(path, name="file", limits=DecodeLimits(max_frames=10))
    data = bytearray(tiff(page))
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    struct.pack_into("<I", data, at + 2 + 12 * count, at)
    assert peek(put(tmp_path, bytes(data)), name="file", limits=LIMITS).frame_count == 1


FIXTURES = Path(__file__).parent / "fixtures"


@pytest.mark.parametrize("name", ["h264.mp4", "mjpg.avi"])
def test_a_container_that_lies(name: str, tmp_path: Path) -> None:
    """Every 32-bit number of a container's header as zero, one and as large as it can be."""
    good = (FIXTURES / name).read_bytes()
    begin = good.index(b"moov") if name.endswith("mp4") else 0
    for at in range(begin, min(len(good) - 4, begin + 640), 4):
        for number in (0, 0x7FFFFFFF, 0xFFFFFFFF):
            path = put(tmp_path, good[:at] + struct.pack(">I", number) + good[at + 4 :])
            try:
                clip = read_clip(path, name="file", limits=LIMITS)
            except ImagingError:
                continue
            assert clip.frame_count <= LIMITS.max_frames
            assert all(f.pixels.size <= LIMITS.max_frame_pixels for f in clip.frames)


# ---- what a refusal tells

PERSON = b"Zzyzx^An"
"""Eight bytes, so that it is a whole value of every VR."""
VRS = ["AT", "CS", "DA", "DS", "FD", "FL", "IS", "LO", "OB"]
VRS += ["OV", "PN", "SQ", "UC", "UI", "UL", "UN", "UR", "US"]


def tells(path: Path) -> str:
    """What every reader says of a file that it refuses; some see only what may be stored."""
    copy, told = path.with_name("copy"), []

    def accepts(read: Callable[[], object]) -> bool:
        try:
            read()
        except ImagingError as refused:
            told.append(f"{refused.message} {refused.remedy}")
            return False
        return True

    if accepts(lambda: peek(path, name="file", limits=LIMITS)):
        accepts(lambda: read_clip(path, name="file", limits=LIMITS))
    if accepts(lambda: facts_of_object(path, "file", LIMITS)):
        accepts(lambda: stored_frames(path, [0]))
        accepts(lambda: metadata([(path, "http://x")]))
        accepts(lambda: as_explicit(path, copy))
        accepts(lambda: decompress(path, copy))
        accepts(lambda: same_pixels(path, path))
        site = Site(key=b"k" * 32)
        accepts(lambda: deidentify_file(path, copy, name="file", site=site, limits=LIMITS))
    return " ".join(told)


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, over what the test damages
@pytest.mark.parametrize("vr", VRS)
def test_no_refusal_tells_what_stands_in_the_file(vr: str, tmp_path: Path) -> None:
    """A name in any element of the image, in any VR, is in no message of any reader."""
    good = dcmread(io.BytesIO(still()))
    keywords = [element.keyword for element in good if element.keyword != "PixelData"]
    for keyword in (
        *keywords,
        "NumberOfFrames",
        "FrameTime",
        "PixelSpacing",
        "PlanarConfiguration",
    ):
        ds = dcmread(io.BytesIO(still()))
        as_is(ds, keyword, vr, PERSON)
        file = io.BytesIO()
        try:
            ds.save_as(file)
        except (ValueError, TypeError, AttributeError):
            continue  # the library, too, cannot write it
        assert "Zzyz" not in tells(put(tmp_path, file.getvalue())), keyword


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("No tag to read at file position 236", "No tag to read at file position 236"),
        ("could not convert string to float: 'Ada'", "could not convert string to float: …"),
        ("value 'b'Ada'' of a tag", "value … of a tag"),
        ("it can't be 'O\\'Ada'", "it can't be …"),
        ("it is 'Ada\nByron", "it is …"),
        ("first \"Ada\" and\nsecond 'Ada' line", "first … line"),
        ("", "ValueError"),
    ],
)
def test_a_library_s_words_are_told_without_what_they_quote(words: str, told: str) -> None:
    """From the first quotation mark to the last one nothing is repeated."""
    assert said(ValueError(words)) == told


READ_ALL = """
import logging, sys
logging.basicConfig(level=logging.DEBUG)
from pathlib import Path
from imaging.errors import ImagingError
from imaging.limits import DecodeLimits
from imaging.read import peek, read_clip
for path in map(Path, sys.argv[1:]):
    for read in (peek, read_clip):
        try:
            read(path, name="file", limits=DecodeLimits())
        except ImagingError:
            pass
"""


def test_no_log_tells_what_stands_in_the_file(tmp_path: Path) -> None:
    """A value that the library finds odd and quotes is in no log line and no warning."""
    paths = []
    for number, (keyword, vr) in enumerate(
        (("PatientBirthDate", "DA"), ("PatientAge", "AS"), ("StudyTime", "TM"), ("StudyID", "UI"))
    ):
        odd = written(lambda ds, keyword=keyword, vr=vr: as_is(ds, keyword, vr, PERSON))
        paths.append(tmp_path / str(number))
        paths[-1].write_bytes(odd)
    done = subprocess.run(  # noqa: S603 -- our own code on our own files
        [sys.executable, "-c", READ_ALL, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "Zzyz" not in done.stdout + done.stderr


JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"


@pytest.mark.parametrize("box", [b"\0\0\0\0ftyp", b"\0\0\0\x07ftyp", b"\0\0\0\x08ftyp\0\0\0\0jp2h"])
def test_a_jpeg_2000_box_without_length(box: bytes, tmp_path: Path) -> None:
    """A box that leads nowhere is refused at once; the library would walk it for ever."""

    def wrap(ds: Dataset) -> None:
        ds.PixelData = encapsulate([JP2 + box + bytes(16)])
        ds["PixelData"].VR = "OB"
        ds.file_meta.TransferSyntaxUID = JPEG2000

    path = put(tmp_path, written(wrap))
    with pytest.raises(UnreadableFile, match="no length"):
        read_clip(path, name="file", limits=LIMITS)
    with pytest.raises(UnreadableFile, match="no length"):
        decompress(path, tmp_path / "copy")


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, over what the test damages
def test_a_kind_that_cannot_be_told_is_not_de_identified(tmp_path: Path) -> None:
    """An image whose SOP Class UID is of another VR, and so is left behind, is refused."""
    path = put(
        tmp_path, written(lambda ds: as_is(ds, "SOPClassUID", "LO", ds.SOPClassUID.encode()))
    )
    with pytest.raises(UnreadableFile, match="kind of image"):
        deidentify_file(
            path, tmp_path / "out", name="file", site=Site(key=b"k" * 32), limits=LIMITS
        )

"""Nothing of the person leaves with an image: planted everywhere, looked for in every byte."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pydicom import config, dcmread
from pydicom.datadict import DicomDictionary, dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import JPEGBaseline8Bit, RLELossless
from pydicom.valuerep import validate_value

from imaging.dicom.deidentify import (
    DATES,
    DESCRIPTORS,
    NUMBERS,
    SEQUENCES,
    TIMES,
    UIDS,
    WORDS,
    Site,
    action_of,
    actions,
    deidentify,
    deidentify_file,
)
from imaging.dicom.regions import is_nominal
from imaging.errors import PictureNotFound, UnreadableFile
from imaging.lettering import font
from imaging.limits import DecodeLimits
from tests.app import studies

PLANTED = "ZZYZX"
SITE = Site(key=b"k" * 32, words=frozenset({"biceps", "left"}))
SHIFTED = Site(key=b"k" * 32, dates="shifted")
TEXT_VRS = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")
PIXEL_TAGS = ("PhotometricInterpretation", "SOPClassUID", "Modality", "SpecificCharacterSet")


def screen(rows: int = 480, columns: int = 640) -> np.ndarray:
    """A scanner's screen: speckle in the middle, a banner with a name above, one beside."""
    picture = Image.new("L", (columns, rows), 0)
    draw = ImageDraw.Draw(picture)
    for place in ((8, 6), (8, rows - 24), (columns - 110, rows // 2)):
        draw.text(place, f"{PLANTED} 1970", fill=255, font=font(16))
    grey = np.array(picture)
    grey[60:440, 120:520] = studies.speckle(rows=380, columns=400)
    return grey


def picture_file(tmp_path: Path, *, box: tuple[int, int, int, int] | None, **changes: Any) -> Path:
    """The screen as DICOM; `box` is the B-mode region as columns and rows, if it is named."""
    ds = dcmread(io.BytesIO(studies.dicom_still(calibrated=False)))
    grey = screen()
    ds.Rows, ds.Columns, ds.PixelData = *grey.shape, grey.tobytes()
    if box is not None:
        region = Dataset()
        region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
        region.RegionLocationMinX0, region.RegionLocationMinY0 = box[0], box[1]
        region.RegionLocationMaxX1, region.RegionLocationMaxY1 = box[2] - 1, box[3] - 1
        region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
        region.PhysicalDeltaX = region.PhysicalDeltaY = 0.02
        ds.SequenceOfUltrasoundRegions = Sequence([region])
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    path = tmp_path / "screen.dcm"
    ds.save_as(path)
    return path


def cleaned(path: Path, site: Site = SITE) -> tuple[Dataset, Any]:
    out = path.with_name("out.dcm")
    report = deidentify_file(path, out, name="screen.dcm", site=site, limits=DecodeLimits())
    return dcmread(out), report


def test_names_in_every_text_tag_are_gone(tmp_path: Path) -> None:
    """Every text tag of the dictionary, private tags, nested sequences: no byte comes through."""
    path = picture_file(tmp_path, box=(120, 60, 520, 440))
    ds = dcmread(path)
    planted = 0
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if vr not in TEXT_VRS or not keyword or tag >> 16 < 8 or keyword in PIXEL_TAGS:
            continue
        ds.add_new(tag, vr, PLANTED)
        planted += 1
    nested = Dataset()
    nested.PatientName, nested.CodeMeaning = f"{PLANTED}^A", PLANTED
    deeper = Dataset()
    deeper.PersonName, deeper.TextValue = PLANTED, PLANTED
    nested.ContentSequence = Sequence([deeper])
    for keyword in ("AnatomicRegionSequence", "RequestAttributesSequence", "SourceImageSequence"):
        setattr(ds, keyword, Sequence([nested]))
    ds.SequenceOfUltrasoundRegions[0].PatientComments = PLANTED
    ds.private_block(0x0011, PLANTED, create=True).add_new(1, "LO", PLANTED)
    ds.private_block(0x7FE1, "VENDOR", create=True).add_new(1, "OB", PLANTED.encode() * 3)
    ds.add_new(0x60003000, "OW", PLANTED.encode() + b"\0")
    ds.add_new(0x60004000, "LT", PLANTED)
    ds.add_new(0xFFFCFFFC, "OB", PLANTED.encode() + b"\0")
    ds.StudyInstanceUID = "1.2.3.4.5.777777"
    ds.PatientID = f"{PLANTED}-1"
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.preamble = (PLANTED.encode() * 30)[:128]
    ds.save_as(path, enforce_file_format=True)
    assert planted > 1500
    assert path.read_bytes().count(PLANTED.encode()) > planted
    out, report = cleaned(path)
    body = (tmp_path / "out.dcm").read_bytes()
    for hidden in (PLANTED, PLANTED.lower(), PLANTED.title(), "777777", "19700101", "P-1"):
        assert hidden.encode() not in body, hidden
        assert hidden not in str(report), hidden
    assert PLANTED.encode("utf-16-le") not in body
    assert report.private_elements >= 2
    assert len(report.elements) > planted - 50
    assert not [e for e in out.iterall() if e.tag.is_private]


def test_what_is_kept_is_not_in_the_standards_table() -> None:
    """No attribute that goes by table E.1-1 is taken over as it is, whatever the lists say."""
    assert len(actions()) > 600
    for keyword in NUMBERS | set(WORDS):
        assert action_of(tag_for_keyword(keyword) or 0) is None, keyword
    for keyword in DATES | TIMES | DESCRIPTORS:
        assert action_of(tag_for_keyword(keyword) or 0) is not None, keyword
    for keyword in SEQUENCES:
        assert action_of(tag_for_keyword(keyword) or 0) in (None, "X/Z/U*"), keyword
    for keyword in UIDS - {"SOPClassUID", "ReferencedSOPClassUID"}:
        assert action_of(tag_for_keyword(keyword) or 0) == "U", keyword
    for keyword in NUMBERS:
        assert dictionary_VR(keyword) not in (*TEXT_VRS, "DA", "TM", "DT", "OB", "OW"), keyword
    assert action_of(0x60023000) == "X"
    assert action_of(0x50100040) == "X"


def test_the_banner_is_blanked_and_the_picture_is_not(tmp_path: Path) -> None:
    """Outside the named region all is black; inside every pixel is as it was."""
    out, report = cleaned(picture_file(tmp_path, box=(120, 60, 520, 440)))
    grey, before = out.pixel_array, screen()
    outside = np.ones(grey.shape, bool)
    outside[60:440, 120:520] = False
    assert before[outside].max() == 255
    assert grey[outside].max() == 0
    assert np.array_equal(grey[64:436, 124:516], before[64:436, 124:516])
    assert report.pixels["found_by"] == "regions"
    assert report.pixels["of_them_not_black"] > 500


@pytest.mark.parametrize("box", [None, (0, 0, 640, 480)])
def test_without_a_region_that_separates_the_pixels_tell(tmp_path: Path, box: Any) -> None:
    """No region, or one that is the whole screen: the picture is found, the banners are blanked."""
    out, _ = cleaned(picture_file(tmp_path, box=box))
    grey = out.pixel_array
    assert grey[:40].max() == 0
    assert grey[456:].max() == 0
    assert grey[:, 535:].max() == 0
    assert np.array_equal(grey[80:420, 140:500], screen()[80:420, 140:500])


def test_what_cannot_be_told_stays(tmp_path: Path) -> None:
    """A screen without texture, and one of texture all over without regions, are refused."""
    flat = np.zeros((480, 640), np.uint8)
    flat[10:20, 10:200] = 255
    noisy = studies.speckle(rows=480, columns=640)
    for pixels in (flat, noisy):
        path = picture_file(tmp_path, box=None, PixelData=pixels.tobytes())
        with pytest.raises(PictureNotFound):
            cleaned(path)
        assert not (tmp_path / "out.dcm").exists()
        assert list(tmp_path.glob("*.part")) == []
    # A region that lies where the picture is not is about another image.
    with pytest.raises(PictureNotFound):
        cleaned(picture_file(tmp_path, box=(0, 0, 640, 50)))


def test_pseudonyms_are_the_same_each_time_and_by_site(tmp_path: Path) -> None:
    """UIDs and identifiers map alike within a site, differ between sites, and fit the grammar."""
    path = picture_file(tmp_path, box=(120, 60, 520, 440))
    first, _ = cleaned(path)
    second, _ = cleaned(path)
    other, _ = cleaned(path, Site(key=b"o" * 32, uid_root="1.2.826.0.1"))
    was = dcmread(path)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID"):
        assert first[keyword].value == second[keyword].value
        assert len({str(x[keyword].value) for x in (first, other, was)}) == 3
    assert first.StudyInstanceUID.startswith("2.25.")
    assert other.StudyInstanceUID.startswith("1.2.826.0.1.")
    assert first.StudyInstanceUID.is_valid
    assert other.StudyInstanceUID.is_valid
    assert first.SOPClassUID == was.SOPClassUID
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID


def test_dates_go_or_move_together(tmp_path: Path) -> None:
    """Removed by default; shifted by whole days, the same for one patient, where asked for."""
    given = {"StudyDate": "20260102", "ContentDate": "20260105", "SeriesTime": "101112.5"}
    path = picture_file(tmp_path, box=(120, 60, 520, 440), **given)
    out, _ = cleaned(path)
    assert out.StudyDate == ""
    assert "ContentDate" not in out
    assert out.LongitudinalTemporalInformationModified == "REMOVED"
    moved, _ = cleaned(path, SHIFTED)
    days = [
        np.datetime64(f"{d[:4]}-{d[4:6]}-{d[6:]}") for d in (moved.StudyDate, moved.ContentDate)
    ]
    assert days[1] - days[0] == 3
    assert days[0] < np.datetime64("2026-01-02")
    assert moved.SeriesTime == "101112.5"
    assert moved.PatientBirthDate == ""
    assert moved.LongitudinalTemporalInformationModified == "MODIFIED"
    codes = {item.CodeValue for item in moved.DeidentificationMethodCodeSequence}
    assert codes == {"113100", "113101", "113105", "113107"}


def test_the_result_says_what_it_is(tmp_path: Path) -> None:
    """Identity removed, by which method, derived, without burned-in annotation; scale untouched."""
    given = {"StudyDescription": f"Biceps LEFT of {PLANTED}", "BodyPartExamined": "ARM"}
    path = picture_file(tmp_path, box=(120, 60, 520, 440), **given)
    out, _ = cleaned(path)
    assert out.PatientIdentityRemoved == "YES"
    assert out.BurnedInAnnotation == "NO"
    assert out.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert out.StudyDescription == "biceps left"
    assert out.BodyPartExamined == "ARM"
    assert out.ImageType[0] == "DERIVED"
    assert out.SequenceOfUltrasoundRegions[0].PhysicalDeltaX == 0.02


def test_a_made_up_scale_stays_made_up(tmp_path: Path) -> None:
    """The mark of a nominal scale is kept, though every comment goes."""
    path = picture_file(
        tmp_path, box=(120, 60, 520, 440), ImageComments=f"NOMINAL CALIBRATION by {PLANTED}"
    )
    out, _ = cleaned(path)
    assert is_nominal(out)
    assert PLANTED not in str(out)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGBaseline8Bit])
def test_compressed_clips_are_decoded_and_blanked_in_every_frame(
    tmp_path: Path, syntax: str
) -> None:
    """Frames come out uncompressed, each without its banner."""
    path = picture_file(tmp_path, box=(120, 60, 520, 440))
    ds = dcmread(path)
    if syntax == RLELossless:
        frames = np.stack([screen(), np.roll(screen(), 3, axis=1)])
        ds.NumberOfFrames, ds.PixelData = 2, frames.tobytes()
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.3.1"
        ds.compress(RLELossless, encoding_plugin="pylibjpeg")
    else:
        file = io.BytesIO()
        Image.fromarray(screen()).save(file, "JPEG", quality=90)
        ds.PixelData = encapsulate([file.getvalue()])
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.save_as(path)
    out, _ = cleaned(path)
    assert str(out.file_meta.TransferSyntaxUID) == "1.2.840.10008.1.2.1"
    frames = np.atleast_3d(out.pixel_array).reshape(-1, 480, 640)
    assert frames[:, :60].max() == 0
    assert frames[:, 445:].max() == 0
    assert frames[:, 200:300, 200:300].max() > 100
    assert out.get("LossyImageCompression") == ("01" if syntax == JPEGBaseline8Bit else None)


PERSON = b"Zzyzx^An"
"""Eight bytes, so that it is a whole value of every VR."""
DAMAGED = [
    # A date or a time that is none, or that is so long ago that it cannot be moved.
    ("StudyDate", "DA", b"2026-13-45"),
    ("StudyDate", "DA", b"00010101"),
    ("StudyDate", "DA", b"20260101\\20260102 "),
    ("StudyDate", "DA", PERSON),
    ("StudyTime", "TM", PERSON),
    ("SeriesTime", "TM", b"99"),
    ("SeriesTime", "TM", b"1011.5"),
    ("AcquisitionDateTime", "DT", b"2026"),
    ("AcquisitionDateTime", "DT", b"20260101996199"),
    ("AcquisitionDateTime", "DT", b"20260101" + PERSON),
    # Text where numbers are, and numbers that are none.
    ("InstanceNumber", "IS", PERSON),
    ("FrameTime", "DS", b"12 " + PERSON + b" "),
    ("FrameTime", "DS", b"1e999 "),
    ("FrameTime", "DS", b"nan "),
    ("FrameTimeVector", "DS", b"33.3\\" + PERSON + b" "),
    ("FrameIncrementPointer", "AT", PERSON),
    ("PhysicalDeltaX", "FD", b"\0\0\0\0\0\0\xf8\x7f"),
    # Another VR than the standard's.
    ("StudyDescription", "OB", b"left " + PERSON + b" "),
    ("StudyDescription", "UN", b"left " + PERSON + b" "),
    ("FrameTime", "US", PERSON),
    ("FrameTime", "LT", PERSON),
    ("HeartRate", "AT", PERSON),
    ("Modality", "FD", PERSON),
    ("StudyTime", "DA", PERSON),
    ("StudyInstanceUID", "LO", PERSON),
    ("SequenceOfUltrasoundRegions", "LO", PERSON),
    ("ImageLaterality", "SQ", b""),
    # A character set that is none, that does not fit, and one of the identifiers in it.
    ("SpecificCharacterSet", "CS", PERSON),
    ("SpecificCharacterSet", "CS", b"ISO 2022 IR 87"),
    ("SpecificCharacterSet", "CS", b"ISO_IR 192"),
    ("PatientID", "LO", b"\xff\xfe" + PERSON),
    ("PatientName", "PN", b"\x1b$B" + PERSON + b" "),
    ("StudyInstanceUID", "UI", PERSON),
]


@pytest.mark.parametrize("site", [SITE, SHIFTED], ids=["removed", "shifted"])
@pytest.mark.parametrize(("keyword", "vr", "value"), DAMAGED)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, over what the test damages
def test_damaged_values_stay_behind(
    tmp_path: Path, keyword: str, vr: str, value: bytes, site: Site
) -> None:
    """What is not what it says is left out or replaced; the image comes out whole, by the rules."""
    path = picture_file(tmp_path, box=(120, 60, 520, 440))
    ds = dcmread(path)
    within = keyword in ("PhysicalDeltaX",)
    where = ds.SequenceOfUltrasoundRegions[0] if within else ds
    tag = Tag(keyword)
    where._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    ds.save_as(path)
    assert value in path.read_bytes()
    out, report = cleaned(path, site)
    body = (tmp_path / "out.dcm").read_bytes()
    assert PERSON not in body
    assert b"Zzyzx" not in body
    assert "Zzyzx" not in str(report)
    assert out.pixel_array.shape == (480, 640)
    for element in out.iterall():
        assert element.VR in dictionary_VR(element.tag).split(" or ")
        if element.VR in ("DA", "TM", "DT", "DS", "IS", "UI", "CS"):
            values = element.value if element.VM > 1 else [element.value]
            for each in values:
                validate_value(element.VR, str(each), config.RAISE)


def test_what_breaks_the_reader_tells_no_name(tmp_path: Path) -> None:
    """A value that cannot be read is a refusal without the value in it, and leaves no file."""
    for vr in ("FD", "FL", "UL", "US", "SQ", "OV"):
        path = picture_file(tmp_path, box=(120, 60, 520, 440))
        ds = dcmread(path)
        tag, value = Tag("PatientName"), PERSON[:5] + b"^"
        ds._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
        ds.save_as(path)
        with suppress(UnreadableFile):
            assert "Zzyzx" not in str(cleaned(path))
            continue
        with pytest.raises(UnreadableFile) as caught:
            cleaned(path)
        assert "Zzyz" not in caught.value.message, vr
        assert list(tmp_path.glob("*.part")) == []


def test_the_header_alone_is_pure() -> None:
    """The same header and site give the same result, and the source is not changed."""
    ds = dcmread(io.BytesIO(studies.dicom_still()))
    before = ds.to_json()
    first, second = deidentify(ds, SITE)[0], deidentify(ds, SITE)[0]
    assert first == second
    assert ds.to_json() == before

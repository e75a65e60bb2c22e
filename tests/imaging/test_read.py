from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import DeflatedExplicitVRLittleEndian

from imaging.errors import NotUltrasound, TooLarge, UnreadableFile, UnsupportedSyntax
from imaging.limits import DecodeLimits
from imaging.read import peek, read_clip
from tests.imaging.conftest import LIMITS, scale

Put = Callable[..., Path]
Noise = Callable[..., list[np.ndarray]]


def test_frames_come_back_as_they_were_written(put: Put, noise: Noise) -> None:
    frames = noise(frames=5)
    clip = read_clip(put(frames, scale()), name="sweep.dcm", limits=LIMITS)
    assert clip.frame_count == 5
    assert clip.media == "dicom"
    assert (clip.rows, clip.columns) == (64, 80)
    for index, (frame, written) in enumerate(zip(clip.frames, frames, strict=True)):
        assert np.array_equal(frame.pixels, written)
        assert frame.source.frame == index
        assert frame.source.file == "sweep.dcm"
        assert frame.time_s == pytest.approx(index * 0.04)


def test_only_the_frames_asked_for_are_decoded(put: Put, noise: Noise) -> None:
    frames = noise(frames=9)
    clip = read_clip(put(frames), name="a.dcm", frames=[7, 2], limits=LIMITS)
    assert [frame.source.frame for frame in clip.frames] == [2, 7]
    assert np.array_equal(clip.frames[1].pixels, frames[7])
    assert clip.frame_count == 9


def test_the_header_says_of_whom_and_what_the_image_is(put: Put, noise: Noise) -> None:
    clip = read_clip(put(noise()), name="a.dcm", limits=LIMITS)
    assert clip.identity is not None
    assert clip.identity.patient_id == "PH-1"
    assert clip.identity.patient_name == "Phantom^Ellipsoid"
    assert clip.identity.laterality == "L"
    assert clip.identity.body_part == "ARM"
    assert clip.identity.accession is None


def test_an_image_without_regions_has_no_scale_and_says_so(put: Put, noise: Noise) -> None:
    clip = read_clip(put(noise()), name="a.dcm", limits=LIMITS)
    assert clip.calibration is None
    assert clip.calibration_problem == "The file has no scale."


def test_a_nominal_sample_stays_nominal_through_the_file(put: Put, noise: Noise) -> None:
    clip = read_clip(put(noise(), scale(), nominal=True), name="a.dcm", limits=LIMITS)
    assert clip.calibration is not None
    assert clip.calibration.is_nominal


def test_peek_reads_the_header_and_decodes_nothing(put: Put, noise: Noise) -> None:
    facts = peek(put(noise(frames=3), scale()), name="a.dcm", limits=LIMITS)
    assert (facts.rows, facts.columns, facts.frame_count) == (64, 80, 3)
    assert facts.has_calibration
    assert facts.identity is not None


def test_monochrome1_is_turned_over(put: Put, noise: Noise, tmp_path: Path) -> None:
    frames = noise()
    ds = dcmread(put(frames))
    ds.PhotometricInterpretation = "MONOCHROME1"
    ds.save_as(tmp_path / "m1.dcm")
    clip = read_clip(tmp_path / "m1.dcm", name="m1", limits=LIMITS)
    assert np.array_equal(clip.frames[0].pixels, 255 - frames[0])


def test_twelve_bits_are_windowed_to_eight(put: Put, noise: Noise, tmp_path: Path) -> None:
    deep = np.linspace(0, 4095, 64 * 80).astype(np.uint16).reshape(64, 80)
    ds = dcmread(put(noise()))
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PixelData = deep.tobytes()
    ds["PixelData"].VR = "OW"
    ds.save_as(tmp_path / "deep.dcm")
    whole = read_clip(tmp_path / "deep.dcm", name="d", limits=LIMITS).frames[0].pixels
    assert np.array_equal(whole, np.rint(deep / 4095.0 * 255.0).astype(np.uint8))
    ds.WindowCenter, ds.WindowWidth = 1000.5, 1001
    ds.save_as(tmp_path / "window.dcm")
    seen = read_clip(tmp_path / "window.dcm", name="d", limits=LIMITS).frames[0].pixels
    assert seen[deep <= 500].max() == 0
    assert seen[deep >= 1500].min() == 255


def test_another_modality_is_not_ultrasound(put: Put, noise: Noise, tmp_path: Path) -> None:
    ds = dcmread(put(noise()))
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.Modality = "CT"
    ds.save_as(tmp_path / "ct.dcm")
    with pytest.raises(NotUltrasound, match="CT Image Storage"):
        read_clip(tmp_path / "ct.dcm", name="ct.dcm", limits=LIMITS)


def test_a_secondary_capture_counts_only_with_modality_us(
    put: Put, noise: Noise, tmp_path: Path
) -> None:
    ds = dcmread(put(noise()))
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    ds.save_as(tmp_path / "us.dcm")
    assert read_clip(tmp_path / "us.dcm", name="sc", limits=LIMITS).frame_count == 1
    ds.Modality = "OT"
    ds.save_as(tmp_path / "ot.dcm")
    with pytest.raises(NotUltrasound):
        read_clip(tmp_path / "ot.dcm", name="sc", limits=LIMITS)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(UnreadableFile, match="empty"):
        read_clip(tmp_path / "empty", name="empty", limits=LIMITS)


@pytest.mark.parametrize("data", [b"hello, this is text" * 20, b"PK\x03\x04" + b"\0" * 300])
def test_bytes_of_another_kind_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(data)
    with pytest.raises(UnreadableFile, match="neither DICOM nor a picture"):
        peek(tmp_path / "x.dcm", name="x.dcm", limits=LIMITS)


def test_a_file_is_known_by_its_content_not_by_its_name(put: Put, noise: Noise) -> None:
    path = put(noise())
    disguised = path.rename(path.with_suffix(".png"))
    assert read_clip(disguised, name="a.png", limits=LIMITS).media == "dicom"


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_refused(
    share: float, put: Put, noise: Noise, tmp_path: Path
) -> None:
    data = put(noise(), scale()).read_bytes()
    (tmp_path / "cut.dcm").write_bytes(data[: int(len(data) * share)])
    with pytest.raises((UnreadableFile, NotUltrasound)):
        read_clip(tmp_path / "cut.dcm", name="cut.dcm", limits=LIMITS)


def test_a_header_that_claims_two_gigabytes_is_refused_before_decoding(
    put: Put, noise: Noise, tmp_path: Path
) -> None:
    ds = dcmread(put(noise(frames=2)))
    ds.Rows = ds.Columns = 8000
    ds.NumberOfFrames = 40
    ds.save_as(tmp_path / "lie.dcm")
    with pytest.raises(TooLarge):
        peek(tmp_path / "lie.dcm", name="lie.dcm", limits=LIMITS)


def test_native_pixels_shorter_than_the_header_says_are_refused_before_decoding(
    put: Put, noise: Noise, tmp_path: Path
) -> None:
    ds = dcmread(put(noise()))
    ds.Rows = 70
    ds.save_as(tmp_path / "short.dcm")
    with pytest.raises(UnreadableFile, match="short"):
        peek(tmp_path / "short.dcm", name="short.dcm", limits=LIMITS)


def test_a_deflated_bomb_is_refused_without_inflating_it_whole(
    put: Put, noise: Noise, tmp_path: Path
) -> None:
    ds = dcmread(put(noise()))
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.save_as(tmp_path / "small.dcm")
    data = (tmp_path / "small.dcm").read_bytes()
    start = 132 + 12 + struct.unpack("<I", data[140:144])[0]
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(deflater.compress(b"\0" * 2**20) for _ in range(64)) + deflater.flush()
    (tmp_path / "bomb.dcm").write_bytes(data[:start] + bomb)
    small = DecodeLimits(max_decoded_bytes=2**24)
    with pytest.raises(TooLarge, match="inflates"):
        peek(tmp_path / "bomb.dcm", name="bomb.dcm", limits=small)


def test_a_file_over_the_limit_is_refused(put: Put, noise: Noise) -> None:
    with pytest.raises(TooLarge):
        peek(put(noise()), name="a.dcm", limits=DecodeLimits(max_file_bytes=100))


@pytest.mark.parametrize("frames", [[5], [-1], [0, 3]])
def test_a_frame_that_the_file_has_not_is_refused(
    frames: list[int], put: Put, noise: Noise
) -> None:
    with pytest.raises(UnreadableFile, match="not one of them"):
        read_clip(put(noise(frames=3)), name="a.dcm", frames=frames, limits=LIMITS)


def test_pixels_that_no_codec_decodes_are_refused_with_a_remedy(tmp_path: Path) -> None:
    name = "JPEG2000-embedded-sequence-delimiter.dcm"
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"pydicom came without {name}")
    ds = dcmread(path)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
    ds.Modality = "US"
    ds.save_as(tmp_path / name)
    with pytest.raises(UnreadableFile) as refused:
        read_clip(tmp_path / name, name=name, limits=LIMITS)
    assert refused.value.remedy


def test_an_unknown_transfer_syntax_is_named_unsupported(
    put: Put, noise: Noise, tmp_path: Path
) -> None:
    path = put(noise())
    data = path.read_bytes()
    odd = data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.9\0")
    assert odd != data
    (tmp_path / "odd.dcm").write_bytes(odd)
    with pytest.raises(UnsupportedSyntax):
        read_clip(tmp_path / "odd.dcm", name="odd.dcm", limits=LIMITS)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_plain_grey_pictures_come_back_pixel_for_pixel(
    kind: str, noise: Noise, tmp_path: Path
) -> None:
    Image.fromarray(noise()[0]).save(tmp_path / "plain", format=kind)
    clip = read_clip(tmp_path / "plain", name="plain", limits=LIMITS)
    assert np.array_equal(clip.frames[0].pixels, noise()[0])
    assert clip.media == "plain"
    assert clip.identity is None
    assert clip.calibration_problem == "A plain picture carries no scale."


def test_colour_pictures_become_grey_by_luma(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (200, 100, 50)).save(tmp_path / "c.png")
    grey = read_clip(tmp_path / "c.png", name="c", limits=LIMITS).frames[0].pixels
    assert np.all(grey == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50))


def test_sixteen_bit_and_see_through_pictures_are_read(tmp_path: Path) -> None:
    deep = (np.arange(200, dtype=np.uint16).reshape(10, 20) * 300).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    grey = read_clip(tmp_path / "deep.png", name="d", limits=LIMITS).frames[0].pixels
    assert np.array_equal(grey, (deep // 257).astype(np.uint8))
    Image.new("RGBA", (5, 5), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    assert not read_clip(tmp_path / "clear.png", name="c", limits=LIMITS).frames[0].pixels.any()


def test_every_page_of_a_tiff_is_a_frame(noise: Noise, tmp_path: Path) -> None:
    pages = [Image.fromarray(frame) for frame in noise(frames=3)]
    pages[0].save(tmp_path / "p.tif", format="TIFF", save_all=True, append_images=pages[1:])
    clip = read_clip(tmp_path / "p.tif", name="p", frames=[2], limits=LIMITS)
    assert clip.frame_count == 3
    assert np.array_equal(clip.frames[0].pixels, noise(frames=3)[2])


def test_a_png_whose_header_claims_gigabytes_is_refused(noise: Noise, tmp_path: Path) -> None:
    Image.fromarray(noise()[0]).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = struct.pack(">II", 50_000, 50_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    (tmp_path / "lie.png").write_bytes(bytes(data))
    with pytest.raises((TooLarge, UnreadableFile)):
        peek(tmp_path / "lie.png", name="lie.png", limits=LIMITS)


def test_a_picture_that_is_cut_off_is_refused(noise: Noise, tmp_path: Path) -> None:
    Image.fromarray(noise(200, 200)[0]).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableFile):
        read_clip(tmp_path / "cut.png", name="cut.png", limits=LIMITS)

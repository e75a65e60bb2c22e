"""Video files, video inside DICOM and HTJ2K: the fixtures of `fixtures/make.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from imaging.errors import TooLarge, UnreadableFile
from imaging.limits import DecodeLimits
from imaging.read import peek, read_clip
from tests.imaging.conftest import LIMITS
from tests.imaging.fixtures.make import frames as known_frames

FIXTURES = Path(__file__).parent / "fixtures"
KNOWN = known_frames()
Put = Callable[..., Path]


def bar_column(grey: np.ndarray) -> float:
    """Where the bright bar's middle lies, in columns."""
    return float(np.flatnonzero(grey[30] > 190).mean()) + 0.5


@pytest.mark.parametrize("name", ["h264.mp4", "hevc.mp4", "mjpg.avi"])
def test_a_video_s_frames_come_out_in_order(name: str) -> None:
    clip = read_clip(FIXTURES / name, name=name, limits=LIMITS)
    assert clip.frame_count == 5
    assert clip.media == "plain"
    assert clip.calibration_problem == "A video carries no scale."
    for index, frame in enumerate(clip.frames):
        assert bar_column(frame.pixels) == pytest.approx(15 + 10 * index, abs=1)
        assert np.abs(frame.pixels.astype(int) - KNOWN[index]).mean() < 2
        assert frame.time_s == pytest.approx(index / 25)


def test_only_the_asked_frame_of_a_video_is_given() -> None:
    clip = read_clip(FIXTURES / "h264.mp4", name="v", frames=[3], limits=LIMITS)
    assert [frame.source.frame for frame in clip.frames] == [3]
    assert bar_column(clip.frames[0].pixels) == pytest.approx(45, abs=1)
    assert clip.frame_count == 5


def test_peek_reads_a_video_s_size() -> None:
    facts = peek(FIXTURES / "h264.mp4", name="v", limits=LIMITS)
    assert (facts.rows, facts.columns, facts.frame_count) == (64, 80, 5)


def test_a_video_over_the_limits_is_refused() -> None:
    with pytest.raises(TooLarge):
        peek(FIXTURES / "h264.mp4", name="v", limits=DecodeLimits(max_frames=4))


def test_a_frame_beyond_a_video_s_end_is_refused() -> None:
    with pytest.raises(UnreadableFile, match="frame 9"):
        read_clip(FIXTURES / "h264.mp4", name="v", frames=[9], limits=LIMITS)


def test_a_video_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    data = (FIXTURES / "h264.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[:200])
    with pytest.raises(UnreadableFile):
        read_clip(tmp_path / "cut.mp4", name="cut.mp4", limits=LIMITS)


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("mpeg2.mpg", "1.2.840.10008.1.2.4.100"),
        ("h264.mp4", "1.2.840.10008.1.2.4.102"),
        ("hevc.mp4", "1.2.840.10008.1.2.4.107"),
    ],
)
def test_video_inside_dicom_is_decoded(name: str, syntax: str, put: Put, tmp_path: Path) -> None:
    ds = dcmread(put(list(KNOWN)))
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 3, "YBR_PARTIAL_420"
    ds.PlanarConfiguration = 0
    ds.PixelData = encapsulate([(FIXTURES / name).read_bytes()])
    ds["PixelData"].is_undefined_length = True
    path = tmp_path / "video.dcm"
    ds.save_as(path)
    clip = read_clip(path, name="v.dcm", limits=LIMITS)
    assert clip.frame_count == 5
    assert clip.identity is not None
    for index, frame in enumerate(clip.frames):
        assert bar_column(frame.pixels) == pytest.approx(15 + 10 * index, abs=1)
    alone = read_clip(path, name="v.dcm", frames=[2], limits=LIMITS).frames[0].pixels
    assert np.array_equal(alone, clip.frames[2].pixels)


def test_a_video_with_fewer_frames_than_the_header_says_is_refused(
    put: Put, tmp_path: Path
) -> None:
    ds = dcmread(put([*KNOWN, *KNOWN]))
    ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.102")
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 3, "YBR_PARTIAL_420"
    ds.PlanarConfiguration = 0
    ds.PixelData = encapsulate([(FIXTURES / "h264.mp4").read_bytes()])
    ds["PixelData"].is_undefined_length = True
    ds.save_as(tmp_path / "video.dcm")
    with pytest.raises(UnreadableFile, match="ends before"):
        read_clip(tmp_path / "video.dcm", name="v.dcm", limits=LIMITS)


def test_high_throughput_jpeg_2000_is_decoded_to_the_last_bit(put: Put, tmp_path: Path) -> None:
    ds = dcmread(put([KNOWN[0]]))
    ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.201")
    ds.PixelData = encapsulate([(FIXTURES / "grey.htj2k").read_bytes()])
    ds["PixelData"].is_undefined_length = True
    ds.save_as(tmp_path / "ht.dcm")
    clip = read_clip(tmp_path / "ht.dcm", name="ht", limits=LIMITS)
    assert np.array_equal(clip.frames[0].pixels, KNOWN[0])

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread

from imaging.dicom.seg import Algorithm, is_binary_safe, write_seg
from tests.imaging.conftest import BICEPS, CREATED, disc, names, scale
from tests.judges import dicom_errors, study_errors

Put = Callable[..., Path]
Noise = Callable[..., list[np.ndarray]]
NETWORK = Algorithm(name="muscle network", version="1.2", kind="AUTOMATIC")


def seg_of(source: Path, masks: dict, to: Path, **more: object) -> Path:
    data = write_seg(
        source,
        masks,
        **{
            "calibration": scale(0.1, 0.2),
            "anatomy": BICEPS,
            "algorithm": NETWORK,
            "instance": names("seg", 2),
            **more,
        },
    )
    to.write_bytes(data)
    return to


def masks_for(rows: int, columns: int, frames: list[int]) -> dict:
    """A muscle with a nerve in it on each frame, another one on each."""
    return {
        frame: {
            "muscle": disc(rows, columns, columns / 2, rows / 2, rows / 3 - frame % 5),
            "nerve": disc(rows, columns, columns / 2, rows / 2, rows / 12),
        }
        for frame in frames
    }


@pytest.mark.parametrize(
    ("rows", "columns", "frames", "kind"),
    [
        (64, 80, 1, "BINARY"),
        (64, 80, 2, "BINARY"),
        (64, 80, 30, "BINARY"),
        (64, 80, 300, "BINARY"),
        (735, 975, 1, "FRACTIONAL"),
        (735, 975, 2, "FRACTIONAL"),
        (45, 47, 30, "FRACTIONAL"),
    ],
)
def test_a_seg_passes_the_validator_and_reads_back_equal_by_source_frame(
    rows: int, columns: int, frames: int, kind: str, put: Put, noise: Noise, tmp_path: Path
) -> None:
    source = put(noise(rows, columns, frames), scale(0.1, 0.2))
    masks = masks_for(rows, columns, list(range(frames)))
    path = seg_of(source, masks, tmp_path / "seg.dcm")
    assert dicom_errors(path) == []
    seg = highdicom.seg.segread(path)
    assert seg.SegmentationType == kind
    uid = dcmread(source, stop_before_pixels=True).SOPInstanceUID
    wanted = sorted({0, frames // 2, frames - 1})
    if frames == 1:
        back = seg.get_pixels_by_source_instance([uid], rescale_fractional=False)
    else:
        back = seg.get_pixels_by_source_frame(
            uid, [frame + 1 for frame in wanted], rescale_fractional=False
        )
    for index, frame in enumerate(wanted):
        nerve = masks[frame]["nerve"]
        assert np.array_equal(back[index, :, :, 0] > 0, masks[frame]["muscle"] & ~nerve)
        assert np.array_equal(back[index, :, :, 1] > 0, nerve)
    assert set(np.unique(back)) <= {0, 1, 255}


def test_source_seg_and_study_agree(put: Put, noise: Noise, tmp_path: Path) -> None:
    source = put(noise(frames=3), scale())
    seg_of(source, masks_for(64, 80, [0, 2]), tmp_path / "seg.dcm")
    assert study_errors(tmp_path) == []


def test_frames_without_a_mask_are_left_out(put: Put, noise: Noise, tmp_path: Path) -> None:
    source = put(noise(frames=9), scale())
    empty = {"muscle": np.zeros((64, 80), dtype=bool)}
    path = seg_of(source, {**masks_for(64, 80, [1, 6]), 3: empty}, tmp_path / "seg.dcm")
    ds = dcmread(path)
    sources = [
        group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        for group in ds.PerFrameFunctionalGroupsSequence
    ]
    assert sources == [2, 7, 2, 7]
    assert ds.NumberOfFrames == 4


def test_nerve_and_vessel_are_cut_out_so_that_no_segments_overlap(
    put: Put, noise: Noise, tmp_path: Path
) -> None:
    everything = np.ones((64, 80), dtype=bool)
    masks = {
        0: {
            "muscle": everything,
            "nerve": disc(64, 80, 30, 30, 10),
            "vessel": disc(64, 80, 38, 30, 10),
        }
    }
    path = seg_of(put(noise(), scale()), masks, tmp_path / "seg.dcm")
    frames = dcmread(path).pixel_array
    assert frames.shape[0] == 3
    assert (frames.astype(int).sum(axis=0) == 1).all()
    assert dicom_errors(path) == []


def test_the_segment_names_muscle_side_and_algorithm(
    put: Put, noise: Noise, tmp_path: Path
) -> None:
    path = seg_of(put(noise(), scale()), masks_for(64, 80, [0]), tmp_path / "seg.dcm")
    segment = dcmread(path).SegmentSequence[0]
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Biceps brachii"
    modifier = segment.SegmentedPropertyTypeCodeSequence[
        0
    ].SegmentedPropertyTypeModifierCodeSequence[0]
    assert modifier.CodeMeaning == "Left"
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "1.2"


def test_an_outline_by_hand_names_no_algorithm(put: Put, noise: Noise, tmp_path: Path) -> None:
    hand = Algorithm(name="", version="", kind="MANUAL")
    path = seg_of(
        put(noise(), scale()), masks_for(64, 80, [0]), tmp_path / "seg.dcm", algorithm=hand
    )
    assert "SegmentAlgorithmName" not in dcmread(path).SegmentSequence[0]
    assert dicom_errors(path) == []


def test_pixel_spacing_is_the_calibration_s_down_then_across(
    put: Put, noise: Noise, tmp_path: Path
) -> None:
    path = seg_of(put(noise(), scale()), masks_for(64, 80, [0]), tmp_path / "seg.dcm")
    measures = dcmread(path).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert [float(v) for v in measures.PixelSpacing] == [0.1, 0.2]


def test_the_same_seg_has_the_same_bytes(put: Put, noise: Noise, tmp_path: Path) -> None:
    source = put(noise(), scale())
    first = seg_of(source, masks_for(64, 80, [0]), tmp_path / "a.bin").read_bytes()
    assert seg_of(source, masks_for(64, 80, [0]), tmp_path / "b.bin").read_bytes() == first
    assert CREATED.strftime("%Y%m%d").encode() in first


@pytest.mark.parametrize(
    ("masks", "word"),
    [
        ({}, "nothing"),
        ({0: {"muscle": np.zeros((64, 80), dtype=bool)}}, "nothing"),
        ({0: {"muscle": np.ones((80, 64), dtype=bool)}}, "size"),
        ({4: {"muscle": np.ones((64, 80), dtype=bool)}}, "frame 4"),
    ],
)
def test_masks_that_do_not_fit_are_refused(
    masks: dict, word: str, put: Put, noise: Noise, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=word):
        seg_of(put(noise(), scale()), masks, tmp_path / "seg.dcm")


@given(rows=st.integers(1, 2000), columns=st.integers(1, 2000), frames=st.integers(1, 400))
def test_binary_frames_always_end_on_a_byte(rows: int, columns: int, frames: int) -> None:
    if is_binary_safe(rows=rows, columns=columns, frames=frames):
        assert rows * columns % 8 == 0
        assert rows * columns * frames % 16 == 0

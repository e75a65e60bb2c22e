from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from imaging.calibration import Calibration, CalibrationProvenance
from imaging.dicom.capture import write_capture
from imaging.errors import NotUltrasound
from imaging.read import read_clip
from tests.imaging.conftest import FACTS, LIMITS, names, scale
from tests.judges import dicom_errors, study_errors

Put = Callable[..., Path]
Noise = Callable[..., list[np.ndarray]]


def coloured(rows: int, columns: int, count: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize("size", [(64, 80), (735, 975)])
@pytest.mark.parametrize("count", [1, 3])
def test_a_captured_overlay_passes_the_validator_and_loses_no_pixel(
    size: tuple[int, int], count: int, put: Put, noise: Noise, tmp_path: Path
) -> None:
    pictures = coloured(*size, count)
    source = put(noise(frames=2), scale())
    path = tmp_path / "sc.dcm"
    path.write_bytes(
        write_capture(
            source,
            pictures,
            instance=names("sc", 4),
            source_frame=1,
            description="Overlay of a suggestion",
        )
    )
    assert dicom_errors(path) == []
    assert study_errors(tmp_path) == []
    ds = dcmread(path)
    assert np.array_equal(ds.pixel_array.reshape(count, *size, 3), np.stack(pictures))
    assert ds.SourceImageSequence[0].ReferencedFrameNumber == 2
    assert ds.BurnedInAnnotation == "YES"
    assert ds.StudyInstanceUID == dcmread(source).StudyInstanceUID


def test_our_own_capture_is_never_taken_for_an_ultrasound_image(
    put: Put, noise: Noise, tmp_path: Path
) -> None:
    path = tmp_path / "sc.dcm"
    path.write_bytes(write_capture(put(noise()), coloured(32, 32), instance=names("sc", 4)))
    with pytest.raises(NotUltrasound):
        read_clip(path, name="sc.dcm", limits=LIMITS)


@pytest.mark.parametrize("count", [1, 2])
def test_plain_frames_of_a_patient_are_wrapped_and_read_back_with_their_scale(
    count: int, noise: Noise, tmp_path: Path
) -> None:
    frames = noise(frames=count)
    given = Calibration(
        row_mm_per_px=0.11, column_mm_per_px=0.12, provenance=CalibrationProvenance.OPERATOR
    )
    path = tmp_path / "wrapped.dcm"
    path.write_bytes(
        write_capture(
            FACTS,
            frames,
            instance=names("wrapped"),
            modality="US",
            calibration=given,
            words_burned_in=False,
        )
    )
    assert dicom_errors(path) == []
    clip = read_clip(path, name="w", limits=LIMITS)
    assert clip.frame_count == count
    assert np.array_equal(clip.frames[-1].pixels, frames[-1])
    assert clip.identity is not None
    assert (clip.identity.patient_id, clip.identity.laterality) == ("PH-1", "L")
    assert clip.calibration is not None
    assert clip.calibration.row_mm_per_px == pytest.approx(0.11)
    assert clip.calibration.column_mm_per_px == pytest.approx(0.12)


def test_unlike_pictures_and_none_are_refused(noise: Noise) -> None:
    for pictures in ([], [*noise(10, 10), *noise(10, 12)]):
        with pytest.raises(ValueError, match="one size"):
            write_capture(FACTS, pictures, instance=names("x"))

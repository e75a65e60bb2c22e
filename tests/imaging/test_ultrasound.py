from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import UID

from imaging.dicom.instance import derived_uid
from imaging.dicom.ultrasound import write_ultrasound
from tests.imaging.conftest import FACTS, names, scale
from tests.judges import dicom_errors

Put = Callable[..., Path]
Noise = Callable[..., list[np.ndarray]]


@pytest.mark.parametrize("size", [(64, 80), (735, 975)])
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("nominal", [False, True])
def test_our_own_ultrasound_passes_the_validator(
    size: tuple[int, int], frames: int, nominal: bool, put: Put, noise: Noise
) -> None:
    path = put(noise(*size, frames), scale(), nominal=nominal, facts={"comments": "a phantom"})
    assert dicom_errors(path) == []
    ds = dcmread(path)
    assert ("NumberOfFrames" in ds) == (frames > 1)
    assert ("NOMINAL" in ds.ImageComments) == nominal


def test_a_frame_without_calibration_has_no_regions(put: Put, noise: Noise) -> None:
    path = put(noise())
    assert "SequenceOfUltrasoundRegions" not in dcmread(path)
    assert dicom_errors(path) == []


def test_unlike_frames_and_none_are_refused(put: Put, noise: Noise) -> None:
    with pytest.raises(ValueError, match="needs a frame"):
        write_ultrasound([], facts=FACTS, instance=names("x"), calibration=None)
    with pytest.raises(ValueError, match="one size"):
        put([*noise(10, 10), *noise(10, 12)])


@given(
    parts=st.lists(st.text(max_size=20), min_size=1, max_size=4),
    root=st.sampled_from([None, "1.2.826.0.1.3680043.10.1", "2.25.1"]),
)
def test_derived_uids_are_valid_and_the_same_for_the_same_parts(
    parts: list[str], root: str | None
) -> None:
    uid = derived_uid(*parts, root=root)
    assert UID(uid).is_valid
    assert len(uid) <= 64
    assert derived_uid(*parts, root=root) == uid
    assert derived_uid(*parts, "more", root=root) != uid
    assert uid.startswith(f"{root or '2.25'}.")


@pytest.mark.parametrize("root", ["1.2.x", "1.02", "1." + "9" * 60])
def test_a_root_that_is_none_is_refused(root: str) -> None:
    with pytest.raises(ValueError, match="root"):
        derived_uid("a", root=root)

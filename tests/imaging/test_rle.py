"""Masks encoded by their runs are what every decoder makes of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import pixel_array
from pydicom.uid import RLELossless

from imaging.dicom.header import SECONDARY_CAPTURE
from imaging.dicom.rle import set_masks
from tests.judges import judge


def encoded(masks: list[np.ndarray]) -> Dataset:
    """A capture of the masks, as far as a decoder needs it."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = RLELossless
    ds.SOPClassUID, ds.SOPInstanceUID = SECONDARY_CAPTURE, "1.2.3"
    ds.Rows, ds.Columns = masks[0].shape
    ds.NumberOfFrames, ds.SamplesPerPixel = len(masks), 1
    ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    set_masks(ds, masks)
    return ds


def decoded(masks: list[np.ndarray], plugin: str) -> np.ndarray:
    """(frames, rows, columns) as a decoder of pydicom's makes them."""
    found = pixel_array(encoded(masks), decoding_plugin=plugin)
    return found.reshape(len(masks), *masks[0].shape)


# pydicom says so where a small mask happens to be as long encoded as it is plain.
@pytest.mark.filterwarnings("ignore:The number of bytes of compressed pixel data:UserWarning")
@given(
    mask=arrays.arrays(
        np.bool_, st.tuples(st.integers(1, 7), st.integers(1, 300)), elements=st.booleans()
    )
)
def test_any_mask_comes_back(mask: np.ndarray) -> None:
    """Whatever the runs, pydicom's own decoder gives the mask back."""
    assert np.array_equal(decoded([mask], "pydicom")[0], mask * np.uint8(255))


@pytest.fixture
def awkward() -> list[np.ndarray]:
    """Runs around 128, single pixels, full rows and noise, in frames of an odd size."""
    rng = np.random.default_rng(3)
    masks = [np.zeros((9, 975), dtype=np.bool_) for _ in range(3)]
    for row, length in enumerate((1, 2, 127, 128, 129, 255, 256, 257, 975)):
        masks[0][row, :length] = True
        masks[1][row, -length:] = True
    masks[2] = rng.random((9, 975)) < 0.5
    return masks


@pytest.mark.parametrize("plugin", ["pydicom", "pylibjpeg"])
def test_decoders_agree(plugin: str, awkward: list[np.ndarray]) -> None:
    """Two decoders give the masks back."""
    assert np.array_equal(decoded(awkward, plugin), np.stack(awkward) * np.uint8(255))


def test_dcmtk_agrees(awkward: list[np.ndarray], tmp_path: Path) -> None:
    """dcmdrle gives the masks back."""
    encoded(awkward).save_as(tmp_path / "rle.dcm", enforce_file_format=True)
    subprocess.run(  # noqa: S603 -- a fixed program on files of the test's own
        [judge("dcmdrle"), str(tmp_path / "rle.dcm"), str(tmp_path / "plain.dcm")], check=True
    )
    plain = dcmread(tmp_path / "plain.dcm").pixel_array
    assert np.array_equal(plain, np.stack(awkward) * np.uint8(255))

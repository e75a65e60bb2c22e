"""JPEG Extended with 12 bits a sample (1.2.840.10008.1.2.4.51, Process 4), a frame at a time.

pydicom hands this to none of its plug-ins; gdcm decodes it, and to the same pixels as dcmtk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import gdcm  # type: ignore[import-untyped]  # no stubs
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from imaging.dicom.header import number_of_frames
from imaging.errors import UnreadableFile


def iter_twelve_bit(path: Path, ds: Dataset, frames: Sequence[int]) -> Iterator[NDArray[np.uint16]]:
    """The frames (rows, columns) uint16 asked for, in rising order.

    Raises UnreadableFile for a frame that gdcm cannot decode or whose size is not the header's.
    """
    count, wanted = number_of_frames(ds), set(frames)
    whole = dcmread(path, specific_tags=["PixelData"], defer_size="1 MB")
    for index, encoded in enumerate(generate_frames(whole.PixelData, number_of_frames=count)):
        if index in wanted:
            yield _decode(encoded, rows=int(ds.Rows), columns=int(ds.Columns))


def _decode(encoded: bytes, *, rows: int, columns: int) -> NDArray[np.uint16]:
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(encoded)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2)
    )
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, 0))
    # gdcm gives a char* as str.
    data = image.GetBuffer().encode("utf-8", "surrogateescape")
    if len(data) != rows * columns * 2:
        raise UnreadableFile(
            "A 12-bit JPEG frame is not of the size that the header says.",
            remedy="Export the image again from the scanner or PACS.",
        )
    return np.frombuffer(data, dtype="<u2").reshape(rows, columns)

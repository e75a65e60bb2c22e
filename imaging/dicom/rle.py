"""RLE Lossless (PS3.5 annex G): every toolkit decodes it, and no pixel changes."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import RLELossless

from imaging.arrays import BoolMask, ColourImage, GreyImage

PLUGIN = "pylibjpeg"
"""Not gdcm: its RLE encoder aborts the process on noisy pictures that grow when encoded."""


def set_pixels(ds: Dataset, frames: Iterable[GreyImage | ColourImage]) -> None:
    """Puts 8-bit frames into a data set whose image module is complete; to be written as RLE."""
    encoder = get_encoder(RLELossless)
    encoded = [
        encoder.encode(
            np.ascontiguousarray(frame),
            encoding_plugin=PLUGIN,
            rows=ds.Rows,
            columns=ds.Columns,
            samples_per_pixel=ds.SamplesPerPixel,
            photometric_interpretation=ds.PhotometricInterpretation,
            planar_configuration=0,
            bits_allocated=8,
            bits_stored=8,
            pixel_representation=0,
            number_of_frames=1,
        )
        for frame in frames
    ]
    ds.PixelData = encapsulate(encoded)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True


def set_masks(ds: Dataset, masks: Iterable[BoolMask]) -> None:
    """Puts masks into a data set as frames of 0 and 255; by their runs, which are few a row."""
    ds.PixelData = encapsulate([_encoded_mask(mask) for mask in masks])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True


def _encoded_mask(mask: BoolMask) -> bytes:
    """One segment behind its header (G.5); no run goes on into the next row (G.3.1)."""
    rows, columns = mask.shape
    blank = _run(columns, 0)
    encoded = [blank] * rows
    shown = np.flatnonzero(mask.any(axis=1))
    part = mask[shown]
    of_row, at = np.nonzero(part[:, 1:] != part[:, :-1])
    changes = (at + 1).tolist()
    begins = np.searchsorted(of_row, np.arange(len(shown) + 1)).tolist()
    starts = part[:, 0].tolist()
    for place, row in enumerate(shown.tolist()):
        ends = [0, *changes[begins[place] : begins[place + 1]], columns]
        value = 255 if starts[place] else 0
        runs = []
        for begin, end in pairwise(ends):
            runs.append(_run(end - begin, value))
            value = 255 - value
        encoded[row] = b"".join(runs)
    segment = b"".join(encoded)
    return struct.pack("<16I", 1, 64, *[0] * 14) + segment + b"\0" * (len(segment) % 2)


@lru_cache(maxsize=4096)
def _run(length: int, value: int) -> bytes:
    """So many bytes of one value: replicate runs of up to 128 (G.3.1), a single one literally."""
    whole, rest = divmod(length, 128)
    last = b"" if rest == 0 else bytes([0 if rest == 1 else 257 - rest, value])
    return bytes([129, value]) * whole + last

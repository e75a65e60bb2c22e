"""Damaged bytes of every kind: read, or refused in words; never anything else."""

from __future__ import annotations

import io
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from imaging.dicom.ultrasound import write_ultrasound
from imaging.errors import ImagingError
from imaging.limits import DecodeLimits
from imaging.read import peek, read_clip
from tests.imaging.conftest import FACTS, names, scale

SMALL = DecodeLimits(max_decoded_bytes=64 * 2**20)
FRAMES = [np.random.default_rng(k).integers(0, 256, (24, 32), dtype=np.uint8) for k in (1, 2)]

DAMAGE = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(["set", "marks", "cut", "repeat"]),
        st.integers(0, 255),
        st.integers(1, 40),
    ),
    min_size=1,
    max_size=6,
)
MARKS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xfe\xff\x00\xe0", b"\xff\xff\xff\x7f")


@cache
def sound(kind: str) -> bytes:
    """An undamaged file of this kind."""
    buffer = io.BytesIO()
    if kind in ("PNG", "TIFF", "BMP", "JPEG"):
        Image.fromarray(FRAMES[0]).save(buffer, format=kind)
        return buffer.getvalue()
    data = write_ultrasound(FRAMES, facts=FACTS, instance=names("damage"), calibration=scale())
    if kind == "native":
        return data
    ds = dcmread(io.BytesIO(data))
    if kind == "rle":
        ds.compress(RLELossless, encoding_plugin="pylibjpeg")
    else:
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.save_as(buffer)
    return buffer.getvalue()


def damaged(data: bytes, damage: list[tuple[float, str, int, int]]) -> bytes:
    broken = bytearray(data)
    for place, kind, value, length in damage:
        # Headers come first and matter most: squaring puts most of the damage there.
        at = int(place**2 * (len(broken) - 1))
        if kind == "set":
            broken[at] = value
        elif kind == "marks":
            broken[at : at + 4] = MARKS[value % len(MARKS)]
        elif kind == "cut" and len(broken) > length + 1:
            del broken[at : at + length]
        else:
            broken[at:at] = broken[at : at + length]
    return bytes(broken)


@pytest.mark.parametrize("kind", ["native", "rle", "deflated", "PNG", "TIFF", "BMP", "JPEG"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=DAMAGE)
def test_a_damaged_file_is_read_or_refused(
    kind: str, damage: list[tuple[float, str, int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(damaged(sound(kind), damage))
        for read in (peek, read_clip):
            with suppress(ImagingError):
                read(path, name="file", limits=SMALL)

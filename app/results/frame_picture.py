"""A stored frame as a picture; apart from the reports, so that whoever draws it is soon ready."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from app.errors import NotFound
from app.store.records import FileRecord
from imaging.limits import DecodeLimits
from imaging.mask import grey_png
from imaging.read import read_clip


def located(files: Sequence[FileRecord], number: int) -> tuple[FileRecord, int]:
    """The file of a frame that is counted over all files from 0, and its number there.

    Raises NotFound.
    """
    left = number
    for file in files:
        if left < file.facts["frame_count"]:
            return file, left
        left -= file.facts["frame_count"]
    held = number - left
    raise NotFound(
        f"There is no frame {number}: the analysis has {held}.",
        remedy=f"Frames are counted from 0 to {held - 1} over all files.",
    )


def frame_png(path: str, name: str, frame: int, limits: DecodeLimits) -> bytes:
    """A frame of a file as it is segmented, 8-bit grey PNG. Raises ImagingError."""
    clip = read_clip(Path(path), name=name, frames=[frame], limits=limits)
    return grey_png(clip.frames[0].pixels)

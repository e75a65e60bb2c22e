"""The one front door: a file of any kind to a `Clip`, by its content, never by its name."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from imaging.dicom.preamble import check_one_kind, second_kind
from imaging.dicom.read import facts_of_dicom, looks_like_dicom, read_dicom
from imaging.errors import ImagingError, UnreadableFile, said
from imaging.frame import Clip, FileFacts
from imaging.limits import DecodeLimits
from imaging.plain import facts_of_plain, read_plain
from imaging.video import facts_of_video, looks_like_video, read_video

__all__ = ["DecodeLimits", "peek", "read_clip"]

HEAD_BYTES = 132
PLAIN_MAGICS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"BM")


def read_clip(
    path: Path, *, name: str, frames: Sequence[int] | None = None, limits: DecodeLimits
) -> Clip:
    """The clip in a file, the 0-based `frames` of it decoded, one at a time (None: all).

    `name` is what the sender calls the file; messages use it. Sizes are checked before anything
    is decoded. Raises UnreadableFile, UnsupportedSyntax, NotUltrasound or TooLarge.
    """
    with _refusing(name):
        kind = _kind_of(path, name, limits)
        if kind == "dicom":
            return read_dicom(path, name=name, frames=frames, limits=limits)
        if kind == "video":
            return read_video(path, name=name, frames=frames, limits=limits)
        return read_plain(path, name=name, frames=frames, limits=limits)


def peek(path: Path, *, name: str, limits: DecodeLimits) -> FileFacts:
    """What the header says, no pixel decoded; raises what `read_clip` would raise for it."""
    with _refusing(name):
        kind = _kind_of(path, name, limits)
        if kind == "dicom":
            return facts_of_dicom(path, name, limits)
        if kind == "video":
            return facts_of_video(path, name, limits)
        return facts_of_plain(path, name, limits)


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Turns whatever a reader of foreign bytes trips over into UnreadableFile.

    The readers check by name what matters; the libraries below them raise what they like, and
    warn about headers that are odd but usable.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except ImagingError:
        raise
    except Exception as error:
        raise UnreadableFile(
            f"{name} cannot be read: {said(error)}",
            remedy="Export the image again from the scanner or PACS; this copy is damaged.",
        ) from error


def _kind_of(path: Path, name: str, limits: DecodeLimits) -> Literal["dicom", "video", "picture"]:
    limits.check_file(name, path.stat().st_size)
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if looks_like_dicom(head):
        check_one_kind(second_kind(head), name)
        return "dicom"
    if looks_like_video(head):
        return "video"
    if head.startswith(PLAIN_MAGICS):
        return "picture"
    raise UnreadableFile(
        f"{name} is neither DICOM nor a picture or video that is known here.",
        remedy="Send DICOM ultrasound, or PNG, JPEG, TIFF, BMP, MP4 or AVI.",
    )

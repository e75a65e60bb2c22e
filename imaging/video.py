"""Video clips (MP4, AVI) to grey frames, in order and one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from imaging.arrays import ColourImage
from imaging.errors import UnreadableFile
from imaging.frame import Clip, FileFacts, FrameSource, grey_frame
from imaging.limits import DecodeLimits

NO_SCALE = "A video carries no scale."
DAMAGED = "Export the clip again, as MP4 (H.264) or as DICOM."


def looks_like_video(head: bytes) -> bool:
    """True for the first 12 bytes or more of an MP4, MOV or AVI file."""
    return head[4:8] == b"ftyp" or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")


def facts_of_video(path: Path, name: str, limits: DecodeLimits) -> FileFacts:
    """What the container says; raises UnreadableFile and TooLarge as `read_video` does."""
    with _opened(path, name) as capture:
        stream = _stream(capture, path, name, limits)
    return FileFacts(
        file=name,
        media="plain",
        rows=stream.rows,
        columns=stream.columns,
        frame_count=stream.frames,
        identity=None,
        transfer_syntax_uid=None,
        has_calibration=False,
    )


def read_video(
    path: Path, *, name: str, frames: Sequence[int] | None, limits: DecodeLimits
) -> Clip:
    """The clip of a video file, the 0-based `frames` of it decoded (None: all).

    Raises UnreadableFile for streams that cannot be decoded or that end before a frame that was
    asked for, TooLarge over the limits.
    """
    with _opened(path, name) as capture:
        stream = _stream(capture, path, name, limits)
    wanted = None if frames is None else sorted(set(frames))
    found = tuple(
        grey_frame(
            colour,
            source=FrameSource(file=name, frame=index),
            time_s=index / stream.per_second if stream.per_second > 0 else None,
        )
        for index, colour in iter_video(path, wanted, name=name, most=limits.max_frames)
    )
    if wanted is not None and len(found) != len(wanted):
        raise UnreadableFile(
            f"{name} has no frame {wanted[-1]}, or ends before it.",
            remedy="Frames are counted from 0; choose one that the file has.",
        )
    if not found and wanted is None:
        raise UnreadableFile(f"No frame of {name} can be decoded.", remedy=DAMAGED)
    return Clip(
        file=name,
        frames=found,
        frame_count=len(found) if wanted is None else stream.frames,
        rows=found[0].pixels.shape[0] if found else stream.rows,
        columns=found[0].pixels.shape[1] if found else stream.columns,
        calibration=None,
        calibration_problem=NO_SCALE,
        region=None,
        identity=None,
        media="plain",
    )


def iter_video(
    path: Path, frames: Sequence[int] | None, *, name: str, most: int
) -> Iterator[tuple[int, ColourImage]]:
    """(0-based frame, RGB (rows, columns, 3) uint8) of the frames asked for, at most `most` read.

    Frames are decoded from the start, never sought: seeking is exact in no container.
    """
    wanted = None if frames is None else set(frames)
    last = most - 1 if wanted is None else max(wanted, default=-1)
    with _opened(path, name) as capture:
        for index in range(min(last, most - 1) + 1):
            if not capture.grab():
                return
            if wanted is None or index in wanted:
                done, picture = capture.retrieve()
                if not done or picture is None:
                    return
                yield index, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stream:
    rows: int
    columns: int
    frames: int
    per_second: float


@contextmanager
def _opened(path: Path, name: str) -> Iterator[cv2.VideoCapture]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise UnreadableFile(f"{name} is no video that can be decoded.", remedy=DAMAGED)
        yield capture
    finally:
        capture.release()


def _stream(capture: cv2.VideoCapture, path: Path, name: str, limits: DecodeLimits) -> _Stream:
    stream = _Stream(
        rows=int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        columns=int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        frames=max(1, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))),
        per_second=float(capture.get(cv2.CAP_PROP_FPS)),
    )
    limits.check_size(
        name,
        rows=stream.rows,
        columns=stream.columns,
        frames=stream.frames,
        bytes_per_pixel=1,
        # A video codec may well show a still picture for minutes: no ratio is held against it.
        encoded_bytes=max(path.stat().st_size, limits.max_decoded_bytes),
    )
    return stream

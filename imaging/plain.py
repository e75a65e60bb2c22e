"""Plain pictures (PNG, JPEG, TIFF, BMP) to grey frames: no patient, no scale of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from imaging.arrays import ColourImage, GreyImage
from imaging.errors import TooLarge, UnreadableFile, said
from imaging.frame import Clip, FileFacts, FrameSource, grey_frame
from imaging.limits import DecodeLimits

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
NO_SCALE = "A plain picture carries no scale."


def facts_of_plain(path: Path, name: str, limits: DecodeLimits) -> FileFacts:
    """What the picture's header says; raises UnreadableFile and TooLarge as `read_plain` does."""
    with _open(path, name, limits) as image:
        return FileFacts(
            file=name,
            media="plain",
            rows=image.height,
            columns=image.width,
            frame_count=_frames(image, limits.max_frames),
            identity=None,
            transfer_syntax_uid=None,
            has_calibration=False,
        )


def read_plain(
    path: Path, *, name: str, frames: Sequence[int] | None, limits: DecodeLimits
) -> Clip:
    """The clip of a plain picture, each page of a TIFF a frame.

    Raises UnreadableFile for other formats and damaged files, TooLarge over the limits.
    """
    with _open(path, name, limits) as image:
        count = _frames(image, limits.max_frames)
        wanted = sorted(set(range(count) if frames is None else frames))
        if wanted and not 0 <= wanted[0] <= wanted[-1] < count:
            raise UnreadableFile(
                f"{name} has {count} frames (0 to {count - 1}); {wanted[-1]} is not one of them.",
                remedy="Frames are counted from 0; choose one that the file has.",
            )
        pages = tuple(
            grey_frame(
                _page(image, index, path, name, limits),
                source=FrameSource(file=name, frame=index),
            )
            for index in wanted
        )
        rows, columns = image.height, image.width
    return Clip(
        file=name,
        frames=pages,
        frame_count=count,
        rows=rows,
        columns=columns,
        calibration=None,
        calibration_problem=NO_SCALE,
        region=None,
        identity=None,
        media="plain",
    )


@contextmanager
def _open(path: Path, name: str, limits: DecodeLimits) -> Iterator[Image.Image]:
    """The picture with its size checked, nothing decoded yet."""
    with path.open("rb") as file:
        try:
            image = Image.open(file, formats=FORMATS)
            frames = _frames(image, limits.max_frames)
        except Image.DecompressionBombError:
            raise TooLarge(
                f"{name} claims more pixels than any ultrasound picture has.",
                remedy="Send the picture in its original size.",
            ) from None
        except Exception as error:
            raise UnreadableFile(
                f"{name} is no picture that can be read: {said(error)}",
                remedy="Send DICOM, PNG, JPEG, TIFF or BMP.",
            ) from None
        _check_size(image, frames, path, name, limits)
        yield image


def _check_size(
    image: Image.Image, frames: int, path: Path, name: str, limits: DecodeLimits
) -> None:
    limits.check_size(
        name,
        rows=image.height,
        columns=image.width,
        frames=frames,
        bytes_per_pixel=len(image.getbands()),
        encoded_bytes=path.stat().st_size,
    )


def _frames(image: Image.Image, most: int) -> int:
    """The pages of a TIFF, counted to one more than `most`; 1 for the other formats."""
    if image.format != "TIFF":
        return 1
    count = 1
    with suppress(EOFError):
        while count <= most:
            image.seek(count)
            count += 1
    image.seek(0)
    return count


def _page(
    image: Image.Image, index: int, path: Path, name: str, limits: DecodeLimits
) -> GreyImage | ColourImage:
    try:
        image.seek(index)
        # A page may say another size than the first one, whose size was checked.
        _check_size(image, 1, path, name, limits)
        image.load()
    except TooLarge:
        raise
    except Exception as error:
        raise UnreadableFile(
            f"{name} is cut off or damaged: {said(error)}", remedy="Export the picture again."
        ) from None
    return _shown(image)


def _shown(image: Image.Image) -> GreyImage | ColourImage:
    """8-bit grey or RGB; deeper grey over the range of its type; what is transparent is black."""
    if image.mode == "L" and "transparency" not in image.info:
        return np.array(image)
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        deep = np.asarray(image).astype(np.int64)
        return (np.clip(deep, 0, 65_535) // 257).astype(np.uint8)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        ground = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))

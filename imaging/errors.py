"""What can be wrong with pixels, files and scales: one tree, no HTTP numbers.

Every message is for a sonographer: what was wrong, and the way out. `code` is stable and
machine-readable; `api/problems.py` maps it to a problem document.

    ImagingError
    ├── UnreadableFile        empty, truncated, not an image, header that lies
    │   └── UnsupportedSyntax     a transfer syntax or colour model nobody here decodes
    ├── NotUltrasound         an image, but not of an ultrasound SOP class
    ├── UnknownClass          a DICOM object of no storage SOP class of the standard
    ├── NotThere              a frame or value that a stored object has not
    ├── TooLarge              over a limit, told before any decoding
    ├── PictureNotFound       nothing tells the ultrasound from the writing around it
    └── CalibrationRefused    a scale was given or stored, and it cannot be true
"""

from __future__ import annotations

import re
from typing import ClassVar


class ImagingError(Exception):
    """A file, frame or scale that cannot be used, with the way out in `remedy`."""

    code: ClassVar[str] = "imaging_error"

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross the process boundary from a decoding worker: rebuild with the keyword.
        return (_rebuild, (type(self), self.message, self.remedy))


def _rebuild(kind: type[ImagingError], message: str, remedy: str) -> ImagingError:
    return kind(message, remedy=remedy)


class UnreadableFile(ImagingError):
    """The bytes are no image that can be decoded."""

    code = "unreadable_file"


class UnsupportedSyntax(UnreadableFile):
    """The transfer syntax or colour model has no decoder here."""

    code = "unsupported_syntax"


class NotUltrasound(ImagingError):
    """A DICOM object, but not an ultrasound image."""

    code = "not_ultrasound"


class UnknownClass(ImagingError):
    """A DICOM object of a class that is not stored here."""

    code = "unknown_class"


class NotThere(ImagingError):
    """A frame, picture or value that a stored object does not have."""

    code = "not_there"


class TooLarge(ImagingError):
    """A size over its limit, found before decoding."""

    code = "too_large"


class PictureNotFound(ImagingError):
    """Where the ultrasound ends and the screen's writing begins cannot be told."""

    code = "picture_not_found"


class CalibrationRefused(ImagingError):
    """A scale that cannot be true, or two that contradict each other."""

    code = "calibration_refused"


def said(error: BaseException) -> str:
    """A library's own words in one line, without what they quote: it may be a patient's name."""
    # From the first mark to the last: quotes stand within quotes. An apostrophe begins none.
    quoted = r"""(?<!\w)b?['"].*['"]|(?<!\w)b?['"].*"""
    plain = re.sub(quoted, "…", str(error), flags=re.DOTALL)
    return (plain.splitlines() or [type(error).__name__])[0][:200]

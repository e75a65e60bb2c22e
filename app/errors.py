"""What can be wrong with a request as a whole: one tree, no HTTP numbers.

`code` is stable and machine-readable, `remedy` is the way out for the sonographer;
`api/problems.py` maps both to a problem document.

    AppError
    ├── RequestConflict       the request contradicts itself or the images
    │   ├── MixedPatients         images of two patients in one request
    │   └── FrameNotFound         a frame, click or outline that no uploaded file has
    └── NoObject              an object that cannot be made from this analysis
"""

from __future__ import annotations

from typing import ClassVar


class AppError(Exception):
    """A request that cannot be carried out, with the way out in `remedy`."""

    code: ClassVar[str] = "app_error"

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross the process boundary from a worker: rebuild with the keyword.
        return (_rebuild, (type(self), self.message, self.remedy))


def _rebuild(kind: type[AppError], message: str, remedy: str) -> AppError:
    return kind(message, remedy=remedy)


class RequestConflict(AppError):
    """The request contradicts itself or the images that came with it."""

    code = "request_conflict"


class MixedPatients(RequestConflict):
    """Images of more than one patient in one request."""

    code = "mixed_patients"


class FrameNotFound(RequestConflict):
    """The request names a file or frame that was not uploaded."""

    code = "frame_not_found"


class NoObject(AppError):
    """The object asked for cannot be made from this analysis."""

    code = "no_object"

"""What can be wrong with weights.

ModelError
├── WeightsMissing    no file there, or no card beside it
└── WeightsRefused    the file is not the one that the card describes
"""

from __future__ import annotations

from typing import ClassVar


class ModelError(Exception):
    """The network cannot be used; `remedy` says the way out."""

    code: ClassVar[str] = "model_error"

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross the process boundary from a worker: rebuild with the keyword.
        return (_rebuild, (type(self), self.message, self.remedy))


def _rebuild(kind: type[ModelError], message: str, remedy: str) -> ModelError:
    return kind(message, remedy=remedy)


class WeightsMissing(ModelError):
    """A weights file or its card is not there."""

    code = "weights_missing"


class WeightsRefused(ModelError):
    """A weights file that does not match its card: changed, cut off or of another network."""

    code = "weights_refused"

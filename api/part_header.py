"""The one header of a multipart part that is wanted, read while the bytes come in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.problems import EdgeProblem

if TYPE_CHECKING:  # the name is there for type checkers alone
    from python_multipart.multipart import MultipartCallbacks

MAX_PART_HEADER_BYTES = 8192


class PartHeader:
    """The value of a named header of the part that is being read; all headers are counted."""

    def __init__(self, wanted: bytes) -> None:
        self._wanted = wanted
        self._name = self._field = b""
        self._size = 0
        self.value = b""

    def callbacks(self) -> MultipartCallbacks:
        """What a parser calls for the header lines of a part. Raises EdgeProblem: bad_request."""
        return {
            "on_header_field": self._add_name,
            "on_header_value": self._add_value,
            "on_header_end": self._end,
        }

    def begin(self) -> None:
        """Forgets the part before."""
        self.value, self._size = b"", 0

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._field += data[start:end]

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > MAX_PART_HEADER_BYTES:
            raise broken("a part's header is too long")

    def _end(self) -> None:
        if self._name.lower() == self._wanted:
            self.value = self._field
        self._name = self._field = b""


def broken(why: str) -> EdgeProblem:
    """The refusal of a multipart body that does not hold together."""
    return EdgeProblem(
        "bad_request",
        f"The multipart body is broken: {why}.",
        remedy="Send the upload again; if it fails again, check the program that sends it.",
    )

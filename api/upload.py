"""A multipart upload, part by part to the disk: sizes are counted as the bytes come in.

Nothing is held in memory but the `request` part, nothing is decoded, and a body over a limit is
refused at the byte that goes over it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from api.part_header import PartHeader, broken
from api.problems import EdgeProblem
from app.intake.examine import Upload, harmless_name
from app.settings import Settings
from app.store.blobs import Blobs, Incoming
from imaging.errors import TooLarge

if TYPE_CHECKING:  # the name is there for type checkers alone
    from python_multipart.multipart import MultipartCallbacks

# It warns of every broken body, which is a refusal like others and no news for the log.
logging.getLogger("python_multipart").setLevel(logging.ERROR)
MEBIBYTE = 1024 * 1024
TEXT_PARTS = {"request": "request_json", "stored": "stored_json"}
"""Parts that are JSON, and where they go."""


@dataclass(slots=True)
class Received:
    """The parts of an upload; leaving its context forgets every file that was not kept."""

    request_json: bytes | None = None
    stored_json: bytes | None = None
    uploads: list[Upload] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for upload in self.uploads:
            upload.incoming.discard()


async def receive(
    request: Request, received: Received, *, blobs: Blobs, settings: Settings
) -> None:
    """Fills `received` from the request's body.

    Raises TooLarge, DiskFull, and EdgeProblem: unsupported_media_type or bad_request.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary or len(boundary) > 200:
        raise EdgeProblem(
            "unsupported_media_type",
            "A study is sent as multipart/form-data.",
            remedy="Send a part `request` with the JSON and the images as parts `files`: "
            "curl -F 'request={…}' -F files=@image.dcm …",
        )
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > settings.max_body_bytes:
        raise too_large("The upload", settings.max_body_bytes)
    reader = _PartReader(received, blobs, settings)
    parser = MultipartParser(boundary, reader.callbacks())
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > settings.max_body_bytes:
                raise too_large("The upload", settings.max_body_bytes)
            parser.write(chunk)
        parser.finalize()
    except MultipartParseError as error:
        raise broken(str(error)) from None
    if not reader.ended:
        raise broken("it ends in the middle of a part")


class _PartReader:
    """The parser's callbacks: which part this is, and where its bytes go."""

    def __init__(self, received: Received, blobs: Blobs, settings: Settings) -> None:
        self._received, self._blobs, self._settings = received, blobs, settings
        self._header = PartHeader(b"content-disposition")
        self._text: bytearray | None = None
        self._text_part = ""
        self._file: Incoming | None = None
        self._file_name = ""
        self.ended = False

    def callbacks(self) -> MultipartCallbacks:
        return {
            **self._header.callbacks(),
            "on_part_begin": self._begin,
            "on_headers_finished": self._open,
            "on_part_data": self._data,
            "on_part_end": self._close,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._header.begin()
        self._text = self._file = None

    def _open(self) -> None:
        _, options = parse_options_header(self._header.value)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name in TEXT_PARTS and getattr(self._received, TEXT_PARTS[name]) is None:
            self._text, self._text_part = bytearray(), name
        elif name == "files":
            position = len(self._received.uploads) + 1
            if position > self._settings.max_files:
                raise TooLarge(
                    f"More than {self._settings.max_files} files came in one upload.",
                    remedy="Send the study as multi-frame clips, or in parts.",
                )
            sent = options.get(b"filename", b"").decode("utf-8", "replace")
            self._file_name = harmless_name(sent, position)
            self._file = self._blobs.incoming()
            self._received.uploads.append(Upload(name=self._file_name, incoming=self._file))
        else:
            raise EdgeProblem(
                "bad_request",
                f"The upload has a part named {name[:50]!r}, once or twice too often.",
                remedy="Send one part `request` with the JSON, and the images as parts `files`, or "
                "a part `stored` with the UIDs of stored ones.",
            )

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            if self._file.size_bytes + end - start > self._settings.max_file_bytes:
                raise too_large(self._file_name, self._settings.max_file_bytes)
            self._file.write(data[start:end])
        elif self._text is not None:
            if len(self._text) + end - start > self._settings.max_json_bytes:
                raise too_large(f"The part `{self._text_part}`", self._settings.max_json_bytes)
            self._text += data[start:end]

    def _close(self) -> None:
        if self._text is not None:
            setattr(self._received, TEXT_PARTS[self._text_part], bytes(self._text))

    def _end(self) -> None:
        self.ended = True


def too_large(what: str, most: int) -> TooLarge:
    return TooLarge(
        f"{what} is larger than the {most / MEBIBYTE:.0f} MiB that are allowed.",
        remedy="Send fewer frames, or a compressed transfer syntax.",
    )

"""multipart/related (RFC 2387), as DICOMweb uses it: parts in, straight to the disk; parts out.

Nothing of a part is held in memory; sizes are counted as the bytes come in.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request
from starlette.responses import StreamingResponse

from api.part_header import PartHeader, broken
from api.problems import EdgeProblem
from api.upload import too_large
from app.intake.examine import Upload
from app.settings import Settings
from app.store.blobs import Blobs
from imaging.errors import TooLarge

if TYPE_CHECKING:  # the name is there for type checkers alone
    from python_multipart.multipart import MultipartCallbacks

DICOM = "application/dicom"
BLOCK = 1 << 20
MAX_WAITING = 16
"""Blocks that came in and are not written yet."""


async def receive_objects(
    request: Request, uploads: list[Upload], *, blobs: Blobs, settings: Settings
) -> None:
    """Fills `uploads` with the DICOM objects of the body, each on the disk when its part ends.

    Raises TooLarge, DiskFull, and EdgeProblem: unsupported_media_type or bad_request.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    of = options.get(b"type", DICOM.encode()).lower()
    if kind.lower() != b"multipart/related" or of != DICOM.encode():
        raise EdgeProblem(
            "unsupported_media_type",
            "Instances are stored as multipart/related of application/dicom.",
            remedy='Send Content-Type: multipart/related; type="application/dicom"; boundary=…',
        )
    if not boundary or len(boundary) > 200:
        raise broken("its boundary is missing or too long")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > settings.max_body_bytes:
        raise too_large("The upload", settings.max_body_bytes)
    size = 0
    # Hashing and writing release the interpreter: a thread does both while the next bytes come.
    with ThreadPoolExecutor(1, "stow") as writer, ThreadPoolExecutor(2, "flush") as flusher:
        reader = _ObjectReader(uploads, blobs, settings, writer, flusher)
        parser = MultipartParser(boundary, reader.callbacks())
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > settings.max_body_bytes:
                    raise too_large("The upload", settings.max_body_bytes)
                parser.write(chunk)
                while len(reader.writing) > MAX_WAITING:
                    await asyncio.wrap_future(reader.writing.popleft())
            parser.finalize()
            if not reader.ended:
                raise broken("it ends in the middle of a part")
            for written in reader.writing:
                await asyncio.wrap_future(written)
            for flushed in reader.flushing:
                await asyncio.wrap_future(flushed)
        except MultipartParseError as error:
            raise broken(str(error)) from None


class _ObjectReader:
    """The parser's callbacks: each part becomes an upload."""

    def __init__(
        self,
        uploads: list[Upload],
        blobs: Blobs,
        settings: Settings,
        writer: Executor,
        flusher: Executor,
    ) -> None:
        self._uploads, self._blobs, self._settings = uploads, blobs, settings
        self._writer, self._flusher = writer, flusher
        self._header = PartHeader(b"content-type")
        self._size = self._gathered = 0
        self._pieces: list[bytes] = []
        self.writing: deque[Future[None]] = deque()
        self.flushing: list[Future[str]] = []
        self.ended = False

    def callbacks(self) -> MultipartCallbacks:
        return {
            **self._header.callbacks(),
            "on_part_begin": self._header.begin,
            "on_headers_finished": self._open,
            "on_part_data": self._data,
            "on_part_end": self._close,
            "on_end": self._end,
        }

    def _open(self) -> None:
        kind, _ = parse_options_header(self._header.value)
        if self._header.value and kind.lower() != DICOM.encode():
            raise EdgeProblem(
                "unsupported_media_type",
                f"A part is {kind[:60].decode('latin-1')!r}; every part is an object as "
                "application/dicom.",
                remedy="Send DICOM files (PS3.10) as they are, one a part.",
            )
        if len(self._uploads) >= self._settings.max_files:
            raise TooLarge(
                f"More than {self._settings.max_files} objects came in one request.",
                remedy="Send the study in several requests.",
            )
        name = f"instance {len(self._uploads) + 1}"
        self._uploads.append(Upload(name=name, incoming=self._blobs.incoming()))
        self._size = 0

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._size > self._settings.max_file_bytes:
            raise too_large(self._uploads[-1].name, self._settings.max_file_bytes)
        self._pieces.append(data[start:end])
        self._gathered += end - start
        if self._gathered >= BLOCK:
            self._write()

    def _write(self) -> None:
        incoming, pieces = self._uploads[-1].incoming, self._pieces
        self._pieces, self._gathered = [], 0

        def write() -> None:
            for piece in pieces:
                incoming.write(piece)

        self.writing.append(self._writer.submit(write))

    def _close(self) -> None:
        self._write()
        last, incoming = self.writing[-1], self._uploads[-1].incoming

        def finish() -> str:
            last.result()
            return incoming.finish()

        # The disk is waited for in another thread, while the next part comes in.
        self.flushing.append(self._flusher.submit(finish))

    def _end(self) -> None:
        self.ended = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of an answer: bytes, or a file that is read while it is sent."""

    media_type: str
    body: bytes | Path
    location: str | None = None

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.stat().st_size


def related(parts: Sequence[Part], *, kind: str) -> StreamingResponse:
    """The parts as one multipart/related answer of this media type, its length known beforehand."""
    boundary = secrets.token_hex(16)
    heads = [_head(part, boundary, number) for number, part in enumerate(parts)]
    end = f"\r\n--{boundary}--\r\n".encode()
    length = sum(len(head) + part.size for head, part in zip(heads, parts, strict=True)) + len(end)

    def body() -> Iterator[bytes]:
        for head, part in zip(heads, parts, strict=True):
            yield head
            if isinstance(part.body, bytes):
                yield part.body
            else:
                with part.body.open("rb") as file:
                    while block := file.read(BLOCK):
                        yield block
        yield end

    return StreamingResponse(
        body(),
        headers={
            "Content-Type": f'multipart/related; type="{kind}"; boundary={boundary}',
            "Content-Length": str(length),
        },
    )


def _head(part: Part, boundary: str, number: int) -> bytes:
    lead = "" if number == 0 else "\r\n"
    head = f"{lead}--{boundary}\r\nContent-Type: {part.media_type}\r\n"
    head += f"Content-Length: {part.size}\r\n"
    if part.location is not None:
        head += f"Content-Location: {part.location}\r\n"
    return f"{head}\r\n".encode()

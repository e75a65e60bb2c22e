"""Content-addressed files: a name is the SHA-256 of the bytes, so a name never changes its bytes.

A file arrives in `staging/`, is hashed while it is written, flushed to the disk and renamed into
its place in one step: a reader sees all of it or nothing, also after a power cut.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import BinaryIO, Self

from app.errors import DiskFull, NotFound
from imaging.dicom.preamble import second_kind, without_preamble

HEAD_BYTES = 132
FLUSHERS = 8
"""Threads that wait for the disk; none is made before a file is adopted."""
DIGEST = re.compile(r"[0-9a-f]{64}")


class Incoming:
    """A file that is still arriving; `path` can be looked at, `keep` makes it a blob."""

    second_kind: str | None = None
    """What a DICOM file was besides, before its preamble was emptied; None for a good one."""

    def __init__(self, staging: Path) -> None:
        handle, name = tempfile.mkstemp(dir=staging)
        self.path = Path(name)
        self.size_bytes = 0
        self._file: BinaryIO = os.fdopen(handle, "wb")
        self._hash = hashlib.sha256()
        self._head: bytes | None = b""

    def write(self, data: bytes) -> None:
        """Adds bytes to the end; what stands in a DICOM preamble is not kept."""
        self.size_bytes += len(data)
        if self._head is not None:
            self._head += data
            if len(self._head) < HEAD_BYTES:
                return
            data = self._whole_head()
        self._add(data)

    def _whole_head(self) -> bytes:
        head, self._head = self._head or b"", None
        self.second_kind = second_kind(head)
        return without_preamble(head)

    def _add(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)

    def finish(self) -> str:
        """The SHA-256 of what is kept; the bytes are on the disk."""
        if not self._file.closed:
            if self._head:
                self._add(self._whole_head())
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        return self._hash.hexdigest()

    def discard(self) -> None:
        """Forgets the file; nothing of it stays."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


class Adopted(Incoming):
    """A file that arrived by another way; it is flushed while others look at it."""

    def __init__(self, path: Path, flushing: ThreadPoolExecutor) -> None:
        self.path, self.size_bytes = path, path.stat().st_size
        self._file = path.open("rb")
        self._hash = hashlib.sha256()
        self._flushed = flushing.submit(os.fsync, self._file.fileno())

    def finish(self) -> str:
        """The SHA-256 of the file; its bytes are on the disk."""
        if not self._file.closed:
            while data := self._file.read(1 << 20):
                self._hash.update(data)
            self._flushed.result()
            self._file.close()
        return self._hash.hexdigest()

    def discard(self) -> None:
        """Forgets the file; nothing of it stays."""
        wait([self._flushed])
        super().discard()


class Blobs:
    """The files under one folder."""

    def __init__(self, root: Path, *, min_free_bytes: int = 0) -> None:
        self.root = root
        self.staging = root / "staging"
        self._min_free_bytes = min_free_bytes
        self.staging.mkdir(parents=True, exist_ok=True)
        self._flushing = ThreadPoolExecutor(FLUSHERS, thread_name_prefix="flush")

    def incoming(self) -> Incoming:
        """An empty file to write to. Raises DiskFull when the space runs out."""
        self.check_space()
        return Incoming(self.staging)

    def adopt(self, path: Path) -> Incoming:
        """A file that came into `staging` by another way, as one that arrived in full."""
        return Adopted(path, self._flushing)

    def check_space(self) -> None:
        """Raises DiskFull when less than the reserve is free."""
        if shutil.disk_usage(self.root).free < self._min_free_bytes:
            raise DiskFull(
                "The disk of the service is nearly full, so nothing new is stored.",
                remedy="Try again later; tell whoever runs the service that its disk is full.",
            )

    def keep(self, incoming: Incoming) -> str:
        """The SHA-256 under which the bytes are stored from now on, durable."""
        digest = incoming.finish()
        target = self._place(digest)
        if _freshened(target):
            incoming.path.unlink(missing_ok=True)
            return digest
        target.parent.mkdir(parents=True, exist_ok=True)
        incoming.path.chmod(0o440)
        incoming.path.replace(target)
        _flush_folder(target.parent)
        return digest

    def put(self, data: bytes) -> str:
        """The SHA-256 under which these bytes are stored, durable."""
        digest = hashlib.sha256(data).hexdigest()
        if _freshened(self._place(digest)):
            return digest
        with Incoming(self.staging) as incoming:
            incoming.write(data)
            return self.keep(incoming)

    def path(self, digest: str) -> Path:
        """Where the bytes lie. Raises NotFound when there are none of this name."""
        place = self._place(digest)
        if not place.is_file():
            raise NotFound(
                "The stored file is missing.",
                remedy="Tell whoever runs the service: `sonodose doctor` checks the store.",
            )
        return place

    def address(self, digest: str) -> str:
        """Where `fetched` finds the bytes, in another process. Raises NotFound."""
        return str(self.path(digest))

    def facts(self, digest: str) -> tuple[int, float]:
        """(size in bytes, when it was last stored, in seconds since 1970). Raises NotFound."""
        found = self.path(digest).stat()
        return found.st_size, found.st_mtime

    def read(self, digest: str) -> bytes:
        """The bytes. Raises NotFound when there are none of this name."""
        return self.path(digest).read_bytes()

    def delete(self, digest: str) -> None:
        """Removes a blob that nothing refers to any more."""
        self._place(digest).unlink(missing_ok=True)

    def digests(self) -> Iterator[str]:
        """Every stored blob's SHA-256."""
        for folder in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
            for file in sorted(folder.iterdir()):
                if DIGEST.fullmatch(file.name):
                    yield file.name

    def clear_staging(self, before: float) -> int:
        """How many uploads, last written to before that time, were forgotten: they never ended."""
        count = 0
        for leftover in self.staging.iterdir():
            with contextlib.suppress(OSError):
                if leftover.stat().st_mtime < before:
                    leftover.unlink()
                    count += 1
        return count

    def _place(self, digest: str) -> Path:
        # The one place where a name becomes a path: only a digest can.
        if not DIGEST.fullmatch(digest):
            raise ValueError(f"not a SHA-256: {digest!r}")
        return self.root / digest[:2] / digest


def _freshened(blob: Path) -> bool:
    """True if the blob exists; its age begins anew, so that no collection takes it meanwhile."""
    try:
        os.utime(blob)
    except FileNotFoundError:
        return False
    return True


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

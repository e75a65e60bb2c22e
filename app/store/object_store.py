"""Blobs in an object store (S3 and what speaks like it), under the same names as on a disk.

A file arrives on this machine's disk as ever, then is put in its place whole: a reader sees all of
it or nothing. What is read stays on the disk for a while. Keys and endpoints are the store's own
environment variables (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from app.analysis import SourceFile
from app.errors import DiskFull, NotFound
from app.settings import Settings
from app.store.blobs import DIGEST, Blobs, Incoming

FRESH_S = 1800.0
"""Half a collection's grace: what was put longer ago is put again, so that its age begins anew."""
IN_USE_S = 600.0
"""What was read so shortly ago is not taken from the disk."""


def open_blobs(settings: Settings) -> Blobs:
    """The site's files: a folder, or an object store by its URL."""
    if settings.blob_url is None:
        return Blobs(settings.blob_dir, min_free_bytes=settings.min_free_disk_bytes)
    return RemoteBlobs(
        settings.blob_url,
        settings.blob_dir,
        min_free_bytes=settings.min_free_disk_bytes,
        cache_bytes=settings.blob_cache_bytes,
    )


class RemoteBlobs(Blobs):
    """The files under one URL; `root` is where they arrive and where those in use lie."""

    def __init__(self, url: str, root: Path, *, min_free_bytes: int, cache_bytes: int) -> None:
        super().__init__(root, min_free_bytes=min_free_bytes)
        self.url, self._store = url.rstrip("/"), _store(url.rstrip("/"))
        self._cache_bytes, self._added_bytes = cache_bytes, cache_bytes

    def check_space(self) -> None:
        """Raises DiskFull when less than the reserve is free, copies of others' files aside."""
        try:
            super().check_space()
        except DiskFull:
            self._make_room(0)
            super().check_space()

    def keep(self, incoming: Incoming) -> str:
        """The SHA-256 under which the bytes are stored from now on, durable."""
        digest = incoming.finish()
        if not self._is_fresh(digest):
            # In parts where it is large; it is there when the last of them is.
            self._store.put(_key(digest), incoming.path)
        # It is looked at soon, by whoever makes the analysis.
        place = self._place(digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        incoming.path.replace(place)
        self._count(incoming.size_bytes)
        return digest

    def put(self, data: bytes) -> str:
        """The SHA-256 under which these bytes are stored, durable."""
        with Incoming(self.staging) as incoming:
            incoming.write(data)
            return self.keep(incoming)

    def path(self, digest: str) -> Path:
        """Where a copy of the bytes lies. Raises NotFound when there are none of this name."""
        place = self._place(digest)
        with contextlib.suppress(FileNotFoundError):
            os.utime(place)
            return place
        place.parent.mkdir(parents=True, exist_ok=True)
        _fetch(self._store, digest, place)
        self._count(place.stat().st_size)
        return place

    def address(self, digest: str) -> str:
        """Where `fetched` finds the bytes, on any machine."""
        if not DIGEST.fullmatch(digest):
            raise ValueError(f"not a SHA-256: {digest!r}")
        return f"{self.url}#{digest}"

    def facts(self, digest: str) -> tuple[int, float]:
        """(size in bytes, when it was last stored, in seconds since 1970). Raises NotFound."""
        try:
            found = self._store.head(_key(digest))
        except FileNotFoundError as missing:
            raise _missing() from missing
        return found["size"], found["last_modified"].timestamp()

    def delete(self, digest: str) -> None:
        """Removes a blob that nothing refers to any more."""
        self._store.delete(_key(digest))
        super().delete(digest)

    def digests(self) -> Iterator[str]:
        """Every stored blob's SHA-256."""
        for chunk in self._store.list():
            for found in chunk:
                name = found["path"].rpartition("/")[2]
                if DIGEST.fullmatch(name):
                    yield name

    def _is_fresh(self, digest: str) -> bool:
        with contextlib.suppress(NotFound):
            return time.time() - self.facts(digest)[1] < FRESH_S
        return False

    def _count(self, size_bytes: int) -> None:
        # A look at all copies takes its time: after each quarter of the limit, not at each file.
        self._added_bytes += size_bytes
        if self._added_bytes > self._cache_bytes / 4:
            self._added_bytes = 0
            self._make_room(self._cache_bytes)

    def _make_room(self, limit_bytes: int) -> None:
        """Takes the copies from the disk that nobody read for longest, down to the limit."""
        copies = []
        for digest in super().digests():
            with contextlib.suppress(FileNotFoundError):
                found = self._place(digest).stat()
                copies.append((found.st_mtime, found.st_size, digest))
        size = sum(each[1] for each in copies)
        for used_at, bytes_, digest in sorted(copies):
            if size <= limit_bytes or time.time() - used_at < IN_USE_S:
                return
            super().delete(digest)
            size -= bytes_


@contextlib.contextmanager
def fetched(sources: Sequence[SourceFile]) -> Iterator[tuple[SourceFile, ...]]:
    """The files on this machine's disk: those of an object store are here until the end."""
    if not any("://" in source.path for source in sources):
        yield tuple(sources)
        return
    with tempfile.TemporaryDirectory(prefix="sonodose-") as folder:
        yield tuple(_local(source, Path(folder)) for source in sources)


def _local(source: SourceFile, folder: Path) -> SourceFile:
    url, _, digest = source.path.partition("#")
    place = folder / digest
    if not place.exists():
        _fetch(_store(url), digest, place)
    return replace(source, path=str(place))


@cache
def _store(url: str) -> Any:
    # Only who uses an object store has its library.
    from obstore.store import from_url

    return from_url(url, client_options={"allow_http": True, "timeout": "60s"})


def _fetch(store: Any, digest: str, place: Path) -> None:
    """Copies the bytes, a piece at a time, to a file that is there whole or not at all."""
    try:
        answer = store.get(_key(digest))
    except FileNotFoundError as missing:
        raise _missing() from missing
    handle, name = tempfile.mkstemp(dir=place.parent)
    with os.fdopen(handle, "wb") as file:
        for piece in answer.stream(min_chunk_size=1 << 20):
            file.write(piece)
    Path(name).replace(place)


def _key(digest: str) -> str:
    if not DIGEST.fullmatch(digest):
        raise ValueError(f"not a SHA-256: {digest!r}")
    return f"{digest[:2]}/{digest}"


def _missing() -> NotFound:
    return NotFound(
        "The stored file is missing.",
        remedy="Tell whoever runs the service: `sonodose doctor` checks the store.",
    )

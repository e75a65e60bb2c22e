"""Blobs in a real S3 server behave as blobs on a disk."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.analysis import SourceFile
from app.errors import NotFound
from app.store.object_store import RemoteBlobs, fetched
from tests import cluster


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with cluster.object_store() as found:
        yield found


@pytest.fixture
def blobs(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> RemoteBlobs:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return RemoteBlobs(
        f"s3://sonodose/{tmp_path.name}", tmp_path / "one", min_free_bytes=0, cache_bytes=0
    )


def test_a_blob_is_named_by_its_bytes_and_found_elsewhere(
    blobs: RemoteBlobs, tmp_path: Path
) -> None:
    """What one machine stored another reads: whole, once for its bytes, by its name."""
    data = bytes(range(256)) * 100_000
    digest = blobs.put(data)
    assert digest == hashlib.sha256(data).hexdigest() == blobs.put(data)
    assert list(blobs.digests()) == [digest]
    assert list(blobs.staging.iterdir()) == []
    other = RemoteBlobs(blobs.url, tmp_path / "two", min_free_bytes=0, cache_bytes=0)
    assert other.read(digest) == data
    size_bytes, stored_at = other.facts(digest)
    assert size_bytes == len(data)
    assert abs(time.time() - stored_at) < 60


def test_a_worker_has_the_file_while_it_works(blobs: RemoteBlobs) -> None:
    """A task's files are on the worker's disk under their names, and gone after it."""
    digest = blobs.put(b"frames")
    with fetched([SourceFile(path=blobs.address(digest), name="still.dcm")]) as (source,):
        place = Path(source.path)
        assert (place.read_bytes(), source.name) == (b"frames", "still.dcm")
    assert not place.exists()


def test_copies_make_room_and_come_back(
    blobs: RemoteBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over its limit a copy leaves the disk once nobody uses it, and is fetched again."""
    with monkeypatch.context() as nobody_reads:
        nobody_reads.setattr("app.store.object_store.IN_USE_S", -1.0)
        first, second = blobs.put(b"one"), blobs.put(b"two")
    assert not (blobs.root / first[:2] / first).exists()
    assert (blobs.read(first), blobs.read(second)) == (b"one", b"two")


def test_a_deleted_and_a_missing_blob_are_told(blobs: RemoteBlobs) -> None:
    """Neither is found, on the store or among the copies; only a digest is a name."""
    digest = blobs.put(b"gone")
    blobs.delete(digest)
    for look in (blobs.read, blobs.facts):
        with pytest.raises(NotFound):
            look(digest)
    for look in (blobs.path, blobs.address, blobs.facts):
        with pytest.raises(ValueError, match="SHA-256"):
            look("../../etc/passwd")

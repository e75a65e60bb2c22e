"""Stored frames as pictures."""

from __future__ import annotations

import pytest

from app.errors import NotFound
from app.results.frame_picture import located
from app.store.records import FileRecord


def test_frames_are_counted_over_all_files() -> None:
    """Frame 6 of a five-frame file is frame 1 of the next; after the last there is none."""
    files = [
        FileRecord(
            name=name, sha256=name, size_bytes=1, facts={"frame_count": 5}, conflicts_with=None
        )
        for name in ("a", "b")
    ]
    assert located(files, 4) == (files[0], 4)
    assert located(files, 6) == (files[1], 1)
    with pytest.raises(NotFound, match="has 10") as refused:
        located(files, 10)
    assert "0 to 9" in refused.value.remedy

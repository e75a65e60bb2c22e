from __future__ import annotations

import numpy as np

from imaging.phantom import SweepPhantom
from imaging.quality import grade


def test_a_phantom_s_frame_can_be_used(phantom: SweepPhantom) -> None:
    assert all(grade(frame).usable for frame in phantom.frames)


def test_a_frame_of_one_grey_is_blank() -> None:
    found = grade(np.full((50, 50), 40, dtype=np.uint8))
    assert not found.usable
    assert found.reason is not None
    assert "blank" in found.reason


def test_a_white_frame_is_saturated() -> None:
    grey = np.full((50, 50), 255, dtype=np.uint8)
    grey[:20] = 90
    assert "saturated" in (grade(grey).reason or "")


def test_a_frame_lit_only_near_the_probe_had_no_contact() -> None:
    grey = np.zeros((80, 50), dtype=np.uint8)
    grey[:12] = 160
    grey[::9] += 5
    assert "contact" in (grade(grey).reason or "")

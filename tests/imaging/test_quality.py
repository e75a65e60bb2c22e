from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from imaging.phantom import SweepPhantom
from imaging.quality import grade
from imaging.read import read_clip
from tests.imaging.conftest import LIMITS


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


def test_colour_doppler_over_the_tissue_is_told_and_refused(
    phantom: SweepPhantom, tmp_path: Path
) -> None:
    colour = np.repeat(phantom.frames[0][:, :, None], 3, axis=2)
    Image.fromarray(colour).save(tmp_path / "plain.png")
    colour[150:190, 150:250] = (230, 40, 20)
    Image.fromarray(colour).save(tmp_path / "doppler.png")
    plain = read_clip(tmp_path / "plain.png", name="p", limits=LIMITS).frames[0]
    doppler = read_clip(tmp_path / "doppler.png", name="d", limits=LIMITS).frames[0]
    assert plain.colour_share == 0
    assert doppler.colour_share > 0.02
    assert grade(plain.pixels, colour_share=plain.colour_share).usable
    refused = grade(doppler.pixels, colour_share=doppler.colour_share)
    assert "Doppler" in (refused.reason or "")

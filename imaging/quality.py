"""Whether a frame shows tissue at all, before anything is looked for on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imaging.arrays import GreyImage

BLANK_SPREAD = 4.0
"""Grey values spread (99th minus 1st percentile) under this: nothing was written on the frame."""
SATURATED_LEVEL = 250
SATURATED_SHARE = 0.35
"""More than this share of the picture at white: the gain has eaten the texture."""
DARK_LEVEL = 12
DARK_SHARE = 0.97
"""More than this share of the lower three quarters at black: no sound came back from below."""

COLOUR_SHARE = 0.01
"""More than this share strongly coloured: a colour box, not the colour of a marker or a cursor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameQuality:
    """Whether a frame can be used; `reason` says why not, in a phrase for a sonographer."""

    usable: bool
    reason: str | None = None


def grade(pixels: GreyImage, *, colour_share: float = 0.0) -> FrameQuality:
    """The quality of a frame or of its B-mode part, (rows, columns) uint8.

    Refuses blank frames (one grey), saturated ones, frames without skin contact, where only the
    near field is lit, and frames with colour Doppler over the tissue (`colour_share` as decoding
    found it). Anything else passes: it is the network that judges what it shows.
    """
    if pixels.size == 0:
        return FrameQuality(usable=False, reason="the picture is empty")
    low, high = np.percentile(pixels, (1, 99))
    if high - low < BLANK_SPREAD:
        return FrameQuality(usable=False, reason="the frame is blank: one grey all over")
    if float(np.mean(pixels >= SATURATED_LEVEL)) > SATURATED_SHARE:
        return FrameQuality(
            usable=False, reason="the frame is saturated: turn the gain down and scan again"
        )
    if colour_share > COLOUR_SHARE:
        return FrameQuality(
            usable=False, reason="colour Doppler lies over the tissue: send a plain B-mode frame"
        )
    below = pixels[pixels.shape[0] // 4 :]
    if float(np.mean(below <= DARK_LEVEL)) > DARK_SHARE:
        return FrameQuality(
            usable=False,
            reason="no skin contact: the picture is dark below the near field; use more gel",
        )
    return FrameQuality(usable=True)

"""What goes into the network and what comes out, by name and place.

One table for training, inference and export: whoever adds a channel adds it here.
"""

from __future__ import annotations

from typing import Final

INPUT_SIZE: Final = 256
"""Rows and columns of the square that a sector is resampled to, in pixels."""

CHANNELS: Final = (
    "image",
    "positive_clicks",
    "negative_clicks",
    "positive_reach",
    "negative_reach",
    "box",
    "prompted",
    "long_axis_asked",
    "short_axis_asked",
    "depth",
)
"""The input planes in order; all float32, the image about -2 to 2, the others 0 to 1."""

DENSE_OUTPUTS: Final = ("target", "nerve", "vessel", "aponeurosis")
"""The output planes in order; logits."""

VIEW_OUTPUTS: Final = ("long_axis", "short_axis", "other")
"""The view logits in order."""

IMAGE_MEAN: Final = 0.449
IMAGE_SPREAD: Final = 0.226
"""The image plane is (grey / 255 - mean) / spread: ImageNet's constants, averaged over colours."""

CLICK_RADIUS_PX: Final = 6.0
"""Radius of a click's disc on the 256-pixel square."""

CLICK_REACH_PX: Final = 40.0
"""The reach planes fall off as exp(-distance / reach) around the clicks: a disc alone is so small
that a net trained for minutes learns to overlook it."""

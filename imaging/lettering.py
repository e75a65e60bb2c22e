"""The letters on every picture of ours: DejaVu Sans, shipped, the same on every machine.

It covers Latin, Greek and Cyrillic; other scripts come out as boxes, which is why a patient is
named on pictures by identifier as well.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import ImageFont

FONT_FILES = {False: "DejaVuSans.ttf", True: "DejaVuSans-Bold.ttf"}
FONT_FOLDER = Path(__file__).parent / "fonts"


@cache
def font(size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font at this size in pixels."""
    return ImageFont.truetype(str(FONT_FOLDER / FONT_FILES[bold]), size_px)


def text_width_px(text: str, size_px: int, *, bold: bool = False) -> float:
    """How wide the text is at this size, in pixels."""
    return float(font(size_px, bold=bold).getlength(text))


def fitted(text: str, size_px: int, width_px: float, *, bold: bool = False) -> str:
    """The text, cut with an ellipsis where it is wider than `width_px`."""
    if text_width_px(text, size_px, bold=bold) <= width_px:
        return text
    while text and text_width_px(text + "…", size_px, bold=bold) > width_px:
        text = text[:-1]
    return text.rstrip() + "…"

"""Collections of pictures and masks that a user brings: a public set, or a site's own outlines.

A subfolder of the data folder with a `collection.json` is one. It says where the pictures and the
masks lie and what they show, so that a set is read as it was downloaded:

    {"images": "Images/*.png", "masks": "Masks/{stem}.png", "view": "short_axis",
     "device": "Esaote MyLab", "group": "^(S[0-9]+)", "confidence": "high",
     "licence": "CC BY 4.0", "source": "Marzola et al. 2021, doi:10.17632/3jykz7wz8d"}

`group` is a regular expression on the file's stem whose first bracket names the person or the
scan; look-alikes of one group never come on both sides of a split. Without it each picture is a
group of its own, which flatters. A mask is a picture of the same size, other than 0 inside the
muscle; a picture without a mask is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from imaging.sector import find_sector
from models.training.sample import Sample, Target, mask_to_square, read_grey, to_square

DESCRIPTION: Final = "collection.json"
_WEIGHT: Final = {"high": 1.0, "medium": 0.8, "low": 0.25}


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What `collection.json` says; licence and source are for the reader."""

    images: str = "images/*.png"
    masks: str = "masks/{stem}.png"
    view: str = "short_axis"
    device: str = ""
    group: str = ""
    confidence: str = "high"
    licence: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for what no training could use."""
        if self.view not in ("long_axis", "short_axis"):
            raise ValueError(f"view is {self.view!r}; it is long_axis or short_axis")
        if self.confidence not in _WEIGHT:
            raise ValueError(f"confidence is {self.confidence!r}; it is high, medium or low")
        if "{stem}" not in self.masks:
            raise ValueError("masks has no {stem}: which mask belongs to a picture?")
        if self.group and re.compile(self.group).groups != 1:
            raise ValueError("group needs one bracket that names the person or the scan")


def read_description(folder: Path) -> Description:
    """The description of a collection; ValueError says what is wrong with it and where."""
    path = folder / DESCRIPTION
    try:
        said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Description(**said)
    except (TypeError, ValueError, re.error) as wrong:
        raise ValueError(f"{path}: {wrong}") from wrong


def read_paired(folder: Path) -> Iterable[Sample]:
    """The samples of a collection, in the order of their names."""
    told = read_description(folder)
    for path in sorted(folder.glob(told.images)):
        outlined = folder / told.masks.format(stem=path.stem)
        if not outlined.exists():
            continue
        image, mask = read_grey(path), read_grey(outlined)
        if mask.shape != image.shape:
            raise ValueError(f"{outlined} is {mask.shape}, its picture {image.shape}")
        if not np.any(mask):
            continue
        sector = find_sector(image)
        named = re.search(told.group, path.stem) if told.group else None
        yield Sample(
            collection=folder.name,
            name=path.stem,
            group=f"{folder.name}/{named[1] if named else path.stem}",
            device=told.device or folder.name,
            view=told.view,
            image=to_square(image, sector),
            sector=sector,
            path=path,
            targets=(
                Target(
                    mask=mask_to_square(mask, sector),
                    weight=_WEIGHT[told.confidence],
                    # On the short axis others may be as large: only a click says which.
                    automatic=told.view == "long_axis",
                    complete=True,
                    confidence=told.confidence,
                ),
            ),
            structures=None,
            aponeurosis=None,
        )

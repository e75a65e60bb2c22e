"""Pictures without muscle to test the network's abstention on, made of what packages carry.

`python tools/make_not_muscle.py OUT [--photographs FOLDER]`: one subfolder for each class, for
`sonodose evaluate --negatives OUT`. Ultrasound of other organs (heart, fetus, lymph node) and
other modalities come out of pydicom's test files, photographs out of a folder such as
scikit-image's `skimage/data`; noise, blank pictures and colour bars are drawn. None of it is
trained on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.data import get_testdata_file

ULTRASOUND = {
    "ExplVR_BigEnd.dcm": (0,),
    "examples_jpeg2k.dcm": (0,),
    "examples_palette.dcm": (0,),
    "examples_rgb_color.dcm": (0,),
    "examples_ybr_color.dcm": (0, 10, 20, 29),
}
OTHER = ("CT_small.dcm", "MR_small.dcm", "693_J2KI.dcm")


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--photographs", type=Path, help="a folder of pictures")
    asked = parser.parse_args()
    for name, frames in ULTRASOUND.items():
        for frame in frames:
            keep(asked.out / "ultrasound" / f"{Path(name).stem}_{frame}.png", pixels(name, frame))
    for name in OTHER:
        keep(asked.out / "other_modality" / f"{Path(name).stem}.png", pixels(name, 0))
    random = np.random.default_rng(0)
    for number in range(6):
        size = (random.integers(200, 700), random.integers(200, 900))
        noise = random.rayleigh(20 + 15 * number, size)
        keep(asked.out / "noise" / f"n{number}.png", noise)
        keep(asked.out / "blank" / f"b{number}.png", np.full(size, 51.0 * number))
        bars = np.repeat(np.linspace(0, 255, 4 + number), 90)[None].repeat(400, 0)
        keep(asked.out / "bars" / f"c{number}.png", bars if number % 2 else bars.T)
    if asked.photographs is not None:
        for path in sorted(asked.photographs.iterdir()):
            image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            if image is not None:
                keep(asked.out / "photograph" / f"{path.stem}.png", image)


def pixels(name: str, frame: int) -> NDArray[np.float64]:
    """(rows, columns) of one frame, scaled to 0 to 255 where it is wider than eight bits."""
    path = get_testdata_file(name)
    if not isinstance(path, str):
        raise SystemExit(f"pydicom does not carry {name}; a newer one does")
    dataset = dcmread(path)
    array = np.asarray(dataset.pixel_array, np.float64)
    if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
        array = array[frame]
    if array.ndim == 3:
        array = array @ (0.299, 0.587, 0.114)
    if array.max() > 255:
        low, high = np.percentile(array, (1, 99))
        array = (array - low) / (high - low) * 255
    return np.asarray(array, np.float64)


def keep(path: Path, image: NDArray[np.generic]) -> None:
    """Write an 8-bit grey PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.clip(image, 0, 255).astype(np.uint8))


if __name__ == "__main__":
    main()

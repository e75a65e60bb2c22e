"""Collections that a user brings, read as they were downloaded."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.training.data import load_samples
from models.training.folds import folds_by_group
from models.training.train import TrainSettings, train


def bring(folder: Path, **said: str) -> Path:
    for name in ("Images", "Masks"):
        (folder / name).mkdir(parents=True)
    for number in range(4):
        random = np.random.default_rng(number)
        image = random.integers(40, 90, (96, 128)).astype(np.uint8)
        mask = np.zeros_like(image)
        mask[20:60, 30:100] = 1
        name = f"S{number // 2}_{number}.png"
        cv2.imwrite(str(folder / "Images" / name), image)
        if number < 3:
            cv2.imwrite(str(folder / "Masks" / name), mask)
    told = {"images": "Images/*.png", "masks": "Masks/{stem}.png", "group": "^(S[0-9])", **said}
    (folder / "collection.json").write_text(json.dumps(told))
    return folder


def test_a_set_is_read_where_its_description_says(tmp_path: Path) -> None:
    """Pictures with a mask become samples; one person's stay on one side of a split."""
    bring(tmp_path / "bought", view="short_axis", device="Esaote")
    samples = load_samples(tmp_path)
    assert [one.name for one in samples] == ["S0_0", "S0_1", "S1_2"]
    assert {one.group for one in samples} == {"bought/S0", "bought/S1"}
    assert set(folds_by_group(samples)) == {"bought/S0", "bought/S1"}
    (target,) = samples[0].targets
    share = float(np.mean(target.mask > 0))
    assert abs(share - 40 * 70 / (96 * 128)) < 0.03
    assert not target.automatic


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"view": "sideways"}, "long_axis or short_axis"),
        ({"masks": "Masks/x.png"}, "stem"),
        ({"group": "S"}, "bracket"),
        ({"colour": "red"}, "colour"),
        ({"confidence": "sure"}, "medium"),
    ],
)
def test_a_description_that_cannot_be_used_is_told_with_its_place(
    tmp_path: Path, said: dict[str, str], wrong: str
) -> None:
    """The file and the field stand in the message."""
    bring(tmp_path / "bought", **said)
    with pytest.raises(ValueError, match=wrong) as refused:
        load_samples(tmp_path)
    assert "collection.json" in str(refused.value)


@pytest.mark.parametrize("view", ["short_axis", "long_axis"])
def test_a_network_goes_on_from_its_weights_with_a_sites_own_outlines(
    tmp_path: Path, view: str
) -> None:
    """`sonodose train --data SITE --init WEIGHTS` needs no other collection."""
    bring(tmp_path / "data/site", view=view)
    shipped = Path(__file__).parents[2] / "models/weights/muscle_net.safetensors"
    made = train(
        TrainSettings(
            data=tmp_path / "data",
            out=tmp_path / "run",
            init=shipped,
            steps=1,
            batch=2,
            small_size=64,
            small_share=1.0,
            scenes=0,
            negatives=0,
            mix={"long": 1, "muscle": 1},
            progress=lambda line: None,
        )
    )
    assert made.steps == 1
    assert made.weights.exists()

"""Engines and the weights they trust."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from models.card import PACKAGED_STEM, WEIGHTS_FOLDER, read_card
from models.channels import CHANNELS, INPUT_SIZE
from models.engine import OnnxEngine, read_weights
from models.errors import WeightsMissing, WeightsRefused
from models.segment import load_segmenter
from models.torch_engine import TorchEngine

CARD = WEIGHTS_FOLDER / f"{PACKAGED_STEM}.json"


def test_torch_and_onnx_give_the_same_logits() -> None:
    card = read_card(CARD)
    noise = np.random.default_rng(1).normal(size=(2, len(CHANNELS), INPUT_SIZE, INPUT_SIZE))
    planes = noise.astype(np.float32)
    here = TorchEngine.from_file(CARD.with_suffix(".safetensors"), card).run(planes)
    there = OnnxEngine(read_weights(CARD.with_suffix(".onnx"), card)).run(planes)
    for name in ("dense", "view", "not_muscle", "quality"):
        assert np.abs(getattr(here, name) - getattr(there, name)).max() < 1e-3


@pytest.mark.parametrize("damage", ["changed", "cut"])
def test_weights_that_are_not_the_cards_are_refused(tmp_path: Path, damage: str) -> None:
    for suffix in (".onnx", ".json"):
        shutil.copy(CARD.with_suffix(suffix), tmp_path)
    weights = tmp_path / f"{PACKAGED_STEM}.onnx"
    content = bytearray(weights.read_bytes())
    if damage == "changed":
        content[len(content) // 2] ^= 1
    else:
        content = content[:-10]
    weights.write_bytes(bytes(content))
    with pytest.raises(WeightsRefused, match="not the ones"):
        load_segmenter(weights)


def test_weights_without_a_card_are_missing(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="model card"):
        load_segmenter(tmp_path / "other.onnx")


def test_a_card_without_its_weights_says_so(tmp_path: Path) -> None:
    shutil.copy(CARD, tmp_path)
    with pytest.raises(WeightsMissing, match="no weights"):
        load_segmenter(tmp_path / f"{PACKAGED_STEM}.onnx")


def test_the_packaged_weights_stay_small() -> None:
    for suffix in (".onnx", ".safetensors"):
        assert CARD.with_suffix(suffix).stat().st_size < 20_000_000

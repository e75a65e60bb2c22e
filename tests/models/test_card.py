"""The machine-readable card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from models.card import Calibration, Curve, Intervals, ModelCard, asked_case, read_card
from models.errors import WeightsRefused


def card() -> ModelCard:
    return ModelCard(
        name="a", version="1", created="", intended_use="", not_for="", sha256={"a.onnx": "0"}
    )


def test_a_card_that_was_written_reads_back_the_same(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    told = Calibration(by_case={"short_axis/click": Intervals()}, vessel_score=0.6)
    written = replace(card(), calibration=told)
    path.write_text(written.as_json())
    assert read_card(path) == written


def test_the_intervals_follow_what_the_operator_said() -> None:
    """Two clicks promise no more than one; four, which is what was measured, do."""
    assert asked_case("short_axis", 0, boxed=False) == "short_axis/nothing"
    assert asked_case("short_axis", 0, boxed=True) == "short_axis/click"
    assert asked_case("long_axis", 3, boxed=False) == "long_axis/click"
    assert asked_case("long_axis", 4, boxed=True) == "long_axis/corrections"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"calibration": {"confidence": 3}}'])
def test_a_damaged_card_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(WeightsRefused, match="cannot be used"):
        read_card(path)


def test_the_card_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text(card().as_json().replace("positive_clicks", "something_else"))
    with pytest.raises(WeightsRefused, match="another network"):
        read_card(path)


def test_a_curve_needs_rising_knots() -> None:
    with pytest.raises(ValueError, match="rising"):
        Curve(at=(1.0, 0.0), value=(0.0, 1.0))


def test_limits_have_defaults_that_withhold_a_coin_toss() -> None:
    assert Calibration().not_muscle_limit <= 0.5

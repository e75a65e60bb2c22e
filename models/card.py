"""The machine-readable card beside the weights: what they are, and how to read their answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from models.channels import CHANNELS, DENSE_OUTPUTS, IMAGE_MEAN, IMAGE_SPREAD, INPUT_SIZE
from models.errors import WeightsMissing, WeightsRefused

WEIGHTS_FOLDER: Final = Path(__file__).parent / "weights"
PACKAGED_STEM: Final = "muscle_net"


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A piecewise linear function; before the first and after the last knot it stays level."""

    at: tuple[float, ...]
    value: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.at or len(self.at) != len(self.value) or list(self.at) != sorted(self.at):
            raise ValueError("a curve needs as many values as rising knots")


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """How far a measurement may be off, in 95 of 100 cases."""

    area_low: Curve = Curve(at=(0.0, 1.0), value=(-0.6, -0.1))
    area_high: Curve = Curve(at=(0.0, 1.0), value=(0.6, 0.1))
    """Confidence → log(true area / measured area) at the ends of the interval."""
    thickness_low: Curve = Curve(at=(0.0, 1.0), value=(-0.6, -0.1))
    thickness_high: Curve = Curve(at=(0.0, 1.0), value=(0.6, 0.1))
    """Confidence → log(true thickness / measured thickness), likewise."""


NOTHING_SAID: Final = "nothing"
CLICKED: Final = "click"
CORRECTED: Final = "corrections"
CORRECTED_FROM_CLICKS: Final = 4
"""A click and three that mend: so much was measured. With two or three clicks the intervals are
those of one."""


def asked_case(view: str, clicks: int, *, boxed: bool) -> str:
    """`short_axis/click` and the like: which intervals hold for an answer."""
    if clicks >= CORRECTED_FROM_CLICKS:
        return f"{view}/{CORRECTED}"
    return f"{view}/{CLICKED if clicks or boxed else NOTHING_SAID}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was measured out of fold: how the network's own judgement turns into promises."""

    confidence: Curve = Curve(at=(0.0, 1.0), value=(0.0, 1.0))
    """The network's judgement of its mask, 0 to 1 → the Dice to expect."""
    intervals: Intervals = Intervals()
    """Of all answers together."""
    by_case: Mapping[str, Intervals] = field(default_factory=dict)
    """View and what was said (`asked_case`) → the intervals of such answers, where enough were
    measured: what a person mended is surer than what nobody looked at."""
    not_muscle_limit: float = 0.5
    """Probability of "no muscle" from which the answer is withheld."""
    confidence_limit: float = 0.5
    """Confidence under which the answer is withheld."""
    ambiguous_share: float = 0.7
    """Without a click: a second part this large against the first makes two answers."""
    nerve_score: float = 0.5
    vessel_score: float = 0.5
    """Mean probability from which a nerve or vessel counts as seen."""

    def intervals_of(self, case: str) -> Intervals:
        """The intervals of a case, else those of all answers."""
        return self.by_case.get(case, self.intervals)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a weights file is, how its input is made, and how far its answers can be trusted."""

    name: str
    version: str
    created: str
    intended_use: str
    not_for: str
    sha256: Mapping[str, str]
    """File name → SHA-256 of its bytes, hexadecimal."""
    flip: bool = False
    """Whether the mirrored image is asked too and the two answers are averaged."""
    input_size: int = INPUT_SIZE
    channels: tuple[str, ...] = CHANNELS
    outputs: tuple[str, ...] = DENSE_OUTPUTS
    image_mean: float = IMAGE_MEAN
    image_spread: float = IMAGE_SPREAD
    calibration: Calibration = field(default_factory=Calibration)
    training: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[Mapping[str, str], ...] = ()
    """The collections trained on: name, licence, source to attribute."""
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> str:
        """The card as JSON text, keys in the order above."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


def read_card(path: Path) -> ModelCard:
    """The card in a JSON file; WeightsMissing or WeightsRefused if it cannot be used."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsMissing(
            f"there is no model card at {path.name}",
            remedy="Put the card (.json) beside the weights, or install sonodose again.",
        ) from None
    except ValueError:
        raise _refused(path, "it is not JSON") from None
    try:
        stored = record.pop("calibration")
        intervals = _intervals(stored.pop("intervals"))
        by_case = {case: _intervals(value) for case, value in stored.pop("by_case").items()}
        confidence = _curve(stored.pop("confidence"))
        limits = {name: float(value) for name, value in stored.items()}
        calibration = Calibration(
            confidence=confidence, intervals=intervals, by_case=by_case, **limits
        )
        for name in ("channels", "outputs", "data"):
            record[name] = tuple(record[name])
        card = ModelCard(calibration=calibration, **record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _refused(path, f"a field is missing or wrong ({error})") from error
    if (card.channels, card.outputs) != (CHANNELS, DENSE_OUTPUTS):
        raise _refused(path, "its channels are those of another network")
    return card


def _curve(stored: Mapping[str, Any]) -> Curve:
    return Curve(at=tuple(stored["at"]), value=tuple(stored["value"]))


def _intervals(stored: Mapping[str, Any]) -> Intervals:
    return Intervals(**{name: _curve(value) for name, value in stored.items()})


def _refused(path: Path, why: str) -> WeightsRefused:
    return WeightsRefused(
        f"the model card {path.name} cannot be used: {why}",
        remedy="Use weights and card of the same sonodose version.",
    )

"""A canary: a picture whose answer is known, asked in a worker at its start and ever again.

It finds what no checksum does: a processor, a library or a memory that computes something else.
`canary.json` holds the answer of the shipped weights; `python -m app.jobs.canary` writes it anew,
after a reviewed change of them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import CanaryFailed
from app.jobs.worker import segmenter
from imaging.arrays import GreyImage
from models.segment import Click, Prompt, View

ANSWER = Path(__file__).with_name("canary.json")
WEIGHTS = Path(__file__).parents[2] / "models" / "weights" / "muscle_net.onnx"
ROUNDING = 0.05
"""How far a logit may be off: another processor adds in another order."""


def picture() -> GreyImage:
    """(240, 320) uint8: speckle of whole numbers, the same everywhere, around a dark ellipse."""
    rows, columns = np.mgrid[0:240, 0:320]
    noise = (rows * 7919 + columns * 104_729 + rows * columns * 31) % 97
    inside = ((rows - 125) / 60) ** 2 + ((columns - 160) / 95) ** 2
    body = np.where(inside < 1, 30, 105)
    body[np.abs(inside - 1) < 0.08] = 190
    grey: GreyImage = np.clip(body + noise // 2, 0, 255).astype(np.uint8)
    return grey


def ask() -> dict[str, Any]:
    """The network's logits in short, and the SHA-256 of the weights that are on this machine."""
    click = Click(column=160, row=125, positive=True)
    seen = segmenter().look(picture(), Prompt(clicks=(click,), view=View.SHORT_AXIS))
    return {
        "weights_sha256": hashlib.sha256(WEIGHTS.read_bytes()).hexdigest(),
        "mean_logits": [round(float(plane.mean()), 4) for plane in seen.logits],
        "middle_logit": round(float(seen.logits[0, 125, 160]), 4),
        "quality": round(seen.quality, 4),
        "not_muscle": round(seen.not_muscle, 4),
    }


def check() -> dict[str, Any]:
    """The answer, as it must be. Raises CanaryFailed for another one, or other weights."""
    known, said = json.loads(ANSWER.read_text("utf-8")), ask()
    off = np.abs(np.subtract(_numbers(said), _numbers(known))).max()
    if said["weights_sha256"] != known["weights_sha256"] or not off < ROUNDING:
        raise CanaryFailed(
            f"The network does not give its known answer: {said}, not {known}.",
            remedy="Tell whoever runs the service: install sonodose again, or try another machine.",
        )
    return said


def _numbers(answer: dict[str, Any]) -> list[float]:
    rest = [answer[name] for name in ("middle_logit", "quality", "not_muscle")]
    return [*answer["mean_logits"], *rest]


if __name__ == "__main__":
    ANSWER.write_text(json.dumps(ask(), indent=1) + "\n", encoding="utf-8")

"""Who runs the network: one protocol, ONNX Runtime by default."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # no stubs
from numpy.typing import NDArray

from models.card import ModelCard
from models.errors import WeightsMissing, WeightsRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOutput:
    """Logits of n images, all float32."""

    dense: NDArray[np.float32]
    """(n, 4, size, size): target, nerve, vessel, aponeurosis."""
    view: NDArray[np.float32]
    """(n, 3): long axis, short axis, other."""
    not_muscle: NDArray[np.float32]
    """(n,)"""
    quality: NDArray[np.float32]
    """(n,): logit of the predicted Dice."""


class InferenceEngine(Protocol):
    """Runs the network's forward pass."""

    def run(self, planes: NDArray[np.float32]) -> EngineOutput:
        """Logits for (n, channels, size, size) float32 input planes."""
        ...


class OnnxEngine:
    """The network on ONNX Runtime, on the CPU."""

    def __init__(self, model: bytes, *, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A picture and its mirrored one take the time of one where a core is free; the pool's
        # threads start when first needed, and sessions may be run from several at once.
        self._pool = ThreadPoolExecutor(2) if threads == 1 else None
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )

    def run(self, planes: NDArray[np.float32]) -> EngineOutput:
        """Logits for (n, channels, size, size) float32 input planes."""
        if self._pool is None or len(planes) == 1:
            parts = [self._run(planes)]
        else:
            parts = list(self._pool.map(self._run, planes[:, None]))
        dense, view, not_muscle, quality = (
            np.concatenate(part) for part in zip(*parts, strict=True)
        )
        return EngineOutput(
            dense=np.asarray(dense, np.float32),
            view=np.asarray(view, np.float32),
            not_muscle=np.asarray(not_muscle, np.float32),
            quality=np.asarray(quality, np.float32),
        )

    def _run(self, planes: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        outputs = ["dense", "view", "not_muscle", "quality"]
        given = {"channels": np.ascontiguousarray(planes, np.float32)}
        answers: Sequence[NDArray[np.float32]] = self._session.run(outputs, given)
        return answers


def read_weights(path: Path, card: ModelCard) -> bytes:
    """The bytes of a weights file, if their SHA-256 is the card's.

    WeightsMissing if there is no such file, WeightsRefused if it is another one.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise WeightsMissing(
            f"there are no weights at {path.name}",
            remedy="Install sonodose again, or give the path of an exported network.",
        ) from None
    expected = card.sha256.get(path.name)
    if expected is None or hashlib.sha256(content).hexdigest() != expected:
        raise WeightsRefused(
            f"the weights {path.name} are not the ones that their card describes",
            remedy="The file was changed or cut off: install sonodose again or export once more.",
        )
    return content

"""One forward pass on ONNX Runtime and on torch, and the whole step from a frame to its masks.

    python tests/bench/bench_model.py [--count 60]

Two threads, the biceps sample, medians and 95th percentiles in milliseconds. `pair` is the picture
with its mirrored one, as the product asks; `step` is `Segmenter.segment` with sector and both
resamplings, a click given, nothing remembered. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from models.card import PACKAGED_STEM, WEIGHTS_FOLDER, read_card  # noqa: E402 -- after the path
from models.channels import CHANNELS, INPUT_SIZE  # noqa: E402 -- after the path
from models.engine import OnnxEngine, read_weights  # noqa: E402 -- after the path
from models.segment import Prompt, load_segmenter  # noqa: E402 -- after the path
from models.torch_engine import TorchEngine  # noqa: E402 -- after the path
from tests.bench.bench_service import sample  # noqa: E402 -- after the path


def timed(run: Callable[[], object], count: int) -> dict[str, float]:
    for _ in range(5):
        run()
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        run()
        taken.append(1000 * (time.perf_counter() - started))
    return {
        "p50_ms": round(statistics.median(taken), 1),
        "p95_ms": round(statistics.quantiles(taken, n=20)[-1], 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=60)
    asked = parser.parse_args()
    torch.set_num_threads(2)
    onnx = WEIGHTS_FOLDER / f"{PACKAGED_STEM}.onnx"
    card = read_card(onnx.with_suffix(".json"))
    content = read_weights(onnx, card)
    two_threads, of_a_worker = OnnxEngine(content, threads=2), OnnxEngine(content, threads=1)
    reference = TorchEngine.from_file(onnx.with_suffix(".safetensors"), card)
    one = np.random.default_rng(0).random((1, len(CHANNELS), INPUT_SIZE, INPUT_SIZE), np.float32)
    pair = np.concatenate((one, one[..., ::-1]))
    segmenter = load_segmenter()
    grey, click = sample()
    print(
        json.dumps(
            {
                "onnx_one": timed(lambda: two_threads.run(one), asked.count),
                "onnx_pair": timed(lambda: of_a_worker.run(pair), asked.count),
                "torch_one": timed(lambda: reference.run(one), asked.count),
                "step": timed(
                    lambda: segmenter.segment(grey, Prompt(clicks=(click,))), asked.count
                ),
                "frame": list(grey.shape),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

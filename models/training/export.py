"""From trained weights to what the product loads: safetensors, ONNX and the card beside them."""

from __future__ import annotations

import argparse
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import load_file

from models.card import PACKAGED_STEM, Calibration, ModelCard
from models.channels import CHANNELS, INPUT_SIZE
from models.engine import OnnxEngine
from models.network import MuscleNet
from models.torch_engine import TorchEngine
from models.training.calibrate import calibrate
from models.training.promises import table
from models.training.rows import read_rows

INTENDED_USE: Final = (
    "Research and decision support: proposes the outline of a skeletal muscle, and nerves and "
    "vessels to keep away from, on B-mode ultrasound, for a clinician who looks at the picture "
    "and confirms or redraws the outline."
)
NOT_FOR: Final = (
    "Diagnosis; guiding a needle without a human looking; children, disease or injured muscle "
    "(none were in the data); proving that no nerve or vessel is there."
)
DATA: Final[tuple[Mapping[str, str], ...]] = (
    {
        "name": "longitudinal",
        "licence": "Apache-2.0",
        "source": "njcronin/DL_Track (Cronin, Finni, Seynnes 2020, arXiv 2009.04790)",
    },
    {
        "name": "long_axis_thigh",
        "licence": "CC0 1.0",
        "source": "TimTrack data set 1 (van der Zee)",
    },
    {
        "name": "panoramic",
        "licence": "MIT",
        "source": "kenziew/ultrasound_vl_csa_and_ei",
    },
    {
        "name": "transverse",
        "licence": "CC BY 4.0",
        "source": "tmkand/usgra-seg dataset, with muscle outlines added by the sonodose project",
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """Which weights to export where."""

    weights: Path
    """Safetensors of a training run."""
    out: Path
    """The folder to write `STEM.safetensors`, `STEM.onnx` and `STEM.json` into."""
    stem: str = PACKAGED_STEM
    version: str = "0"
    flip: bool = False
    calibration: Calibration = field(default_factory=Calibration)
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


def export(settings: ExportSettings) -> ModelCard:
    """The card of the exported network; its files lie in `settings.out`.

    Raises ValueError if ONNX Runtime and torch differ by more than 1e-3 in any logit.
    """
    settings.out.mkdir(parents=True, exist_ok=True)
    network = MuscleNet().eval()
    network.load_state_dict(load_file(settings.weights))
    plain = settings.out / f"{settings.stem}.safetensors"
    if plain.resolve() != settings.weights.resolve():
        shutil.copyfile(settings.weights, plain)
    graph = settings.out / f"{settings.stem}.onnx"
    _write_onnx(network, graph)
    _compare(network, graph)
    card = ModelCard(
        name="sonodose muscle network",
        version=settings.version,
        created=datetime.now(UTC).strftime("%Y-%m-%d"),
        intended_use=INTENDED_USE,
        not_for=NOT_FOR,
        sha256={
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (plain, graph)
        },
        flip=settings.flip,
        calibration=settings.calibration,
        training=settings.training,
        data=DATA,
        metrics=settings.metrics,
    )
    write_card(card, settings.out / f"{settings.stem}.json")
    return card


def write_card(card: ModelCard, path: Path) -> None:
    """Nothing; the card lies at `path` as JSON."""
    path.write_text(card.as_json(), encoding="utf-8")


def with_measurements(
    card: ModelCard, *, calibration: Calibration, metrics: Mapping[str, Any]
) -> ModelCard:
    """The same card with what was measured since."""
    return replace(card, calibration=calibration, metrics=metrics)


def _write_onnx(network: MuscleNet, path: Path) -> None:
    example = torch.zeros(2, len(CHANNELS), INPUT_SIZE, INPUT_SIZE)
    torch.onnx.export(
        network,
        (example,),
        str(path),
        input_names=["channels"],
        output_names=["dense", "view", "not_muscle", "quality"],
        dynamic_shapes={"channels": {0: torch.export.Dim("n")}},
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _compare(network: MuscleNet, path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(2, len(CHANNELS), INPUT_SIZE, INPUT_SIZE))
    planes = noise.astype(np.float32)
    here, there = TorchEngine(network).run(planes), OnnxEngine(path.read_bytes()).run(planes)
    for name in ("dense", "view", "not_muscle", "quality"):
        difference = float(np.abs(getattr(here, name) - getattr(there, name)).max())
        if difference > 1e-3:
            raise ValueError(f"ONNX and torch differ by {difference:.2g} in {name}")


def main(argv: Sequence[str]) -> int:
    """The exit code of `sonodose export`."""
    parser = argparse.ArgumentParser(prog="sonodose export", description=__doc__)
    parser.add_argument("--weights", required=True, type=Path, help="safetensors of a run")
    parser.add_argument("--out", required=True, type=Path, help="folder for the three files")
    parser.add_argument("--stem", default=PACKAGED_STEM)
    parser.add_argument("--version", required=True)
    parser.add_argument("--flip", action="store_true", help="ask the mirrored image too")
    parser.add_argument("--rows", type=Path, help="out-of-fold rows to calibrate on")
    parser.add_argument("--training", default="", help="a sentence on how it was trained")
    asked = parser.parse_args(argv)
    calibration, metrics = Calibration(), {}
    if asked.rows is not None:
        rows = read_rows(asked.rows)
        calibration, metrics = calibrate(rows), table(rows).as_record()
    card = export(
        ExportSettings(
            weights=asked.weights,
            out=asked.out,
            stem=asked.stem,
            version=asked.version,
            flip=asked.flip,
            calibration=calibration,
            training={"note": asked.training} if asked.training else {},
            metrics=metrics,
        )
    )
    print(f"{asked.stem} {card.version} written to {asked.out}")
    return 0

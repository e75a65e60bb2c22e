"""Random examples for training: which kinds, from which pictures, and drawn ahead of the steps."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Final, Self

import cv2
import numpy as np

from imaging.arrays import GreyImage
from models.training.augment import AugmentSettings, Draw, draw_example, plain_example
from models.training.batch import PackedBatch, pack
from models.training.sample import Sample, Target

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

_GRAFTED: Final = {"muscle": 0.25, "structures": 0.5}
"""How often a nerve or vessel of another picture is put into one of this kind."""


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
    entries: Iterable[tuple[Sample, Target | None]],
) -> dict[str, dict[str, list[tuple[Sample, Target | None]]]]:
    nested: dict[str, dict[str, list[tuple[Sample, Target | None]]]] = {}
    for sample, target in entries:
        groups = nested.setdefault(sample.device, {})
        groups.setdefault(sample.group, []).append((sample, target))
    return nested


def _any_target(sample: Sample) -> Target | None:
    trusted = [target for target in sample.targets if target.confidence != "low"]
    return trusted[0] if trusted else None


class Loader:
    """Batches drawn ahead of the steps that want them; each from its own seed."""

    def __init__(self, source: ExampleSource, *, seed: int, processes: int) -> None:
        self._ahead = max(1, 2 * processes)
        self._waiting: dict[tuple[int, int], Future[PackedBatch]] = {}
        self._pool: Executor
        if processes:
            context = multiprocessing.get_context("fork")
            self._pool = ProcessPoolExecutor(
                processes, context, initializer=_take_source, initargs=(source, seed)
            )
            self._pool.submit(int).result()  # they are born with the first task
        else:
            self._pool = ThreadPoolExecutor(1)
            _take_source(source, seed)

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

"""What a training holds out: folds by group, collections, devices."""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from models.training.sample import Sample

FOLDS: Final = 5


COLLECTIONS: Final = ("longitudinal", "long_axis_thigh", "panoramic", "transverse")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """What is held out of a training: some of the five folds by group, collections, devices."""

    folds: tuple[int, ...] = ()
    collections: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()

    def holds(self, sample: Sample, folds: Mapping[str, int]) -> bool:
        """True if the sample is held out, so not trained on."""
        return (
            sample.collection in self.collections
            or sample.device in self.devices
            or folds.get(sample.group) in self.folds
        )


def add_fold_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing; the parser knows what can be held out."""
    parser.add_argument(
        "--fold", type=int, action="append", default=[], choices=range(FOLDS), help="hold it out"
    )
    parser.add_argument(
        "--without-collection", action="append", default=[], choices=COLLECTIONS, metavar="NAME"
    )
    parser.add_argument("--without-device", action="append", default=[], metavar="NAME")


def fold_of(asked: argparse.Namespace) -> Fold:
    """What the arguments of `add_fold_arguments` hold out."""
    return Fold(
        folds=tuple(asked.fold),
        collections=tuple(asked.without_collection),
        devices=tuple(asked.without_device),
    )


def folds_by_group(samples: Sequence[Sample], *, seed: int = 0) -> dict[str, int]:
    """Group → fold 0 to 4, dealt out within each collection and device from a seed."""
    strata: dict[tuple[str, str], list[str]] = {}
    for sample in samples:
        groups = strata.setdefault((sample.collection, sample.device), [])
        if sample.group not in groups:
            groups.append(sample.group)
    dealt: dict[str, int] = {}
    for number, key in enumerate(sorted(strata)):
        groups = sorted(strata[key])
        random.Random(f"{seed} {number}").shuffle(groups)  # noqa: S311 - a split, not a secret
        # A device that is one single group goes to the last fold: held out once, by itself.
        first = FOLDS - 1 if len(groups) == 1 else 0
        for place, group in enumerate(groups):
            dealt.setdefault(group, (first + place) % FOLDS)
    return dealt


def thinned(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most so many samples of each group, spread evenly over it, in the given order."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.group, []).append(sample)
    return [
        own[place]
        for own in groups.values()
        for place in sorted({round(k * (len(own) - 1) / max(1, most - 1)) for k in range(most)})
    ]

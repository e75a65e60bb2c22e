"""Figures out of rows: means over groups with their intervals, and the card's table of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.training.rows import Row, counted_objects, score_limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of the card with its 95 % interval, bootstrapped over groups."""

    value: float
    low: float
    high: float
    images: int
    groups: int

    def as_text(self) -> str:
        """`0.951 (0.940 to 0.960; 120 rows, 30 groups)`."""
        return (
            f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f}; "
            f"{self.images} rows, {self.groups} groups)"
        )


Statistic = Callable[[Sequence[NDArray[np.float64]]], float]
"""From the values of each group to one number."""


def mean_over_groups(groups: Sequence[NDArray[np.float64]]) -> float:
    """The mean of the groups' means."""
    return float(np.mean([values.mean() for values in groups]))


def quantile_over_images(share: float) -> Statistic:
    """The quantile over all images, whatever their group."""
    return lambda groups: float(np.quantile(np.concatenate(list(groups)), share))


def figure(
    rows: Sequence[Row],
    value: Callable[[Row], float],
    statistic: Statistic = mean_over_groups,
    *,
    seed: int = 0,
    draws: int = 1000,
) -> Figure | None:
    """The statistic over the rows with its interval; None if no row has a value."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        number = value(row)
        if not math.isnan(number):
            groups.setdefault(row.group, []).append(number)
    if not groups:
        return None
    arrays = [np.array(values) for values in groups.values()]
    random = np.random.default_rng(seed)
    drawn = [
        statistic([arrays[index] for index in random.integers(0, len(arrays), len(arrays))])
        for _ in range(draws)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Figure(
        value=statistic(arrays),
        low=float(low),
        high=float(high),
        images=sum(len(values) for values in arrays),
        groups=len(arrays),
    )


@dataclass(slots=True, kw_only=True)
class Report:
    """The card's table: line → figure."""

    lines: dict[str, Figure] = field(default_factory=dict)

    def add(self, name: str, made: Figure | None) -> None:
        """Nothing; the line is there if there is a figure."""
        if made is not None:
            self.lines[name] = made

    def as_record(self) -> dict[str, dict[str, float]]:
        """Plain numbers for the machine-readable card, rounded to four decimals."""
        return {
            name: {key: round(float(value), 4) for key, value in asdict(one).items()}
            for name, one in self.lines.items()
        }

    def as_markdown(self) -> str:
        """A table in Markdown: measure, value with interval, rows, groups."""
        head = "| measure | value | 95 % interval | rows | groups |\n|---|---|---|---|---|\n"
        return head + "".join(
            f"| {name} | {one.value:.3f} | {one.low:.3f} to {one.high:.3f} "
            f"| {one.images} | {one.groups} |\n"
            for name, one in self.lines.items()
        )


def report(rows: Sequence[Row]) -> Report:
    """The figures of the card out of rows, each over the runs that held the image out."""
    made = Report()
    muscles = [row for row in rows if row.kind == "muscle"]
    by_run: dict[str, list[Row]] = {}
    for row in muscles:
        by_run.setdefault(row.run, []).append(row)
    for run, own in by_run.items():
        _add_long_axis(made, own, run)
        _add_short_axis(made, own, run)
    for run in sorted({row.run for row in rows if row.kind in ("nerve", "vessel")}):
        for kind in ("vessel", "nerve"):
            _add_structures(made, [r for r in rows if r.run == run and r.kind == kind], run, kind)
    return made


def _add_long_axis(made: Report, rows: Sequence[Row], run: str) -> None:
    long_axis = [row for row in rows if row.view == "long_axis" and row.mode == "auto"]
    for collection in sorted({row.collection for row in long_axis}):
        own = [row for row in long_axis if row.collection == collection]
        name = f"{run}: {collection}, automatic"
        made.add(f"{name}, Dice", figure(own, lambda row: row.dice))
        made.add(
            f"{name}, Dice, tenth percentile of images",
            figure(own, lambda row: row.dice, quantile_over_images(0.1)),
        )
        made.add(
            f"{name}, thickness error, median",
            figure(own, lambda row: abs(math.expm1(-row.log_thickness)), quantile_over_images(0.5)),
        )
        made.add(
            f"{name}, thickness error, 90th percentile",
            figure(own, lambda row: abs(math.expm1(-row.log_thickness)), quantile_over_images(0.9)),
        )
        for share, word in ((0.5, "median"), (0.9, "90th percentile")):
            made.add(
                f"{name}, thickness against observers, {word}",
                figure(
                    own,
                    lambda row: abs(math.expm1(-row.log_observers)),
                    quantile_over_images(share),
                ),
            )
    for device in sorted({row.device for row in long_axis}):
        own = [row for row in long_axis if row.device == device]
        made.add(f"{run}: device {device}, automatic, Dice", figure(own, lambda row: row.dice))
    second = [
        row for row in rows if row.view == "long_axis" and not row.automatic and row.mode == "click"
    ]
    made.add(f"{run}: second belly, one click, Dice", figure(second, lambda row: row.dice))


def _add_short_axis(made: Report, rows: Sequence[Row], run: str) -> None:
    for collection in ("transverse", "panoramic"):
        own = [
            row
            for row in rows
            if row.collection == collection and row.outline in ("high", "medium")
        ]
        for mode, word in (
            ("auto", "automatic"),
            ("click", "one click"),
            ("corrected", "three more clicks"),
            ("moved", "click moved"),
        ):
            asked = [row for row in own if row.mode == mode]
            made.add(f"{run}: {collection}, {word}, Dice", figure(asked, lambda row: row.dice))
    made.add(f"{run}: view named rightly", figure(rows, lambda row: row.view_right))


def _add_structures(made: Report, rows: Sequence[Row], run: str, kind: str) -> None:
    images = [row for row in rows if row.mode == "image"]
    made.add(f"{run}: {kind}s, Dice", figure(images, lambda row: row.dice))
    least = score_limit(rows)
    counted = counted_objects(rows, least)
    made.add(
        f"{run}: {kind}s found, at score {least:.2f}",
        figure(counted, lambda row: row.found / row.objects if row.objects else math.nan),
    )
    made.add(
        f"{run}: {kind}s, false an image, at score {least:.2f}",
        figure(counted, lambda row: float(row.false)),
    )

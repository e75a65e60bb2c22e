"""Whether the card's promises hold on groups that they were not fitted to.

Every figure here is cross-fitted: the calibration of a fifth of the groups comes from the other
four fifths, so that no image vouches for its own interval or limit.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.card import Calibration, Curve
from models.training.calibrate import calibrate, case_of, nothing_found, trusted_rows
from models.training.figures import Report, figure, quantile_over_images, report
from models.training.rows import Row

_PARTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A row with the calibration that did not see it."""

    row: Row
    calibration: Calibration

    @property
    def confidence(self) -> float:
        """The Dice told for it, 0 to 1."""
        return _at(self.calibration.confidence, self.row.quality)

    @property
    def withheld(self) -> bool:
        """True if the product would have abstained."""
        limits = self.calibration
        return nothing_found(self.row) or (
            self.row.not_muscle >= limits.not_muscle_limit
            or self.confidence < limits.confidence_limit
            or (self.row.mode == "auto" and self.row.second_share > limits.ambiguous_share)
        )


def table(rows: Sequence[Row]) -> Report:
    """The whole table of the card out of out-of-fold rows."""
    made = report(rows)
    judged = cross_fitted(rows)
    for case in sorted({case_of(one.row) for one in judged}):
        own = [one for one in judged if case_of(one.row) == case]
        _add_promises(made, own, case.replace("_", " ").replace("/", ", "))
    _add_promises(made, judged, "all views")
    return made


def cross_fitted(rows: Sequence[Row]) -> list[Judged]:
    """The muscle rows (automatic, one click, corrected), each judged by the other groups."""
    asked = trusted_rows(rows)
    groups = sorted({row.group for row in asked})
    random.Random(0).shuffle(groups)  # noqa: S311 - a split, not a secret
    part_of = {group: number % _PARTS for number, group in enumerate(groups)}
    judged = []
    for part in range(_PARTS):
        others = [row for row in asked if part_of[row.group] != part]
        own = [row for row in asked if part_of[row.group] == part]
        if own and others:
            fitted = calibrate(others)
            judged += [Judged(row=row, calibration=fitted) for row in own]
    return judged


def _add_promises(made: Report, judged: Sequence[Judged], name: str) -> None:
    by_row = {id(one.row): one for one in judged}
    rows = [one.row for one in judged]

    def of(value: Callable[[Judged], float]) -> Callable[[Row], float]:
        return lambda row: value(by_row[id(row)])

    made.add(
        f"promise, {name}: area inside its 95 % interval",
        figure(rows, of(lambda one: _covered(one, one.row.log_area, "area"))),
    )
    made.add(
        f"promise, {name}: width of the area's interval, median",
        figure(rows, of(lambda one: _width(one, "area")), quantile_over_images(0.5)),
    )
    made.add(
        f"promise, {name}: thickness inside its 95 % interval",
        figure(rows, of(lambda one: _covered(one, one.row.log_thickness, "thickness"))),
    )
    made.add(
        f"promise, {name}: width of the thickness's interval, median",
        figure(rows, of(lambda one: _width(one, "thickness")), quantile_over_images(0.5)),
    )
    made.add(
        f"promise, {name}: confidence against Dice, mean distance",
        figure(rows, of(lambda one: abs(one.confidence - one.row.dice))),
    )
    good = [row for row in rows if row.dice >= 0.8]
    made.add(
        f"promise, {name}: good answers (Dice 0.8 and more) withheld",
        figure(good, of(lambda one: float(one.withheld))),
    )
    bad = [row for row in rows if row.dice < 0.6]
    made.add(
        f"promise, {name}: bad answers (Dice under 0.6) withheld",
        figure(bad, of(lambda one: float(one.withheld))),
    )


def _curves(one: Judged, name: str) -> tuple[Curve, Curve]:
    limits = one.calibration.intervals_of(case_of(one.row))
    if name == "area":
        return limits.area_low, limits.area_high
    return limits.thickness_low, limits.thickness_high


def _covered(one: Judged, error: float, name: str) -> float:
    # What was withheld makes no promise; an answer of nothing covers nothing.
    if one.withheld:
        return math.nan
    if math.isnan(error):
        return 0.0
    low, high = _curves(one, name)
    return float(_at(low, one.confidence) <= error <= _at(high, one.confidence))


def _width(one: Judged, name: str) -> float:
    if one.withheld:
        return math.nan
    low, high = _curves(one, name)
    return math.exp(_at(high, one.confidence)) - math.exp(_at(low, one.confidence))


def _at(curve: Curve, where: float) -> float:
    return float(np.interp(where, curve.at, curve.value))

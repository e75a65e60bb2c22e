"""From out-of-fold rows to the card's promises: confidence, intervals, limits of abstention."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from models.card import CORRECTED_FROM_CLICKS, Calibration, Curve, Intervals, asked_case
from models.training.rows import Row, score_limit

_SPECK_LOG_AREA = 4.5
"""log(true / found) of a speck under the product's smallest share of the sector."""
_FEWEST_GROUPS = 12
"""A bin of the interval curves holds the rows of at least so many groups; a case with fewer has
no intervals of its own."""


def calibrate(rows: Sequence[Row], *, good_lost: float = 0.02) -> Calibration:
    """The calibration that the rows support, from outlines of high and medium confidence.

    `good_lost` is the share of good answers (Dice at least 0.8) that either limit may withhold.
    """
    muscles = trusted_rows(rows)
    if not muscles:
        raise ValueError("there are no muscle rows to calibrate on")
    confidence = _confidence_curve(muscles)

    def trusted(row: Row) -> float:
        return float(np.interp(row.quality, confidence.at, confidence.value))

    good = [row for row in muscles if row.dice >= 0.8]
    confidence_limit = min(0.75, _quantile([trusted(row) for row in good], good, good_lost))
    # What is withheld makes no promise: the intervals are those of the answers that are given.
    given = [
        row for row in muscles if not nothing_found(row) and trusted(row) >= confidence_limit
    ] or muscles
    cases: dict[str, list[Row]] = {}
    for row in given:
        cases.setdefault(case_of(row), []).append(row)
    return Calibration(
        confidence=confidence,
        intervals=_intervals(given, trusted),
        by_case={
            case: _intervals(own, trusted)
            for case, own in sorted(cases.items())
            if len({row.group for row in own}) >= _FEWEST_GROUPS
        },
        # Never so lax that a coin's toss would pass, whatever the good images allow.
        not_muscle_limit=_rounded(
            min(0.5, max(0.002, _quantile([row.not_muscle for row in good], good, 1.0 - good_lost)))
        ),
        confidence_limit=_rounded(confidence_limit),
        ambiguous_share=_rounded(_ambiguous_share(good, good_lost)),
        nerve_score=score_limit([row for row in rows if row.kind == "nerve"]),
        vessel_score=score_limit([row for row in rows if row.kind == "vessel"]),
    )


def _ambiguous_share(good: Sequence[Row], good_lost: float) -> float:
    # Only where nothing was said can two answers be equally good: beside a small clicked muscle
    # the rest may be larger than it. Two parts of nearly one size are never let pass.
    asked = [row for row in good if row.mode == "auto"]
    if not asked:
        return 0.5
    shares = [row.second_share for row in asked]
    return min(0.8, max(0.5, _quantile(shares, asked, 1.0 - good_lost / 4)))


def trusted_rows(
    rows: Sequence[Row], modes: Sequence[str] = ("auto", "click", "corrected")
) -> list[Row]:
    """The muscle rows whose truth is known: outlines of high and medium confidence.

    Automatic answers on the `transverse` pictures are left out: not every muscle of theirs was
    outlined, so that the largest whole muscle may be one without a label.
    """
    return [
        row
        for row in rows
        if row.kind == "muscle"
        and row.outline in ("high", "medium")
        and row.mode in modes
        and not (row.collection == "transverse" and row.mode == "auto")
    ]


def case_of(row: Row) -> str:
    """The case whose intervals hold for a row, as the product names it."""
    clicks = {"auto": 0, "click": 1, "moved": 1, "corrected": CORRECTED_FROM_CLICKS}[row.mode]
    return asked_case(row.view, clicks, boxed=False)


def nothing_found(row: Row) -> bool:
    """True if the answer was empty or a speck: the product says "target not found" by itself."""
    return math.isnan(row.log_area) or row.log_area > _SPECK_LOG_AREA


def weights_by_group(rows: Sequence[Row]) -> NDArray[np.float64]:
    """(rows,) float64 that add up to 1: every group counts the same, however many images it has."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.group] = counts.get(row.group, 0) + 1
    weights = np.array([1.0 / counts[row.group] for row in rows])
    return np.asarray(weights / weights.sum())


def _confidence_curve(rows: Sequence[Row]) -> Curve:
    # Isotonic regression of the reached Dice on the judged one (pool adjacent violators), then a
    # dozen knots: more would follow the noise.
    order = np.argsort([row.quality for row in rows])
    judged = np.array([rows[index].quality for index in order])
    reached = np.array([rows[index].dice for index in order])
    weights = weights_by_group(rows)[order]
    edges = np.searchsorted(np.cumsum(weights), np.linspace(0, 1, 13)[1:-1])
    knots = [
        (float(np.average(part, weights=w)), float(np.average(dice, weights=w)), float(w.sum()))
        for part, dice, w in zip(
            np.split(judged, edges),
            np.split(reached, edges),
            np.split(weights, edges),
            strict=True,
        )
        if part.size
    ]
    pooled: list[tuple[float, float, float]] = []
    for knot in knots:
        pooled.append(knot)
        while len(pooled) > 1 and pooled[-2][1] > pooled[-1][1]:
            (at, value, weight), (at_before, value_before, weight_before) = (
                pooled.pop(),
                pooled.pop(),
            )
            total = weight + weight_before
            pooled.append(
                (
                    (at * weight + at_before * weight_before) / total,
                    (value * weight + value_before * weight_before) / total,
                    total,
                )
            )
    knots_at = [0.0, *(knot[0] for knot in pooled)]
    lowest = pooled[0][1] if pooled[0][0] <= 0.05 else 0.0
    values = [lowest, *(knot[1] for knot in pooled)]
    return Curve(
        at=tuple(_rounded(one) for one in knots_at),
        value=tuple(_rounded(one) for one in values),
    )


def _intervals(rows: Sequence[Row], trusted: Callable[[Row], float]) -> Intervals:
    area_low, area_high = _interval_curves(rows, trusted, lambda row: row.log_area)
    thick_low, thick_high = _interval_curves(rows, trusted, lambda row: row.log_thickness)
    return Intervals(
        area_low=area_low,
        area_high=area_high,
        thickness_low=thick_low,
        thickness_high=thick_high,
    )


def _interval_curves(
    rows: Sequence[Row], trusted: Callable[[Row], float], error: Callable[[Row], float]
) -> tuple[Curve, Curve]:
    known = [row for row in rows if not math.isnan(error(row))]
    known.sort(key=trusted)
    groups = len({row.group for row in known})
    bins = max(1, min(5, groups // _FEWEST_GROUPS))
    weights = weights_by_group(known)
    edges = np.searchsorted(np.cumsum(weights), np.linspace(0, 1, bins + 1)[1:-1])
    at, low, high = [], [], []
    for part in np.split(np.arange(len(known)), edges):
        if part.size == 0:
            continue
        own = [known[index] for index in part]
        errors = [error(row) for row in own]
        # Conformal: with n groups the 97.5th percentile is taken (n + 1) / n further out.
        reach = min(1.0, 0.975 * (1.0 + 1.0 / max(1, len({row.group for row in own}))))
        at.append(_rounded(float(np.median([trusted(row) for row in own]))))
        low.append(_rounded(min(-0.01, _quantile(errors, own, 1.0 - reach))))
        high.append(_rounded(max(0.01, _quantile(errors, own, reach))))
    return Curve(at=tuple(at), value=tuple(low)), Curve(at=tuple(at), value=tuple(high))


def _quantile(values: Sequence[float], rows: Sequence[Row], share: float) -> float:
    # The quantile where every group weighs the same.
    order = np.argsort(values)
    reached = np.cumsum(weights_by_group(rows)[order])
    index = min(len(values) - 1, int(np.searchsorted(reached, share)))
    return float(np.asarray(values)[order][index])


def _rounded(value: float) -> float:
    return round(value, 4)

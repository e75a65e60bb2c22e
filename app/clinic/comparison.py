"""Two volumes side by side: left and right, or today and the last session.

Beside each comparison stands the smallest change that is more than error.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.clinic.policy import SMALLEST_CHANGE, PolicyEntry
from app.clinic.tables import ClinicalTables
from app.clinic.volume import MuscleVolume


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeComparison:
    """The difference of two volumes of one muscle in mL and as a fraction of the first.

    `more_than_error` is true if the difference is larger than `smallest_change_ml`, whose policy
    entry (`smallest_change`, a fraction of the volume) names its source and grade.
    """

    difference_ml: float
    difference_fraction: float
    smallest_change_ml: float
    smallest_change: PolicyEntry
    more_than_error: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRefused:
    """Why two volumes cannot be compared, and the way out."""

    reason: str
    remedy: str


def smallest_change(method: str, tables: ClinicalTables) -> PolicyEntry:
    """The smallest change that is more than error, as a fraction of the volume, by method.

    14 % for tracked sweeps (G_BARBER_CP), 2.77 × SEM of 8.97 % for the operator's sweeps
    (G_3DUS_PROC), the others judgement; a method of another name is one of the equations.
    """
    own = method in tables.policy.smallest_change
    return tables.policy.entries[SMALLEST_CHANGE + (method if own else "equation")]


def compare_volumes(
    first: MuscleVolume, second: MuscleVolume, tables: ClinicalTables, *, what: str
) -> VolumeComparison | ComparisonRefused:
    """`second` against `first` of the same muscle; `what` names the pair in the sentence.

    Refused for two methods: each has an error of its own, which a difference would show as change.
    """
    if first.method != second.method:
        return ComparisonRefused(
            reason=f"{what}: one volume was measured by {first.method}, the other by "
            f"{second.method}; their difference would be that of the methods.",
            remedy="Measure both in the same way.",
        )
    entry = smallest_change(first.method, tables)
    difference_ml = second.volume_ml - first.volume_ml
    smallest_ml = float(entry.value) * (first.volume_ml + second.volume_ml) / 2
    more = abs(difference_ml) > smallest_ml
    verdict = "more than" if more else "within"
    return VolumeComparison(
        difference_ml=difference_ml,
        difference_fraction=difference_ml / first.volume_ml,
        smallest_change_ml=smallest_ml,
        smallest_change=entry,
        more_than_error=more,
        text=f"{what}: {first.volume_ml:.1f} and {second.volume_ml:.1f} mL, a difference of "
        f"{difference_ml:+.1f} mL; the smallest change that is more than error is "
        f"{smallest_ml:.1f} mL ({float(entry.value):.0%} by {', '.join(entry.sources)}), so it is "
        f"{verdict} the error.",
    )

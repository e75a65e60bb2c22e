"""Two volumes side by side: left and right, or today and the last session.

Beside each comparison stands the smallest change that is more than error.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.clinic.tables import ClinicalTables
from app.clinic.volume import MuscleVolume


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeComparison:
    """The difference of two volumes of one muscle in mL and as a fraction of the earlier or left.

    `more_than_error` is true if the difference is larger than `smallest_change_ml`;
    `same_method` false means that the two errors were added and the comparison is weak.
    """

    first_ml: float
    second_ml: float
    difference_ml: float
    difference_fraction: float
    smallest_change_ml: float
    more_than_error: bool
    same_method: bool
    sources: tuple[str, ...]
    text: str


def smallest_change_fraction(method: str, tables: ClinicalTables) -> float:
    """The smallest change that is more than error, as a fraction of the volume, by method.

    Policy `repeatability`: 14 % for tracked sweeps (G_BARBER_CP), 2.77 × SEM of 8.97 % for the
    operator's sweeps (G_3DUS_PROC), the others judgement.
    """
    known = tables.policy.repeatability
    return known.get(method, known["equation"])


def compare_volumes(
    first: MuscleVolume, second: MuscleVolume, tables: ClinicalTables, *, what: str
) -> VolumeComparison:
    """`second` against `first` of the same muscle; `what` names the pair in the sentence."""
    difference_ml = second.volume_ml - first.volume_ml
    fractions = [smallest_change_fraction(v.method, tables) for v in (first, second)]
    same = first.method == second.method
    mean_ml = (first.volume_ml + second.volume_ml) / 2
    smallest_ml = (max(fractions) if same else sum(fractions)) * mean_ml
    more = abs(difference_ml) > smallest_ml
    verdict = "more than" if more else "within"
    weak = "" if same else f" Measured in two ways ({first.method}, {second.method}): weak."
    return VolumeComparison(
        first_ml=first.volume_ml,
        second_ml=second.volume_ml,
        difference_ml=difference_ml,
        difference_fraction=difference_ml / first.volume_ml,
        smallest_change_ml=smallest_ml,
        more_than_error=more,
        same_method=same,
        sources=tables.policy.entries["repeatability"].sources,
        text=f"{what}: {first.volume_ml:.1f} and {second.volume_ml:.1f} mL, a difference of "
        f"{difference_ml:+.1f} mL; the smallest change that is more than error is "
        f"{smallest_ml:.1f} mL, so it is {verdict} the error.{weak}",
    )


def compare_sides(
    left: MuscleVolume, right: MuscleVolume, tables: ClinicalTables
) -> VolumeComparison:
    """The right muscle against the left one."""
    return compare_volumes(left, right, tables, what="Left and right")


def compare_sessions(
    last: MuscleVolume, today: MuscleVolume, tables: ClinicalTables
) -> VolumeComparison:
    """Today's volume against the last session's."""
    return compare_volumes(last, today, tables, what="The last session and today")

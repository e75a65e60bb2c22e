"""The numbers that no source gives: judgement, each with its reason, changed by a site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.clinic.errors import TableError
from app.clinic.inputs import MAS_VALUES

SMALLEST_CHANGE = "smallest_change_"
"""What the entries begin with that tell, for one way of measuring, what is more than error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyEntry:
    """One number of the policy as its file states it."""

    name: str
    value: Any
    unit: str
    why: str
    grade: str
    sources: tuple[str, ...]
    origin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The policy file, read: units in the names, fractions where no unit stands.

    `entries` are the same numbers as the file states them, each with its reason.
    """

    severity_position_mas: Mapping[str, float]
    severity_missing_position: float
    volume_ratio_bounds: tuple[float, float]
    reference_band_without_sd: float
    reference_band_sds: float
    volume_error_floor: float
    tracked_volume_error: float
    shape_factor_bracket: tuple[float, float, float]
    length_error: float
    sweep_least_sections: int
    sweep_longest_closure: float
    sweep_open_end: float
    dispensing_step_units: Mapping[str, float]
    dilution_usual_units_per_ml: Mapping[str, tuple[float, float]]
    ml_per_site: float
    section_mm2_per_site: float
    sites_without_label: tuple[int, int]
    site_margin_mm: float
    smallest_site_margin_mm: float
    avoid_margin_mm: float
    site_spacing_mm: float
    needle_clearance_mm: float
    needle_angles_deg: tuple[float, ...]
    needle_longest_mm: float
    endplate_reach_percent: float
    adult_age_years: float
    other_product_window_weeks: float
    follow_up_step: Mapping[str, float]
    follow_up_most_of_last: Mapping[str, float]
    smallest_change: Mapping[str, float]
    entries: Mapping[str, PolicyEntry]

    def __post_init__(self) -> None:
        positions = [self.severity_position_mas.get(value, -1.0) for value in MAS_VALUES]
        low, high = self.volume_ratio_bounds
        bracket = self.shape_factor_bracket
        dilutions = self.dilution_usual_units_per_ml.values()
        for fine, name in (
            (positions == sorted(positions), "severity_position_mas"),
            (positions[0] >= 0 and positions[-1] <= 1, "severity_position_mas"),
            (0 <= self.severity_missing_position <= 1, "severity_missing_position"),
            (0 < low <= 1 <= high, "volume_ratio_bounds"),
            (0 < bracket[0] <= bracket[1] <= bracket[2] <= 1, "shape_factor_bracket"),
            (0 < self.smallest_site_margin_mm <= self.site_margin_mm, "site_margin_mm"),
            (all(0 < angle < 90 for angle in self.needle_angles_deg), "needle_angles_deg"),
            (self.sweep_least_sections >= 3, "sweep_least_sections"),
            (all(m > 0 for m in self.follow_up_most_of_last.values()), "follow_up_most_of_last"),
            (all(0 < least <= most for least, most in dilutions), "dilution_usual_units_per_ml"),
            (
                all(step > 0 for step in self.dispensing_step_units.values()),
                "dispensing_step_units",
            ),
        ):
            if not fine:
                raise TableError(
                    f"policy.yaml: {name} has a value that cannot hold.",
                    remedy="Severity positions rise from 0 to 1, the ratio's bounds enclose 1, the "
                    "shape factors rise and stay at or below 1, margins and steps are above 0.",
                )


def read_policy(entries: Mapping[str, PolicyEntry]) -> Policy:
    """The policy made of the file's entries; TableError names one that is missing or malformed."""

    def tuple_of(name: str, length: int) -> tuple[float, ...]:
        values = entries[name].value
        if len(values) != length:
            raise ValueError(name)
        return tuple(float(v) for v in values)

    def number(name: str) -> float:
        return float(entries[name].value)

    def numbers(name: str) -> dict[str, float]:
        return {str(key): float(value) for key, value in entries[name].value.items()}

    try:
        low, high = tuple_of("volume_ratio_bounds", 2)
        paraboloid, usual, ellipsoid = tuple_of("shape_factor_bracket", 3)
        fewest, most = tuple_of("sites_without_label", 2)
        return Policy(
            severity_position_mas=numbers("severity_position_mas"),
            severity_missing_position=number("severity_missing_position"),
            volume_ratio_bounds=(low, high),
            reference_band_without_sd=number("reference_band_without_sd"),
            reference_band_sds=number("reference_band_sds"),
            volume_error_floor=number("volume_error_floor"),
            tracked_volume_error=number("tracked_volume_error"),
            shape_factor_bracket=(paraboloid, usual, ellipsoid),
            length_error=number("length_error"),
            sweep_least_sections=int(number("sweep_least_sections")),
            sweep_longest_closure=number("sweep_longest_closure"),
            sweep_open_end=number("sweep_open_end"),
            dispensing_step_units=numbers("dispensing_step_units"),
            dilution_usual_units_per_ml={
                str(product): (float(least), float(most))
                for product, (least, most) in entries["dilution_usual_units_per_ml"].value.items()
            },
            ml_per_site=number("ml_per_site"),
            section_mm2_per_site=number("section_mm2_per_site"),
            sites_without_label=(int(fewest), int(most)),
            site_margin_mm=number("site_margin_mm"),
            smallest_site_margin_mm=number("smallest_site_margin_mm"),
            avoid_margin_mm=number("avoid_margin_mm"),
            site_spacing_mm=number("site_spacing_mm"),
            needle_clearance_mm=number("needle_clearance_mm"),
            needle_angles_deg=tuple(float(a) for a in entries["needle_angles_deg"].value),
            needle_longest_mm=number("needle_longest_mm"),
            endplate_reach_percent=number("endplate_reach_percent"),
            adult_age_years=number("adult_age_years"),
            other_product_window_weeks=number("other_product_window_weeks"),
            follow_up_step=numbers("follow_up_step"),
            follow_up_most_of_last=numbers("follow_up_most_of_last"),
            smallest_change={
                method: number(SMALLEST_CHANGE + method)
                for method in ("sweep_tracked", "sweep", "section_length", "equation")
            },
            entries=dict(entries),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise TableError(
            f"policy.yaml: {problem} is missing or malformed.",
            remedy="Take the entry over from the shipped policy.yaml and change only its value.",
        ) from problem

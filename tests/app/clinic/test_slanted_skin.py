"""Depths and needles start at the skin, also where a panorama's rim is slanted."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.clinic.observation import Observation, ObservedSection
from app.clinic.plan import plan_muscle
from app.clinic.tables import ClinicalTables


def slanted(section: ObservedSection, *, top: float, slope: float) -> ObservedSection:
    """The section under a skin that falls by `slope` rows a column from `top` at the left."""
    columns = section.mask.shape[1]
    return replace(section, skin_rows=top + slope * np.arange(columns, dtype=np.float64))


@pytest.mark.parametrize("slope", [0.0, 0.1, -0.1])
def test_depth_is_counted_from_the_skin_over_the_site(
    make: Any, tables: ClinicalTables, slope: float
) -> None:
    """Each site's depth is the way straight down from the skin over it."""
    section = slanted(make.section(), top=40.0, slope=slope)
    plan = plan_muscle(
        make.inputs(muscle_length_mm=240.0),
        Observation(view="short_axis", sections=(section,)),
        tables,
        today=None,
    )
    assert plan.sites
    scale = section.calibration
    assert scale is not None
    for site in plan.sites:
        skin = section.skin_row_at(site.point.column)
        assert site.depth_mm == pytest.approx((site.point.row - skin) * scale.row_mm_per_px)


@pytest.mark.parametrize("slope", [0.0, 0.1, -0.1])
def test_a_needle_enters_at_the_skin(make: Any, tables: ClinicalTables, slope: float) -> None:
    """The entry lies on the skin, and the needle keeps the angle that is told."""
    section = slanted(make.section(), top=40.0, slope=slope)
    plan = plan_muscle(
        make.inputs(muscle_length_mm=240.0),
        Observation(view="short_axis", sections=(section,)),
        tables,
        today=None,
    )
    scale = section.calibration
    assert scale is not None
    for site in plan.sites:
        path = site.path
        assert path is not None
        assert path.entry.row == pytest.approx(section.skin_row_at(path.entry.column), abs=0.6)
        down = (site.point.row - path.entry.row) * scale.row_mm_per_px
        across = abs(site.point.column - path.entry.column) * scale.column_mm_per_px
        assert path.length_mm == pytest.approx(math.hypot(down, across), rel=1e-6)
        if path.approach != "out_of_plane":
            angle = math.degrees(math.atan2(down, across))
            assert angle == pytest.approx(path.angle_deg, abs=0.5)

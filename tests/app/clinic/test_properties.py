"""What holds for every request, not for examples: caps, monotony, sites, scaling, Units.

300 cases each; 10,000 with SONODOSE_SLOW=1.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.clinic.derivation import Step
from app.clinic.dosing import DosePlan, plan_dose
from app.clinic.evidence import CAP_GRADES, DOSE_GRADES, CapKind, DoseRow, Grade
from app.clinic.inputs import (
    MAS_VALUES,
    ClinicalInputs,
    Dilution,
    Patient,
    PriorTreatment,
    Severity,
)
from app.clinic.observation import Observation
from app.clinic.plan import plan_muscle
from app.clinic.products import ToxinUnits
from app.clinic.session import SessionItem, plan_session
from app.clinic.sites import place_sites
from app.clinic.tables import ClinicalTables, load_tables
from app.clinic.volume import MuscleVolume, muscle_volume
from imaging.arrays import BoolMask
from imaging.calibration import Calibration, CalibrationProvenance

TABLES = load_tables()
TODAY = dt.date(2026, 3, 2)
USABLE = [r for r in TABLES.dose_rows if r.has_range and r.grade in DOSE_GRADES]
EPSILON = 1e-6
SMALL = np.ones((4, 4), dtype=np.bool_)
"""A mask for tests in which only the stated area counts."""


def volume_of(volume_ml: float) -> MuscleVolume:
    return MuscleVolume(
        volume_ml=volume_ml,
        interval_ml=(volume_ml * 0.8, volume_ml * 1.3),
        method="sweep",
        published_error="-",
        sections_used=(),
        step=Step(name="volume", value=volume_ml, unit="mL", equation="given", sources=()),
    )


severities = st.sampled_from([None, *MAS_VALUES])
volumes = st.floats(2, 1500)
dilutions = st.none() | st.builds(
    Dilution, units=st.sampled_from([50.0, 100.0, 300.0, 500.0]), ml=st.floats(0.5, 10)
)


@st.composite
def treatments(draw: st.DrawFn, product: str) -> tuple[PriorTreatment, ...]:
    """A few earlier treatments, some of today, some long ago, some with another product."""
    return tuple(
        PriorTreatment(
            product=draw(st.sampled_from([product, product, *TABLES.products])),
            units=draw(st.floats(1, 600)),
            date=TODAY - dt.timedelta(days=draw(st.sampled_from([0, 0, 10, 83, 84, 200]))),
            muscles=draw(st.sampled_from([None, ("biceps_brachii",), ("soleus",)])),
            response=draw(st.sampled_from([None, "good", "insufficient", "weakness"])),
        )
        for _ in range(draw(st.integers(0, 3)))
    )


@st.composite
def requests(draw: st.DrawFn, rows: list[DoseRow] | None = None) -> ClinicalInputs:
    """A request for any usable row with every other fact drawn."""
    row = draw(st.sampled_from(rows or USABLE))
    adult = row.population == "adult"
    severity = draw(severities)
    return ClinicalInputs(
        muscle=row.muscle,
        side=draw(st.sampled_from(["left", "right"])),
        product=row.product,
        indication=row.indication,
        jurisdiction=row.jurisdiction,
        off_label=row.grade is Grade.CONSENSUS or draw(st.booleans()),
        patient=Patient(
            age_years=draw(st.floats(18, 100) if adult else st.floats(2, 17.9)),
            weight_kg=draw(st.floats(35, 160) if adult else st.floats(8, 90)),
            height_m=draw(st.floats(1.3, 2.1)),
        ),
        severity=None if severity is None else Severity(scale="MAS", value=severity),
        dilution=draw(dilutions),
        prior_treatments=draw(treatments(row.product)),
    )


def dose_of(inputs: ClinicalInputs, volume_ml: float, **other: Any) -> float:
    dose = plan_dose(inputs, volume_of(volume_ml), TABLES, today=TODAY, **other)
    return dose.units.value if isinstance(dose, DosePlan) else 0.0


@given(inputs=requests(), volume_ml=volumes, placed=st.none() | st.integers(1, 6))
def test_no_plan_is_over_any_cap(
    inputs: ClinicalInputs, volume_ml: float, placed: int | None
) -> None:
    """Whatever is asked, the Units stay under every cap of the table, per site too, less what
    was given."""
    dose = plan_dose(inputs, volume_of(volume_ml), TABLES, today=TODAY, sites_available=placed)
    if not isinstance(dose, DosePlan):
        assert dose.code == "nothing_left_under_caps"
        return
    units, row, weight = dose.units.value, dose.row, inputs.patient.weight_kg or 0.0
    limb = TABLES.limb_of(row.muscle)
    assert units <= dose.label_max_units + EPSILON
    for cap in TABLES.caps:
        if (
            cap.product != row.product
            or cap.population not in ("any", row.population)
            or cap.jurisdiction not in ("US", inputs.jurisdiction)
            or cap.value is None
            or cap.grade not in CAP_GRADES
            or cap.where not in ("any", limb, row.muscle)
        ):
            continue
        limit = cap.value * (weight if cap.unit == "units_per_kg" else 1.0)
        if cap.kind is CapKind.SITE:
            if cap.unit == "ml":
                assert dose.ml_per_site is None or max(dose.ml_per_site) <= limit + EPSILON
            else:
                assert max(dose.units_per_site) <= limit + EPSILON
        elif cap.kind is not CapKind.INTERVAL:
            days = 7 * (cap.window_weeks or 0) if cap.kind is CapKind.CUMULATIVE else 1
            limb_muscle = {"upper_limb": "biceps_brachii", "lower_limb": "soleus"}.get(limb)
            given_units = sum(
                p.units
                for p in inputs.prior_treatments or ()
                if p.product == row.product
                and (TODAY - p.date).days < days
                and (cap.where == "any" or p.muscles is None or limb_muscle in p.muscles)
            )
            assert units + given_units <= limit + EPSILON
    assert sum(dose.units_per_site) == pytest.approx(units)
    assert len(dose.units_per_site) == dose.site_count
    low, high = dose.interval_units
    assert low <= units <= high
    step = TABLES.policy.dispensing_step_units[row.product]
    assert units / step == pytest.approx(round(units / step))


@given(inputs=requests(), volume_ml=volumes, more=st.floats(1, 3))
def test_dose_never_falls_with_volume(
    inputs: ClinicalInputs, volume_ml: float, more: float
) -> None:
    """A larger measured volume never gives a smaller dose."""
    assert dose_of(inputs, volume_ml * more) >= dose_of(inputs, volume_ml) - EPSILON


@given(inputs=requests(), volume_ml=volumes, first=severities, second=severities)
def test_dose_never_falls_with_severity(
    inputs: ClinicalInputs, volume_ml: float, first: str | None, second: str | None
) -> None:
    """A higher grade of the scale never gives a smaller dose; not given is the lowest."""
    order = [None, *MAS_VALUES]
    lower, higher = sorted((first, second), key=order.index)
    doses = [
        dose_of(
            replace(inputs, severity=None if s is None else Severity(scale="MAS", value=s)),
            volume_ml,
        )
        for s in (lower, higher)
    ]
    assert doses[0] <= doses[1] + EPSILON


@given(
    inputs=requests([r for r in USABLE if r.units_per_kg is not None]),
    volume_ml=volumes,
    more=st.floats(1, 3),
)
def test_dose_per_kilogram_never_falls_with_weight(
    inputs: ClinicalInputs, volume_ml: float, more: float
) -> None:
    """A row in Units per kilogram never gives a heavier child less."""
    heavier = replace(
        inputs, patient=replace(inputs.patient, weight_kg=(inputs.patient.weight_kg or 0) * more)
    )
    assert dose_of(heavier, volume_ml) >= dose_of(inputs, volume_ml) - EPSILON


@given(inputs=requests(), volume_ml=volumes, fewer=st.integers(1, 5))
def test_fewer_sites_never_raise_the_dose(
    inputs: ClinicalInputs, volume_ml: float, fewer: int
) -> None:
    """Sites that could not be placed only ever lower the dose."""
    one_less = dose_of(inputs, volume_ml, sites_available=fewer)
    assert one_less <= dose_of(inputs, volume_ml, sites_available=fewer + 1) + EPSILON
    assert one_less <= dose_of(inputs, volume_ml) + EPSILON


# --- sites ------------------------------------------------------------------------------------


@st.composite
def muscles(draw: st.DrawFn) -> tuple[BoolMask, BoolMask, Calibration]:
    """A muscle of two ellipses, a round structure to avoid, and a scale, not always square."""
    rows, columns = draw(st.integers(60, 160)), draw(st.integers(60, 200))
    row, column = np.mgrid[0:rows, 0:columns] + 0.5

    def blob(small: float, large: float) -> BoolMask:
        centre = draw(st.floats(0.25, 0.75)) * rows, draw(st.floats(0.25, 0.75)) * columns
        half = draw(st.floats(small, large)) * rows, draw(st.floats(small, large)) * columns
        inside: BoolMask = ((row - centre[0]) / half[0]) ** 2 + (
            (column - centre[1]) / half[1]
        ) ** 2 <= 1
        return inside

    mask = blob(0.08, 0.4) | blob(0.05, 0.3)
    assume(mask.any())
    avoid = blob(0.03, 0.1) if draw(st.booleans()) else np.zeros_like(mask)
    scale = draw(st.floats(0.08, 0.5))
    stretch = draw(st.sampled_from([1.0, 1.0, 0.6, 1.7]))
    return (
        mask,
        avoid,
        Calibration(
            row_mm_per_px=scale,
            column_mm_per_px=scale * stretch,
            provenance=CalibrationProvenance.OPERATOR,
        ),
    )


def seen(make: Any, mask: BoolMask, avoid: BoolMask, scale: Calibration, view: str) -> Observation:
    section = make.section(mask, scale, avoid=avoid, skin_row=0)
    observation: Observation = make.observation(section, view=view)
    return observation


def nearest_mm(mask: BoolMask, column: float, row: float, scale: Calibration) -> float:
    """The distance in mm from a point to the nearest pixel square of a mask, by looking at all."""
    rows, columns = np.nonzero(mask)
    if len(rows) == 0:
        return math.inf
    aside = np.maximum(np.abs(columns + 0.5 - column) - 0.5, 0) * scale.column_mm_per_px
    deep = np.maximum(np.abs(rows + 0.5 - row) - 0.5, 0) * scale.row_mm_per_px
    return float(np.hypot(aside, deep).min())


views = st.sampled_from(["short_axis", "long_axis"])


@given(muscle=muscles(), wanted=st.integers(1, 6), view=views)
def test_sites_keep_their_margins(
    make: Any, muscle: tuple[BoolMask, BoolMask, Calibration], wanted: int, view: str
) -> None:
    """Every site lies in the muscle, off its edge, off nerve and vessel, and apart from others."""
    mask, avoid, scale = muscle
    policy = TABLES.policy
    placement = place_sites(make.inputs(), seen(make, mask, avoid, scale, view), wanted, TABLES)
    assert len(placement.sites) <= wanted
    assert bool(placement.sites) != (placement.refused is not None)
    outside = np.pad(~mask, 1, constant_values=True)
    for site in placement.sites:
        column, row = site.point.column, site.point.row
        assert mask[math.floor(row), math.floor(column)]
        edge = nearest_mm(outside, column + 1, row + 1, scale)
        assert site.margin_mm == pytest.approx(edge, abs=1e-6)
        assert edge >= policy.smallest_site_margin_mm - EPSILON
        structure = nearest_mm(avoid, column, row, scale)
        assert structure >= policy.avoid_margin_mm - EPSILON
        assert site.path is not None
        assert site.path.clear
    for a in placement.sites:
        for b in placement.sites:
            gap = scale.distance_mm(a.point, b.point)
            assert a.number == b.number or gap >= policy.site_spacing_mm - EPSILON


def own_mirror_image(mask: BoolMask, avoid: BoolMask) -> bool:
    """True if muscle and structures are symmetric about the muscle's own middle."""
    columns = np.nonzero(mask.any(axis=0))[0]
    room = mask.shape[1]
    padded = [np.pad(m, ((0, 0), (room, room))) for m in (mask, avoid)]
    first, last = columns[0] + room, columns[-1] + room
    windows = [m[:, first - room : last + room + 1] for m in padded]
    return all(bool((w == w[:, ::-1]).all()) for w in windows)


@given(muscle=muscles(), wanted=st.integers(1, 6), view=views)
def test_sites_are_mirrored_with_the_image(
    make: Any, muscle: tuple[BoolMask, BoolMask, Calibration], wanted: int, view: str
) -> None:
    """The mirrored image has the mirrored sites; only a muscle that is its own mirror image, with
    a structure in its middle, leaves two equal places to choose from."""
    mask, avoid, scale = muscle
    assume(not (avoid.any() and own_mirror_image(mask, avoid)))
    there = place_sites(make.inputs(), seen(make, mask, avoid, scale, view), wanted, TABLES)
    flipped = seen(make, mask[:, ::-1], avoid[:, ::-1], scale, view)
    back = place_sites(make.inputs(), flipped, wanted, TABLES)
    columns = mask.shape[1]
    assert len(there.sites) == len(back.sites)
    for site in there.sites:
        assert any(
            abs(site.point.row - other.point.row) < 0.01
            and abs(columns - site.point.column - other.point.column) < 0.01
            for other in back.sites
        )


@pytest.mark.parametrize("wanted", range(1, 7))
@pytest.mark.parametrize("columns", [400, 401])
def test_a_symmetric_muscle_has_symmetric_sites(
    make: Any, tables: ClinicalTables, wanted: int, columns: int
) -> None:
    """The sites of an ellipse lie evenly to both sides of its middle, for even and odd widths."""
    mask = make.ellipse((300, columns), (140, columns / 2), (100, 150))
    sites = place_sites(make.inputs(), make.observation(make.section(mask)), wanted, tables).sites
    assert len(sites) == wanted
    here = sorted((round(s.point.column - columns / 2, 3), round(s.point.row, 3)) for s in sites)
    there = sorted((round(columns / 2 - s.point.column, 3), round(s.point.row, 3)) for s in sites)
    assert np.allclose(here, there, atol=0.01)


# --- volume -----------------------------------------------------------------------------------


@given(
    areas_mm2=st.lists(st.floats(20, 2000), min_size=3, max_size=12),
    spacing_mm=st.floats(2, 30),
    k=st.floats(0.3, 3),
)
def test_swept_volume_scales_with_the_cube(
    make: Any, areas_mm2: list[float], spacing_mm: float, k: float
) -> None:
    """A muscle k times as large in every direction has k³ times the swept volume."""

    def volume_ml(scale: float) -> float:
        sections = tuple(
            make.section(
                SMALL,
                frame_key=str(i),
                position_mm=i * spacing_mm * scale,
                area_mm2=area * scale**2,
            )
            for i, area in enumerate(areas_mm2)
        )
        found = muscle_volume(
            make.inputs(sweep=make.sweep(spacing_mm * scale)),
            make.observation(*sections),
            TABLES,
        )
        assert isinstance(found, MuscleVolume)
        return found.volume_ml

    assert volume_ml(k) == pytest.approx(volume_ml(1.0) * k**3, rel=1e-6)


@given(area_mm2=st.floats(20, 3000), length_mm=st.floats(20, 300), k=st.floats(0.3, 3))
def test_section_and_length_scale_with_the_cube(
    make: Any, area_mm2: float, length_mm: float, k: float
) -> None:
    """A section k² times and a length k times as large give k³ times the volume."""

    def found(scale: float) -> MuscleVolume:
        volume = muscle_volume(
            make.inputs(muscle_length_mm=length_mm * scale),
            make.observation(make.section(SMALL, area_mm2=area_mm2 * scale**2)),
            TABLES,
        )
        assert isinstance(volume, MuscleVolume)
        return volume

    assert found(k).volume_ml == pytest.approx(found(1.0).volume_ml * k**3, rel=1e-9)
    low, high = found(k).interval_ml
    assert low < found(k).volume_ml < high


# --- Units ------------------------------------------------------------------------------------

products = st.sampled_from(sorted(TABLES.products))


@given(first=products, second=products, a=st.floats(0, 1e4), b=st.floats(0, 1e4))
def test_units_of_two_products_never_meet(first: str, second: str, a: float, b: float) -> None:
    """Adding or comparing Units of two products is a TypeError; of one product it is arithmetic."""
    one, other = ToxinUnits(first, a), ToxinUnits(second, b)
    if first == second:
        assert (one + other).value == a + b
        assert (one <= other) == (a <= b)
        return
    for meet in (
        lambda: one + other,
        lambda: one <= other,
        lambda: one < other,
        lambda: one >= other,
        lambda: one > other,
    ):
        with pytest.raises(TypeError, match="Units belong to one product"):
            meet()


# --- sessions ---------------------------------------------------------------------------------

ARM = [
    r
    for r in USABLE
    if r.product == "XEOMIN" or (r.product == "BOTOX" and r.indication == "upper_limb_spasticity")
]


@given(data=st.data(), product=st.sampled_from(["XEOMIN", "BOTOX"]))
def test_a_session_is_under_its_joint_caps(data: st.DataObject, product: str) -> None:
    """The sum stays under every joint cap, nothing is raised, and priorities are kept."""
    rows = [r for r in ARM if r.product == product and r.population == "adult"]
    chosen = data.draw(
        st.lists(
            st.tuples(st.sampled_from(rows), st.sampled_from(["left", "right"])),
            min_size=1,
            max_size=8,
            unique_by=lambda c: (c[0].muscle, c[1]),
        )
    )
    patient = Patient(age_years=50, weight_kg=data.draw(st.floats(40, 120)), height_m=1.7)
    items = []
    for row, side in chosen:
        inputs = ClinicalInputs(
            muscle=row.muscle,
            side=side,
            product=product,
            indication=row.indication,
            patient=patient,
            severity=Severity(scale="MAS", value=data.draw(st.sampled_from(MAS_VALUES))),
            dilution=Dilution(units=100, ml=2),
            prior_treatments=(),
        )
        items.append(
            SessionItem(
                key=f"{row.muscle} {side}",
                inputs=inputs,
                dose=plan_dose(inputs, volume_of(data.draw(volumes)), TABLES, today=TODAY),
                priority=data.draw(st.integers(1, 3)),
            )
        )
    plan = plan_session(items, TABLES)
    assert plan.total.value <= 400 + EPSILON
    kept = {}
    for before, after in zip(items, plan.items, strict=True):
        assert isinstance(before.dose, DosePlan)
        kept[after.key] = after.dose.units.value if isinstance(after.dose, DosePlan) else 0.0
        assert kept[after.key] <= before.dose.units.value + EPSILON
        if isinstance(after.dose, DosePlan):
            assert sum(after.dose.units_per_site) == pytest.approx(kept[after.key])
    assert plan.total.value == pytest.approx(sum(kept.values()))
    for cap in plan.caps:
        assert cap.planned_units <= cap.held.left_units + EPSILON
    for a in items:
        for b in items:
            assert isinstance(a.dose, DosePlan)
            assert isinstance(b.dose, DosePlan)
            if a.priority < b.priority and kept[a.key] < a.dose.units.value - EPSILON:
                assert kept[b.key] <= b.dose.label_min_units + EPSILON


@given(inputs=requests(), volume_ml=volumes)
def test_every_plan_names_its_own_units_only(
    make: Any, inputs: ClinicalInputs, volume_ml: float
) -> None:
    """No amount of another product's Units stands in a derivation, whatever was given before."""
    dose = plan_dose(inputs, volume_of(volume_ml), TABLES, today=TODAY)
    if isinstance(dose, DosePlan):
        for step in dose.step.walk():
            assert not any(
                name in step.unit for name in TABLES.products if name != dose.units.product
            )


def test_a_plan_is_the_same_twice(make: Any, tables: ClinicalTables) -> None:
    """The same inputs give equal sites and equal doses."""
    plans = [plan_muscle(make.inputs(), make.observation(), tables, today=TODAY) for _ in range(2)]
    assert plans[0].sites == plans[1].sites
    assert plans[0].dose == plans[1].dose

"""Volume: which way was taken, which were refused and why, and how sure it is."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.clinic.inputs import Patient, ShapeFactor
from app.clinic.plan import plan_muscle
from app.clinic.tables import ClinicalTables, load_tables
from app.clinic.volume import (
    MuscleVolume,
    NoReference,
    Reference,
    VolumeUnknown,
    muscle_volume,
    reference_volume,
    swept_mm3,
)

SMALL = np.ones((4, 4), dtype=np.bool_)
ADULT = Patient(age_years=30, weight_kg=75, height_m=1.75)


def known(*args: Any) -> MuscleVolume:
    found = muscle_volume(*args)
    assert isinstance(found, MuscleVolume), found
    return found


def unknown(*args: Any) -> VolumeUnknown:
    found = muscle_volume(*args)
    assert isinstance(found, VolumeUnknown), found
    return found


def sweep_of(make: Any, areas_mm2: list[float], positions_mm: list[float] | None = None) -> Any:
    return make.observation(
        *(
            make.section(
                SMALL,
                frame_key=str(i),
                area_mm2=area,
                position_mm=None if positions_mm is None else positions_mm[i],
            )
            for i, area in enumerate(areas_mm2)
        )
    )


# --- sweep ------------------------------------------------------------------------------------


def test_truncated_cones_by_hand(tables: ClinicalTables) -> None:
    """Areas 100, 400, 100 mm² 10 mm apart: two cones of 10/3 · (100 + 400 + 200) mm³ and two
    pointed tips of 10 mm, as a spindle has them."""
    # a spindle of straight sides: radii go 1, 2, 1 → convex areas, so cones and pointed tips
    swept = swept_mm3([0, 10, 20, 30, 40], [100, 400, 900, 400, 100], tables.policy)
    between = 2 * (10 / 3 * (100 + 400 + 200) + 10 / 3 * (400 + 900 + 600))
    assert swept.between_mm3 == pytest.approx(between)
    assert swept.beyond_mm3 == pytest.approx(2 * 100 * 10 / 3)
    assert swept.open_ends == 0


def test_parabola_closes_a_rounded_end_exactly(tables: ClinicalTables) -> None:
    """Areas 36, 64, 84, 96, 100, … of an ellipsoid: the ends are closed as the ellipsoid is."""
    positions = [float(z) for z in range(-8, 9, 2)]
    areas = [100.0 - z * z for z in positions]
    swept = swept_mm3(positions, areas, tables.policy)
    cap = 2 * (2 * (100 * 10 - 1000 / 3) - 2 * (100 * 8 - 512 / 3)) / 2
    assert swept.beyond_mm3 == pytest.approx(cap)
    first = (100 * -6 - (-216) / 3) - (100 * -8 - (-512) / 3)
    cones = 2 * sum(2 / 3 * (a + b + math.sqrt(a * b)) for a, b in itertools.pairwise(areas[1:5]))
    assert swept.between_mm3 == pytest.approx(2 * first + cones)


def test_a_belly_that_goes_on_is_open(tables: ClinicalTables) -> None:
    """Ends above 40 % of the largest section are open, and nothing is invented where the areas
    do not fall."""
    swept = swept_mm3([0, 10, 20], [100, 100, 100], tables.policy)
    assert swept.between_mm3 == pytest.approx(2000)
    assert swept.beyond_mm3 == 0
    assert swept.open_ends == 2
    assert swept_mm3([0, 10, 20], [40, 100, 40], tables.policy).open_ends == 0
    assert swept_mm3([0, 10, 20], [41, 100, 40], tables.policy).open_ends == 1


def test_ends_that_taper_by_less_than_a_float_can_hold_are_cylinders(
    tables: ClinicalTables,
) -> None:
    """Sections equal but for the last bit have a volume, and as many of them the same."""
    more = math.nextafter(100.0, 200.0)
    nearly = swept_mm3([0, 10, 20], [100.0, more, math.nextafter(more, 200.0)], tables.policy)
    reach = tables.policy.sweep_longest_closure * 20
    assert nearly.between_mm3 == pytest.approx(2000)
    # One end runs on as a cylinder; the other falls nowhere and stays closed where it is.
    assert nearly.beyond_mm3 == pytest.approx(100 * reach)
    barely = swept_mm3([0, 10, 20], [100.0, 100.0 + 1e-9, 100.0 + 3e-9], tables.policy)
    assert barely.beyond_mm3 == pytest.approx(nearly.beyond_mm3, rel=1e-6)


def test_no_end_reaches_far(tables: ClinicalTables) -> None:
    """A slowly falling end is closed within 0.3 of the swept length."""
    # radii 10, 10.5, 11 …: the tip of the cone would lie 200 mm away; the limit is 6 mm
    areas = [10.0**2, 10.5**2, 11.0**2]
    swept = swept_mm3([0, 10, 20], areas, tables.policy)
    tip, reach = 200.0, 6.0
    assert swept.beyond_mm3 == pytest.approx(100 / 3 * (tip - (tip - reach) ** 3 / tip**2))
    # A(s) = 88 − 3.3 s − 0.09… s²: concave, falls to zero beyond the limit
    flat = swept_mm3([0, 10, 20], [90.0, 100.0, 109.0], tables.policy)
    b, c = -1.05, -0.005
    assert flat.beyond_mm3 == pytest.approx(90 * 6 + b * 18 + c * 72)


def test_an_empty_section_ends_the_muscle(tables: ClinicalTables) -> None:
    """A section that no longer shows the muscle bounds the end, and closes it."""
    open_end = swept_mm3([0, 10, 20, 30], [0, 80, 100, 50], tables.policy)
    assert open_end.open_ends == 1
    whole = swept_mm3([0, 5, 10, 20, 30, 35], [0, 0, 80, 100, 50, 0], tables.policy)
    assert whole.open_ends == 0


def test_sweep_by_the_operators_spacing(make: Any, tables: ClinicalTables) -> None:
    """Without tracked positions the operator's spacing places the sections, in their order."""
    found = known(make.inputs(sweep=make.sweep(10)), sweep_of(make, [50, 100, 50]), tables)
    assert found.method == "sweep"
    assert found.sections_used == ("0", "1", "2")
    assert "G_FITZE25" in found.published_error
    same = known(
        make.inputs(sweep=make.sweep(10)), sweep_of(make, [50, 100, 50], [0, 10, 20]), tables
    )
    assert same.volume_ml == found.volume_ml


def test_tracked_positions_need_no_order(make: Any, tables: ClinicalTables) -> None:
    """Frames that carry positions are sorted by them, and their error is the tracked one."""
    found = known(make.inputs(), sweep_of(make, [100, 50, 50], [10, 20, 0]), tables)
    assert found.method == "sweep_tracked"
    assert found.sections_used == ("2", "0", "1")
    assert "G_NOORKOIV19" in found.published_error
    operator = known(make.inputs(sweep=make.sweep(10)), sweep_of(make, [50, 100, 50]), tables)
    assert found.volume_ml == pytest.approx(operator.volume_ml)
    assert found.interval_ml[0] > operator.interval_ml[0]
    assert found.interval_ml[1] < operator.interval_ml[1]


def test_the_interval_of_a_sweep_by_hand(make: Any, tables: ClinicalTables) -> None:
    """±10 % on what lies between the sections, the closed ends counted half or one and a half."""
    found = known(make.inputs(sweep=make.sweep(10)), sweep_of(make, [25, 100, 25]), tables)
    swept = swept_mm3([0, 10, 20], [25, 100, 25], tables.policy)
    assert found.volume_ml == pytest.approx((swept.between_mm3 + swept.beyond_mm3) / 1000)
    low = (swept.between_mm3 + swept.beyond_mm3 * 0.5) * 0.9 / 1000
    high = (swept.between_mm3 + swept.beyond_mm3 * 1.5) * 1.1 / 1000
    assert found.interval_ml == pytest.approx((low, high))
    opened = known(make.inputs(sweep=make.sweep(10)), sweep_of(make, [50, 100, 25]), tables)
    swept = swept_mm3([0, 10, 20], [50, 100, 25], tables.policy)
    assert opened.open_ends == 1
    assert opened.interval_ml == pytest.approx(
        (swept.between_mm3 * 0.9 / 1000, (swept.between_mm3 + swept.beyond_mm3 * 2) * 1.1 / 1000)
    )


def test_uncertain_areas_widen_the_interval(make: Any, tables: ClinicalTables) -> None:
    """The areas' own intervals are carried through; even an area that may be nothing leaves a
    volume above zero."""
    sections = [
        make.section(
            SMALL,
            frame_key=str(i),
            position_mm=10.0 * i,
            area_mm2=area,
            area_interval_mm2=(0.0, 2 * area),
        )
        for i, area in enumerate([25.0, 100.0, 25.0])
    ]
    wide = known(make.inputs(sweep=make.sweep(10)), make.observation(*sections), tables)
    narrow = known(make.inputs(sweep=make.sweep(10)), sweep_of(make, [25, 100, 25]), tables)
    assert wide.volume_ml == narrow.volume_ml
    assert 0 < wide.interval_ml[0] < 0.1 * wide.volume_ml
    assert wide.interval_ml[1] > 1.7 * wide.volume_ml


@pytest.mark.parametrize(
    ("areas", "positions"),
    [
        ([100.0, 100.0], [0.0, 10.0]),
        ([50.0, 100.0, 50.0], [0.0, 10.0, 10.0]),
        ([0.0, 100.0, 50.0], [0.0, 10.0, 20.0]),
    ],
)
def test_a_sweep_of_too_few_falls_back(
    make: Any, tables: ClinicalTables, areas: list[float], positions: list[float]
) -> None:
    """Fewer than three showing sections at places of their own are no sweep; with a length the
    largest section is used, and the plan says why."""
    found = known(make.inputs(sweep=make.sweep(10)), sweep_of(make, areas, positions), tables)
    assert found.method == "section_length"
    assert found.sections_used == ("0",) if areas[0] == areas[1] else ("1",)
    assert "at least 3 sections" in found.refused[0].reason


# --- one section ------------------------------------------------------------------------------


def test_the_largest_section_is_used(make: Any, tables: ClinicalTables) -> None:
    """Of several stills without positions the largest section counts."""
    found = known(make.inputs(), sweep_of(make, [100, 300, 200]), tables)
    assert found.sections_used == ("1",)
    assert found.volume_ml == pytest.approx(0.58 * 300 * 240 / 1000)


def test_a_typed_factor_needs_no_bracket(make: Any, tables: ClinicalTables) -> None:
    """A factor with its source is used as it is, ±10 % at least."""
    inputs = make.inputs(shape_factor=ShapeFactor(value=0.6, source="our own MRI"))
    found = known(inputs, make.observation(make.section(SMALL, area_mm2=500.0)), tables)
    assert found.volume_ml == pytest.approx(72.0)
    assert found.interval_ml == pytest.approx((64.8, 79.2))
    assert "our own MRI" in found.published_error


def test_the_areas_interval_is_carried(make: Any, tables: ClinicalTables) -> None:
    """Section × length: factor, area and length each widen the interval; no area, no lower end."""
    section = make.section(SMALL, area_mm2=500.0, area_interval_mm2=(400.0, 650.0))
    found = known(make.inputs(), make.observation(section), tables)
    assert found.interval_ml == pytest.approx(
        (0.50 * 400 * 240 * 0.97 / 1000, 0.67 * 650 * 240 * 1.03 / 1000)
    )
    nothing = make.section(SMALL, area_mm2=500.0, area_interval_mm2=(0.0, 650.0))
    low, _ = known(make.inputs(), make.observation(nothing), tables).interval_ml
    assert low == pytest.approx(0.58 * 500 * 240 / 1000 * 0.9)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"muscle_length_mm": None}, "a volume needs the muscle's length"),
        ({}, "No section has an area"),
    ],
)
def test_what_one_section_lacks(
    make: Any, tables: ClinicalTables, changed: dict[str, Any], words: str
) -> None:
    """Without length, or without area, there is no volume, and the reason says which."""
    area = 0.0 if not changed else 100.0
    found = unknown(
        make.inputs(**changed), make.observation(make.section(SMALL, area_mm2=area)), tables
    )
    assert words in found.reason
    assert found.remedy


@pytest.mark.parametrize(
    ("view", "words"),
    [("long_axis", "never becomes a volume"), (None, "not known whether")],
)
def test_only_a_short_axis_gives_a_volume(
    make: Any, tables: ClinicalTables, view: str | None, words: str
) -> None:
    """A long-axis or unknown view gives no volume, from one section or from a sweep."""
    sections = [make.section(SMALL, frame_key=str(i), position_mm=10.0 * i) for i in range(4)]
    for observation, inputs in (
        (make.observation(sections[0], view=view), make.inputs()),
        (make.observation(*sections, view=view), make.inputs(sweep=make.sweep(10))),
    ):
        assert words in unknown(inputs, observation, tables).reason


def test_no_section_no_volume(make: Any, tables: ClinicalTables) -> None:
    """Without any section there is nothing to measure."""
    observation = replace(make.observation(), sections=())
    assert "No section" in unknown(make.inputs(), observation, tables).reason


# --- equations --------------------------------------------------------------------------------


def calf(make: Any, **other: Any) -> Any:
    fields: dict[str, Any] = {
        "muscle": "soleus",
        "product": None,
        "indication": None,
        "patient": ADULT,
        "muscle_length_mm": None,
        "limb_length_mm": 380.0,
        "measurements_mm": {"soleus_thickness_mm": 15.0},
    }
    return make.inputs(**{**fields, **other})


def test_equations_by_hand(make: Any, tables: ClinicalTables) -> None:
    """Each published equation by hand: thickness and limb length in cm."""
    long_axis = make.observation(view="long_axis")
    for muscle, measurement, thickness_mm, expected in (
        ("soleus", "soleus_thickness_mm", 15.0, 73.6 * 1.5 + 10.6 * 38 - 284.4),
        (
            "gastrocnemius",
            "gastrocnemius_mean_thickness_mm",
            17.0,
            85.3 * 1.7 + 5.0 * 38 - 104.9,
        ),
        ("triceps_surae", "posterior_thickness_mm", 65.0, 218.1 * 6.5 + 30.7 * 38 - 1730.4),
    ):
        found = known(
            calf(make, muscle=muscle, measurements_mm={measurement: thickness_mm}),
            long_axis,
            tables,
        )
        assert found.volume_ml == pytest.approx(expected)
        assert found.interval_ml[0] <= 0.9 * found.volume_ml
        assert found.sections_used == ()


EQUATIONS = {equation.id: equation for equation in load_tables().equations}


@pytest.mark.parametrize("name", EQUATIONS)
def test_every_equation_holds_in_its_ranges_alone(
    make: Any, tables: ClinicalTables, name: str
) -> None:
    """At the ends of its ranges each equation gives a volume, just outside any of them a refusal
    that names the range, its judgement, and how the measurement is taken."""
    equation = EQUATIONS[name]
    ends = {
        "thickness": equation.thickness_range_mm,
        "limb": equation.limb_range_mm,
        "age": equation.age_range_years,
    }
    assert set(equation.judged) <= set(ends)
    assert equation.position

    def found(**changed: float) -> MuscleVolume | VolumeUnknown:
        values = {key: sum(pair) / 2 for key, pair in ends.items()} | changed
        inputs = calf(
            make,
            muscle=equation.result,
            limb_length_mm=values["limb"],
            measurements_mm={equation.measurement: values["thickness"]},
            patient=Patient(age_years=values["age"]),
        )
        return muscle_volume(inputs, make.observation(view="long_axis"), tables)

    for key, (low, high) in ends.items():
        for end in (low, high):
            assert isinstance(found(**{key: end}), MuscleVolume), (key, end)
        for outside in (low - 0.1, high + 0.1):
            refused = found(**{key: outside})
            assert isinstance(refused, VolumeUnknown), (key, outside)
            said = refused.refused[-1]
            assert f"outside {low:g} to {high:g}" in said.reason
            assert ("(judgement)" in said.reason) == (key in equation.judged)
            if key != "age":
                assert equation.position in said.remedy


def test_a_judged_range_is_told_in_the_plan(make: Any, tables: ClinicalTables) -> None:
    """A volume by an equation carries its ranges in words, and the caution that they are judged."""
    plan = plan_muscle(calf(make), make.observation(view="long_axis"), tables, today=None)
    (caution,) = [c for c in plan.cautions if c.code == "equation_range_judged"]
    assert "thickness, limb, age" in caution.text
    assert caution.source == "G_ABE15;E_BANDHOLM07"
    (step,) = [s for s in plan.explanation.walk() if s.name == "volume"]
    assert step.text.endswith(
        "It is used for 5 to 35 mm (judgement), limbs of 320 to 480 mm (judgement) and 18 to 120 "
        "years (judgement)."
    )
    by_section = plan_muscle(
        make.inputs(), make.observation(), replace(tables, equations=()), today=None
    )
    assert "equation_range_judged" not in {c.code for c in by_section.cautions}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"measurements_mm": {"thigh_thickness_mm": 20.0}}, "No equation asks"),
        ({"muscle": "gastrocnemius_medial"}, "not of gastrocnemius_medial"),
        ({"patient": Patient(age_years=9, weight_kg=30)}, "outside 18 to 120"),
        ({"patient": Patient()}, "the age is unknown"),
        ({"limb_length_mm": None}, "needs the length of the limb"),
        ({"measurements_mm": {"soleus_thickness_mm": 40.0}}, "outside 5 to 35 mm"),
        ({"measurements_mm": {"soleus_thickness_mm": 4.0}}, "outside 5 to 35 mm"),
        ({"limb_length_mm": 500.0}, "outside 320 to 480 mm"),
        ({"limb_length_mm": 300.0}, "outside 320 to 480 mm"),
        (
            {
                "muscle": "triceps_surae",
                "measurements_mm": {"posterior_thickness_mm": 20.0},
            },
            "outside 50 to 95 mm",
        ),
    ],
)
def test_equations_refuse_outside_themselves(
    make: Any, tables: ClinicalTables, changed: dict[str, Any], words: str
) -> None:
    """An equation is refused for another measurement, muscle, age or range; a belly's thickness
    never stands in for the thickness to the bone."""
    found = unknown(calf(make, **changed), make.observation(view="long_axis"), tables)
    assert any(words in refused.reason for refused in found.refused)


def test_an_equation_without_a_possible_volume_is_refused(
    make: Any, tables: ClinicalTables
) -> None:
    """A volume at or below zero is refused, whatever the ranges of a site's table say."""
    loose = replace(
        tables,
        equations=tuple(replace(e, thickness_range_mm=(0.0, 999.0)) for e in tables.equations),
    )
    inputs = calf(make, muscle="triceps_surae", measurements_mm={"posterior_thickness_mm": 20.0})
    found = unknown(inputs, make.observation(view="long_axis"), loose)
    assert any("which no muscle has" in refused.reason for refused in found.refused)


# --- reference --------------------------------------------------------------------------------


def test_references_by_hand(tables: ClinicalTables) -> None:
    """A sample's mean ± 2 SD; a line of height × mass ± 40 %; zero at least."""
    biceps = reference_volume("biceps_brachii", ADULT, tables)
    assert isinstance(biceps, Reference)
    assert biceps.band_ml == pytest.approx((143.7 - 2 * 68.7, 143.7 + 2 * 68.7))
    soleus = reference_volume("soleus", ADULT, tables)
    assert isinstance(soleus, Reference)
    assert soleus.volume_ml == pytest.approx(2.57 * 1.75 * 75 + 120)
    assert soleus.band_ml == pytest.approx((0.6 * soleus.volume_ml, 1.4 * soleus.volume_ml))
    brachioradialis = reference_volume("brachioradialis", ADULT, tables)
    assert isinstance(brachioradialis, Reference)
    assert brachioradialis.band_ml[0] == 0.0


@pytest.mark.parametrize(
    ("muscle", "patient", "words"),
    [
        ("biceps_brachii", Patient(age_years=17), "children"),
        ("biceps_brachii", Patient(), "children"),
        ("quadriceps", ADULT, "group"),
        ("teres_major", ADULT, "no reference volume of Teres major"),
        ("flexor_hallucis_brevis", ADULT, "no reference volume of Flexor hallucis brevis"),
        ("soleus", Patient(age_years=30), "height and weight"),
        ("psoas_major", Patient(age_years=30, weight_kg=5, height_m=1.0), "outside"),
    ],
)
def test_no_reference_says_why(
    tables: ClinicalTables, muscle: str, patient: Patient, words: str
) -> None:
    """Where there is no reference volume the reason is told."""
    found = reference_volume(muscle, patient, tables)
    assert isinstance(found, NoReference)
    assert words in found.reason


@pytest.mark.parametrize("interval", [(0.0, 2.0), (1.5, 2.0), (0.5, 0.9), (0.5, math.inf)])
def test_a_volume_lies_in_its_interval(make: Any, interval: tuple[float, float]) -> None:
    """A volume outside its own interval cannot be constructed."""
    found = MuscleVolume(
        volume_ml=1.0,
        interval_ml=(0.5, 2.0),
        method="sweep",
        published_error="-",
        sections_used=(),
        step=None,
    )
    with pytest.raises(ValueError, match="low <= volume <= high"):
        replace(found, interval_ml=interval)

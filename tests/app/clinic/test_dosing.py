"""The dose: which row, which place in its range, which cap, which refusal."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.clinic.amount import down_to_step, share_out
from app.clinic.caps import applicable_caps, cap_units, cap_words, limits_of
from app.clinic.derivation import Step
from app.clinic.dose_rows import DoseRefused
from app.clinic.dosing import DosePlan, plan_dose, with_less
from app.clinic.evidence import Cap, CapKind, Grade
from app.clinic.inputs import Dilution, Patient, PriorTreatment, Severity
from app.clinic.tables import DATA, ClinicalTables, load_tables
from app.clinic.volume import MuscleVolume, NoReference, Reference, VolumeUnknown

TODAY = dt.date(2026, 3, 2)
UNKNOWN = VolumeUnknown(reason="not measured", remedy="-")
CHILD = Patient(age_years=9, weight_kg=30, height_m=1.3)


def volume(volume_ml: float, low: float = 0.8, high: float = 1.2) -> MuscleVolume:
    return MuscleVolume(
        volume_ml=volume_ml,
        interval_ml=(volume_ml * low, volume_ml * high),
        method="sweep",
        published_error="-",
        sections_used=(),
        step=Step(name="volume", value=volume_ml, unit="mL", equation="given", sources=()),
    )


def planned(*args: Any, **kwargs: Any) -> DosePlan:
    dose = plan_dose(*args, **kwargs)
    assert isinstance(dose, DosePlan), dose
    return dose


def refused(*args: Any, **kwargs: Any) -> DoseRefused:
    dose = plan_dose(*args, **kwargs)
    assert isinstance(dose, DoseRefused), dose
    return dose


def codes(dose: DosePlan) -> set[str]:
    return {caution.code for caution in dose.cautions}


def reasons(dose: DosePlan) -> list[str]:
    return [adjustment.reason for adjustment in dose.adjustments]


# --- which row --------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "no product": ("needs_product", "product", {"product": None}),
    "no indication": ("needs_indication", "indication", {"indication": None}),
    "no age": ("needs_age", "patient.age_years", {"patient": Patient(weight_kg=70)}),
    "consensus without asking": (
        "off_label_not_asked",
        "off_label",
        {"product": "BOTOX", "indication": "off_label_consensus"},
    ),
    "cervical dystonia": (
        "no_dose_row",
        "dose_rows.csv DYSPORT/cervical_dystonia/adult/US/splenius_capitis",
        {"product": "DYSPORT", "indication": "cervical_dystonia", "muscle": "splenius_capitis"},
    ),
    "child's leg": (
        "no_dose_row",
        "dose_rows.csv DYSPORT/lower_limb_spasticity/paediatric/US/soleus",
        {
            "product": "DYSPORT",
            "indication": "lower_limb_spasticity",
            "muscle": "soleus",
            "patient": CHILD,
        },
    ),
    "XEOMIN child": (
        "no_dose_row",
        "dose_rows.csv XEOMIN/upper_limb_spasticity/paediatric/US/biceps_brachii",
        {"patient": CHILD},
    ),
    "range missing": (
        "missing_dose_range",
        "dose_rows.csv BOTOX/upper_limb_spasticity/adult/US/adductor_pollicis: "
        "units_min, units_max",
        {"product": "BOTOX", "muscle": "adductor_pollicis"},
    ),
    "child without weight": (
        "needs_weight",
        "patient.weight_kg",
        {"product": "BOTOX", "patient": Patient(age_years=9)},
    ),
    "too young": (
        "below_label_age",
        "patient.age_years",
        {"product": "BOTOX", "patient": Patient(age_years=1.5, weight_kg=10)},
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_name_what_is_missing(make: Any, tables: ClinicalTables, name: str) -> None:
    """Each refusal has its code, names the field or row that is missing, and the way out."""
    code, field, changed = REFUSALS[name]
    dose = refused(make.inputs(**changed), UNKNOWN, tables)
    assert (dose.code, dose.missing_field) == (code, field)
    assert dose.remedy


def test_a_label_row_comes_before_a_consensus_row(make: Any, tables: ClinicalTables) -> None:
    """Off-label planning uses the consensus only where the asked indication has no usable row."""
    both = planned(make.inputs(product="BOTOX", off_label=True), UNKNOWN, tables)
    assert both.row.indication == "upper_limb_spasticity"
    missing = planned(
        make.inputs(product="BOTOX", muscle="pronator_teres", off_label=True), UNKNOWN, tables
    )
    assert missing.row.indication == "off_label_consensus"
    asked = planned(
        make.inputs(product="BOTOX", indication="off_label_consensus", off_label=True),
        UNKNOWN,
        tables,
    )
    assert (asked.label_min_units, asked.label_max_units) == (75, 200)
    assert asked.grade == "consensus"
    assert "C_WEMOVE05" in asked.sources


def test_off_label_without_any_row_stays_refused(make: Any, tables: ClinicalTables) -> None:
    """Off-label is no key to a product or muscle without a row; a missing range stays missing."""
    assert (
        refused(
            make.inputs(off_label=True, indication="lower_limb_spasticity", muscle="soleus"),
            UNKNOWN,
            tables,
        ).code
        == "no_dose_row"
    )
    child = make.inputs(
        product="BOTOX", off_label=True, indication="off_label_consensus", patient=CHILD
    )
    assert refused(child, UNKNOWN, tables).code == "no_dose_row"


def test_rows_of_two_jurisdictions_are_never_merged(make: Any, tables: ClinicalTables) -> None:
    """FR and SG each give their own range; the US has none and names where there is one."""
    ranges = {}
    for jurisdiction in ("FR", "SG"):
        dose = planned(make.inputs(product="DYSPORT", jurisdiction=jurisdiction), UNKNOWN, tables)
        ranges[jurisdiction] = (dose.label_min_units, dose.label_max_units)
        assert "regional_label_row" in codes(dose)
    assert ranges == {"FR": (50, 400), "SG": (200, 400)}
    us = refused(make.inputs(product="DYSPORT"), UNKNOWN, tables)
    assert us.code == "no_dose_row"
    assert "FR, SG" in us.reason


FR_OR_SG = "; the label of FR, SG has one, if that jurisdiction is asked for."
NEAR: dict[str, tuple[dict[str, Any], str]] = {
    "another jurisdiction": ({"product": "DYSPORT"}, FR_OR_SG),
    "from abroad": (
        {"product": "BOTOX", "jurisdiction": "FR"},
        "; the label of US has one, if that jurisdiction is asked for.",
    ),
    "another indication abroad": ({"product": "DYSPORT", "muscle": "flexor_hallucis_brevis"}, "."),
    "another product's": (
        {"product": "BOTOX", "muscle": "extensor_hallucis_longus", "jurisdiction": "SG"},
        ".",
    ),
    "another indication's label": ({"product": "DYSPORT", "muscle": "soleus"}, "."),
    "adults' rows for a child": ({"patient": CHILD}, "."),
    "the muscle's own consensus": (
        {"product": "BOTOX", "indication": "lower_limb_spasticity"},
        "; an off-label consensus row exists for biceps_brachii, if asked for by off_label.",
    ),
    "its group's consensus": (
        {"product": "BOTOX", "muscle": "pectoralis_major"},
        "; an off-label consensus row exists for pectoralis_complex, if asked for by off_label.",
    ),
    "asked for and not there": (
        {"product": "BOTOX", "muscle": "trapezius", "off_label": True},
        ".",
    ),
}


@pytest.mark.parametrize("name", NEAR)
def test_a_missing_row_names_the_rows_that_come_near(
    make: Any, tables: ClinicalTables, name: str
) -> None:
    """Told are consensus rows of this jurisdiction and labels of others, for the same muscle,
    indication and population; nothing else is offered."""
    changed, ending = NEAR[name]
    inputs = make.inputs(**changed)
    dose = refused(inputs, UNKNOWN, tables)
    assert dose.code == "no_dose_row"
    assert dose.reason.endswith(f"{inputs.jurisdiction}) was found in a source{ending}")
    assert tables.english(inputs.muscle) in dose.reason


def test_a_group_row_is_named_and_never_given_to_a_member(
    make: Any, tables: ClinicalTables
) -> None:
    """A member of a group with a row is refused with the group's name, once, where it is asked."""
    dose = refused(
        make.inputs(product="BOTOX", muscle="pectoralis_major", off_label=True), UNKNOWN, tables
    )
    assert (dose.code, dose.missing_field) == (
        "group_row_only",
        "dose_rows.csv BOTOX/upper_limb_spasticity/adult/US/pectoralis_major",
    )
    assert "only the group row pectoralis_complex exists" in dose.reason
    assert dose.remedy.startswith("Ask for the group by name (muscle: pectoralis_complex)")
    assert dose.available_from is None


def test_a_row_of_unusable_grade_gives_no_dose(
    make: Any, tables: ClinicalTables, tmp_path: Path
) -> None:
    """A dose row of grade secondary is refused; so is a consensus row without off-label."""
    head = (DATA / "dose_rows.csv").read_text(encoding="utf-8").splitlines()[0]
    for grade in ("secondary", "consensus"):
        path = tmp_path / "dose_rows.csv"
        path.write_text(
            f"{head}\nXEOMIN,upper_limb_spasticity,adult,US,biceps_brachii,50,60,,,1,4,{grade},"
            "L_XEO_CD,\n",
            encoding="utf-8",
        )
        dose = refused(make.inputs(), UNKNOWN, load_tables(path))
        assert dose.code == "grade_not_usable"


def test_a_label_row_without_numbers_gives_way_to_the_consensus(make: Any, tmp_path: Path) -> None:
    """A row of good grade that has no range gives no dose; off-label the consensus row does."""
    table = (DATA / "dose_rows.csv").read_text(encoding="utf-8").splitlines()
    path = tmp_path / "dose_rows.csv"
    consensus = next(
        row for row in table if row.startswith("BOTOX,off_label_consensus,adult,US,bi")
    )
    label = "BOTOX,upper_limb_spasticity,adult,US,biceps_brachii,,,,,1,4,label,L_BOTOX_WB,"
    path.write_text("\n".join((table[0], label, consensus, "")), encoding="utf-8")
    own = load_tables(path)
    dose = refused(make.inputs(product="BOTOX"), UNKNOWN, own)
    assert dose.code == "missing_dose_range"
    off_label = planned(make.inputs(product="BOTOX", off_label=True), UNKNOWN, own)
    assert off_label.row.indication == "off_label_consensus"


@pytest.mark.parametrize(
    ("grade", "code"),
    [("missing", "missing_dose_range"), ("secondary", "grade_not_usable")],
)
def test_a_range_of_no_use_gives_no_dose(make: Any, tmp_path: Path, grade: str, code: str) -> None:
    """Numbers in a row graded missing or secondary give no dose; off-label, consensus does."""
    head = (DATA / "dose_rows.csv").read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / "dose_rows.csv"
    path.write_text(
        f"{head}\nBOTOX,upper_limb_spasticity,adult,US,biceps_brachii,1,2,,,1,4,{grade},"
        "L_BOTOX_WB,\n",
        encoding="utf-8",
    )
    own = load_tables(path)
    assert refused(make.inputs(product="BOTOX"), UNKNOWN, own).code == code
    off_label = planned(make.inputs(product="BOTOX", off_label=True), UNKNOWN, own)
    assert off_label.row.indication == "off_label_consensus"


def test_a_row_without_its_range_stays_missing(make: Any, tmp_path: Path) -> None:
    """A range that is empty gives no dose whatever the row's grade; and where no consensus row
    takes its place the refusal still names the row whose range is missing."""
    head = (DATA / "dose_rows.csv").read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / "dose_rows.csv"
    path.write_text(
        f"{head}\nXEOMIN,upper_limb_spasticity,adult,US,biceps_brachii,,,,,1,4,label,L_XEO_CD,\n",
        encoding="utf-8",
    )
    assert refused(make.inputs(), UNKNOWN, load_tables(path)).code == "missing_dose_range"
    inputs = make.inputs(product="BOTOX", muscle="lumbricals_interossei", off_label=True)
    missing = refused(inputs, UNKNOWN, load_tables())
    assert missing.code == "missing_dose_range"
    assert "upper_limb_spasticity/adult/US/lumbricals_interossei" in (missing.missing_field or "")


def test_a_single_name_without_facts_is_dosed_as_one_muscle(
    make: Any, tables: ClinicalTables
) -> None:
    """Extensor hallucis longus has a row and no facts: a dose, unscaled, and no group."""
    dose = planned(
        make.inputs(
            muscle="extensor_hallucis_longus",
            product="BOTOX",
            indication="off_label_consensus",
            off_label=True,
        ),
        volume(80),
        tables,
    )
    assert dose.group is None
    assert isinstance(dose.reference, NoReference)
    assert "no_reference_volume" in codes(dose)


def test_a_part_row_says_for_how_much_it_is(make: Any, tables: ClinicalTables) -> None:
    """A row for one fascicle says so."""
    dose = planned(
        make.inputs(
            muscle="flexor_digitorum_superficialis_per_fascicle",
            product="BOTOX",
            indication="off_label_consensus",
            off_label=True,
        ),
        UNKNOWN,
        tables,
    )
    assert dose.group_part == "fascicle"
    assert any(c.text.startswith("The dose is for one fascicle (") for c in dose.cautions)


def test_a_row_tells_its_note_and_whether_it_is_of_a_whole_group(
    make: Any, tables: ClinicalTables
) -> None:
    """The source's own note stands in the caution of the row's grade; no note, no such words."""

    def texts(muscle: str) -> dict[str, str]:
        inputs = make.inputs(
            muscle=muscle, product="BOTOX", indication="off_label_consensus", off_label=True
        )
        return {c.code: c.text for c in planned(inputs, UNKNOWN, tables).cautions}

    row = next(
        r for r in tables.dose_rows if r.muscle == "pronator_teres" and r.note and r.has_range
    )
    assert texts("pronator_teres")["off_label_consensus"].endswith(f"Note: {row.note}.")
    regional = planned(make.inputs(product="DYSPORT", jurisdiction="FR"), UNKNOWN, tables)
    assert not regional.row.note
    plain = next(c.text for c in regional.cautions if c.code == "regional_label_row")
    assert "Note" not in plain
    assert texts("quadriceps")["group_row"].startswith("The dose is for the whole group (")


# --- place in the range -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mas", "units"),
    [("0", 50.0), ("1", 80.0), ("1+", 102.5), ("2", 125.0), ("3", 162.5), ("4", 200.0)],
)
def test_severity_moves_the_dose(make: Any, tables: ClinicalTables, mas: str, units: float) -> None:
    """The grade of the scale places the dose in 50 to 200 Units, by the policy."""
    dose = planned(make.inputs(severity=Severity(scale="MAS", value=mas)), UNKNOWN, tables)
    assert dose.units.value == units
    assert ("no_spasticity" in codes(dose)) == (mas == "0")


def test_severity_missing_is_the_bottom(make: Any, tables: ClinicalTables) -> None:
    """No severity is the range's lower end, with its caution."""
    dose = planned(make.inputs(severity=None), UNKNOWN, tables)
    assert dose.units.value == 50
    assert "severity_missing" in codes(dose)


@pytest.mark.parametrize(
    ("volume_ml", "ratio", "units"),
    [
        (143.7, 1.0, 125.0),
        (71.85, 0.5, 62.5),
        (20.0, 0.5, 62.5),
        (179.625, 1.25, 156.0),
        (500.0, 1.25, 156.0),
        (129.33, 0.9, 112.5),
    ],
)
def test_the_bounded_ratio_moves_the_dose(
    make: Any, tables: ClinicalTables, volume_ml: float, ratio: float, units: float
) -> None:
    """Measured over reference volume (143.7 mL), bounded to 0.5–1.25, multiplies 125 Units."""
    dose = planned(make.inputs(), volume(volume_ml), tables)
    assert dose.volume_ratio == pytest.approx(ratio)
    assert dose.units.value == units


def test_a_bounded_ratio_says_so(make: Any, tables: ClinicalTables) -> None:
    """The words tell the measured ratio, and its bound only where it was bounded."""
    texts = {
        volume_ml: planned(make.inputs(), volume(volume_ml), tables).adjustments[0].text
        for volume_ml in (20.0, 129.33)
    }
    assert "is 0.14, bounded to 0.5" in texts[20.0]
    assert "is 0.90 (research feature)" in texts[129.33]


def test_ends_of_the_label_hold(make: Any, tables: ClinicalTables) -> None:
    """The ratio never leaves the range: 200 × 1.25 stays 200, and 50 × 0.5 stays 50."""
    top = planned(make.inputs(severity=Severity(scale="MAS", value="4")), volume(300), tables)
    assert top.units.value == 200
    assert reasons(top) == ["volume_ratio", "label_maximum"]
    bottom = planned(make.inputs(severity=None), volume(10), tables)
    assert bottom.units.value == 50
    assert reasons(bottom) == ["volume_ratio", "label_minimum"]
    assert not bottom.below_label_min


def test_the_interval_of_the_volume_becomes_one_of_the_dose(
    make: Any, tables: ClinicalTables
) -> None:
    """The dose at both ends of the volume's interval, by the same steps, is the dose's interval."""
    dose = planned(make.inputs(), volume(143.7, 0.8, 1.2), tables)
    assert dose.interval_units == (100.0, 150.0)


def test_outside_the_band_is_said(make: Any, tables: ClinicalTables) -> None:
    """A volume outside mean ± 2 SD is used under its bound and said to be implausible."""
    inside = planned(make.inputs(), volume(281.0), tables)
    outside = planned(make.inputs(), volume(281.2), tables)
    assert "volume_outside_reference_band" not in codes(inside)
    assert "volume_outside_reference_band" in codes(outside)
    assert isinstance(outside.reference, Reference)
    assert outside.reference.band_ml == pytest.approx((6.3, 281.1))
    below = planned(make.inputs(), volume(6.2), tables)
    assert "volume_outside_reference_band" in codes(below)


def test_children_have_no_reference(make: Any, tables: ClinicalTables) -> None:
    """A child's dose is not scaled: ratio 1, said so; Units per kg by hand."""
    inputs = make.inputs(product="BOTOX", patient=CHILD)
    dose = planned(inputs, volume(30), tables)
    assert dose.volume_ratio == 1.0
    assert "no_reference_volume" in codes(dose)
    # 1.5–3 U/kg × 30 kg = 45–90, MAS 2 → 67.5 over 4 sites
    assert dose.units.value == 67.5
    assert dose.units_per_site == (17.0, 17.0, 17.0, 16.5)
    assert "label_exclusion" not in codes(dose)


def test_a_label_that_excludes_says_so(make: Any, tables: ClinicalTables, tmp_path: Path) -> None:
    """The exclusion of cerebral palsy stands beside the dose where the label has it."""
    head = (DATA / "dose_rows.csv").read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / "dose_rows.csv"
    path.write_text(
        f"{head}\nDYSPORT,upper_limb_spasticity,paediatric,US,biceps_brachii,,,3,6,1,2,site,"
        "L_DYS_PED,\n",
        encoding="utf-8",
    )
    inputs = make.inputs(product="DYSPORT", patient=CHILD, dilution=Dilution(units=500, ml=2.5))
    dose = planned(inputs, UNKNOWN, load_tables(path))
    assert "label_exclusion" in codes(dose)
    assert dose.units.value == 135.0  # 3–6 U/kg × 30 kg = 90–180, middle


def test_body_size_reference_needs_height_and_weight(make: Any, tables: ClinicalTables) -> None:
    """Without height or weight a leg muscle has no reference volume, and the ratio is 1."""
    for patient in (
        Patient(age_years=50, weight_kg=70),
        Patient(age_years=50, height_m=1.7),
    ):
        dose = planned(
            make.inputs(
                muscle="soleus",
                product="DYSPORT",
                indication="lower_limb_spasticity",
                patient=patient,
                dilution=Dilution(units=500, ml=2.5),
            ),
            volume(300),
            tables,
        )
        assert dose.volume_ratio == 1.0
        assert any("give height and weight" in c.text for c in dose.cautions)


# --- caps -------------------------------------------------------------------------------------


def given(units: float, days: int, **other: Any) -> PriorTreatment:
    return PriorTreatment(
        **{"product": "XEOMIN", "units": units, "date": TODAY - dt.timedelta(days=days), **other}
    )


def test_what_was_given_today_counts_in_the_session(make: Any, tables: ClinicalTables) -> None:
    """300 Units given earlier today leave 100 of the session's 400."""
    dose = planned(make.inputs(prior_treatments=(given(300, 0),)), UNKNOWN, tables, today=TODAY)
    assert dose.units.value == 100
    (adjustment,) = dose.adjustments
    assert (adjustment.reason, adjustment.before_units) == ("session_cap", 125)
    assert adjustment.sources == ("L_XEO_DRUGSCOM", "L_XEO_EPOC")
    assert "less 300 Units already given" in adjustment.text


def test_more_than_the_cap_was_given(make: Any, tables: ClinicalTables) -> None:
    """After 500 Units of today nothing is left of 400, and not less than nothing."""
    low = make.inputs(
        product="BOTOX", prior_treatments=(given(500, 30, product="BOTOX"),), severity=None
    )
    nothing = refused(low, UNKNOWN, tables, today=TODAY)
    assert (nothing.code, nothing.missing_field) == ("nothing_left_under_caps", "prior_treatments")
    case = limits_of(
        applicable_caps("BOTOX", "adult", "US", tables),
        next(r for r in tables.dose_rows if r.product == "BOTOX" and r.muscle == "biceps_brachii"),
        "upper_limb",
        low,
        TODAY,
        tables,
    )
    assert {held.left_units for held in case} == {0.0, 400.0}


def test_a_cap_without_a_note_is_named_by_what_it_limits(make: Any, tmp_path: Path) -> None:
    """A site's cap without a note: its kind and place stand in the words."""
    head = (DATA / "caps.csv").read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / "caps.csv"
    path.write_text(f"{head}\nXEOMIN,adult,US,limb,upper_limb,units,90,,site,L_XEO_CD,\n")
    dose = planned(make.inputs(), UNKNOWN, load_tables(path))
    (cap,) = [a for a in dose.adjustments if a.reason == "limb_cap"]
    assert cap.text == "Cap (limb upper_limb): 90 Units."


def test_a_refusal_tells_the_caps_alone(make: Any, tmp_path: Path) -> None:
    """Of the steps to nothing only those that lower are told, each once; a site cap of 1 Unit is
    not to blame."""
    head = (DATA / "caps.csv").read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / "caps.csv"
    path.write_text(f"{head}\nXEOMIN,adult,US,site,any,units,1,,site,L_XEO_CD,own\n")
    inputs = make.inputs(severity=None, prior_treatments=(given(400, 0),))
    nothing = refused(inputs, volume(100), load_tables(path), today=TODAY)
    assert nothing.missing_field == "prior_treatments"
    assert nothing.reason == (
        "Under the caps, with what was already given, no dose is left: Measured over reference "
        "volume is 0.70 (research feature). Cap (session, all indications): 400 Units, less 400 "
        "Units already given."
    )


def test_yesterday_is_another_session(make: Any, tables: ClinicalTables) -> None:
    """300 Units of yesterday take nothing off today's session cap: they are a stop instead."""
    dose = planned(make.inputs(prior_treatments=(given(300, 1),)), UNKNOWN, tables, today=TODAY)
    (session,) = [held for held in dose.caps if held.cap.kind == "session"]
    assert session.left_units == 400.0


def test_below_the_minimum_after_a_cap_is_never_raised(make: Any, tables: ClinicalTables) -> None:
    """380 Units given today leave 20: below the label's 50, shown and not raised."""
    dose = planned(make.inputs(prior_treatments=(given(380, 0),)), UNKNOWN, tables, today=TODAY)
    assert dose.units.value == 20
    assert dose.below_label_min
    assert "below_label_minimum" in codes(dose)


def test_nothing_left_is_a_refusal(make: Any, tables: ClinicalTables) -> None:
    """400 Units given today leave nothing, and the refusal says which cap."""
    dose = refused(make.inputs(prior_treatments=(given(400, 0),)), UNKNOWN, tables, today=TODAY)
    assert dose.code == "nothing_left_under_caps"
    assert dose.missing_field == "prior_treatments"
    assert "session, all indications" in dose.reason


@pytest.mark.parametrize(("days", "units"), [(0, 50.0), (83, 50.0), (84, 130.0), (-1, 130.0)])
def test_the_cumulative_window_counts_twelve_weeks(
    make: Any, tables: ClinicalTables, days: int, units: float
) -> None:
    """350 BOTOX Units within the last 84 days leave 50 of 400; on day 84 they no longer count."""
    dose = planned(
        make.inputs(product="BOTOX", prior_treatments=(given(350, days, product="BOTOX"),)),
        UNKNOWN,
        tables,
        today=TODAY,
    )
    assert dose.units.value == units


def test_without_a_date_every_earlier_unit_counts(make: Any, tables: ClinicalTables) -> None:
    """Where today is unknown, all that was ever given counts."""
    dose = planned(
        make.inputs(product="BOTOX", prior_treatments=(given(370, 900, product="BOTOX"),)),
        UNKNOWN,
        tables,
    )
    assert dose.units.value == 30


def test_another_product_is_not_subtracted(make: Any, tables: ClinicalTables) -> None:
    """DYSPORT Units are not XEOMIN Units: they take nothing off a XEOMIN cap."""
    dose = planned(
        make.inputs(prior_treatments=(given(1000, 0, product="DYSPORT"),)),
        UNKNOWN,
        tables,
        today=TODAY,
    )
    assert dose.units.value == 125


@pytest.mark.parametrize(
    ("muscles", "units"),
    [
        (None, 200.0),
        (("soleus",), 200.0),
        (("biceps_brachii",), 415.0),
        (("biceps_brachii", "soleus"), 200.0),
        (("unheard_of",), 200.0),
    ],
)
def test_a_limb_cap_counts_its_limb(
    make: Any, tables: ClinicalTables, muscles: tuple[str, ...] | None, units: float
) -> None:
    """1300 DYSPORT Units of today count for the leg's 1500 unless they all went elsewhere; the
    cap over all limbs counts them anyway."""
    inputs = make.inputs(
        muscle="soleus",
        product="DYSPORT",
        indication="lower_limb_spasticity",
        dilution=Dilution(units=500, ml=2.5),
        prior_treatments=(given(1300, 0, product="DYSPORT", muscles=muscles),),
    )
    dose = planned(inputs, UNKNOWN, tables, today=TODAY)
    # middle of 330–500 = 415; 1500 − 1300 = 200 under either cap
    assert dose.units.value == 200.0
    legs = [held for held in dose.caps if held.cap.where == "lower_limb"]
    assert [held.left_units for held in legs] == [1500.0 if units == 415.0 else 200.0]


def test_the_site_cap_in_units(make: Any, tables: ClinicalTables) -> None:
    """50 Units a site: iliopsoas with at most 2 sites gets 100 of its 125."""
    dose = planned(
        make.inputs(
            muscle="iliopsoas",
            product="BOTOX",
            indication="lower_limb_spasticity",
            off_label=True,
        ),
        UNKNOWN,
        tables,
    )
    assert dose.units.value == 100
    assert dose.units_per_site == (50, 50)
    assert reasons(dose) == ["site_cap"]


def test_the_site_cap_in_millilitres(make: Any, tables: ClinicalTables) -> None:
    """1 mL a site: at 500 Units in 5 mL one site of gastrocnemius holds 100 of its 125."""
    inputs = make.inputs(
        muscle="gastrocnemius_medial",
        product="DYSPORT",
        indication="lower_limb_spasticity",
        dilution=Dilution(units=500, ml=5),
    )
    dose = planned(inputs, UNKNOWN, tables)
    assert dose.units.value == 100
    assert dose.ml_per_site == (1.0,)
    unknown = planned(replace(inputs, dilution=None), UNKNOWN, tables)
    assert unknown.units.value == 125
    assert unknown.ml_per_site is None
    (caution,) = [c for c in unknown.cautions if c.code == "dilution_unknown"]
    assert caution.blocks_confirmation
    assert "1 mL" in caution.text


@pytest.mark.parametrize(("site_units", "units"), [(60, 60.0), (300, 125.0)])
def test_the_tightest_of_two_site_caps_holds(
    make: Any, tmp_path: Path, site_units: int, units: float
) -> None:
    """A site's own cap in Units and the label's 1 mL (200 Units here): the smaller one holds."""
    head = (DATA / "caps.csv").read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / "caps.csv"
    path.write_text(
        f"{head}\nDYSPORT,adult,US,site,any,units,{site_units},,site,L_DYS_HCP,own\n",
        encoding="utf-8",
    )
    inputs = make.inputs(
        muscle="gastrocnemius_medial",
        product="DYSPORT",
        indication="lower_limb_spasticity",
        dilution=Dilution(units=500, ml=2.5),
    )
    assert planned(inputs, UNKNOWN, load_tables(path)).units.value == units


@pytest.mark.parametrize(
    ("where", "units"),
    [("biceps_brachii", 40.0), ("upper_limb", 40.0), ("any", 40.0), ("brachialis", 125.0)],
)
def test_a_site_cap_holds_where_it_says(
    make: Any, tmp_path: Path, where: str, units: float
) -> None:
    """10 Units a site for this muscle, its limb or any: 40 in four sites; for another muscle not
    at all."""
    head = (DATA / "caps.csv").read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / "caps.csv"
    path.write_text(
        f"{head}\nXEOMIN,adult,US,site,{where},units,10,,site,L_XEO_CD,own\n", encoding="utf-8"
    )
    dose = planned(make.inputs(), UNKNOWN, load_tables(path))
    assert dose.units.value == units
    assert "muscle_cap" not in reasons(dose)


def test_a_dilution_too_thin_for_one_step_leaves_no_dose(make: Any, tables: ClinicalTables) -> None:
    """At 1 Unit per mL a site of 1 mL holds less than one dispensing step: refused, not guessed."""
    inputs = make.inputs(
        muscle="gastrocnemius_medial",
        product="DYSPORT",
        indication="lower_limb_spasticity",
        dilution=Dilution(units=500, ml=500),
    )
    thin = refused(inputs, UNKNOWN, tables)
    assert (thin.code, thin.missing_field) == ("nothing_left_under_caps", "dilution")
    assert "stronger dilution" in thin.remedy


def test_no_site_is_left_without_a_step(make: Any, tables: ClinicalTables) -> None:
    """One Unit is two steps of a half: two sites, not the three that the size asks for; a number
    that the physician chose stands."""
    inputs = make.inputs(prior_treatments=(given(399, 0),))
    dose = planned(inputs, volume(140), tables, today=TODAY)
    assert (dose.units.value, dose.site_count, dose.units_per_site) == (1.0, 2, (0.5, 0.5))
    chosen = planned(inputs, volume(140), tables, today=TODAY, sites_by_hand=3)
    assert chosen.units_per_site == (0.5, 0.5, 0.0)
    whole = planned(make.inputs(), volume(140), tables)
    cut = with_less(whole, 1.0, [], make.inputs(), tables)
    assert isinstance(cut, DosePlan)
    assert (cut.site_count, cut.units_per_site) == (2, (0.5, 0.5))


def test_a_childs_site_holds_half_a_millilitre(make: Any, tables: ClinicalTables) -> None:
    """0.5 mL a site: 500 Units in 2.5 mL is 100 Units a site for a child."""
    dose = planned(
        make.inputs(
            product="DYSPORT",
            jurisdiction="SG",
            patient=Patient(age_years=12, weight_kg=50),
            dilution=Dilution(units=500, ml=2.5),
        ),
        UNKNOWN,
        tables,
    )
    assert dose.units.value == 225  # 150–300, middle
    assert dose.site_count == 3
    assert dose.units_per_site == (75, 75, 75)


def test_fewer_sites_lower_the_dose_under_a_site_cap(make: Any, tables: ClinicalTables) -> None:
    """Where only one site could be placed, 50 Units of BOTOX are left, and both are said."""
    dose = planned(make.inputs(product="BOTOX"), UNKNOWN, tables, sites_available=1)
    assert dose.units.value == 50
    assert {"fewer_sites_than_label", "below_label_minimum"} <= codes(dose)


def test_sites_chosen_by_hand(make: Any, tables: ClinicalTables) -> None:
    """The physician's number of sites stands, and one above the row's is named."""
    dose = planned(make.inputs(), UNKNOWN, tables, sites_by_hand=5)
    assert dose.site_count == 5
    assert dose.units_per_site == (25, 25, 25, 25, 25)
    assert "more_sites_than_label" in codes(dose)
    assert "more_sites_than_label" not in codes(
        planned(make.inputs(), UNKNOWN, tables, sites_by_hand=4)
    )


def test_a_muscle_cap_holds(make: Any, tables: ClinicalTables, tmp_path: Path) -> None:
    """BOTOX in sternocleidomastoid stays at 100 Units, less what it got today."""
    head = (DATA / "dose_rows.csv").read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / "dose_rows.csv"
    path.write_text(
        f"{head}\nBOTOX,cervical_dystonia,adult,US,sternocleidomastoid,20,300,,,1,8,site,"
        "L_BOTOX_SKY,\n",
        encoding="utf-8",
    )
    own = load_tables(path)
    inputs = make.inputs(
        product="BOTOX", muscle="sternocleidomastoid", indication="cervical_dystonia"
    )
    dose = planned(inputs, UNKNOWN, own, today=TODAY)
    assert dose.units.value == 100
    assert "muscle_cap" in reasons(dose)
    for muscles, left in (
        (("sternocleidomastoid",), 60.0),
        (("trapezius",), 100.0),
        (None, 60.0),
    ):
        again = replace(inputs, prior_treatments=(given(40, 0, product="BOTOX", muscles=muscles),))
        assert planned(again, UNKNOWN, own, today=TODAY).units.value == left
    # A muscle's cap is for one session: yesterday's Units are another's (and a stop of their own).
    yesterday = given(40, 1, product="BOTOX", muscles=("sternocleidomastoid",))
    again = replace(inputs, prior_treatments=(yesterday,))
    assert planned(again, UNKNOWN, own, today=TODAY).units.value == 100.0


def test_secondary_caps_are_used_and_said(
    make: Any, tables: ClinicalTables, tmp_path: Path
) -> None:
    """A child's leg row of a site is held to 8 Units/kg and 300 Units, from a secondary source."""
    head = (DATA / "dose_rows.csv").read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / "dose_rows.csv"
    path.write_text(
        f"{head}\nBOTOX,lower_limb_spasticity,paediatric,US,soleus,,,2,20,1,9,site,L_BOTOX_MAYO,\n",
        encoding="utf-8",
    )
    inputs = make.inputs(
        product="BOTOX", muscle="soleus", indication="lower_limb_spasticity", patient=CHILD
    )
    dose = planned(inputs, UNKNOWN, load_tables(path))
    assert dose.units.value == 240  # 8 × 30 kg
    assert "secondary_cap" in codes(dose)


def test_a_paediatric_total_is_needed(make: Any, tables: ClinicalTables, tmp_path: Path) -> None:
    """A child's row where no total is known is refused, naming the cap that is missing."""
    head = (DATA / "dose_rows.csv").read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / "dose_rows.csv"
    path.write_text(
        f"{head}\nXEOMIN,lower_limb_spasticity,paediatric,US,soleus,,,2,3,1,4,site,L_XEO_CD,\n",
        encoding="utf-8",
    )
    dose = refused(
        make.inputs(muscle="soleus", indication="lower_limb_spasticity", patient=CHILD),
        UNKNOWN,
        load_tables(path),
    )
    assert dose.code == "missing_paediatric_total"
    assert dose.missing_field is not None
    assert "caps.csv XEOMIN/paediatric" in dose.missing_field


def test_a_row_by_weight_needs_a_weight_in_adults_too(
    make: Any, tables: ClinicalTables, tmp_path: Path
) -> None:
    """A site's row or cap in Units per kg refuses an adult without weight; a child always."""
    head = (DATA / "caps.csv").read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / "caps.csv"
    path.write_text(f"{head}\nXEOMIN,adult,US,session,any,units_per_kg,5,,site,L_XEO_CD,own\n")
    own = load_tables(path)
    inputs = make.inputs(patient=Patient(age_years=50))
    assert refused(inputs, UNKNOWN, own).code == "needs_weight"
    assert (
        planned(make.inputs(patient=Patient(age_years=50, weight_kg=20)), UNKNOWN, own).units.value
        == 100
    )


NO_VOLUME = ("volume_unknown", ("POLICY",))
UNUSUAL = ("dilution_unusual", ("POLICY", "L_BOTOX_PDR", "C_BMK_SPAS", "L_DYS_IE_AD"))
FRENCH = [
    ("regional_label_row", ("E_SCHNITZLER22",)),
    ("no_cap_found", ("E_SCHNITZLER22",)),
    NO_VOLUME,
    UNUSUAL,
]
GIVEN_900 = (PriorTreatment(product="DYSPORT", units=900, date=TODAY),)
SAID: dict[str, tuple[dict[str, Any], list[tuple[str, tuple[str, ...]]]]] = {
    "no site cap in any source": ({}, [NO_VOLUME, ("no_cap_found", ("POLICY",))]),
    "a row of a compendium": (
        {"product": "BOTOX"},
        [("compendium_row", ("L_BOTOX_EPOC",)), NO_VOLUME],
    ),
    "a site cap in Units needs no dilution": (
        {"product": "BOTOX", "dilution": None},
        [("compendium_row", ("L_BOTOX_EPOC",)), NO_VOLUME, ("dilution_unknown", ("POLICY",))],
    ),
    "a cap from abroad that does not bind": (
        {"product": "DYSPORT", "jurisdiction": "FR"},
        FRENCH,
    ),
    "a cap from abroad that binds": (
        {"product": "DYSPORT", "jurisdiction": "FR", "prior_treatments": GIVEN_900},
        [*FRENCH, ("cap_of_other_jurisdiction", ("L_DYS_HCP",))],
    ),
    "a cap of this jurisdiction that binds": (
        {
            "product": "DYSPORT",
            "muscle": "gastrocnemius_medial",
            "indication": "lower_limb_spasticity",
            "dilution": Dilution(units=500, ml=2.5),
            "prior_treatments": (PriorTreatment(product="DYSPORT", units=1400, date=TODAY),),
        },
        [("compendium_row", ("L_DYS_DRUGSCOM",)), NO_VOLUME],
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_cautions_are_said_where_they_hold_and_nowhere_else(
    make: Any, tables: ClinicalTables, name: str
) -> None:
    """Which cautions a dose has, in their order, each with its own sources; no other."""
    changed, said = SAID[name]
    dose = planned(make.inputs(**changed), UNKNOWN, tables, today=TODAY)
    assert [(c.code, c.sources) for c in dose.cautions] == said


SECONDARY = "BOTOX,paediatric,US,session,lower_limb,units,300,,secondary,L_BOTOX_LLS_NEWS,leg"
LABEL = "BOTOX,any,US,session,any,units,{},,compendium,L_BOTOX_EPOC,all"


@pytest.mark.parametrize(
    ("rows", "units", "said"),
    [
        ((SECONDARY,), 180.0, True),  # it does not bind, but there is no other total
        ((SECONDARY, LABEL.format(400)), 180.0, False),  # another, and it does not bind
        ((SECONDARY.replace("300", "100"), LABEL.format(400)), 100.0, True),  # it binds
        ((SECONDARY, LABEL.format(100)), 100.0, False),  # the other binds
        ((LABEL.format(100),), 100.0, False),
    ],
)
def test_a_secondary_cap_is_said_where_it_counts(
    make: Any, tmp_path: Path, rows: tuple[str, ...], units: float, said: bool
) -> None:
    """A total of a secondary source is said where it cuts the dose, or is the only total."""
    for name, lines in (
        ("caps.csv", rows),
        (
            "dose_rows.csv",
            ("BOTOX,lower_limb_spasticity,paediatric,US,soleus,,,6,6,1,9,site,L_BOTOX_MAYO,",),
        ),
    ):
        head = (DATA / name).read_text(encoding="utf-8").splitlines()[0]
        (tmp_path / name).write_text("\n".join((head, *lines, "")), encoding="utf-8")
    inputs = make.inputs(
        product="BOTOX", muscle="soleus", indication="lower_limb_spasticity", patient=CHILD
    )
    dose = planned(inputs, UNKNOWN, load_tables(tmp_path))
    assert dose.units.value == units
    assert ("secondary_cap" in codes(dose)) is said


def test_the_ends_of_band_and_range_are_inside(make: Any, tables: ClinicalTables) -> None:
    """A volume at either end of the plausible band, a dose at the label's minimum and as many
    sites as the row asks for are no reason for a caution; what lies outside names its source."""
    reference = planned(make.inputs(), volume(100), tables).reference
    assert isinstance(reference, Reference)
    for end in reference.band_ml:
        dose = planned(make.inputs(), volume(end), tables)
        assert codes(dose) == {"no_cap_found"}
    outside = planned(make.inputs(), volume(reference.band_ml[1] + 1), tables)
    (caution,) = [c for c in outside.cautions if c.code == "volume_outside_reference_band"]
    assert caution.sources == reference.step.sources
    least = planned(make.inputs(severity=None), UNKNOWN, tables)
    assert least.units.value == least.label_min_units
    assert not {"below_label_minimum", "fewer_sites_than_label"} & codes(least)


def test_no_cap_found_is_said(make: Any, tables: ClinicalTables, tmp_path: Path) -> None:
    """Site cap, interval, session total and number of sites that no source gives are said."""
    texts = [
        c.text for c in planned(make.inputs(), UNKNOWN, tables).cautions if c.code == "no_cap_found"
    ]
    assert texts == ["No cap found for one site of XEOMIN (adult)."]
    regional = planned(make.inputs(product="DYSPORT", jurisdiction="FR"), UNKNOWN, tables)
    assert any("number of sites" in c.text for c in regional.cautions)
    head = (DATA / "dose_rows.csv").read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / "dose_rows.csv"
    path.write_text(
        f"{head}\nDAXXIFY,cervical_dystonia,adult,US,biceps_brachii,10,20,,,1,1,site,L_DAX_MED,\n",
        encoding="utf-8",
    )
    dose = planned(
        make.inputs(product="DAXXIFY", indication="cervical_dystonia"), UNKNOWN, load_tables(path)
    )
    assert sum(c.code == "no_cap_found" for c in dose.cautions) == 3


def test_us_caps_are_ceilings_elsewhere(make: Any, tables: ClinicalTables) -> None:
    """Elsewhere a US cap still only lowers, and the plan says whose it is."""
    dose = planned(
        make.inputs(
            product="DYSPORT",
            jurisdiction="FR",
            prior_treatments=(given(900, 0, product="DYSPORT"),),
        ),
        UNKNOWN,
        tables,
        today=TODAY,
    )
    assert dose.units.value == 100
    assert "cap_of_other_jurisdiction" in codes(dose)


def test_caps_without_value_or_of_weak_grade_do_not_hold(tables: ClinicalTables) -> None:
    """A missing cap is no cap, and asking it for Units is an error."""
    xeomin = applicable_caps("XEOMIN", "adult", "US", tables)
    assert all(cap.value is not None for cap in xeomin)
    cap = Cap(
        product="XEOMIN",
        population="adult",
        jurisdiction="US",
        kind=CapKind.SITE,
        where="any",
        unit="units_per_kg",
        value=2.0,
        window_weeks=None,
        grade=Grade.SITE,
        sources=("L_XEO_CD",),
        note="",
    )
    assert cap_units(cap, 10.0) == 20.0
    assert cap_words(cap, 10.0) == "2 Units/kg × 10 kg = 20 Units"
    assert cap_words(replace(cap, unit="ml"), None) == "2 mL"
    assert cap_words(replace(cap, unit="units"), None) == "2 Units"
    held = replace(tables, caps=(cap, replace(cap, value=None)))
    assert applicable_caps("XEOMIN", "adult", "US", held) == (cap,)
    with pytest.raises(ValueError, match="no value to hold to"):
        cap_units(cap, None)
    with pytest.raises(ValueError, match="no value to hold to"):
        cap_units(replace(cap, value=None), 10.0)
    with pytest.raises(ValueError, match="no window"):
        _ = cap.window_days
    assert replace(cap, window_weeks=12.0).window_days == 84


@pytest.mark.parametrize(
    ("row", "holds_in"),
    [
        ("XEOMIN,adult,FR,session,any,units,30,,site", {"FR"}),
        ("XEOMIN,adult,US,muscle,biceps_brachii,units,30,,site", {"FR", "SG", "US"}),
        ("XEOMIN,any,US,muscle,biceps_brachii,units,30,,secondary", {"FR", "SG", "US"}),
        ("XEOMIN,paediatric,US,muscle,biceps_brachii,units,30,,site", set()),
        ("BOTOX,adult,US,muscle,biceps_brachii,units,30,,site", set()),
        ("XEOMIN,adult,US,muscle,biceps_brachii,units,30,,missing", set()),
        ("XEOMIN,adult,US,muscle,biceps_brachii,units,,,missing", set()),
    ],
)
def test_which_caps_hold_where(tmp_path: Path, row: str, holds_in: set[str]) -> None:
    """A cap holds for its product and population, where its label does, the US label's
    everywhere; one without value, or of a grade of no use, nowhere."""
    head = (DATA / "caps.csv").read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / "caps.csv"
    path.write_text(f"{head}\n{row},L_XEO_CD,own\n", encoding="utf-8")
    own = load_tables(path)
    found = {
        where
        for where in ("FR", "SG", "US")
        if any(c.note == "own" for c in applicable_caps("XEOMIN", "adult", where, own))
    }
    assert found == holds_in


def test_a_row_without_weight_has_no_range(tables: ClinicalTables) -> None:
    """Asking a row per kilogram for Units without a weight is an error, not a guess."""
    row = next(r for r in tables.dose_rows if r.units_per_kg is not None)
    with pytest.raises(ValueError, match="without a weight"):
        row.range_units(None)


@pytest.mark.parametrize(("population", "age"), [("adult", 50.0), ("paediatric", 9.0)])
@pytest.mark.parametrize("row", ["20,40,,", ",,1,2"])
def test_who_needs_a_weight(
    make: Any, tmp_path: Path, population: str, age: float, row: str
) -> None:
    """A row per kilogram needs a weight, and so does every child; an adult's row in Units none."""
    for name, own in (
        ("dose_rows.csv", f"MYOBLOC,cervical_dystonia,{population},US,trapezius,{row},1,2,site"),
        ("caps.csv", f"MYOBLOC,{population},US,session,any,units,100,,site"),
    ):
        head = (DATA / name).read_text(encoding="utf-8").splitlines()[0]
        (tmp_path / name).write_text(f"{head}\n{own},L_MYO_HCP,own\n", encoding="utf-8")
    dose = plan_dose(
        make.inputs(
            product="MYOBLOC",
            indication="cervical_dystonia",
            muscle="trapezius",
            patient=Patient(age_years=age),
        ),
        UNKNOWN,
        load_tables(tmp_path),
    )
    if population == "adult" and row.startswith("20"):
        assert isinstance(dose, DosePlan)
    else:
        assert isinstance(dose, DoseRefused)
        assert (dose.code, dose.missing_field) == ("needs_weight", "patient.weight_kg")


@pytest.mark.parametrize(
    ("dilution", "unusual"),
    [
        (Dilution(units=100, ml=2), False),
        (Dilution(units=100, ml=1), False),
        (Dilution(units=100, ml=4), False),
        (Dilution(units=100, ml=0.2), True),
        (Dilution(units=100, ml=20), True),
    ],
)
def test_an_unusual_dilution_is_said(
    make: Any, tables: ClinicalTables, dilution: Dilution, unusual: bool
) -> None:
    """A dilution outside those that the sources name is said, for a slip of the point."""
    dose = planned(make.inputs(dilution=dilution), UNKNOWN, tables)
    assert ("dilution_unusual" in codes(dose)) == unusual
    assert dose.total_ml == pytest.approx(125 / dilution.units_per_ml)


def test_a_dilution_without_a_usual_range_is_not_judged(
    make: Any, tables: ClinicalTables, tmp_path: Path
) -> None:
    """Where no source names a dilution of the product, none is called unusual."""
    path = tmp_path / "policy.yaml"
    path.write_text("dilution_usual_units_per_ml: {value: {}}\n", encoding="utf-8")
    dose = planned(make.inputs(dilution=Dilution(units=1, ml=50)), UNKNOWN, load_tables(path))
    assert "dilution_unusual" not in codes(dose)


# --- follow-up in the range -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "muscles", "units"),
    [
        ("good", ("biceps_brachii", "brachialis"), 125.0),
        ("insufficient", ("biceps_brachii", "brachialis"), 147.5),
        ("none", ("biceps_brachii", "brachialis"), 147.5),
        ("weakness", ("biceps_brachii", "brachialis"), 80.0),
        ("asymmetry", ("biceps_brachii", "brachialis"), 95.0),
        ("good", ("biceps_brachii",), 112.5),
        ("insufficient", ("biceps_brachii",), 135.0),
        ("none", ("biceps_brachii",), 135.0),
        ("weakness", ("biceps_brachii",), 67.5),
        ("asymmetry", ("biceps_brachii",), 90.0),
        ("insufficient", None, 125.0),
        ("weakness", None, 80.0),
        ("insufficient", ("brachialis",), 125.0),
        ("splendid", ("biceps_brachii",), 125.0),
        (None, ("biceps_brachii",), 125.0),
    ],
)
def test_the_last_response_moves_the_dose(
    make: Any,
    tables: ClinicalTables,
    response: str | None,
    muscles: tuple[str, ...] | None,
    units: float,
) -> None:
    """The response to the last treatment of this muscle moves the dose in its range, up only
    where the muscle was named; where it was the only one, its Units bound the next dose."""
    dose = planned(
        make.inputs(
            prior_treatments=(
                given(100, 200, response="weakness", muscles=("biceps_brachii",)),
                given(90, 100, response=response, muscles=muscles),
            )
            if response is not None
            else (given(90, 100, muscles=muscles),)
        ),
        UNKNOWN,
        tables,
        today=TODAY,
    )
    # where the last treatment was another muscle's, the weakness after 100 Units counts: 75 at most
    expected = 75.0 if muscles == ("brachialis",) else units
    assert dose.units.value == expected
    assert ("response_not_used" in codes(dose)) == (response == "splendid")


def test_another_products_response_says_nothing(make: Any, tables: ClinicalTables) -> None:
    """Weakness after BOTOX, or after XEOMIN in another muscle, does not move the XEOMIN dose."""
    for last in (
        given(90, 100, product="BOTOX", response="weakness", muscles=("biceps_brachii",)),
        given(90, 100, response="weakness", muscles=("brachialis",)),
    ):
        dose = planned(make.inputs(prior_treatments=(last,)), UNKNOWN, tables, today=TODAY)
        assert dose.units.value == 125


def test_the_place_in_the_range_is_told(make: Any, tables: ClinicalTables) -> None:
    """In words: the grade, and the last response where there was one."""
    last = given(90, 100, response="weakness")
    for prior, said in (
        ((), "MAS 2 puts the dose at 50% of the range (judgement)."),
        (
            (last,),
            "MAS 2 puts the dose at 20% of the range after the response 'weakness' to 90 Units "
            f"on {last.date.isoformat()} (judgement).",
        ),
    ):
        dose = planned(make.inputs(prior_treatments=prior), UNKNOWN, tables, today=TODAY)
        (step,) = [s for s in dose.step.walk() if s.name == "position in the range"]
        assert step.text == said


def test_a_step_up_needs_the_newest_treatment(make: Any, tables: ClinicalTables) -> None:
    """A newer treatment without a known response takes a step up back, but not a step down."""
    both = ("biceps_brachii", "brachialis")
    for response, units in (("insufficient", 125.0), ("weakness", 80.0)):
        dose = planned(
            make.inputs(
                prior_treatments=(
                    given(90, 200, response=response, muscles=both),
                    given(90, 100, muscles=both),
                )
            ),
            UNKNOWN,
            tables,
            today=TODAY,
        )
        assert dose.units.value == units


def test_a_response_without_a_bound_sets_none(
    make: Any, tables: ClinicalTables, tmp_path: Path
) -> None:
    """Where a site's policy names no bound for a response, the last Units set none."""
    path = tmp_path / "policy.yaml"
    path.write_text("follow_up_most_of_last: {value: {weakness: 0.75}}\n", encoding="utf-8")
    dose = planned(
        make.inputs(
            prior_treatments=(given(10, 100, response="good", muscles=("biceps_brachii",)),)
        ),
        UNKNOWN,
        load_tables(path),
        today=TODAY,
    )
    assert dose.units.value == 125


def test_a_bound_by_the_last_units_only_lowers(make: Any, tables: ClinicalTables) -> None:
    """After 190 Units with a good effect up to 237.5 are allowed, and 125 stay 125."""
    last = given(190, 100, response="good", muscles=("biceps_brachii",))
    dose = planned(make.inputs(prior_treatments=(last,)), UNKNOWN, tables, today=TODAY)
    assert dose.units.value == 125
    assert reasons(dose) == []


def test_the_follow_up_stays_in_the_range(make: Any, tables: ClinicalTables) -> None:
    """A step up from the top and a step down from the bottom stay at the ends."""
    for mas, response, units, place in (("4", "none", 200.0, 1.0), ("0", "weakness", 50.0, 0.0)):
        dose = planned(
            make.inputs(
                severity=Severity(scale="MAS", value=mas),
                prior_treatments=(
                    given(
                        90,
                        100,
                        response=response,
                        muscles=("biceps_brachii", "brachialis"),
                    ),
                ),
            ),
            UNKNOWN,
            tables,
            today=TODAY,
        )
        assert dose.position == place
        assert dose.units.value == units


# --- rounding and sharing out -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("units", "step", "rounded"),
    [(12.49, 0.5, 12.0), (12.5, 0.5, 12.5), (0.3, 0.1, 0.3), (7.49, 2.5, 5.0), (0.4, 0.5, 0.0)],
)
def test_rounding_goes_down(units: float, step: float, rounded: float) -> None:
    """The largest whole number of steps that is not above the dose."""
    assert down_to_step(units, step) == pytest.approx(rounded)


def test_sharing_out_adds_up() -> None:
    """The sites get whole steps, at most one step apart, the first ones the rest."""
    assert share_out(62.5, 4, 0.5) == (16.0, 15.5, 15.5, 15.5)
    assert share_out(1.0, 3, 0.5) == (0.5, 0.5, 0.0)


def test_sites_follow_cap_and_size(make: Any, tables: ClinicalTables) -> None:
    """As many sites as the cap per site and one for each 50 mL ask for, in the row's range."""
    assert planned(make.inputs(), volume(50), tables).site_count == 1
    assert planned(make.inputs(), volume(50.1), tables).site_count == 2
    assert planned(make.inputs(), volume(1000), tables).site_count == 4
    botox = planned(
        make.inputs(product="BOTOX", severity=Severity(scale="MAS", value="4")), UNKNOWN, tables
    )
    assert (botox.units.value, botox.site_count) == (200, 4)


def test_no_more_sites_than_were_placed(make: Any, tables: ClinicalTables) -> None:
    """Of three sites wanted, two or one where no more could be placed; never more than wanted."""
    for available, count in ((1, 1), (2, 2), (3, 3), (5, 3)):
        dose = planned(make.inputs(), volume(140), tables, sites_available=available)
        assert dose.site_count == count


def test_a_group_has_the_sites_of_its_row(make: Any, tables: ClinicalTables) -> None:
    """The volume of an image that shows one member asks for no further site of the group."""
    for row in tables.dose_rows:
        if row.population == "adult" and tables.is_group(row.muscle) and row.sites is not None:
            inputs = make.inputs(
                muscle=row.muscle,
                product=row.product,
                indication=row.indication,
                jurisdiction=row.jurisdiction,
                severity=None,
                off_label=True,
            )
            counts = {planned(inputs, v, tables).site_count for v in (UNKNOWN, volume(900))}
            assert len(counts) == 1, row.key


def test_a_cap_of_one_unit_a_site_asks_for_every_site(make: Any, tmp_path: Path) -> None:
    """A site's own cap of 1 Unit a site: all four sites of the row, 4 Units."""
    head = (DATA / "caps.csv").read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / "caps.csv"
    path.write_text(
        f"{head}\nXEOMIN,adult,US,site,any,units,1,,site,L_XEO_CD,own\n", encoding="utf-8"
    )
    dose = planned(make.inputs(), UNKNOWN, load_tables(path))
    assert (dose.units.value, dose.site_count) == (4.0, 4)


# --- cutting ----------------------------------------------------------------------------------


def test_a_cut_lowers_everything_that_hangs_on_the_dose(make: Any, tables: ClinicalTables) -> None:
    """Units, mL, interval and label minimum follow a cut; it can never raise."""
    inputs = make.inputs()
    dose = planned(inputs, volume(143.7), tables)
    cut = with_less(dose, 40.0, [], inputs, tables)
    assert isinstance(cut, DosePlan)
    assert cut.units_per_site == (13.5, 13.5, 13.0)
    assert cut.total_ml == pytest.approx(0.8)
    assert cut.interval_units == (40.0, 40.0)
    assert cut.below_label_min
    less = with_less(dose, 120.0, [], inputs, tables)
    assert isinstance(less, DosePlan)
    assert (dose.interval_units, less.interval_units) == ((100.0, 150.0), (100.0, 120.0))
    least = with_less(dose, 50.0, [], inputs, tables)
    assert isinstance(least, DosePlan)
    assert not least.below_label_min
    same = with_less(dose, 125.0, [], inputs, tables)
    assert isinstance(same, DosePlan)
    assert same.units == dose.units
    bare = with_less(dose, 40.0, [], replace(inputs, dilution=None), tables)
    assert isinstance(bare, DosePlan)
    assert (bare.ml_per_site, bare.total_ml) == (None, None)
    gone = with_less(dose, 0.0, [], inputs, tables)
    assert isinstance(gone, DoseRefused)
    with pytest.raises(ValueError, match="cannot raise"):
        with_less(dose, 200.0, [], inputs, tables)


def test_the_derivation_ends_in_the_dose(make: Any, tables: ClinicalTables) -> None:
    """The tree holds the range, the position, the volume, the reference and every adjustment."""
    dose = planned(make.inputs(), volume(143.7 * 0.9), tables)
    names = [step.name for step in dose.step.walk()]
    assert names == [
        "range",
        "position in the range",
        "dose before volume",
        "volume",
        "reference volume",
        "volume_ratio",
        "dose",
    ]
    assert dose.step.value == dose.units.value == 112.5
    unscaled = planned(make.inputs(severity=None), volume(143.7), tables)
    assert unscaled.adjustments == ()

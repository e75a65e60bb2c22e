"""Sessions under joint caps, what was really given, follow-up, and comparisons."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.clinic.cautions import possible_from, treatment_cautions
from app.clinic.comparison import ComparisonRefused, VolumeComparison, compare_volumes
from app.clinic.derivation import Step
from app.clinic.dose_rows import DoseRefused
from app.clinic.dosing import DosePlan, plan_dose
from app.clinic.errors import InvalidInput, UnknownProduct
from app.clinic.evidence import CapKind
from app.clinic.follow_up import (
    Administration,
    FollowUp,
    GivenSite,
    follow_up_of,
    too_early,
)
from app.clinic.inputs import Dilution, Patient, PriorTreatment, Severity
from app.clinic.plan import plan_muscle, what_if
from app.clinic.plan_json import plan_to_json
from app.clinic.session import SessionItem, SessionPlan, plan_session
from app.clinic.tables import DATA, ClinicalTables, load_tables
from app.clinic.volume import MuscleVolume, VolumeUnknown

TODAY = dt.date(2026, 3, 2)
UNKNOWN = VolumeUnknown(reason="not measured", remedy="-")


def item(
    make: Any, tables: ClinicalTables, muscle: str, priority: int | None = None, **other: Any
) -> SessionItem:
    inputs = make.inputs(muscle=muscle, **other)
    own = SessionItem(
        key=f"{muscle} {inputs.side}",
        inputs=inputs,
        dose=plan_dose(inputs, UNKNOWN, tables, today=TODAY),
    )
    return own if priority is None else replace(own, priority=priority)


def units_of(plan: SessionPlan) -> dict[str, float]:
    return {i.key: i.dose.units.value if isinstance(i.dose, DosePlan) else 0.0 for i in plan.items}


TOP = Severity(scale="MAS", value="4")


# --- sessions ---------------------------------------------------------------------------------


def test_a_sum_under_its_caps_is_left_alone(make: Any, tables: ClinicalTables) -> None:
    """125 and 62.5 Units stay as they are; vials and mL are counted."""
    plan = plan_session(
        [item(make, tables, "biceps_brachii"), item(make, tables, "brachialis")], tables
    )
    assert units_of(plan) == {"biceps_brachii left": 125, "brachialis left": 62.5}
    assert plan.total.value == 187.5
    assert plan.cuts == ()
    assert plan.notes == ()
    assert [i.priority for i in plan.items] == [1, 1]
    (vials,) = plan.vials
    assert (vials.vials, vials.draw_up_ml, vials.units_left_over) == (2, 3.75, 12.5)
    (cap,) = plan.caps
    assert (cap.held.cap.kind, cap.asked_units, cap.planned_units) == (
        CapKind.SESSION,
        187.5,
        187.5,
    )


def test_equal_priorities_are_cut_in_proportion(make: Any, tables: ClinicalTables) -> None:
    """Both biceps and brachialis at their top ask for 600 of 400: each gives up 200/450 of what
    it has above its minimum."""
    items = [
        item(make, tables, muscle, side=side, severity=TOP)
        for muscle in ("biceps_brachii", "brachialis")
        for side in ("left", "right")
    ]
    plan = plan_session(items, tables)
    # above the minimum: 150 + 150 + 75 + 75 = 450; over by 200
    biceps = 200 - 150 * 200 / 450  # 133.33 → 133
    brachialis = 100 - 75 * 200 / 450  # 66.67 → 66.5
    assert units_of(plan)["biceps_brachii left"] == 133.0 == int(biceps * 2) / 2
    assert units_of(plan)["brachialis right"] == 66.5 == int(brachialis * 2) / 2
    assert plan.total.value == 399
    assert len(plan.cuts) == 4
    assert plan.cuts[0].sources == ("L_XEO_DRUGSCOM", "L_XEO_EPOC")
    first = plan.items[0].dose
    assert isinstance(first, DosePlan)
    assert first.adjustments[-1].reason == "session_sum"
    assert first.step.value == 133.0
    assert sum(first.units_per_site) == 133.0


def test_half_a_unit_over_is_cut_too(make: Any, tables: ClinicalTables) -> None:
    """187.5 Units of 187: each gives up its share, rounded down."""
    given = (PriorTreatment(product="XEOMIN", units=213, date=TODAY),)
    items = [
        item(make, tables, muscle, prior_treatments=given)
        for muscle in ("biceps_brachii", "brachialis")
    ]
    plan = plan_session(items, tables)
    assert units_of(plan) == {"biceps_brachii left": 124.5, "brachialis left": 62.0}


def test_priorities_decide_who_is_cut(make: Any, tables: ClinicalTables) -> None:
    """The last priority goes to its minimum before the next is touched."""
    items = [
        item(make, tables, "biceps_brachii", 1, severity=TOP),
        item(make, tables, "brachialis", 2, severity=TOP),
        item(make, tables, "brachioradialis", 3, severity=TOP),
        item(make, tables, "flexor_carpi_ulnaris", 3, severity=TOP),
    ]
    plan = plan_session(items, tables)
    # 500 of 400: the two of priority 3 have 75 + 80 above their minima and give up 100 of it
    kept = units_of(plan)
    assert kept["biceps_brachii left"] == 200
    assert kept["brachialis left"] == 100
    assert {cut.key for cut in plan.cuts} == {"brachioradialis left", "flexor_carpi_ulnaris left"}
    assert kept["brachioradialis left"] == int((100 - 75 * 100 / 155) * 2) / 2
    assert kept["flexor_carpi_ulnaris left"] == int((100 - 80 * 100 / 155) * 2) / 2


def test_only_when_all_are_at_their_minimum_is_more_cut(make: Any, tables: ClinicalTables) -> None:
    """With 360 Units given today 40 are left: the first muscle keeps what it can, the others go
    below their minimum or to nothing, and nothing is raised."""
    given = (PriorTreatment(product="XEOMIN", units=360, date=TODAY),)
    items = [
        item(make, tables, "biceps_brachii", 1, severity=None, prior_treatments=given),
        item(make, tables, "brachialis", 2, severity=None, prior_treatments=given),
    ]
    plan = plan_session(items, tables)
    assert units_of(plan) == {"biceps_brachii left": 40, "brachialis left": 0}
    assert isinstance(plan.items[1].dose, DoseRefused)
    assert any("below the range's lower end" in note for note in plan.notes)
    assert any("no dose is left" in note for note in plan.notes)
    assert plan.total.value == 40


def test_who_is_not_cut_keeps_everything(make: Any, tables: ClinicalTables) -> None:
    """A muscle that loses nothing keeps its whole dose, interval and all, beside one that does."""
    given = (PriorTreatment(product="XEOMIN", units=250, date=TODAY),)
    first, second = (
        item(make, tables, muscle, priority, severity=TOP, prior_treatments=given)
        for muscle, priority in (("biceps_brachii", 2), ("brachialis", 1))
    )
    with_volume = replace(
        second,
        dose=plan_dose(second.inputs, volume(140), tables, today=TODAY),
    )
    assert isinstance(with_volume.dose, DosePlan)
    assert with_volume.dose.interval_units[0] < with_volume.dose.units.value
    plan = plan_session([first, with_volume], tables)
    assert plan.items[1] == with_volume
    assert {cut.key for cut in plan.cuts} == {"biceps_brachii left"}


def test_a_dose_below_its_minimum_has_nothing_to_give_first(make: Any, tmp_path: Path) -> None:
    """A site's cap leaves brachialis 10 Units, below its 25: biceps alone gives up 10."""
    head = (DATA / "caps.csv").read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / "caps.csv"
    path.write_text(f"{head}\nXEOMIN,adult,US,muscle,brachialis,units,10,,site,L_XEO_CD,own\n")
    own = load_tables(path)
    given = (PriorTreatment(product="XEOMIN", units=250, date=TODAY, muscles=("brachioradialis",)),)
    items = [
        item(make, own, muscle, severity=TOP, prior_treatments=given)
        for muscle in ("biceps_brachii", "brachialis")
    ]
    assert units_of(plan_session(items, own)) == {
        "biceps_brachii left": 140,
        "brachialis left": 10,
    }


def test_the_least_that_is_left_of_a_cap_holds(make: Any, tables: ClinicalTables) -> None:
    """Where one muscle's request tells of 300 Units of today and the other's does not, 100 are
    left for both."""
    given = (PriorTreatment(product="XEOMIN", units=300, date=TODAY),)
    items = [
        item(make, tables, "biceps_brachii", prior_treatments=given),
        item(make, tables, "brachialis"),
    ]
    for order in (items, items[::-1]):
        plan = plan_session(order, tables)
        assert plan.total.value <= 100
        (cap,) = plan.caps
        assert cap.held.left_units == 100


def test_a_limb_is_cut_before_the_whole(make: Any, tmp_path: Path) -> None:
    """The arm's 200 of a site's cap first: then all are under the session's 400, and the leg
    keeps its own."""
    (tmp_path / "caps.csv").write_text(
        (DATA / "caps.csv").read_text(encoding="utf-8").splitlines()[0]
        + "\nXEOMIN,adult,US,session,upper_limb,units,200,,site,L_XEO_CD,own\n"
    )
    (tmp_path / "dose_rows.csv").write_text(
        (DATA / "dose_rows.csv").read_text(encoding="utf-8").splitlines()[0]
        + "\nXEOMIN,upper_limb_spasticity,adult,US,soleus,50,200,,,1,4,site,L_XEO_CD,own\n"
    )
    own = load_tables(tmp_path)
    items = [
        item(make, own, muscle, side=side, severity=TOP)
        for muscle, side in (
            ("biceps_brachii", "left"),
            ("biceps_brachii", "right"),
            ("soleus", "left"),
        )
    ]
    for order in (items, items[::-1]):
        plan = plan_session(order, own)
        assert units_of(plan) == {
            "biceps_brachii left": 100,
            "biceps_brachii right": 100,
            "soleus left": 200,
        }


def test_a_refused_muscle_stays_refused(make: Any, tables: ClinicalTables) -> None:
    """A muscle without a dose stands in the session with its reason and counts nothing."""
    plan = plan_session(
        [item(make, tables, "biceps_brachii"), item(make, tables, "trapezius")], tables
    )
    assert plan.total.value == 125
    assert any(note.startswith("trapezius left") for note in plan.notes)


def test_two_limbs_have_a_cap_each(make: Any, tmp_path: Path) -> None:
    """A child's DYSPORT legs: 15 U/kg for each leg and 30 U/kg for both, by a site's rows."""
    head = (DATA / "dose_rows.csv").read_text(encoding="utf-8").splitlines()[0]
    legs = "DYSPORT,lower_limb_spasticity,paediatric,US"
    path = tmp_path / "dose_rows.csv"
    path.write_text(
        f"{head}\n{legs},soleus,,,5,10,1,9,site,L_DYS_PED,\n"
        f"{legs},gastrocnemius_medial,,,5,10,1,9,site,L_DYS_PED,\n",
        encoding="utf-8",
    )
    own = load_tables(path)
    items = [
        item(
            make,
            own,
            muscle,
            side=side,
            severity=TOP,
            product="DYSPORT",
            indication="lower_limb_spasticity",
            patient=Patient(age_years=8, weight_kg=20),
            dilution=Dilution(units=500, ml=2.5),
        )
        for muscle in ("soleus", "gastrocnemius_medial")
        for side in ("left", "right")
    ]
    plan = plan_session(items, own)
    # 10 U/kg × 20 kg = 200 each; 400 a leg over 300 (15 U/kg): 150 each; 600 in all
    assert set(units_of(plan).values()) == {150}
    limbs = [cap for cap in plan.caps if cap.held.cap.kind is CapKind.LIMB]
    assert sorted(cap.side or "" for cap in limbs) == ["left", "right"]
    assert all(len(cap.keys) == 2 for cap in limbs)
    assert any("(left)" in cut.text for cut in plan.cuts)


def test_unknown_dilution_no_vials(make: Any, tables: ClinicalTables) -> None:
    """Without a dilution no vial is counted; two dilutions are counted apart."""
    with_one = item(make, tables, "biceps_brachii")
    without = item(make, tables, "brachialis", dilution=None)
    assert plan_session([with_one, without], tables).vials == ()
    other = item(make, tables, "brachialis", dilution=Dilution(units=50, ml=1.25))
    assert [v.vials for v in plan_session([with_one, other], tables).vials] == [2, 2]
    exact = item(make, tables, "biceps_brachii", dilution=Dilution(units=125, ml=2.5))
    (vials,) = plan_session([exact], tables).vials
    assert (vials.vials, vials.units_left_over) == (1, 0)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"product": "BOTOX"}, "product"),
        ({"product": None}, "product"),
        ({"patient": Patient(age_years=54, weight_kg=70, height_m=1.74)}, "patient"),
        ({"jurisdiction": "SG"}, "patient"),
        ({"muscle": "biceps_brachii"}, "items"),
    ],
)
def test_what_is_no_session(
    make: Any, tables: ClinicalTables, changed: dict[str, Any], field: str
) -> None:
    """Two products, two patients or a muscle twice are no session."""
    first = item(make, tables, "biceps_brachii")
    second = item(make, tables, **{"muscle": "brachialis", **changed})
    with pytest.raises(InvalidInput) as caught:
        plan_session([first, second], tables)
    assert caught.value.field == field


def test_no_muscle_is_no_session(make: Any, tables: ClinicalTables) -> None:
    """A session without a muscle, with an unknown product or priority 0 is refused."""
    with pytest.raises(InvalidInput, match="nothing"):
        plan_session([], tables)
    nameless = item(make, tables, "biceps_brachii", product=None)
    with pytest.raises(InvalidInput, match="None"):
        plan_session([nameless], tables)
    same = item(make, tables, "biceps_brachii")
    with pytest.raises(InvalidInput, match="twice"):
        plan_session([same, replace(same, key="another")], tables)
    unknown = item(make, tables, "biceps_brachii")
    unknown = replace(unknown, inputs=replace(unknown.inputs, product="NEWTOX"))
    with pytest.raises(UnknownProduct):
        plan_session([unknown], tables)
    with pytest.raises(InvalidInput, match="priority"):
        replace(unknown, priority=0)
    with pytest.raises(InvalidInput, match="twice"):
        plan_session(
            [
                item(make, tables, "biceps_brachii"),
                replace(item(make, tables, "brachialis"), key="biceps_brachii left"),
            ],
            tables,
        )


# --- what was really given ----------------------------------------------------------------------


def administration(**other: Any) -> Administration:
    fields: dict[str, Any] = {
        "product": "XEOMIN",
        "muscle": "biceps_brachii",
        "date": dt.date(2025, 12, 1),
        "sites": (
            GivenSite(number=1, units=40, ml=0.8),
            GivenSite(number=2, units=30),
        ),
        "expiry": dt.date(2025, 12, 1),
        "wastage_units": 30.0,
    }
    return Administration(**{**fields, **other})


def recorded(units: float, muscle: str = "biceps_brachii", **other: Any) -> PriorTreatment:
    sites = (GivenSite(number=1, units=units),)
    return administration(sites=sites, muscle=muscle, **other).as_treatment()


def told(units: float, *muscles: str, **other: Any) -> PriorTreatment:
    fields = {"product": "XEOMIN", "date": dt.date(2025, 12, 1), "muscles": muscles or None}
    return PriorTreatment(units=units, **{**fields, **other})


def test_nothing_is_thrown_away_unless_told() -> None:
    """A record without wastage has wasted nothing."""
    told_nothing = Administration(
        product="XEOMIN",
        muscle="biceps_brachii",
        date=dt.date(2025, 12, 1),
        sites=(GivenSite(number=1, units=40),),
    )
    assert told_nothing.wastage_units == 0


def test_what_was_given_counts_and_not_the_plan() -> None:
    """The sum of the sites is the earlier treatment of the muscle; what was thrown away is not."""
    assert administration().given.value == 70
    assert administration().as_treatment() == PriorTreatment(
        product="XEOMIN",
        units=70,
        date=dt.date(2025, 12, 1),
        muscles=("biceps_brachii",),
        recorded=True,
    )


@pytest.mark.parametrize(
    ("given", "record", "rest"),
    [
        ((), (recorded(70),), [70]),
        ((told(70, "biceps_brachii"),), (recorded(70),), []),
        ((told(90),), (recorded(70),), []),
        ((told(90),), (recorded(70), recorded(40, "brachialis")), [20]),
        ((told(70, "biceps_brachii"),), (recorded(70), recorded(70)), [70]),
        ((told(70, "biceps_brachii"),), (recorded(40, "brachialis"),), [40]),
        ((told(70, product="BOTOX"),), (recorded(70),), [70]),
        ((told(70, date=dt.date(2025, 12, 2)),), (recorded(70),), [70]),
        ((told(60, "brachialis"), told(70, "biceps_brachii")), (recorded(70),), []),
    ],
)
def test_the_record_counts_what_was_not_told(
    make: Any,
    given: tuple[PriorTreatment, ...],
    record: tuple[PriorTreatment, ...],
    rest: list[float],
) -> None:
    """A recorded treatment counts once: as it was told, or with the Units that were not."""
    inputs = make.inputs(prior_treatments=given, recorded_treatments=record)
    assert inputs.treatments[: len(given)] == given
    besides = inputs.treatments[len(given) :]
    assert [t.units for t in besides] == rest
    assert all(t.recorded and t.response is None for t in besides)


def test_a_recorded_treatment_counts_like_a_told_one(make: Any, tables: ClinicalTables) -> None:
    """370 Units of today in the record leave 30 of the session, said so; the question of earlier
    treatments stays open."""
    record = (recorded(370, date=TODAY, expiry=None),)
    inputs = make.inputs(prior_treatments=None, recorded_treatments=record)
    plan = plan_muscle(inputs, make.observation(), tables, today=TODAY)
    assert isinstance(plan.dose, DosePlan)
    assert plan.dose.units.value == 30
    assert "recorded_treatments" in {c.code for c in plan.cautions}
    assert [q.field for q in plan.unanswered] == ["prior_treatments"]
    (counted,) = plan_to_json(plan)["treatments"]
    assert counted == {
        "product": "XEOMIN",
        "units": 370.0,
        "date": TODAY.isoformat(),
        "muscles": ["biceps_brachii"],
        "response": None,
        "recorded": True,
    }
    plain = plan_muscle(make.inputs(), make.observation(), tables, today=TODAY)
    assert "recorded_treatments" not in {c.code for c in plain.cautions}


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"sites": ()}, "sites"),
        ({"expiry": dt.date(2025, 11, 30)}, "expiry"),
        ({"wastage_units": -1.0}, None),
    ],
)
def test_an_administration_that_cannot_be(changed: dict[str, Any], field: str | None) -> None:
    """No site, an expired vial or a waste below nothing is refused."""
    with pytest.raises(InvalidInput) as caught:
        administration(**changed)
    assert caught.value.field == field


@pytest.mark.parametrize(("units", "ml"), [(0.0, 1.0), (5.0, 0.0)])
def test_a_site_that_got_nothing_is_no_site(units: float, ml: float) -> None:
    """A recorded site has Units and mL above zero."""
    with pytest.raises(InvalidInput):
        GivenSite(number=1, units=units, ml=ml)


# --- follow-up --------------------------------------------------------------------------------


def earlier(days: int, **other: Any) -> PriorTreatment:
    return PriorTreatment(
        **{"product": "XEOMIN", "units": 80.0, "date": TODAY - dt.timedelta(days=days), **other}
    )


def test_too_early_is_refused_with_the_date(make: Any, tables: ClinicalTables) -> None:
    """After 83 days plan and what-if are refused and possible from tomorrow; after 84 planned."""
    soon = make.inputs(prior_treatments=(earlier(200), earlier(83)))
    tomorrow = TODAY + dt.timedelta(days=1)
    plan = plan_muscle(soon, make.observation(), tables, today=TODAY)
    for dose in (plan.dose, what_if(soon, UNKNOWN, tables, today=TODAY)):
        assert isinstance(dose, DoseRefused)
        assert (dose.code, dose.available_from) == ("too_early", tomorrow)
        assert "83 days ago" in dose.reason
    last_on = TODAY - dt.timedelta(days=83)
    assert plan.follow_up == FollowUp(last_on=last_on, days_since=83, possible_from=tomorrow)
    assert plan_to_json(plan)["follow_up"] == {
        "last_on": last_on.isoformat(),
        "days_since": 83,
        "possible_from": tomorrow.isoformat(),
    }
    then = make.inputs(prior_treatments=(earlier(84),))
    plan = plan_muscle(then, make.observation(), tables, today=TODAY)
    assert plan.follow_up is not None
    assert (plan.follow_up.days_since, plan.follow_up.possible_from) == (84, TODAY)
    for dose in (plan.dose, what_if(then, UNKNOWN, tables, today=TODAY)):
        assert isinstance(dose, DosePlan)


def test_the_first_treatment_has_no_follow_up(make: Any, tables: ClinicalTables) -> None:
    """Without an earlier treatment of this product there is none; today's does not count."""
    for prior in ((), (earlier(0),), (earlier(30, product="BOTOX"),)):
        inputs = make.inputs(prior_treatments=prior)
        assert follow_up_of(inputs, tables, today=TODAY) is None
        assert too_early(inputs, tables, today=TODAY) is None
        assert possible_from(inputs, tables, today=TODAY) is None
    undated = make.inputs(prior_treatments=(earlier(10),))
    assert follow_up_of(undated, tables, today=None) is None
    assert too_early(undated, tables, today=None) is None


def test_of_two_intervals_the_longer_holds(make: Any, tmp_path: Path) -> None:
    """Where a table has an interval for every muscle and one for the limb, both are kept."""
    head = (DATA / "caps.csv").read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / "caps.csv"
    path.write_text(
        f"{head}\nXEOMIN,any,US,interval,any,weeks,12,,label,L_XEO_EPOC,interval\n"
        "XEOMIN,any,US,interval,upper_limb,weeks,16,,label,L_XEO_EPOC,interval of the arm\n",
        encoding="utf-8",
    )
    inputs = make.inputs(prior_treatments=(earlier(100),))
    start = possible_from(inputs, load_tables(path), today=TODAY)
    assert start == TODAY + dt.timedelta(days=16 * 7 - 100)


def test_what_one_of_several_treatments_stops(make: Any, tables: ClinicalTables) -> None:
    """One recorded among told ones is named, one after today among past ones too; without any
    earlier treatment there is nothing to say, whatever the day."""

    def told(*treatments: PriorTreatment) -> set[str]:
        inputs = make.inputs(prior_treatments=treatments)
        return {c.code for c in treatment_cautions(inputs, tables, today=TODAY)}

    assert told(earlier(300), earlier(200, recorded=True)) == {"recorded_treatments"}
    assert told(earlier(300), earlier(-1)) == {"treated_after_today"}
    for none in ((), None):
        inputs = make.inputs(prior_treatments=none)
        assert treatment_cautions(inputs, tables, today=None) == []


def test_no_interval_known_no_date(make: Any, tables: ClinicalTables) -> None:
    """Where no interval was found, or age or product are unknown, there is no date to wait for."""
    daxxify = make.inputs(
        product="DAXXIFY",
        indication="cervical_dystonia",
        muscle="trapezius",
        prior_treatments=(earlier(10, product="DAXXIFY"),),
    )
    assert possible_from(daxxify, tables, today=TODAY) is None
    after = follow_up_of(daxxify, tables, today=TODAY)
    assert after is not None
    assert (after.days_since, after.possible_from) == (10, None)
    assert too_early(daxxify, tables, today=TODAY) is None
    prior = (earlier(10),)
    for changed in ({"patient": Patient()}, {"product": None}):
        inputs = make.inputs(prior_treatments=prior, **changed)
        assert possible_from(inputs, tables, today=TODAY) is None


def test_a_childs_arm_waits_longer(make: Any, tables: ClinicalTables) -> None:
    """DYSPORT: 16 weeks for a child's arm, 12 for its leg."""
    for muscle, weeks in (("biceps_brachii", 16), ("soleus", 12)):
        inputs = make.inputs(
            muscle=muscle,
            product="DYSPORT",
            patient=Patient(age_years=8, weight_kg=20),
            prior_treatments=(earlier(7, product="DYSPORT"),),
        )
        start = possible_from(inputs, tables, today=TODAY)
        assert start == TODAY - dt.timedelta(days=7) + dt.timedelta(weeks=weeks)


# --- comparisons ------------------------------------------------------------------------------


def volume(volume_ml: float, method: str = "sweep_tracked") -> MuscleVolume:
    return MuscleVolume(
        volume_ml=volume_ml,
        interval_ml=(volume_ml * 0.9, volume_ml * 1.1),
        method=method,
        published_error="-",
        sections_used=(),
        step=Step(name="volume", value=volume_ml, unit="mL", equation="given", sources=()),
    )


def compared(first: MuscleVolume, second: MuscleVolume, tables: ClinicalTables) -> VolumeComparison:
    found = compare_volumes(first, second, tables, what="Left and right")
    assert isinstance(found, VolumeComparison)
    return found


def test_a_change_within_the_error_is_said(tables: ClinicalTables) -> None:
    """Tracked: 100 against 114 mL differs by 14, within 0.14 × 107; 100 against 116 is more."""
    within = compared(volume(100), volume(114), tables)
    assert within.difference_ml == 14
    assert within.difference_fraction == pytest.approx(0.14)
    assert within.smallest_change_ml == pytest.approx(14.98)
    assert not within.more_than_error
    assert within.text.startswith("Left and right: 100.0 and 114.0 mL, a difference of +14.0 mL")
    assert within.text.endswith("is 15.0 mL (14% by G_BARBER_CP), so it is within the error.")
    more = compared(volume(116), volume(100), tables)
    assert more.difference_ml == -16
    assert more.difference_fraction == pytest.approx(-16 / 116)
    assert more.more_than_error
    assert "more than the error" in more.text


def test_a_difference_of_just_the_error_is_none(tables: ClinicalTables) -> None:
    """87.5 against 112.5 mL: 25 mL, which is 25 % of their mean and not more than that."""
    assert not compared(volume(87.5, "sweep"), volume(112.5, "sweep"), tables).more_than_error
    assert compared(volume(87.4, "sweep"), volume(112.5, "sweep"), tables).more_than_error


@pytest.mark.parametrize(
    ("method", "fraction", "sources"),
    [
        ("sweep_tracked", 0.14, ("G_BARBER_CP",)),
        ("sweep", 0.25, ("G_3DUS_PROC", "POLICY")),
        ("section_length", 0.30, ("POLICY",)),
        ("bandholm2007_soleus", 0.47, ("POLICY",)),
    ],
)
def test_each_method_has_its_own_error(
    tables: ClinicalTables, method: str, fraction: float, sources: tuple[str, ...]
) -> None:
    """The smallest change is the method's own, with its source; all are marked as judgement."""
    found = compared(volume(90, method), volume(110, method), tables)
    assert found.smallest_change_ml == pytest.approx(100 * fraction)
    assert found.smallest_change.sources == sources
    assert found.smallest_change.grade == "judgement"


def test_two_methods_are_not_compared(tables: ClinicalTables) -> None:
    """A tracked sweep and an operator's: refused, and both are named."""
    refused = compare_volumes(volume(100), volume(100, "sweep"), tables, what="Both")
    assert isinstance(refused, ComparisonRefused)
    assert "sweep_tracked" in refused.reason
    assert "by sweep;" in refused.reason
    assert refused.remedy

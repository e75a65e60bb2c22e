"""The plan as a whole: cautions, stops, questions, and the JSON of each kind of outcome."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.clinic.cautions import safety_questions
from app.clinic.derivation import sentences
from app.clinic.dose_rows import DoseRefused
from app.clinic.dosing import DosePlan
from app.clinic.inputs import Patient, PriorTreatment, ShapeFactor
from app.clinic.plan import MusclePlan, _with_units, plan_muscle
from app.clinic.plan_json import dose_to_json, plan_to_json
from app.clinic.tables import ClinicalTables
from app.clinic.volume import VolumeUnknown

TODAY = dt.date(2026, 3, 2)


def plan_of(make: Any, tables: ClinicalTables, observation: Any = None, **other: Any) -> MusclePlan:
    return plan_muscle(
        make.inputs(**other),
        make.observation() if observation is None else observation,
        tables,
        today=TODAY,
    )


def codes(plan: MusclePlan) -> set[str]:
    return {caution.code for caution in plan.cautions}


def test_every_safety_answer_does_what_the_table_says(make: Any, tables: ClinicalTables) -> None:
    """Each question answered with yes is a caution or a stop as its row says."""
    for rule in tables.cautions.values():
        if rule.kind != "safety" or rule.products:
            continue
        plan = plan_of(make, tables, safety=make.all_no() | {rule.code: True})
        assert rule.code in codes(plan)
        assert plan.may_be_confirmed == (rule.effect == "caution")


def test_an_answer_of_unknown_is_a_question(make: Any, tables: ClinicalTables) -> None:
    """An answer that is unknown, or left out, stays a question and refuses confirmation."""
    for answers in ({"pregnancy": None}, {}):
        safety = {k: v for k, v in make.all_no().items() if k != "pregnancy"} | answers
        plan = plan_of(make, tables, safety=safety)
        assert [question.field for question in plan.unanswered] == ["safety.pregnancy"]
        assert not plan.may_be_confirmed


def test_a_product_asks_its_own_questions(tables: ClinicalTables) -> None:
    """Only DYSPORT asks for cow's milk; without a product every question is asked."""
    asked = {p: {r.code for r in safety_questions(p, tables)} for p in ("DYSPORT", "XEOMIN", None)}
    assert "cows_milk_allergy" in asked["DYSPORT"]
    assert "cows_milk_allergy" not in asked["XEOMIN"]
    assert asked[None] == asked["DYSPORT"]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"laterality": "right"}, "laterality_mismatch"),
        ({"patient_id": "P2"}, "patient_mismatch"),
    ],
)
def test_a_mismatch_is_a_stop(
    make: Any, tables: ClinicalTables, changed: dict[str, str], code: str
) -> None:
    """An image of the other side or of another patient stops the confirmation."""
    patient = Patient(age_years=54, weight_kg=72, height_m=1.74, id="P1")
    matching = make.observation(laterality="left", patient_id="P1")
    assert plan_of(make, tables, matching, patient=patient).stops == ()
    plan = plan_of(make, tables, make.observation(**changed), patient=patient)
    assert [stop.code for stop in plan.stops] == [code]
    unknown = plan_of(make, tables, make.observation(patient_id="P2"))
    assert "patient_mismatch" not in codes(unknown)


def treated(days: int, product: str = "XEOMIN") -> tuple[PriorTreatment, ...]:
    return (PriorTreatment(product=product, units=50, date=TODAY - dt.timedelta(days=days)),)


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        (treated(83), {"minimum_interval"}),
        (treated(84), set()),
        (treated(0), set()),
        (treated(-1), {"treated_after_today"}),
        (treated(83, "BOTOX"), {"other_toxin_in_window"}),
        (treated(84, "BOTOX"), set()),
        (treated(0, "BOTOX"), {"other_toxin_in_window"}),
    ],
)
def test_earlier_treatments_stop(
    make: Any,
    tables: ClinicalTables,
    prior: tuple[PriorTreatment, ...],
    expected: set[str],
) -> None:
    """Too early, another toxin within twelve weeks and a date in the future are stops."""
    plan = plan_of(make, tables, prior_treatments=prior)
    assert {stop.code for stop in plan.stops} == expected


def test_the_interval_names_its_date(make: Any, tables: ClinicalTables) -> None:
    """The stop says from when a treatment is possible, and which other product was given."""
    (stop,) = plan_of(make, tables, prior_treatments=treated(83)).stops
    assert "Possible from 2026-03-03" in stop.text
    (stop,) = plan_of(make, tables, prior_treatments=treated(10, "BOTOX")).stops
    assert "Given: BOTOX" in stop.text


def test_without_today_no_interval_can_be_checked(make: Any, tables: ClinicalTables) -> None:
    """With earlier treatments and no date for today, confirmation is stopped."""
    inputs = make.inputs(prior_treatments=treated(400))
    plan = plan_muscle(inputs, make.observation(), tables, today=None)
    assert [stop.code for stop in plan.stops] == ["today_unknown"]
    measured = replace(inputs, product=None)
    assert plan_muscle(measured, make.observation(), tables, today=None).stops == ()


def test_hazards_of_the_muscle_are_said(make: Any, tables: ClinicalTables) -> None:
    """A sourced hazard of the muscle stands in its plan."""
    plan = plan_of(make, tables, muscle="pronator_teres")
    (hazard,) = [c for c in plan.cautions if c.code == "hazard"]
    assert "median nerve" in hazard.text
    assert hazard.source == "H_ELIAS1"


def test_an_open_sweep_is_said(make: Any, tables: ClinicalTables) -> None:
    """A sweep that stopped inside the belly says that part of the volume is extrapolated."""
    observation = make.sweep_of_ellipsoid(
        length_mm=180, half_row_mm=12, half_column_mm=20, positions=[-0.6, 0.0, 0.6]
    )
    plan = plan_of(make, tables, observation, sweep=make.sweep(54))
    assert "sweep_incomplete" in codes(plan)


def test_a_typed_shape_factor_is_said(make: Any, tables: ClinicalTables) -> None:
    """A factor that the operator typed is named with its source."""
    plan = plan_of(make, tables, shape_factor=ShapeFactor(value=0.6, source="own MRI"))
    (said,) = [c for c in plan.cautions if c.code == "shape_factor_typed"]
    assert "own MRI" in said.text


def test_structures_nobody_looked_for_are_said(make: Any, tables: ClinicalTables) -> None:
    """Where no nerve or vessel was looked for, the plan says to find them first."""
    observation = make.observation(make.section(avoid=None))
    assert "structures_not_looked_for" in codes(plan_of(make, tables, observation))
    assert "structures_not_looked_for" not in codes(plan_of(make, tables))


def test_a_dose_without_a_site_cannot_be_confirmed(make: Any, tables: ClinicalTables) -> None:
    """Where no site keeps its margins the dose stands, and confirmation is stopped."""
    sliver = np.zeros((300, 400), dtype=np.bool_)
    sliver[100:115, 50:350] = True
    plan = plan_of(make, tables, make.observation(make.section(sliver)))
    assert isinstance(plan.dose, DosePlan)
    assert plan.sites == ()
    assert [stop.code for stop in plan.stops] == ["no_sites"]
    json = plan_to_json(plan)
    assert json["sites_refused"]["remedy"]
    assert json["may_be_confirmed"] is False


def test_no_section_no_plan(make: Any, tables: ClinicalTables) -> None:
    """Without any outlined section nothing is planned, and the plan says what it needs."""
    plan = plan_of(make, tables, replace(make.observation(), sections=()))
    assert isinstance(plan.dose, DoseRefused)
    assert plan.dose.code == "needs_target"


def test_fewer_sites_than_wanted_share_the_dose(make: Any, tables: ClinicalTables) -> None:
    """Where fewer sites fit, the dose is made for those, and their Units add up to it."""
    mask = np.zeros((300, 400), dtype=np.bool_)
    mask[100:180, 100:180] = True
    plan = plan_of(make, tables, make.observation(make.section(mask)), product="BOTOX")
    assert isinstance(plan.dose, DosePlan)
    assert plan.dose.site_count == len(plan.sites) == 1
    assert plan.sites[0].units == plan.dose.units.value == 50
    assert {"fewer_sites_than_label", "below_label_minimum"} <= codes(plan)


def test_a_refused_dose_leaves_the_sites_without_units(make: Any, tables: ClinicalTables) -> None:
    """Sites of a muscle without a dose carry neither Units nor mL."""
    plan = plan_of(make, tables, product=None)
    assert isinstance(plan.dose, DoseRefused)
    assert _with_units(plan.sites, plan.dose) == plan.sites
    assert [(site.units, site.ml) for site in plan.sites] == [(None, None)]


def test_scaling_is_called_research(make: Any, tables: ClinicalTables) -> None:
    """A scaled dose says that scaling by volume is a research feature; an unscaled one does not."""
    assert "volume_scaling_is_research" in codes(plan_of(make, tables))
    unscaled = plan_of(make, tables, muscle_length_mm=None)
    assert "volume_scaling_is_research" not in codes(unscaled)
    assert "boxed_warning" in codes(unscaled)


def test_the_explanation_reads_from_causes_to_results(make: Any, tables: ClinicalTables) -> None:
    """The sentences begin with the section and end with the sites, none of them twice."""
    plan = plan_of(make, tables)
    said = plan.explanation_sentences
    assert said[0].startswith("A section of")
    assert said[-1].startswith(f"Site {len(plan.sites)}")
    assert len(set(said)) == len(said)
    assert sentences(plan.explanation) == said
    refused = plan_of(make, tables, product=None, muscle_length_mm=None)
    assert any(text.startswith("The volume is unknown") for text in refused.explanation_sentences)
    assert any(text.startswith("No dose") for text in refused.explanation_sentences)


def test_every_number_of_the_derivation_has_a_source_in_the_tables(
    make: Any, tables: ClinicalTables
) -> None:
    """Every source that the derivation and the cautions name is in the table of sources."""
    plan = plan_of(make, tables)
    named = {source for step in plan.explanation.walk() for source in step.sources}
    named |= {source for c in plan.cautions for source in c.source.split(";")}
    assert named <= set(tables.sources)


def test_json_of_refusals(make: Any, tables: ClinicalTables) -> None:
    """Refused volume, dose, reference and dates are told in the JSON too."""
    plan = plan_of(make, tables, product=None, muscle_length_mm=None)
    json = plan_to_json(plan)
    assert isinstance(plan.volume, VolumeUnknown)
    assert json["volume"] == {
        "known": False,
        "reason": plan.volume.reason,
        "remedy": plan.volume.remedy,
        "refused_methods": [
            {"method": r.method, "reason": r.reason, "remedy": r.remedy}
            for r in plan.volume.refused
        ],
    }
    assert json["dose"]["code"] == "needs_product"
    assert json["dose"]["available_from"] is None
    refused = DoseRefused(
        code="too_early",
        reason="-",
        missing_field=None,
        remedy="-",
        available_from=TODAY,
    )
    assert dose_to_json(refused)["available_from"] == "2026-03-02"


def test_json_of_a_dose(make: Any, tables: ClinicalTables) -> None:
    """The dose's JSON holds its caps, reference, sites and needle paths."""
    json = plan_to_json(plan_of(make, tables))
    assert json["dose"]["caps"][0]["kind"] == "session"
    assert json["dose"]["reference"]["volume_ml"] == 143.7
    assert json["sites"][0]["needle"]["approach"] in {"in_plane_left", "in_plane_right"}
    group = plan_to_json(
        plan_of(make, tables, muscle="quadriceps", product="BOTOX", off_label=True, dilution=None)
    )
    assert group["dose"]["reference"] == {
        "known": False,
        "reason": "a group of muscles has no reference volume",
    }
    assert group["dose"]["ml_per_site"] is None
    by_hand = plan_to_json(plan_of(make, tables, make.observation(make.section(skin_row=500))))
    assert by_hand["sites"] == []

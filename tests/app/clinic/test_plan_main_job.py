"""The plans that the first end-to-end version promises, one test for each sample."""

from __future__ import annotations

import datetime as dt
import json
import pickle
from typing import Any

import numpy as np
import pytest

from app.clinic.errors import ProductNotForIndication
from app.clinic.inputs import Dilution, Patient
from app.clinic.plan import (
    DosePlan,
    DoseRefused,
    MuscleVolume,
    VolumeUnknown,
    check_request,
    plan_muscle,
    what_if,
)
from app.clinic.plan_json import plan_to_json
from app.clinic.tables import ClinicalTables

TODAY = dt.date(2026, 3, 2)


def codes(plan: Any) -> set[str]:
    return {caution.code for caution in plan.cautions}


def test_xeomin_biceps_from_one_section(make: Any, tables: ClinicalTables) -> None:
    """Section × length × 0.58 gives the volume, and the dose by hand follows from it."""
    mask = np.zeros((300, 400), dtype=np.bool_)
    mask[60:160, 100:300] = True  # 10 mm × 20 mm = 200 mm²
    plan = plan_muscle(
        make.inputs(muscle_length_mm=240), make.observation(make.section(mask)), tables, today=TODAY
    )
    assert isinstance(plan.volume, MuscleVolume)
    assert plan.volume.volume_ml == pytest.approx(0.58 * 200 * 240 / 1000)  # 27.84 mL
    low, high = plan.volume.interval_ml
    assert low == pytest.approx(0.50 * 200 * 240 * 0.97 / 1000)
    assert high == pytest.approx(0.67 * 200 * 240 * 1.03 / 1000)
    # MAS 2 → middle of 50–200 = 125; 27.84 / 143.7 = 0.19 → bound 0.5 → 62.5 Units, one site.
    assert isinstance(plan.dose, DosePlan)
    assert plan.dose.units.value == 62.5
    assert plan.dose.volume_ratio == 0.5
    assert plan.dose.ml_per_site == (1.25,)
    assert [site.units for site in plan.sites] == [62.5]
    assert plan.may_be_confirmed
    assert "no_cap_found" in codes(plan)


def test_dysport_gastrocnemius_from_a_long_axis_still(make: Any, tables: ClinicalTables) -> None:
    """A long-axis view gives no volume, an unscaled dose with its caution, and a site at
    mid-thickness."""
    mask = np.zeros((300, 400), dtype=np.bool_)
    mask[80:220, 10:390] = True
    inputs = make.inputs(
        muscle="gastrocnemius_medial",
        product="DYSPORT",
        indication="lower_limb_spasticity",
        view="long_axis",
        dilution=Dilution(units=500, ml=2.5),
    )
    plan = plan_muscle(
        inputs, make.observation(make.section(mask), view="long_axis"), tables, today=TODAY
    )
    assert isinstance(plan.volume, VolumeUnknown)
    assert "never becomes a volume" in plan.volume.reason
    assert isinstance(plan.dose, DosePlan)
    assert plan.dose.units.value == 125.0  # middle of 100–150
    assert plan.dose.volume_ratio == 1.0
    assert "volume_unknown" in codes(plan)
    (site,) = plan.sites
    assert site.point.row == pytest.approx(150.0)
    assert site.point.column == pytest.approx(200.0, abs=1.0)
    assert site.depth_mm == pytest.approx(14.5)
    assert site.ml == pytest.approx(0.625)


@pytest.mark.parametrize("reach", [0.8, 8 / 9, 0.95, 1.0])
def test_swept_ellipsoid_is_within_two_per_cent(
    make: Any, tables: ClinicalTables, reach: float
) -> None:
    """Nine sections of an ellipsoid, wherever its ends are cut, give its volume to 2 %."""
    observation = make.sweep_of_ellipsoid(
        length_mm=180,
        half_row_mm=12,
        half_column_mm=20,
        positions=np.linspace(-reach, reach, 9).tolist(),
    )
    plan = plan_muscle(make.inputs(sweep=make.sweep(20)), observation, tables, today=TODAY)
    truth_ml = 4 / 3 * np.pi * 90 * 12 * 20 / 1000
    assert isinstance(plan.volume, MuscleVolume)
    assert plan.volume.method == "sweep"
    assert plan.volume.volume_ml == pytest.approx(truth_ml, rel=0.02)
    low, high = plan.volume.interval_ml
    assert low < truth_ml < high
    assert isinstance(plan.dose, DosePlan)
    assert len(plan.sites) == plan.dose.site_count


def test_vastus_lateralis_is_never_given_a_group_dose(make: Any, tables: ClinicalTables) -> None:
    """Off-label BOTOX for vastus lateralis is refused naming the group row; sites still show."""
    inputs = make.inputs(
        muscle="vastus_lateralis",
        product="BOTOX",
        indication="lower_limb_spasticity",
        off_label=True,
    )
    plan = plan_muscle(inputs, make.observation(), tables, today=TODAY)
    assert isinstance(plan.dose, DoseRefused)
    assert plan.dose.code == "group_row_only"
    assert "quadriceps" in plan.dose.reason
    assert plan.sites
    assert all(site.units is None for site in plan.sites)


def test_group_is_dosed_as_a_group_and_unscaled(make: Any, tables: ClinicalTables) -> None:
    """The quadriceps asked for by name gets its consensus range, not scaled by any volume."""
    inputs = make.inputs(
        muscle="quadriceps", product="BOTOX", indication="lower_limb_spasticity", off_label=True
    )
    plan = plan_muscle(inputs, make.observation(), tables, today=TODAY)
    assert isinstance(plan.dose, DosePlan)
    assert (plan.dose.label_min_units, plan.dose.label_max_units) == (50, 300)
    assert plan.dose.units.value == 175.0
    assert plan.dose.volume_ratio == 1.0
    assert plan.dose.group == "quadriceps"
    assert plan.dose.site_count == 6
    assert {"off_label_consensus", "group_row"} <= codes(plan)
    assert all(site.units is None for site in plan.sites)


def test_group_is_not_dosed_without_off_label(make: Any, tables: ClinicalTables) -> None:
    """Without off-label planning the consensus row is only named, never used."""
    inputs = make.inputs(muscle="quadriceps", product="BOTOX", indication="lower_limb_spasticity")
    refused = what_if(inputs, VolumeUnknown(reason="-", remedy="-"), tables)
    assert isinstance(refused, DoseRefused)
    assert refused.code == "no_dose_row"
    assert "quadriceps" in refused.reason


def test_no_scale_no_millimetres_no_units(make: Any, tables: ClinicalTables) -> None:
    """Without calibration there is no volume, no dose and no site."""
    plan = plan_muscle(
        make.inputs(), make.observation(make.section(calibrated=False)), tables, today=TODAY
    )
    assert isinstance(plan.volume, VolumeUnknown)
    assert isinstance(plan.dose, DoseRefused)
    assert plan.dose.code == "needs_calibration"
    assert plan.sites == ()
    assert plan.sites_refused is not None


def test_nominal_scale_is_a_stop(make: Any, tables: ClinicalTables) -> None:
    """A nominal calibration says DEMONSTRATION and refuses confirmation."""
    section = make.section(calibration=make.calibration(nominal=True))
    plan = plan_muscle(make.inputs(), make.observation(section), tables, today=TODAY)
    assert [s.code for s in plan.stops] == ["nominal_calibration"]
    assert "DEMONSTRATION" in plan.stops[0].text
    assert not plan.may_be_confirmed


def test_unknown_is_not_no(make: Any, tables: ClinicalTables) -> None:
    """Without the safety answers and the earlier treatments the plan stands but not its
    confirmation."""
    plan = plan_muscle(
        make.inputs(prior_treatments=None, safety=None), make.observation(), tables, today=TODAY
    )
    assert isinstance(plan.dose, DosePlan)
    assert "prior_treatments" in {question.field for question in plan.unanswered}
    assert "safety.infection_at_site" in {question.field for question in plan.unanswered}
    assert not plan.may_be_confirmed


def test_what_if_is_the_plan_without_the_image(make: Any, tables: ClinicalTables) -> None:
    """The dose of a measured volume is the same without any image, and pickles."""
    plan = plan_muscle(make.inputs(), make.observation(), tables, today=TODAY)
    again = what_if(make.inputs(), plan.volume, tables)
    assert again == plan.dose
    assert pickle.loads(pickle.dumps(again)) == again  # noqa: S301 -- own bytes


def test_json_is_plain_and_the_same_twice(make: Any, tables: ClinicalTables) -> None:
    """The same request gives the same canonical JSON, with nothing in it but JSON."""
    texts = {
        json.dumps(
            plan_to_json(plan_muscle(make.inputs(), make.observation(), tables, today=TODAY)),
            sort_keys=True,
            allow_nan=False,
        )
        for _ in range(2)
    }
    assert len(texts) == 1


def test_product_without_the_indication_is_told_at_once(make: Any, tables: ClinicalTables) -> None:
    """XEOMIN has no lower-limb indication: refused before any pixel, naming who has."""
    with pytest.raises(ProductNotForIndication) as caught:
        check_request(make.inputs(muscle="soleus", indication="lower_limb_spasticity"), tables)
    assert "DYSPORT" in caught.value.remedy
    assert pickle.loads(pickle.dumps(caught.value)).field == "product"  # noqa: S301 -- own bytes


def test_measurement_only(make: Any, tables: ClinicalTables) -> None:
    """Without product and age there is a volume, and the dose says what it needs."""
    inputs = make.inputs(product=None, indication=None, patient=Patient())
    plan = plan_muscle(inputs, make.observation(), tables, today=None)
    assert isinstance(plan.volume, MuscleVolume)
    assert isinstance(plan.dose, DoseRefused)
    assert plan.dose.code == "needs_product"

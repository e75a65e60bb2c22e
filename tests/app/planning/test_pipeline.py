"""The whole way from a decoded clip to a plan, on phantoms of known geometry."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.analysis import Analysis, State
from app.clinic.tables import ClinicalTables, load_tables
from app.errors import FrameNotFound, MixedPatients
from app.planning.pipeline import analyse
from app.planning.plan_text import canonical_json
from app.planning.request import AnalysisRequest, StudyRequest, request_of_json
from imaging.calibration import Calibration
from imaging.frame import Clip, Frame, FrameSource, ImageIdentity
from imaging.phantom import SweepPhantom, cone_sweep, ellipsoid_sweep
from models.segment import Segmenter, load_segmenter

TODAY = dt.date(2026, 11, 25)


@pytest.fixture(scope="module")
def tables() -> ClinicalTables:
    return load_tables()


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load_segmenter()


def clip_of(
    phantom: SweepPhantom, *, calibration: Calibration | None, identity: ImageIdentity | None = None
) -> Clip:
    """The phantom as a decoded clip, with the given scale."""
    rows, columns = phantom.frames[0].shape
    return Clip(
        file="phantom.dcm",
        frames=tuple(
            Frame(pixels=pixels, source=FrameSource(file="phantom.dcm", frame=index))
            for index, pixels in enumerate(phantom.frames)
        ),
        frame_count=len(phantom.frames),
        rows=rows,
        columns=columns,
        calibration=calibration,
        calibration_problem=None if calibration else "the file states no scale",
        region=None,
        identity=identity,
        media="dicom",
    )


def sweep_request(phantom: SweepPhantom, **changes: Any) -> AnalysisRequest:
    return AnalysisRequest.model_validate(
        {
            "muscle": "biceps_brachii",
            "side": "left",
            "view": "short_axis",
            "product": "XEOMIN",
            "indication": "upper_limb_spasticity",
            "patient": {"age_years": 50, "weight_kg": 70, "height_m": 1.7},
            "severity": {"scale": "MAS", "value": "2"},
            "dilution": {"units": 100, "ml": 2},
            "sweep": {"spacing_mm": phantom.spacing_mm},
            "outlines": [
                {"frame": index, "points": [[p.column, p.row] for p in outline]}
                for index, outline in enumerate(phantom.outlines)
            ],
            "prior_treatments": [],
            **changes,
        }
    )


def run(
    clips: Sequence[Clip],
    request: StudyRequest,
    segmenter: Segmenter,
    tables: ClinicalTables,
) -> Analysis:
    return analyse(clips, request, segmenter=segmenter, tables=tables, today=TODAY)


@pytest.mark.parametrize("make", [ellipsoid_sweep, cone_sweep])
def test_outlined_areas_are_the_true_ones(
    make: Any, segmenter: Segmenter, tables: ClinicalTables
) -> None:
    """Every section of an outlined phantom is within 1 per cent of its true area."""
    phantom = make()
    found = run(
        [clip_of(phantom, calibration=phantom.calibration)],
        sweep_request(phantom),
        segmenter,
        tables,
    )
    areas = [frame["section"]["area_mm2"] for frame in found.plan["frames"]]
    assert areas == pytest.approx(phantom.true_areas_mm2, rel=0.01)


@settings(deadline=None, max_examples=12)
@given(
    width_mm=st.floats(30, 50),
    thickness_mm=st.floats(15, 28),
    length_mm=st.floats(80, 250),
    sections=st.integers(10, 20),
)
def test_a_swept_volume_is_the_true_one(
    width_mm: float, thickness_mm: float, length_mm: float, sections: int
) -> None:
    """The volume of any outlined ellipsoid is within 2 per cent of the truth."""
    phantom = ellipsoid_sweep(
        width_mm=width_mm, thickness_mm=thickness_mm, length_mm=length_mm, sections=sections
    )
    found = run(
        [clip_of(phantom, calibration=phantom.calibration)],
        sweep_request(phantom),
        load_segmenter(),
        load_tables(),
    )
    truth_ml = math.pi / 6 * width_mm * thickness_mm * length_mm / 1000
    assert found.plan["volume"]["volume_ml"] == pytest.approx(truth_ml, rel=0.02)


def test_without_a_scale_there_are_pixels_alone(
    segmenter: Segmenter, tables: ClinicalTables
) -> None:
    """No calibration: the mask is there, and no millimetre, millilitre, Unit or site is."""
    phantom = ellipsoid_sweep(sections=3)
    found = run([clip_of(phantom, calibration=None)], sweep_request(phantom), segmenter, tables)
    assert found.state is State.NEEDS_CALIBRATION
    assert set(found.masks) == {"0", "1", "2"}
    for frame in found.plan["frames"]:
        section = frame["section"]
        assert section["area_px"] > 0
        assert all(value is None for key, value in section.items() if "_mm" in key)
    assert not found.plan["volume"]["known"]
    assert not found.plan["dose"]["planned"]
    assert found.plan["sites"] == []


def test_one_frame_without_a_scale_leaves_the_study_without(
    segmenter: Segmenter, tables: ClinicalTables
) -> None:
    """Half a scale is none: no frame's millimetres are used when another frame has none."""
    phantom = ellipsoid_sweep(sections=3)
    first = clip_of(phantom, calibration=phantom.calibration)
    second = replace(clip_of(phantom, calibration=None), file="other.dcm")
    request = sweep_request(
        phantom,
        sweep=None,
        outlines=[{"points": [[p.column, p.row] for p in phantom.outlines[1]]}],
    )
    found = run([first, second], request, segmenter, tables)
    assert found.state is State.NEEDS_CALIBRATION
    assert not found.plan["volume"]["known"]


def test_two_patients_in_one_request_stop_it(segmenter: Segmenter, tables: ClinicalTables) -> None:
    """Images of two patients are never planned together."""
    phantom = ellipsoid_sweep(sections=3)
    clips = [
        clip_of(
            phantom, calibration=phantom.calibration, identity=ImageIdentity(patient_id=patient)
        )
        for patient in ("A", "B")
    ]
    with pytest.raises(MixedPatients, match="more than one patient"):
        run(clips, sweep_request(phantom), segmenter, tables)


def test_the_wrong_side_is_a_stop(segmenter: Segmenter, tables: ClinicalTables) -> None:
    """An image marked right under a request for the left is planned, and cannot be confirmed."""
    phantom = ellipsoid_sweep(sections=3)
    clip = clip_of(phantom, calibration=phantom.calibration, identity=ImageIdentity(laterality="R"))
    found = run([clip], sweep_request(phantom), segmenter, tables)
    assert [c for c in found.plan["cautions"] if c["blocks_confirmation"]]
    assert not found.plan["may_be_confirmed"]


def test_a_frame_that_is_not_there_is_named(segmenter: Segmenter, tables: ClinicalTables) -> None:
    """A click on a frame or file that was not sent is refused with what there is."""
    phantom = ellipsoid_sweep(sections=3)
    clip = clip_of(phantom, calibration=phantom.calibration)
    click = {"column": 1, "row": 1}
    with pytest.raises(FrameNotFound, match="frame 9"):
        run([clip], sweep_request(phantom, clicks=[{**click, "frame": 9}]), segmenter, tables)
    with pytest.raises(FrameNotFound, match="other"):
        run([clip], sweep_request(phantom, clicks=[{**click, "file": "other"}]), segmenter, tables)


def test_the_same_study_gives_the_same_plan(segmenter: Segmenter, tables: ClinicalTables) -> None:
    """Two runs over the same pixels are equal as canonical JSON, masks included."""
    phantom = ellipsoid_sweep(sections=4)
    clip = clip_of(phantom, calibration=phantom.calibration)
    first, second = (run([clip], sweep_request(phantom), segmenter, tables) for _ in range(2))
    assert canonical_json(first.plan) == canonical_json(second.plan)
    assert first.masks == second.masks


def test_the_plan_is_plain_json(segmenter: Segmenter, tables: ClinicalTables) -> None:
    """The plan document survives JSON unchanged, so what is stored is what was planned."""
    phantom = ellipsoid_sweep(sections=4)
    found = run(
        [clip_of(phantom, calibration=phantom.calibration)],
        sweep_request(phantom),
        segmenter,
        tables,
    )
    assert json.loads(canonical_json(found.plan)) == found.plan


def test_a_blank_frame_abstains_whatever_was_clicked(
    segmenter: Segmenter, tables: ClinicalTables
) -> None:
    """A click on a blank frame does not silence the refusal to answer."""
    phantom = ellipsoid_sweep(sections=3)
    blank = replace(
        clip_of(phantom, calibration=phantom.calibration),
        frames=tuple(
            Frame(pixels=frame * 0, source=FrameSource(file="phantom.dcm", frame=index))
            for index, frame in enumerate(phantom.frames)
        ),
    )
    request = sweep_request(phantom, outlines=[], clicks=[{"column": 200, "row": 150}])
    found = run([blank], request, segmenter, tables)
    assert found.state is State.ABSTAINED
    assert found.plan["abstention"]["text"]
    assert "dose" not in found.plan


def test_a_moved_site_keeps_its_place_and_names_what_it_violates(
    segmenter: Segmenter, tables: ClinicalTables
) -> None:
    """A site put outside the muscle stays there, and the plan says what is wrong with it."""
    phantom = ellipsoid_sweep(sections=3)
    request = sweep_request(phantom, sites=[{"number": 1, "frame": 1, "column": 3, "row": 3}])
    found = run([clip_of(phantom, calibration=phantom.calibration)], request, segmenter, tables)
    site = next(s for s in found.plan["sites"] if s["number"] == 1)
    assert (site["column"], site["row"]) == (3, 3)
    assert site["violations"]


def test_an_outline_says_nothing_of_nerves(segmenter: Segmenter, tables: ClinicalTables) -> None:
    """Where the operator drew the muscle nobody looked for nerves and vessels, and the plan says
    so."""
    phantom = ellipsoid_sweep()
    clip = clip_of(phantom, calibration=phantom.calibration)
    found = run([clip], sweep_request(phantom), segmenter, tables)
    assert found.plan["sites"]
    assert "structures_not_looked_for" in {c["code"] for c in found.plan["cautions"]}
    assert all(site["avoid_mm"] is None for site in found.plan["sites"])


def test_possible_bone_is_named_and_kept_clear_of(
    segmenter: Segmenter, tables: ClinicalTables
) -> None:
    """A bright line with a shadow over the muscle stands in the frame's record; no needle passes
    it, and the plan says why."""
    phantom = ellipsoid_sweep(depth_mm=18.0)
    middle = len(phantom.frames) // 2
    frame = phantom.frames[middle].copy()
    rows = round(14.0 / phantom.calibration.row_mm_per_px)
    frame[rows:, 140:260] = 2
    frame[rows : rows + 10, 140:260] = 240
    changed = replace(phantom, frames=(frame,), outlines=(phantom.outlines[middle],))
    request = sweep_request(changed, sweep=None, muscle_length_mm=200)
    clip = clip_of(changed, calibration=phantom.calibration)
    plan = run([clip], request, segmenter, tables).plan
    (polygon,) = plan["frames"][0]["possible_bone"]
    assert 135 <= min(column for column, _ in polygon) <= 150
    assert 250 <= max(column for column, _ in polygon) <= 265
    said = " ".join([*plan["site_notes"], str(plan["sites_refused"])])
    assert "possibly bone" in said
    for site in plan["sites"]:
        assert site["needle"]["clearance_mm"] >= 2.0


@pytest.mark.parametrize("unnamed", [["muscle"], ["side"], ["muscle", "side"]])
@pytest.mark.parametrize("calibrated", [True, False])
def test_what_nobody_named_is_seen_and_not_planned(
    unnamed: list[str], calibrated: bool, segmenter: Segmenter, tables: ClinicalTables
) -> None:
    """Without muscle or side there is a mask, its size where there is a scale, and no number of
    the clinic's; what is missing is told."""
    phantom = ellipsoid_sweep()
    asked = sweep_request(phantom).model_dump(mode="json", exclude_unset=True)
    request = request_of_json(json.dumps({k: v for k, v in asked.items() if k not in unnamed}))
    assert not isinstance(request, AnalysisRequest)
    clip = clip_of(phantom, calibration=phantom.calibration if calibrated else None)
    found = run([clip], request, segmenter, tables)
    assert found.state is State.NEEDS_TARGET
    assert found.plan["waits_for"]["names"] == unnamed
    sections = [frame["section"] for frame in found.plan["frames"]]
    assert all(section["area_px"] > 0 for section in sections)
    assert all((section["area_mm2"] is not None) is calibrated for section in sections)
    assert not {"volume", "dose", "sites", "derivation", "abstention"} & set(found.plan)
    whole = run([clip], sweep_request(phantom), segmenter, tables)
    assert whole.plan["frames"] == found.plan["frames"]
    assert whole.masks == found.masks

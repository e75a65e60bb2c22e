"""What people look at is drawn from the plan alone, and says the same everywhere."""

from __future__ import annotations

import datetime as dt
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pdfplumber
import pydicom
import pytest
from fhir.resources.R4B.bundle import Bundle

from app.analysis import State
from app.errors import NoObject
from app.results import pictures, reporting
from app.results.stored_analysis import StoredAnalysis
from imaging.errors import UnreadableFile
from tests.app.plans import NOW, stored_plan
from tests.judges import dicom_errors

HOSTILE = "Smith^<b>&amp;</b>"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredAnalysis:
    """The plan of an outlined phantom of a patient with a hostile name, as the store holds it."""
    return stored_plan(tmp_path_factory.mktemp("source"), patient_name=HOSTILE)


def without_scale(stored: StoredAnalysis) -> StoredAnalysis:
    frames = [
        {**frame, "calibration": {"used": None, "set_aside": None, "problem": "none"}}
        for frame in stored.plan["frames"]
    ]
    return replace(stored, state=State.NEEDS_CALIBRATION, plan={**stored.plan, "frames": frames})


def text_of(pdf: bytes) -> str:
    with pdfplumber.open(io.BytesIO(pdf)) as document:
        assert len(document.pages) == 1
        return " ".join(document.pages[0].extract_text().split())


def test_the_overlay_shows_the_frame_with_the_sites(stored: StoredAnalysis) -> None:
    """Without a frame's key the picture is of a frame that has a site, and it is a colour PNG."""
    shown = {site["frame_key"] for site in stored.plan["sites"]}
    assert stored.frame(None)["key"] in shown
    picture = cv2.imdecode(np.frombuffer(pictures.overlay_png(stored), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 256


def test_the_svg_holds_a_hostile_name_as_text(stored: StoredAnalysis) -> None:
    """A patient's name that is markup stays text in the drawing."""
    drawing = pictures.overlay_svg(stored).decode()
    assert "<b>" not in drawing
    assert "Smith" in drawing


def test_an_unanalysed_frame_is_named(stored: StoredAnalysis) -> None:
    """A frame that was not analysed is refused with those that were."""
    with pytest.raises(NoObject, match="was not analysed"):
        pictures.overlay_png(stored, "77")


def test_the_objects_point_to_the_study(stored: StoredAnalysis) -> None:
    """Segmentation and report lie in the study of the image, under names that stay the same."""
    for make in (reporting.seg, reporting.sr, reporting.capture, reporting.state):
        first, second = (pydicom.dcmread(io.BytesIO(make(stored))) for _ in range(2))
        assert first.StudyInstanceUID == "1.2.3"
        assert first.SOPInstanceUID == second.SOPInstanceUID
        confirmed = pydicom.dcmread(io.BytesIO(make(replace(stored, verifier="Dr Ada"))))
        assert confirmed.SOPInstanceUID != first.SOPInstanceUID


@pytest.mark.parametrize("kind", ["seg", "sr", "capture", "state"])
def test_the_validator_finds_no_error(stored: StoredAnalysis, kind: str, tmp_path: Path) -> None:
    """dciodvfy passes every object of a plan."""
    path = tmp_path / f"{kind}.dcm"
    path.write_bytes(getattr(reporting, kind)(stored))
    assert dicom_errors(path) == []


def test_only_a_confirmed_report_is_verified(stored: StoredAnalysis) -> None:
    """A suggestion is UNVERIFIED; with a named clinician the report is VERIFIED."""
    draft = pydicom.dcmread(io.BytesIO(reporting.sr(stored)))
    final = pydicom.dcmread(io.BytesIO(reporting.sr(replace(stored, verifier="Dr Ada"))))
    assert (draft.VerificationFlag, final.VerificationFlag) == ("UNVERIFIED", "VERIFIED")


def test_a_report_is_verified_when_it_was_confirmed(stored: StoredAnalysis, tmp_path: Path) -> None:
    """The verification bears the time of the confirmation, not of the plan, and is valid DICOM."""
    later = NOW + dt.timedelta(hours=3)
    made = reporting.sr(replace(stored, verifier="Dr Ada", verified_at=later))
    observer = pydicom.dcmread(io.BytesIO(made)).VerifyingObserverSequence[0]
    assert str(observer.VerificationDateTime).startswith("20261125130000")
    (tmp_path / "sr.dcm").write_bytes(made)
    assert dicom_errors(tmp_path / "sr.dcm") == []


def test_without_a_scale_no_object_is_made(stored: StoredAnalysis) -> None:
    """No calibration: no segmentation and no report, and the refusal says what to give."""
    for make in (reporting.seg, reporting.sr):
        with pytest.raises(NoObject) as caught:
            make(without_scale(stored))
        assert "calibration" in caught.value.remedy


def test_an_abstained_study_has_no_report(stored: StoredAnalysis) -> None:
    """Where the network gave no answer there is no report, and the way out is told."""
    plan = {key: value for key, value in stored.plan.items() if key not in ("dose", "volume")}
    with pytest.raises(NoObject, match="no answer"):
        reporting.sr(replace(stored, state=State.ABSTAINED, plan=plan))


def test_the_pdf_says_what_the_plan_says(stored: StoredAnalysis) -> None:
    """One page holds patient, dose with every clamp, each site, each caution and the mark."""
    text = text_of(reporting.pdf(stored))
    dose = stored.plan["dose"]
    assert f"{dose['units']:g} U XEOMIN" in text
    assert "SUGGESTION: CONFIRM BEFORE USE" in text
    assert "P-1" in text
    assert "<b>" in text
    for words in [a["text"] for a in dose["adjustments"]] + [c["text"] for c in dose["caps"]]:
        assert words in text
    for caution in stored.plan["cautions"]:
        assert " ".join(caution["text"].split())[:60] in text
    for site in stored.plan["sites"]:
        assert f"{site['units']:g} U XEOMIN" in text


def test_the_pdf_of_a_confirmed_plan_names_the_clinician(stored: StoredAnalysis) -> None:
    """After confirmation the mark is the clinician's name, and the suggestion mark is gone."""
    text = text_of(reporting.pdf(replace(stored, verifier="Dr Ada")))
    assert "CONFIRMED BY Dr Ada" in text
    assert "SUGGESTION: CONFIRM" not in text


def test_the_pdf_prints_its_picture(stored: StoredAnalysis) -> None:
    """Rendered, the page holds the dark picture and stays white at its edges."""
    with pdfplumber.open(io.BytesIO(reporting.pdf(stored))) as document:
        pixels = np.asarray(document.pages[0].to_image(resolution=60).original.convert("RGB"))
    assert pixels[5, 5].min() == 255
    assert np.mean(pixels.max(axis=2) < 60) > 0.03


def test_fifty_millimetres_are_fifty_millimetres(stored: StoredAnalysis) -> None:
    """The printed ruler is 50 mm long on the page."""
    with pdfplumber.open(io.BytesIO(reporting.pdf(stored))) as document:
        lengths = [float(line["x1"] - line["x0"]) for line in document.pages[0].lines]
    assert any(length == pytest.approx(50 * 72 / 25.4, abs=0.05) for length in lengths)


@pytest.mark.parametrize("verifier", [None, "Dr Ada"])
def test_the_bundle_is_fhir(stored: StoredAnalysis, verifier: str | None) -> None:
    """The bundle passes FHIR's own models, preliminary until it is confirmed."""
    data: dict[str, Any] = json.loads(reporting.fhir(replace(stored, verifier=verifier)))
    Bundle.model_validate(data)
    resources = [entry["resource"] for entry in data["entry"]]
    statuses = {r["status"] for r in resources if r["resourceType"] == "Observation"}
    assert statuses == {"final" if verifier else "preliminary"}
    volume = next(r for r in resources if r.get("code", {}).get("text") == "Volume")
    assert volume["valueQuantity"]["value"] == stored.plan["volume"]["volume_ml"]
    proposal = next(r for r in resources if r["resourceType"] == "ServiceRequest")
    assert proposal["intent"] == ("plan" if verifier else "proposal")
    assert proposal["quantityQuantity"]["code"] == "[arb'U]"
    assert "XEOMIN" in proposal["quantityQuantity"]["unit"]


def test_the_picture_is_made_again_byte_for_byte(stored: StoredAnalysis) -> None:
    """Overlay, drawing, page and bundle are the same each time they are asked for."""
    for make in (pictures.overlay_png, pictures.overlay_svg, reporting.pdf, reporting.fhir):
        assert make(stored) == make(stored)


def test_a_lost_source_is_no_silent_picture(stored: StoredAnalysis, tmp_path: Path) -> None:
    """If the stored image is gone, no picture is drawn on something else."""
    gone = replace(stored, sources=(replace(stored.sources[0], path=str(tmp_path / "none")),))
    with pytest.raises(UnreadableFile):
        pictures.overlay_png(gone)

"""Every page as a picture, of the samples and with the real network.

Kept in docs/screenshots when SONODOSE_SCREENSHOTS=1 asks for it, else only made.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.viewer.conftest import ANSWERED, Desk, Service, serving
from tests.viewer.test_viewer import api, patch, read_and_confirm, until
from tools.client import post_analysis

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample_dicoms"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`sonodose serve` as it is, with its own network."""
    if not list((ROOT / "models" / "weights").glob("*.onnx")):
        pytest.skip("no weights are installed")
    pacs = {"kind": "stow", "name": "pacs", "url": "{base}/dicom-web", "on_confirmation": True}
    settings = {
        "SONODOSE_DESTINATIONS": json.dumps([pacs]),
        "SONODOSE_STUDY_QUIET_S": "0.5",
        "SONODOSE_DELIVERY_PAUSE_S": "1",
    }
    folder = tmp_path_factory.mktemp("real")
    with serving(folder, ["-m", "api.cli", "serve"], settings) as service:
        yield service


def sample(service: Service, name: str, **changes: Any) -> str:
    """The id of a planned sample."""
    request = {**json.loads((SAMPLES / f"{name}.json").read_text("utf-8")), **changes}
    image = next(p for p in SAMPLES.glob(f"{name}.*") if p.suffix != ".json")
    analysis_id: str = post_analysis(service.base, request, [image])["id"]
    return analysis_id


def test_screenshots(desk: Desk, real: Service, tmp_path: Path) -> None:
    """Work list, waiting study, study, what-if, derivation, confirmation, deliveries, history,
    session, tables, tablet."""
    kept = os.environ.get("SONODOSE_SCREENSHOTS") == "1"
    folder = ROOT / "docs" / "screenshots" if kept else tmp_path
    folder.mkdir(parents=True, exist_ok=True)

    def picture(page: Any, name: str) -> None:
        page.wait_for_timeout(700)
        taken = Image.open(io.BytesIO(page.screenshot()))
        taken.convert("RGB").quantize(
            256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
        ).save(folder / f"{name}.png", optimize=True)

    who = {"age_years": 54, "weight_kg": 75, "height_m": 1.75}
    sample(real, "no_calibration")
    gastrocnemius = sample(real, "gastrocnemius_long_axis")
    sample(real, "vastus_lateralis_panorama")
    sweep = sample(real, "phantom_sweep", patient=who, **ANSWERED)
    other = sample(real, "phantom_sweep", patient=who, side="left", **ANSWERED)
    # The real image with a volume and a dose; where the network abstains on it, the phantom's.
    shown = next(
        analysis_id
        for analysis_id in (sample(real, "biceps_short_axis"), sweep)
        if api(real, f"/api/v1/analyses/{analysis_id}")["state"] == "draft"
    )
    real.push((SAMPLES / "gastrocnemius_long_axis.dcm").read_bytes())
    page = desk("/#/", base=real.base)
    page.locator('ul.studies [data-state="needs_target"]').wait_for()
    page.locator("ul.studies canvas[data-drawn]").nth(4).wait_for()
    picture(page, "work_list")
    page.locator("ul.studies li", has_text="Waits for the muscle").locator("a.study").click()
    page.locator(".viewport svg[viewBox]").wait_for(state="attached")
    picture(page, "waiting")

    page.goto(f"{real.base}/#/analyses/{shown}")
    page.locator("svg .muscle").wait_for(state="attached")
    page.locator(".viewport svg[viewBox]").wait_for(state="attached")
    picture(page, "study")
    page.get_by_role("tab", name="Inputs").click()
    page.get_by_label("Severity, slider").fill("5")
    page.locator("#what-if").wait_for()
    picture(page, "what_if")
    page.get_by_role("tab", name="Why").click()
    for name in ("dose", "volume"):
        page.locator(".tree summary", has_text=name).first.click()
    picture(page, "why")

    page.goto(f"{real.base}/#/analyses/{gastrocnemius}")
    page.locator(".viewport svg[viewBox]").wait_for(state="attached")
    picture(page, "long_axis")

    patch(real, sweep, {"severity": {"value": "4"}})
    page.goto(f"{real.base}/#/analyses/{sweep}")
    page.locator("svg .site").first.wait_for(state="attached")
    page.locator(".viewport svg[viewBox]").wait_for(state="attached")
    picture(page, "clip")
    page.get_by_role("button", name="Review and confirm").click()
    picture(page, "questions")
    page.get_by_role("button", name="Next").click()
    page.get_by_label("Your name").wait_for()
    picture(page, "confirm")
    read_and_confirm(page)
    page.locator(".delivery", has_text="Delivered").wait_for(timeout=60_000)
    until(page, "document.getElementById('toast').textContent === ''")
    page.locator("#deliveries").scroll_into_view_if_needed()
    page.get_by_text("LEFT AND RIGHT", exact=True).scroll_into_view_if_needed()
    picture(page, "sent")
    page.goto(f"{real.base}/#/analyses/{sweep}/compare?revisions=1,2")
    page.locator(".two svg[viewBox] .muscle").nth(1).wait_for(state="attached")
    picture(page, "revisions")
    page.goto(f"{real.base}/#/session?ids={other},{sweep}")
    page.get_by_text("Units in all").wait_for()
    picture(page, "session")
    page.goto(f"{real.base}/#/reference")
    page.get_by_text("Dose rows").first.wait_for()
    picture(page, "tables")
    small = desk(f"/#/analyses/{shown}", base=real.base, width=820, height=1180)
    small.locator("svg .muscle").wait_for(state="attached")
    picture(small, "tablet")

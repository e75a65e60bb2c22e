"""The viewer in a real browser against the real service: what a clinician does, and what goes
wrong while it is done."""

from __future__ import annotations

import json
import os
import re
import statistics
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.viewer import phantoms
from tests.viewer.conftest import ANSWERED, CLICK, Desk, Service, Wire

OPEN = """async (id) => {
    const start = performance.now();
    location.hash = `#/analyses/${id}?frame=12`;
    for (;;) {
        await new Promise(requestAnimationFrame);
        const canvas = document.querySelector('.viewport canvas');
        if (document.querySelector('svg .muscle') && canvas?.width > 1)
            return (performance.now() - start) / 1000;
    }
}"""
"""Seconds from the deep link to frame and mask on the screen."""

STATIC = Path(__file__).parents[2] / "api" / "static"
CENTRE = (300.0, 250.0)


def api(service: Service, path: str) -> Any:
    with urllib.request.urlopen(service.base + path, timeout=20) as answer:  # noqa: S310 -- loopback
        return json.loads(answer.read())


def patch(service: Service, analysis_id: str, change: dict[str, Any]) -> None:
    """Another person's change."""
    home = f"{service.base}/api/v1/analyses/{analysis_id}"
    etag = api(service, f"/api/v1/analyses/{analysis_id}")["etag"]
    request = urllib.request.Request(  # noqa: S310 -- loopback
        home,
        data=json.dumps(change).encode(),
        method="PATCH",
        headers={
            "Content-Type": "application/merge-patch+json",
            "If-Match": etag,
            "Prefer": "wait=20",
        },
    )
    urllib.request.urlopen(request, timeout=30).close()  # noqa: S310 -- loopback


def on_screen(page: Any, column: float, row: float) -> tuple[float, float]:
    """Where an image point lies on the screen, once there is an image."""
    page.locator(".viewport svg[viewBox]").wait_for(state="attached")
    found = page.evaluate(
        """([c, r]) => {
            const svg = document.querySelector('.viewport svg');
            const box = svg.getBoundingClientRect();
            const [, , w, h] = svg.getAttribute('viewBox').split(' ').map(Number);
            return [box.left + c * box.width / w, box.top + r * box.height / h];
        }""",
        [column, row],
    )
    return found[0], found[1]


def click_image(page: Any, column: float, row: float) -> None:
    page.mouse.click(*on_screen(page, column, row))


def drag_image(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*on_screen(page, *start))
    page.mouse.down()
    page.mouse.move(*on_screen(page, *[(a + b) / 2 for a, b in zip(start, end, strict=True)]))
    page.mouse.move(*on_screen(page, *end))
    page.mouse.up()


def state(page: Any, name: str, *, within_s: float = 20) -> None:
    page.locator(f'.headline [data-state="{name}"]').wait_for(timeout=within_s * 1000)


def revision(page: Any, number: int) -> None:
    page.locator(".headline", has_text=f"Revision {number}").wait_for()


def until(page: Any, expression: str, *, within_s: float = 10) -> None:
    """Waits until the expression is true; the page's policy forbids Playwright's own way."""
    end = time.monotonic() + within_s
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(50)


def read_and_confirm(page: Any) -> None:
    for box in page.get_by_label("I have read this.").all():
        box.check()
    page.get_by_label("Your name").fill("Dr. Ada Example")
    page.get_by_label("Your role").fill("physician")
    page.get_by_role("button", name="Confirm", exact=True).click()


def test_the_whole_path(desk: Desk, service: Service) -> None:
    """Upload, click, plan, edit, confirm, objects there, what was given recorded."""
    page = desk()
    page.set_input_files("#files", service.file(phantoms.dicom(), "biceps.dcm"))
    form = page.locator("dialog")
    form.get_by_label("Muscle", exact=True).select_option("biceps_brachii")
    form.get_by_label("Side").select_option("left")
    form.get_by_label("Product").select_option("XEOMIN")
    form.get_by_label("Indication").select_option("upper_limb_spasticity")
    form.get_by_label("Severity", exact=True).select_option("2")
    form.get_by_label("Weight, kg", exact=True).fill("72")
    form.get_by_label("Age, years").fill("54")
    form.get_by_label("Height, cm").fill("174")
    form.get_by_label("Vial, Units").fill("100")
    form.get_by_label("Diluted in, mL", exact=True).fill("2")
    form.get_by_label("Muscle length").fill("240")
    form.get_by_role("button", name="Upload").click()
    state(page, "abstained")
    assert page.get_by_text("click on its middle").first.is_visible()

    page.get_by_role("button", name="Click the muscle").click()
    click_image(page, *CENTRE)
    page.locator("svg .muscle").wait_for(state="attached")
    state(page, "draft")
    assert page.locator("#figure-volume").inner_text().startswith("53.")
    assert page.locator("svg .site").count() == 2
    assert page.locator(".picture .marks").inner_text() == "SUGGESTION: CONFIRM BEFORE USE"

    page.get_by_role("tab", name="Inputs").click()
    before = page.locator("#figure-dose").inner_text()
    page.get_by_label("Severity, slider").fill("5")
    page.locator("#what-if").wait_for()
    assert page.locator("#figure-dose").inner_text().split()[0] == before.split()[0]
    promised = re.search(r"What if: ([\d.]+) U", page.locator("#what-if").inner_text())
    page.get_by_role("button", name="Apply").click()
    revision(page, 3)
    assert promised is not None
    assert page.locator("#figure-dose").inner_text().startswith(f"{promised[1]} U")

    page.get_by_role("button", name="Review and confirm").click()
    page.get_by_label("None").check()
    page.get_by_role("button", name="All other answers: no").click()
    page.get_by_role("button", name="Next").click()
    page.get_by_label("Your name").wait_for()
    assert page.get_by_role("button", name="Confirm", exact=True).is_disabled()
    assert "to read, name and role" in page.locator("dialog .foot").inner_text()
    read_and_confirm(page)
    state(page, "confirmed")
    assert page.locator(".picture .marks").inner_text() == "CONFIRMED BY DR. ADA EXAMPLE"

    analysis_id = page.url.split("/")[-1].split("?")[0]
    for name in ("seg.dcm", "sr.dcm"):
        url = f"{service.base}/api/v1/analyses/{analysis_id}/{name}"
        with urllib.request.urlopen(url, timeout=30) as made:  # noqa: S310 -- loopback
            assert made.read(132)[128:] == b"DICM"
    page.get_by_role("button", name="Files").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="DICOM Segmentation").click()
    assert Path(download.value.path()).read_bytes()[128:132] == b"DICM"
    page.get_by_role("button", name="Close").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Print plan").click()
    assert Path(download.value.path()).read_bytes().startswith(b"%PDF")

    page.get_by_role("button", name="Record what was given").click()
    page.get_by_label("Units at site 2").fill("20")
    page.get_by_label("Lot").fill("A123")
    page.get_by_label("Expiry").fill("2027-06-30")
    page.get_by_role("button", name="Record", exact=True).click()
    page.get_by_text("Recorded.").first.wait_for()
    page.get_by_role("tab", name="Inputs").click()
    page.get_by_text("What was given is recorded").wait_for()
    look = page.get_by_role("button", name="Look", exact=True)
    assert look.get_attribute("aria-pressed") == "true"
    page.get_by_role("tab", name="History").click()
    page.get_by_text("site 2: 20 XEOMIN Units").wait_for()
    assert page.locator("#panels ol > li").count() >= 4


def test_by_keyboard_alone(desk: Desk, service: Service) -> None:
    """From the work list to a confirmed plan without a mouse, the focus always to be seen."""
    analysis_id = service.study(clicks=None, patient={"id": "KEYS", "age_years": 54})
    page = desk()

    def tab_to(selector: str, most: int = 60) -> None:
        for _ in range(most):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                ring = page.evaluate(
                    """() => { const e = document.activeElement, s = getComputedStyle(e);
                    return s.outlineStyle !== 'none' || e instanceof SVGElement; }"""
                )
                assert ring, f"no focus to be seen on {selector}"
                return
        raise AssertionError(f"{selector} is not reached by Tab")

    page.locator("ul.studies li").first.wait_for()
    tab_to(f'a.study[href="#/analyses/{analysis_id}"]')
    page.keyboard.press("Enter")
    state(page, "abstained")
    tab_to(".viewport")
    page.locator(".viewport svg[viewBox]").wait_for(state="attached")
    page.keyboard.press("a")
    for _ in range(2):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    state(page, "draft")
    page.locator("svg .site").first.wait_for()
    assert page.evaluate("document.activeElement.matches('.viewport')")

    tab_to(".viewport .site")
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label.startswith("Site 1 at ")
    page.keyboard.press("Shift+ArrowRight")
    page.get_by_text("(by hand)").wait_for()
    tab_to(".viewport", 80)
    page.keyboard.press("Control+z")
    page.get_by_text("(by hand)").wait_for(state="detached")

    tab_to("[role=tab]")
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("tab", name="Inputs").get_attribute("aria-selected") == "true"
    tab_to("#confirm", 90)
    page.keyboard.press("Enter")
    page.locator("dialog").wait_for()
    page.locator("dialog input[value=unknown]").first.wait_for()
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    assert page.evaluate("document.activeElement.id") == "confirm"

    page.keyboard.press("Enter")
    tab_to("input[name=prior]")
    page.keyboard.press("ArrowDown")
    tab_to("dialog .stack > button")
    page.keyboard.press("Enter")
    tab_to("dialog button.primary")
    page.keyboard.press("Enter")
    page.get_by_label("Your name").wait_for()
    for _ in range(page.locator("dialog input[type=checkbox]").count()):
        tab_to("dialog input[type=checkbox]")
        page.keyboard.press("Space")
    tab_to("dialog input[autocomplete=name]")
    page.keyboard.type("Dr. Ada Example")
    page.keyboard.press("Tab")
    page.keyboard.type("physician")
    tab_to("dialog button.primary")
    page.keyboard.press("Enter")
    state(page, "confirmed")


def test_a_failed_job(desk: Desk, service: Service) -> None:
    """A study that cannot be read says why, and what to do, in the list and on its page."""
    path = service.file(phantoms.png(rows=phantoms.BROKEN_ROWS), "cut.png")
    page = desk()
    page.set_input_files("#files", path)
    page.get_by_label("Muscle", exact=True).select_option("soleus")
    page.get_by_label("Side").select_option("right")
    page.get_by_role("button", name="Upload").click()
    state(page, "failed")
    assert page.get_by_text("The pixels are cut off.").is_visible()
    assert page.get_by_text("Export the image again.").is_visible()
    page.goto(service.base + "/#/")
    row = page.locator("ul.studies li", has_text="Soleus").first
    row.get_by_text("The pixels are cut off.").wait_for()


def test_a_connection_lost_during_progress(desk: Desk, service: Service, wire: Wire) -> None:
    """Stages are told as they come; a lost connection is said, and the plan comes all the same,
    the clip's other frames behind it."""
    path = service.file(phantoms.dicom(rows=phantoms.SLOW_ROWS, frames=4), "slow.dcm")
    page = desk(base=wire.base)
    came: set[str] = set()
    page.on("requestfinished", lambda r: came.add("/".join(r.url.split("/")[-3:])))
    page.set_input_files("#files", path)
    page.get_by_label("Muscle", exact=True).select_option("biceps_brachii")
    page.get_by_label("Side").select_option("left")
    page.get_by_role("button", name="Upload").click()
    page.locator(".busy li[aria-current]", has_text="Segment").wait_for()
    wire.cut()
    page.get_by_text("Connection lost").wait_for()
    wire.mend()
    state(page, "abstained", within_s=30)
    assert page.locator(".busy").is_hidden()
    analysis_id = page.url.split("/")[-1].split("?")[0]
    wanted = {f"{analysis_id}/frames/{n}.png" for n in range(4)}
    end = time.monotonic() + 20
    while not wanted <= came and time.monotonic() < end:
        page.wait_for_timeout(100)
    assert wanted <= came


def test_two_people_editing(desk: Desk, service: Service) -> None:
    """The second is told who was faster and what changed, and loses nothing."""
    analysis_id = service.study()
    page = desk(f"/#/analyses/{analysis_id}")
    state(page, "draft")
    patch(service, analysis_id, {"patient": {"weight_kg": 55}})
    page.get_by_role("button", name="Add", exact=True).click()
    click_image(page, 250, 230)
    told = page.get_by_role("dialog")
    told.get_by_text("made revision 2").wait_for()
    assert "patient" in told.inner_text()
    assert "clicks" in told.inner_text()
    told.get_by_role("button", name="Put mine on top").click()
    revision(page, 3)
    asked = api(service, f"/api/v1/analyses/{analysis_id}")["request"]
    assert asked["patient"]["weight_kg"] == 55
    assert [click["column"] for click in asked["clicks"]] == [300, 250]

    patch(service, analysis_id, {"muscle_length_mm": 200})
    click_image(page, 260, 240)
    page.get_by_role("dialog").get_by_role("button", name="Keep theirs").click()
    revision(page, 4)
    asked = api(service, f"/api/v1/analyses/{analysis_id}")["request"]
    assert asked["muscle_length_mm"] == 200
    assert len(asked["clicks"]) == 2


def test_a_name_that_is_html(desk: Desk, service: Service) -> None:
    """A patient's name is shown letter by letter, whatever it spells."""
    name = '<img src=x onerror="alert(1)"><script>alert(2)</script>'
    analysis_id = service.study(patient={"id": "<b>X</b>", "name": name, "age_years": 54})
    page = desk(f"/#/analyses/{analysis_id}")
    state(page, "draft")
    assert name in page.locator(".headline").inner_text()
    page.get_by_role("tab", name="History").click()
    page.goto(service.base + "/#/")
    page.get_by_text("<b>X</b>").first.wait_for()
    assert page.locator("main img, main script").count() == 0


def test_a_stop_refuses_confirmation(desk: Desk, service: Service) -> None:
    """The other side's mark in the image: confirmation is out of reach, and says why."""
    analysis_id = service.study(phantoms.dicom(laterality="R"), **ANSWERED)
    page = desk(f"/#/analyses/{analysis_id}")
    state(page, "draft")
    assert page.locator(".note.stop", has_text="other side").first.is_visible()
    page.get_by_role("button", name="Review and confirm").click()
    page.get_by_role("button", name="Next").click()
    page.get_by_text("This plan cannot be confirmed").wait_for()
    for box in page.get_by_label("I have read this.").all():
        box.check()
    page.get_by_label("Your name").fill("Dr. Ada Example")
    page.get_by_label("Your role").fill("physician")
    assert page.get_by_role("button", name="Confirm", exact=True).is_disabled()


def test_a_plan_without_a_dose_is_not_signed(desk: Desk, service: Service) -> None:
    """The dialog says at once that there is no dose, before anybody reads and signs for nothing."""
    page = desk(f"/#/analyses/{service.study(product=None, indication=None, **ANSWERED)}")
    state(page, "draft")
    page.get_by_role("button", name="Review and confirm").click()
    page.get_by_role("button", name="Next").click()
    page.get_by_text("This plan cannot be confirmed").wait_for()
    assert page.locator("dialog .note.stop").count() == 1
    for box in page.get_by_label("I have read this.").all():
        box.check()
    page.get_by_label("Your name").fill("Dr. Ada Example")
    page.get_by_label("Your role").fill("physician")
    assert page.get_by_role("button", name="Confirm", exact=True).is_disabled()


def test_unknown_is_not_no(desk: Desk, service: Service) -> None:
    """An open question stays open: the service refuses, the page shows its reasons."""
    analysis_id = service.study()
    page = desk(f"/#/analyses/{analysis_id}")
    state(page, "draft")
    assert page.get_by_text("questions are unanswered").is_visible()
    page.get_by_role("button", name="Review and confirm").click()
    page.get_by_role("button", name="Next").click()
    page.get_by_label("Your name").wait_for()
    assert page.get_by_text("answers are still unknown").is_visible()
    read_and_confirm(page)
    page.locator("dialog [role=alert]", has_text="Pregnant or breast-feeding?").wait_for()
    assert page.locator('.headline [data-state="draft"]').count() == 1


def test_a_plain_frame_is_calibrated_by_two_clicks(desk: Desk, service: Service) -> None:
    """Without a scale no millimetre and no Unit; two clicks and a distance give both."""
    analysis_id = service.study(phantoms.png(), "plain.png")
    page = desk(f"/#/analyses/{analysis_id}")
    state(page, "needs_calibration")
    text = page.locator(".pane").inner_text()
    assert "no millimetres, no millilitres and no Units" in text
    assert not re.search(r"\d (mm|mL|U)\b", text)
    page.get_by_role("button", name="Set the scale").click()
    click_image(page, 50, 40)
    click_image(page, 50, 440)
    page.get_by_label("Distance in mm").fill("40")
    page.get_by_role("button", name="Use as scale").click()
    state(page, "draft")
    assert page.locator("#figure-volume").inner_text().startswith("53.")
    page.get_by_role("tab", name="Why").click()
    page.get_by_text("the operator", exact=True).wait_for()


def test_a_nominal_scale_is_a_demonstration(desk: Desk, service: Service) -> None:
    """A scale that nobody measured marks the picture and stops confirmation."""
    data = phantoms.dicom(nominal=True)
    page = desk(f"/#/analyses/{service.study(data, **ANSWERED)}")
    state(page, "draft")
    assert "DEMONSTRATION" in page.locator(".picture .marks").inner_text()
    assert page.locator(".note.stop", has_text="nominal").first.is_visible()


def test_clicks_undo_redo_and_outline(desk: Desk, service: Service) -> None:
    """Add, remove, undo, redo, and an outline corrected by its points; each is a revision."""
    analysis_id = service.study()
    page = desk(f"/#/analyses/{analysis_id}")
    state(page, "draft")
    whole = area_cm2(page)
    page.get_by_role("button", name="Remove", exact=True).click()
    click_image(page, 400, 250)
    revision(page, 2)
    less = area_cm2(page)
    assert less < whole
    page.get_by_role("button", name="Undo").click()
    revision(page, 3)
    assert area_cm2(page) == pytest.approx(whole)
    page.get_by_role("button", name="Redo").click()
    revision(page, 4)
    assert area_cm2(page) == pytest.approx(less)

    page.get_by_role("button", name="Outline", exact=True).click()
    nodes = page.locator("svg .node")
    assert nodes.count() > 6
    left = min(
        page.evaluate(
            """() => [...document.querySelectorAll('svg .node .edge')]
            .map((c) => [c.cx.baseVal.value, c.cy.baseVal.value])"""
        )
    )
    drag_image(page, left, (left[0] - 60, left[1]))
    revision(page, 5)
    page.get_by_text("Outline by the operator").wait_for()
    request = api(service, f"/api/v1/analyses/{analysis_id}")["request"]
    assert min(c for c, _ in request["outlines"][0]["points"]) == pytest.approx(
        left[0] - 60, abs=1.5
    )


def area_cm2(page: Any) -> float:
    found = re.search(r"Area\s+([\d.]+) cm²", page.locator("#panels").inner_text())
    assert found is not None
    return float(found[1])


def test_a_pushed_study_waits_until_its_muscle_is_named(desk: Desk, service: Service) -> None:
    """In the list with its picture and what it waits for; a click and a choice start it."""
    service.push(phantoms.dicom(patient=("PUSHED-1", "Waiting^Wanda")))
    page = desk()
    row = page.locator("ul.studies li", has_text="Waiting Wanda")
    row.wait_for()
    row.get_by_text("Waits for the muscle").wait_for()
    row.locator("canvas[data-drawn]").wait_for()
    row.locator("a.study").click()
    state(page, "needs_target")
    click_image(page, *CENTRE)
    revision(page, 2)
    state(page, "needs_target")
    asked = page.locator(".note", has_text="Waits for the muscle")
    asked.get_by_label("Muscle", exact=True).select_option("biceps_brachii")
    start = page.get_by_role("button", name="Start", exact=True)
    assert start.is_disabled()
    asked.get_by_label("Side").select_option("left")
    start.click()
    state(page, "draft")
    assert "Biceps" in page.locator(".headline h1").inner_text()
    page.locator("svg .muscle").wait_for(state="attached")


def test_a_pushed_study_whose_image_names_its_side(desk: Desk, service: Service) -> None:
    """The side is told and not asked again; after a click only the muscle is missing."""
    service.push(phantoms.dicom(laterality="L", patient=("PUSHED-2", "Waiting^Willi")))
    page = desk()
    page.locator("ul.studies li", has_text="Waiting Willi").locator("a.study").click()
    state(page, "needs_target")
    page.get_by_text("Side: left, as the image says.").wait_for()
    click_image(page, *CENTRE)
    page.get_by_text("follows your click").wait_for()
    plan = page.locator("#panels").inner_text()
    assert "3.86 cm²" in plan
    assert "unknown" not in plan
    page.locator(".note").get_by_label("Muscle", exact=True).select_option("biceps_brachii")
    page.get_by_role("button", name="Start", exact=True).click()
    state(page, "draft")
    page.locator(".note", has_text="No dose").get_by_role("button", name="To the inputs").click()
    assert page.get_by_role("tab", name="Inputs").get_attribute("aria-selected") == "true"


def test_nothing_hides_the_picture_and_it_stands_still(desk: Desk, service: Service) -> None:
    """On a tablet the words stand above the skin, the slider keeps its width, and no site's words
    run into another's; a change of tool moves nothing, also by key from a tool's button."""
    analysis_id = service.study(phantoms.dicom(nominal=True))
    page = desk(f"/#/analyses/{analysis_id}", width=1024, height=768)
    state(page, "draft")
    page.locator(".viewport svg[viewBox]").wait_for(state="attached")
    page.locator("svg .site").nth(1).wait_for()
    box = """s => (({left, top, right, bottom}) => [left, top, right, bottom])(
        document.querySelector(s).getBoundingClientRect())"""
    marks, picture = page.evaluate(box, ".marks"), page.evaluate(box, ".viewport canvas")
    assert page.locator(".marks span").count() == 2
    assert marks[3] <= picture[1]
    one, two = page.evaluate(
        """() => [...document.querySelectorAll("svg .label")]
        .filter((e) => / mm$/.test(e.textContent))
        .map((e) => (({left, top, right, bottom}) => [left, top, right, bottom])(
            e.getBoundingClientRect()))"""
    )
    assert one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] + 4 or two[3] <= one[1] + 4
    page.get_by_role("button", name="Add", exact=True).click()
    assert page.evaluate(box, ".viewport canvas") == picture
    page.keyboard.press("Escape")
    look = page.get_by_role("button", name="Look", exact=True)
    assert look.get_attribute("aria-pressed") == "true"
    assert page.evaluate(box, ".viewport canvas") == picture

    clip = service.study(phantoms.dicom(frames=3), frames=[{"frame": 0}], clicks=None)
    page.goto(f"{service.base}/#/analyses/{clip}")
    state(page, "abstained")
    left, _, right, _ = page.evaluate(box, ".cine input[type=range]")
    assert right - left > 300


def test_a_ruler_in_the_picture_is_offered_and_never_taken(desk: Desk, service: Service) -> None:
    """Its ticks are shown and a person says what they mean; the scale says where it is from."""
    analysis_id = service.study(phantoms.png(ruler=True), "ruler.png")
    page = desk(f"/#/analyses/{analysis_id}")
    state(page, "needs_calibration")
    offer = page.locator(".note", has_text="A RULER WAS FOUND")
    offer.get_by_text("9 ticks").wait_for()
    use = offer.get_by_role("button", name="Yes, use this ruler")
    assert use.is_disabled()
    offer.get_by_label("From tick to tick").select_option("5")
    offer.get_by_text("100 px per cm").wait_for()
    use.click()
    state(page, "draft")
    page.get_by_role("tab", name="Why").click()
    page.get_by_text("a ruler in the image").wait_for()
    used = api(service, f"/api/v1/analyses/{analysis_id}")["plan"]["frames"][0]["calibration"]
    assert used["used"]["row_mm_per_px"] == pytest.approx(0.1)


def test_search_asks_the_service(desk: Desk, service: Service) -> None:
    """What is not on the loaded pages is found too, and what is not there is said."""
    service.study(patient={"id": "FIND-ME", "name": "Søren Müller", "age_years": 54})
    page = desk()
    page.get_by_label("Search").fill("muller find-me")
    until(page, "document.querySelectorAll('ul.studies li').length === 1")
    assert "Søren Müller\nFIND-ME" in page.locator("ul.studies li").inner_text()
    page.get_by_label("Search").fill("nobody of this name")
    page.get_by_text("No study is found by this.").wait_for()


def test_left_beside_right_and_today_beside_last_time(desk: Desk, service: Service) -> None:
    """The plan says what changed, and the smallest change that is more than error."""
    who = {"id": "TWICE", "age_years": 54, "weight_kg": 72, "height_m": 1.74}
    image = ("TWICE", "")
    service.study(phantoms.dicom(patient=image, day="20251001"), patient=who, muscle_length_mm=170)
    other = phantoms.dicom(patient=image, day="20260102")
    service.study(other, patient=who, side="right", muscle_length_mm=230)
    page = desk(f"/#/analyses/{service.study(phantoms.dicom(patient=image), patient=who)}")
    state(page, "draft")
    beside = page.locator("#compared")
    beside.get_by_text("SINCE THE LAST SESSION").wait_for()
    beside.get_by_text("LEFT AND RIGHT", exact=True).wait_for()
    assert beside.get_by_text("more than error").count() >= 2
    beside.get_by_role("link", name="Compare side by side").first.click()
    page.locator(".two svg .muscle").nth(1).wait_for(state="attached")


def test_where_the_objects_went(desk: Desk, service: Service) -> None:
    """After confirmation: what a destination has, why another has nothing, and once more."""
    page = desk(f"/#/analyses/{service.study(**ANSWERED)}")
    state(page, "draft")
    page.get_by_role("button", name="Review and confirm").click()
    page.get_by_role("button", name="Next").click()
    page.get_by_label("Your name").wait_for()
    read_and_confirm(page)
    state(page, "confirmed")
    there = page.locator(".delivery", has_text="pacs")
    there.get_by_text("Delivered").wait_for()
    there.locator("summary").click()
    there.get_by_text("DICOM Segmentation").wait_for()
    away = page.locator(".delivery", has_text="away")
    away.get_by_text("Waiting").wait_for()
    away.locator("p", has_text="attempt 1 of").wait_for()
    away.get_by_role("button", name="Send again").click()
    away.locator("p", has_text="attempt 2 of").wait_for()


def test_a_dragged_site_names_what_it_violates(desk: Desk, service: Service) -> None:
    """Out of the muscle: told while it is dragged, named by the service, not put right silently."""
    analysis_id = service.study()
    page = desk(f"/#/analyses/{analysis_id}")
    state(page, "draft")
    site = api(service, f"/api/v1/analyses/{analysis_id}")["plan"]["sites"][0]
    page.mouse.move(*on_screen(page, site["column"], site["row"]))
    page.mouse.down()
    page.mouse.move(*on_screen(page, site["column"], 80), steps=4)
    assert "outside the muscle" in page.locator(".readout").inner_text()
    page.mouse.move(*on_screen(page, 455, 375))
    assert "mm from a nerve or vessel, margin 5 mm" in page.locator(".readout").inner_text()
    page.mouse.move(*on_screen(page, site["column"], 80))
    page.mouse.up()
    page.locator(".note.stop", has_text="VIOLATES").wait_for()
    assert page.locator("svg .site[data-bad]").count() == 1
    moved = api(service, f"/api/v1/analyses/{analysis_id}")["plan"]["sites"][0]
    assert moved["by_hand"]
    assert moved["violations"]
    assert (moved["column"], moved["row"]) == pytest.approx((site["column"], 80), abs=1)


def test_a_clip_of_300_frames(
    desk: Desk, service: Service, record_property: Any, capsys: Any
) -> None:
    """The first overlay within a second of opening, scrubbing at 30 frames a second or more.

    The figures are printed; what is asserted leaves room for a machine that others keep busy.
    """
    clip = phantoms.dicom(frames=300)
    analysis_id = service.study(
        clip, "clip.dcm", frames=[{"frame": 12}], clicks=[{**CLICK, "frame": 12}]
    )
    page = desk("/#/reference")
    page.get_by_text("Dose rows").first.wait_for()
    came: list[str] = []
    page.on("requestfinished", lambda r: came.append(r.url) if "/frames/" in r.url else None)
    begun = time.monotonic()
    seconds = page.evaluate(OPEN, analysis_id)
    assert page.locator(".cine output").inner_text() == "13 / 300"
    # Time for the clip to come in, as when a person looks at the first picture.
    end = time.monotonic() + 90
    while len(came) < 300 and time.monotonic() < end:
        page.wait_for_timeout(200)
    fetched = time.monotonic() - begun
    page.wait_for_timeout(1000)
    drawn, took = page.evaluate(
        """async () => {
            const slider = document.querySelector('.cine input[type=range]');
            const canvas = document.querySelector('.viewport canvas');
            const brush = canvas.getContext('2d');
            let painted = 0;
            const draw = brush.drawImage.bind(brush);
            brush.drawImage = (...all) => { painted++; draw(...all); };
            const start = performance.now();
            for (let n = 0; n < 300; n++) {
                slider.value = n;
                slider.dispatchEvent(new Event('input'));
                await new Promise(requestAnimationFrame);
            }
            return [painted, (performance.now() - start) / 1000];
        }"""
    )
    with capsys.disabled():
        print(f"\nfirst overlay {seconds:.2f} s, {len(came)} frames in {fetched:.1f} s")
        print(f"scrub {drawn / took:.0f} frames/s ({drawn} of 300 painted)")
    record_property("first_overlay_s", seconds)
    record_property("scrub_frames_per_s", drawn / took)
    assert seconds <= 15
    assert drawn / took >= 3
    page.locator(".viewport").focus()
    page.keyboard.press("Home")
    page.keyboard.press("]")
    assert page.locator(".cine output").inner_text() == "13 / 300"
    assert page.locator(".strip .sited").count() == 1
    page.keyboard.press("Home")
    page.keyboard.press(".")
    assert page.locator(".cine output").inner_text() == "2 / 300"
    page.mouse.move(*on_screen(page, 100, 100))
    page.mouse.wheel(0, 120)
    until(page, "document.querySelector('.cine output').textContent === '3 / 300'")
    until(page, "location.hash.includes('frame=2')")


def test_a_tablet(desk: Desk, service: Service) -> None:
    """On a tablet nothing is cut off sideways, a finger points, and targets are large."""
    analysis_id = service.study(clicks=None)
    page = desk(f"/#/analyses/{analysis_id}", width=820, height=1180, has_touch=True)
    state(page, "abstained")
    page.get_by_role("button", name="Add", exact=True).tap()
    page.touchscreen.tap(*on_screen(page, *CENTRE))
    state(page, "draft")
    for path in (f"/#/analyses/{analysis_id}", "/#/", "/#/reference"):
        page.goto(service.base + path)
        page.locator("h1").first.wait_for()
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 820, path
    page.goto(f"{service.base}/#/analyses/{analysis_id}")
    state(page, "draft")
    small = page.evaluate(
        """() => [...document.querySelectorAll('button:not(.link), select, [role=tab]')]
        .filter((e) => e.checkVisibility() && e.getBoundingClientRect().height < 43.5)
        .map((e) => e.textContent)"""
    )
    assert small == []


def test_the_service_away(desk: Desk, service: Service) -> None:
    """Without the service the page says so and what to do, and comes back by itself."""
    page = desk()
    page.get_by_role("heading", name="Studies").wait_for()
    page.context.set_offline(True)
    page.get_by_label("State").select_option("draft")
    page.get_by_text("The service cannot be reached.").wait_for()
    page.context.set_offline(False)
    page.get_by_text("The service cannot be reached.").wait_for(state="detached", timeout=12_000)


def test_session_and_side_by_side(desk: Desk, service: Service) -> None:
    """Two muscles under joint caps; one muscle left and right, and two revisions, side by side."""
    who = {"id": "SESSION", "age_years": 54, "weight_kg": 72, "height_m": 1.74}
    left = service.study(patient=who, **ANSWERED)
    right = service.study(patient=who, side="right", muscle_length_mm=200, **ANSWERED)
    page = desk()
    page.get_by_label("Search").fill("SESSION")
    until(page, "document.querySelectorAll('ul.studies li:not([hidden])').length === 2")
    for number in range(2):
        page.locator("ul.studies li:not([hidden]) input").nth(number).check()
    page.get_by_role("button", name="Session of 2").click()
    page.get_by_text("Units in all").wait_for()
    assert page.get_by_text("Under every cap that was found", exact=True).is_visible()
    page.get_by_text("LEFT AND RIGHT", exact=True).wait_for()
    page.get_by_role("link", name="Compare side by side").click()
    page.locator(".two section:nth-child(2) svg .site").first.wait_for(state="attached")
    assert page.locator(".two .marks").all_inner_texts() == ["SUGGESTION: CONFIRM BEFORE USE"] * 2

    patch(service, left, {"severity": {"value": "4"}})
    page.goto(f"{service.base}/#/analyses/{left}?tab=revisions")
    page.get_by_role("button", name="Side by side").click()
    page.locator("td.changed", has_text="Units").first.wait_for()
    assert right


def test_where_a_number_comes_from(desk: Desk, service: Service) -> None:
    """The derivation opens as a tree, and a source id opens its citation."""
    page = desk(f"/#/analyses/{service.study()}")
    state(page, "draft")
    source = page.locator("#panels button.link").first
    source.click()
    assert source.get_attribute("aria-expanded") == "true"
    page.get_by_role("button", name="Where do these numbers come from?").click()
    page.locator(".tree summary", has_text="dose").first.click()
    assert page.locator(".tree details details").count() > 3


def test_a_deep_link_that_leads_nowhere(desk: Desk) -> None:
    """An unknown study is told as such, with the way back."""
    page = desk(f"/#/analyses/{'0' * 32}")
    page.get_by_text("There is no such analysis.").wait_for()
    page.get_by_role("link", name="Back").click()
    page.get_by_role("heading", name="Studies").wait_for()


def test_the_policy_is_strict_and_the_page_small(service: Service) -> None:
    """No inline script or style is allowed, and script and style stay small on the wire."""
    import gzip

    with urllib.request.urlopen(service.base + "/", timeout=10) as answer:  # noqa: S310 -- loopback
        policy = answer.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    files = [*STATIC.glob("*.js"), *STATIC.glob("*.css")]
    assert sum(len(gzip.compress(f.read_bytes())) for f in files) <= 120_000
    for file in files:
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", file.read_text("utf-8")
        )
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", file.read_text("utf-8"))


def test_a_change_on_an_old_etag_is_refused(service: Service) -> None:
    """What the page builds on: the service answers 412 to the second editor."""
    analysis_id = service.study()
    home = f"{service.base}/api/v1/analyses/{analysis_id}"
    etag = api(service, f"/api/v1/analyses/{analysis_id}")["etag"]
    patch(service, analysis_id, {"patient": {"weight_kg": 60}})
    request = urllib.request.Request(  # noqa: S310 -- loopback
        home,
        data=b"{}",
        method="PATCH",
        headers={"Content-Type": "application/merge-patch+json", "If-Match": etag},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)  # noqa: S310 -- loopback
    refused.value.close()
    assert refused.value.code == 412


def test_a_click_is_answered_at_once(desk: Desk, service: Service, capsys: Any) -> None:
    """From the click to the new mask on the screen; the service's own share is not the page's."""
    page = desk(f"/#/analyses/{service.study()}")
    state(page, "draft")
    page.get_by_role("button", name="Remove", exact=True).click()
    page.evaluate(
        """() => {
            window.times = [];
            const shown = () => document.querySelector('.headline').textContent;
            document.querySelector('.viewport').addEventListener('pointerup', () => {
                const [begun, before] = [performance.now(), shown()];
                const look = () => shown() === before ? requestAnimationFrame(look)
                    : window.times.push(performance.now() - begun);
                look();
            }, true);
        }"""
    )
    for n in range(11):
        click_image(page, 380 - 12 * n, 250)
        revision(page, n + 2)
        until(page, f"window.times.length === {n + 1}")
    times = page.evaluate("window.times.slice(1)")  # the first of all is no habit
    with capsys.disabled():
        print(
            f"\nclick to new mask: median {statistics.median(times):.0f} ms, best "
            f"{min(times):.0f} ms of 10, without the network, at load {os.getloadavg()[0]:.1f}"
        )
    assert min(times) < 5000

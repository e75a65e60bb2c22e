"""axe-core on every page and dialog: no violation of WCAG level A or AA."""

from __future__ import annotations

from typing import Any

import pytest

from tests.viewer import phantoms
from tests.viewer.conftest import ANSWERED, Desk, Service, dev_tool
from tests.viewer.test_viewer import patch, read_and_confirm, state

LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


def check(page: Any) -> None:
    """Raises what axe finds, each with the elements."""
    page.wait_for_timeout(400)
    page.evaluate(dev_tool("axe-core/axe.min.js").read_text("utf-8"))
    found = page.evaluate(
        "levels => axe.run(document, { runOnly: { type: 'tag', values: levels } })", LEVELS
    )
    wrong = [
        f"{v['id']}: {v['help']}\n" + "\n".join(f"  {n['html'][:160]}" for n in v["nodes"])
        for v in found["violations"]
    ]
    assert not wrong, "\n".join(wrong)
    assert found["passes"]


@pytest.fixture(autouse=True)
def _axe() -> None:
    dev_tool("axe-core/axe.min.js")


def test_work_list_and_upload(desk: Desk, service: Service) -> None:
    """The list with studies in several states, and the dialog of a new study."""
    service.study()
    service.study(clicks=None)
    page = desk()
    page.locator("ul.studies li").nth(1).wait_for()
    check(page)
    page.set_input_files("#files", service.file(phantoms.png(), "a.png"))
    page.get_by_role("dialog").wait_for()
    check(page)


def test_study_in_each_state(desk: Desk, service: Service) -> None:
    """Draft with every tab and tool, abstained, without a scale, confirmed, on a tablet too."""
    analysis_id = service.study(**ANSWERED)
    page = desk(f"/#/analyses/{analysis_id}")
    state(page, "draft")
    check(page)
    for tab in ("Inputs", "Why", "History"):
        page.get_by_role("tab", name=tab).click()
        check(page)
    page.locator(".bar summary").click()
    for tool in ("Add", "Outline", "Ruler"):
        page.get_by_role("button", name=tool, exact=True).click()
        check(page)
    page.get_by_role("button", name="Review and confirm").click()
    check(page)
    page.get_by_role("button", name="Next").click()
    page.get_by_label("Your name").wait_for()
    check(page)
    page.keyboard.press("Escape")
    for name, other in {
        "abstained": service.study(clicks=None),
        "needs_calibration": service.study(phantoms.png(ruler=True), "plain.png"),
    }.items():
        page.goto(f"{service.base}/#/analyses/{other}")
        state(page, name)
        check(page)
    service.push(phantoms.dicom(patient=("AXE", "Reader^Screen")))
    page.goto(f"{service.base}/#/")
    page.locator("ul.studies li", has_text="Reader Screen").locator("a.study").click()
    state(page, "needs_target")
    check(page)
    confirmed = desk(f"/#/analyses/{analysis_id}")
    confirmed.get_by_role("button", name="Review and confirm").click()
    confirmed.get_by_role("button", name="Next").click()
    confirmed.get_by_label("Your name").wait_for()
    read_and_confirm(confirmed)
    confirmed.locator(".delivery").first.wait_for()
    check(confirmed)
    small = desk(f"/#/analyses/{analysis_id}", width=820, height=1180)
    state(small, "confirmed")
    check(small)


def test_the_other_pages(desk: Desk, service: Service) -> None:
    """Tables and model, session, two revisions, an error."""
    analysis_id = service.study(**ANSWERED)
    patch(service, analysis_id, {"severity": {"value": "4"}})
    page = desk("/#/reference")
    page.get_by_text("Dose rows").first.wait_for()
    check(page)
    for path, ready in (
        (f"session?ids={analysis_id}", "Units in all"),
        (f"analyses/{analysis_id}/compare?revisions=1,2", "Two revisions"),
        (f"analyses/{'0' * 32}", "There is no such analysis."),
    ):
        page.goto(f"{service.base}/#/{path}")
        page.get_by_text(ready).first.wait_for()
        check(page)

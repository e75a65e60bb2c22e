"""Signing in to the viewer, in a real browser: by the identity provider, or with a key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from app.settings import SCOPES
from tests.api.issuer import AUDIENCE, CLIENT, mock_issuer
from tests.api.test_edge import key
from tests.viewer import phantoms
from tests.viewer.conftest import HERE, serving
from tests.viewer.test_viewer import CENTRE, click_image, revision, state


def opened(browser: Any) -> tuple[Any, list[str]]:
    """A page, and what went wrong in it: refusals by status are what these tests are about."""
    page, wrong = browser.new_context().new_page(), list[str]()
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda m: (
            wrong.append(m.text)
            if m.type == "error" and "Failed to load resource" not in m.text
            else None
        ),
    )
    return page, wrong


def test_a_clinician_signs_in_reads_and_leaves(browser: Any, tmp_path: Path) -> None:
    """To the provider and back, the name in the head, no secret for scripts, and out again."""
    with mock_issuer() as issuer:
        issuer.person["roles"] = [f"sonodose.{scope}" for scope in SCOPES]
        settings = {
            "SONODOSE_AUTH": "oidc",
            "SONODOSE_OIDC_ISSUER": issuer.url,
            "SONODOSE_OIDC_AUDIENCE": AUDIENCE,
            "SONODOSE_OIDC_CLIENT_ID": CLIENT,
            "SONODOSE_PUBLIC_URL": "{base}",
        }
        with serving(tmp_path, [str(HERE / "service.py")], settings) as service:
            page, wrong = opened(browser)
            page.goto(f"{service.base}/#/reference")
            page.get_by_role("button", name="Sign out").wait_for()
            assert page.url == f"{service.base}/#/reference"
            assert "Dr. Ada Example" in page.locator("header.top").inner_text()
            assert page.evaluate("document.cookie") == ""
            assert page.evaluate("Object.keys({...localStorage, ...sessionStorage})") == []
            cookie = next(c for c in page.context.cookies() if c["name"] == "__Host-sonodose")
            assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (
                True,
                True,
                "Strict",
            )
            with page.expect_request(lambda r: r.url.startswith(f"{issuer.url}/bye")):
                page.get_by_role("button", name="Sign out").click()
            assert [c for c in page.context.cookies() if c["name"] == "__Host-sonodose"] == []
            assert wrong == []
            page.context.close()


def test_a_key_signs_in_where_there_is_no_provider(browser: Any, tmp_path: Path) -> None:
    """The service's own page takes a key once, under the same strict policy."""
    settings = {
        "SONODOSE_AUTH": "keys",
        "SONODOSE_API_KEYS": json.dumps(
            [key("desk", ["read", "submit", "edit"]), key("looker", ["read"])]
        ),
    }
    with serving(tmp_path, [str(HERE / "service.py")], settings) as service:
        page, wrong = opened(browser)
        page.goto(service.base)
        page.get_by_label("Key").fill("not-the-key")
        page.get_by_role("button", name="Sign in with a key").click()
        page.get_by_role("alert").wait_for()
        page.get_by_label("Key").fill("secret-of-desk")
        page.get_by_role("button", name="Sign in with a key").click()
        page.get_by_role("button", name="Sign out").wait_for()
        assert "key:desk" in page.locator("header.top").inner_text()
        page.set_input_files("#files", service.file(phantoms.dicom(), "biceps.dcm"))
        page.get_by_label("Muscle", exact=True).select_option("biceps_brachii")
        page.get_by_label("Side").select_option("left")
        page.get_by_role("button", name="Upload").click()
        state(page, "abstained")
        click_image(page, *CENTRE)
        state(page, "draft")
        page.get_by_text("A clinician confirms: key:desk may not.").wait_for()
        assert page.get_by_role("button", name="Review and confirm").count() == 0
        study = page.url
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("Key").fill("secret-of-looker")
        page.get_by_role("button", name="Sign in with a key").click()
        page.get_by_role("button", name="Sign out").wait_for()
        page.goto(study)
        state(page, "draft")
        page.get_by_role("button", name="Add", exact=True).click()
        click_image(page, 310, 250)
        page.get_by_role("alert").get_by_text("may not do this").wait_for()
        revision(page, 2)
        assert wrong == []
        page.context.close()

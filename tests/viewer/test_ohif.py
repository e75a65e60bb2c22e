"""OHIF, the viewer that hospitals use, over our own DICOMweb: it shows our masks and our sites.

Its published build is 50 MB, so nothing here fetches it: `make ohif` does, and runs these.
"""

from __future__ import annotations

import io
import json
import mimetypes
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from tests.app.plans import stored_plan
from tests.judges import judge
from tests.viewer.conftest import HERE, OPTIONS, Service, serving
from tools.client import post_analysis

DIST = HERE / "ohif" / "package" / "dist"
pytestmark = [
    pytest.mark.skipif(not DIST.is_dir(), reason="OHIF is not fetched: make ohif"),
    pytest.mark.timeout(900),
]
SECONDS = 1000
DRAWING = [
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
]
SOURCE = {
    "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
    "sourceName": "ours",
    "configuration": {
        "friendlyName": "ours",
        "name": "ours",
        "qidoRoot": "/dicom-web",
        "wadoRoot": "/dicom-web",
        "wadoUriRoot": "/dicom-web",
        "imageRendering": "wadors",
        "thumbnailRendering": "wadors",
        "qidoSupportsIncludeField": True,
        "supportsWildcard": True,
    },
}
CONFIG = {
    "routerBasename": "/",
    "extensions": [],
    "modes": [],
    "showStudyList": True,
    "defaultDataSourceName": "ours",
    "dataSources": [SOURCE],
}
ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("ohif"), ["-m", "api.cli", "serve"]) as found:
        yield found


@pytest.fixture(scope="module", params=["a clip", "a sweep of stills", "an odd still"])
def study(
    request: Any, real: Service, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Any]]:
    """(Study Instance UID, plan) of a phantom that was sent, planned, and its objects made."""
    how: dict[str, Any] = {
        "a clip": {"frames": 5},
        "a sweep of stills": {"frames": 5, "stills": True},
        "an odd still": {"frames": 1, "rows": 735, "columns": 975},
    }[request.param]
    uid = f"1.2.3.9{len(request.param)}"
    folder = tmp_path_factory.mktemp("study")
    stored = stored_plan(folder, study=uid, uids=f"{uid}.1", **how)
    files = [real.file(Path(s.path).read_bytes(), s.name) for s in stored.sources]
    made = post_analysis(real.base, dict(stored.request), files)
    home = f"{real.base}/api/v1/analyses/{made['id']}"
    for name in ("seg.dcm", "sr.dcm"):
        urllib.request.urlopen(f"{home}/{name}", timeout=60).close()  # noqa: S310 -- loopback
    return uid, made["plan"]


@pytest.fixture(scope="module")
def viewer(real: Service) -> Iterator[Any]:
    """A page at the service's own address whose files are OHIF's, DICOMweb aside."""
    program = judge("chromium")
    sync_api = pytest.importorskip("playwright.sync_api")

    def give(route: Any) -> None:
        path = urlsplit(route.request.url).path
        if path.startswith("/dicom-web"):
            route.continue_()
            return
        if path == "/app-config.js":
            body, kind = f"window.config={json.dumps(CONFIG)}".encode(), "text/javascript"
        else:
            file = DIST / path.lstrip("/")
            file = file if file.is_file() else DIST / "index.html"
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            body = file.read_bytes()
        route.fulfill(body=body, headers={"Content-Type": kind, **ISOLATED})

    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=[*OPTIONS, *DRAWING])
        page = chromium.new_page(viewport={"width": 1400, "height": 900})
        page.route(f"{real.base}/**", give)
        yield page
        chromium.close()


def coloured(page: Any) -> int:
    """How many pixels of the picture are no grey: of an ultrasound image none is."""
    shown = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
    picture = shown[60:-120, 300:-320]
    return int((picture.max(axis=2) - picture.min(axis=2) > 60).sum())


def open_series(page: Any, modality: str) -> None:
    """Double-clicks the series of this modality, and says yes to what it asks."""
    thumbnail = page.locator('[data-cy^="study-browser-thumbnail"]', has_text=modality).first
    thumbnail.wait_for(timeout=120 * SECONDS)
    thumbnail.dblclick()
    for _ in range(20):
        page.wait_for_timeout(500)
        yes = page.get_by_role("button", name=re.compile("^(Yes|Open|Load|Restore|Continue)$"))
        if yes.count():
            yes.first.click()
            return


def until(page: Any, done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 90
    while not done():
        assert time.monotonic() < end, f"{what}: {page.inner_text('body')[:2000]}"
        page.wait_for_timeout(500)


def test_mask_and_sites_show(study: tuple[str, dict[str, Any]], viewer: Any, real: Service) -> None:
    """The SEG lays its colour on the picture, and the SR opens at a site's point, without an area
    of the viewer's own making. (Where each site is: test_cornerstone.py.)"""
    uid, _ = study
    viewer.goto(f"{real.base}/viewer?StudyInstanceUIDs={uid}", timeout=120 * SECONDS)
    viewer.locator('[data-cy^="study-browser-thumbnail"]').first.wait_for(timeout=180 * SECONDS)
    viewer.wait_for_timeout(8 * SECONDS)
    for skip in viewer.get_by_role("button", name=re.compile("Skip all", re.IGNORECASE)).all():
        skip.click()
    before = coloured(viewer)
    open_series(viewer, "SEG")
    until(viewer, lambda: coloured(viewer) > before + 500, "no mask shows")
    open_series(viewer, "SR")
    points = viewer.locator('[data-cy="viewport-pane"] svg circle')
    until(viewer, lambda: points.count() > 0, "no site shows")
    assert "mm²" not in viewer.inner_text("body")
    assert "cm²" not in viewer.inner_text("body")

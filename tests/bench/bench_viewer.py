"""What a clinician waits for in the viewer: Chromium against the real service and its network.

    python tests/bench/bench_viewer.py [--count 40]

Prints one line of JSON:
- `click`: from the finger's release to the next picture with the new mask and the new plan in
  it, on the biceps sample, add and remove in turn, every click on another spot, so that the
  network is asked each time; `answer` is the service's part of it, the request to its last byte;
- `first_overlay_s`: from the deep link to frame and mask on the screen, of a clip of 300 frames,
  every time in a browser that never saw it;
- `scrub`: frames painted in a second while every frame of that clip is asked for in turn;
- `bytes`: script and style as they stand, and gzipped as they travel.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.viewer import phantoms  # noqa: E402 -- after the path
from tests.viewer.conftest import OPTIONS, Service, serving  # noqa: E402 -- after the path
from tests.viewer.test_viewer import (  # noqa: E402 -- after the path
    OPEN,
    click_image,
    revision,
    state,
    until,
)
from tools.client import post_analysis  # noqa: E402 -- after the path

FRAMES, OPENINGS, WARM = 300, 9, 3
SCREEN = {"width": 1440, "height": 900}
SAMPLE = ROOT / "sample_dicoms" / "biceps_short_axis.dcm"
ASKED = json.loads(SAMPLE.with_suffix(".json").read_text("utf-8"))
LISTEN = """() => {
    window.times = [];
    const mask = () => document.querySelector('.headline').textContent
        + document.querySelector('svg .muscle .edge')?.getAttribute('d');
    document.querySelector('.viewport').addEventListener('pointerup', () => {
        const [begun, before] = [performance.now(), mask()];
        // A message that is sent while a frame is made comes once the frame is painted.
        const painted = new MessageChannel();
        painted.port1.onmessage = () => window.times.push(performance.now() - begun);
        const look = () => mask() === before ? requestAnimationFrame(look)
            : painted.port2.postMessage(0);
        requestAnimationFrame(look);
    }, true);
}"""
ANSWERS = """() => performance.getEntriesByType('resource')
    .filter((r) => /analyses.[0-9a-f]{32}$/.test(r.name)).map((r) => r.duration)"""
SCRUB = """async (frames) => {
    const slider = document.querySelector('.cine input[type=range]');
    const brush = document.querySelector('.viewport canvas').getContext('2d');
    const draw = brush.drawImage.bind(brush);
    let painted = 0;
    brush.drawImage = (...all) => { painted++; draw(...all); };
    const start = performance.now();
    for (let n = 0; n < frames; n++) {
        slider.value = n;
        slider.dispatchEvent(new Event('input'));
        await new Promise(requestAnimationFrame);
    }
    return 1000 * painted / (performance.now() - start);
}"""


def clicks(page: Any, service: Service, count: int) -> dict[str, Any]:
    """Milliseconds from click to mask, and the service's part of them."""
    analysis_id = post_analysis(service.base, ASKED, [SAMPLE])["id"]
    page.goto(f"{service.base}/#/analyses/{analysis_id}")
    state(page, "draft")
    page.locator(".viewport svg[viewBox]").wait_for(state="attached")
    page.evaluate(LISTEN)
    middle = ASKED["clicks"][0]
    for n in range(count + WARM):
        page.get_by_role("button", name=("Add", "Remove")[n % 2], exact=True).click()
        if n == WARM:
            page.evaluate("performance.clearResourceTimings()")
        out = 5 + n % 20 if n % 2 == 0 else 75
        click_image(page, middle["column"] + out, middle["row"] + n % 7)
        until(page, f"window.times.length === {n + 1}", within_s=30)
        revision(page, n + 2)
        page.wait_for_timeout(400)  # a hand needs as long for the next click
    return {
        "mask": _spread(page.evaluate(f"window.times.slice({WARM})")),
        "answer": _spread(page.evaluate(ANSWERS)),
    }


def clip(chromium: Any, service: Service) -> dict[str, Any]:
    """Seconds to the first overlay, and frames a second while scrubbing."""
    oval = {"frame": 12, "points": [[200, 200], [400, 200], [420, 280], [180, 280]]}
    analysis_id = service.study(
        phantoms.dicom(frames=FRAMES),
        "clip.dcm",
        frames=[{"frame": 12}],
        clicks=None,
        outlines=[oval],
    )
    opened = []
    for _ in range(OPENINGS):
        page = chromium.new_page(viewport=SCREEN)  # with an empty cache of its own
        page.goto(f"{service.base}/#/reference")
        page.get_by_text("Dose rows").first.wait_for()
        opened.append(page.evaluate(OPEN, analysis_id))
        page.close()
    page = chromium.new_page(viewport=SCREEN)
    came: list[str] = []
    page.on("requestfinished", lambda r: came.append(r.url) if "/frames/" in r.url else None)
    page.goto(f"{service.base}/#/analyses/{analysis_id}")
    while len(came) < FRAMES:
        page.wait_for_timeout(200)
    page.wait_for_timeout(2000)
    rates = [page.evaluate(SCRUB, FRAMES) for _ in range(3)]
    return {
        "first_overlay_s": {"median": round(statistics.median(opened), 2), "most": _most(opened)},
        "scrub_frames_per_s": round(statistics.median(rates)),
    }


def size() -> dict[str, int]:
    """Bytes of script and style."""
    files = (ROOT / "api" / "static").iterdir()
    texts = [file.read_bytes() for file in files if file.suffix in {".js", ".css"}]
    return {"raw": sum(map(len, texts)), "gzip": sum(len(gzip.compress(text)) for text in texts)}


def _spread(times_ms: list[float]) -> dict[str, Any]:
    found = sorted(times_ms)
    return {
        "n": len(found),
        "p50_ms": round(statistics.median(found)),
        "p95_ms": round(found[int(0.95 * (len(found) - 1))]),
        "best_ms": round(found[0]),
    }


def _most(seconds: list[float]) -> float:
    return round(max(seconds), 2)


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=40)
    count = parser.parse_args().count
    program = shutil.which("chromium")
    if program is None:
        print(json.dumps({"bench": "viewer", "left_out": "chromium is not installed"}))
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), ["-m", "api.cli", "serve"]) as service,
        sync_playwright() as playwright,
    ):
        chromium = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        told = {
            "bench": "viewer",
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
            "click": clicks(chromium.new_page(viewport=SCREEN), service, count),
            **clip(chromium, service),
            "bytes": size(),
        }
        chromium.close()
    print(json.dumps(told))


if __name__ == "__main__":
    main()

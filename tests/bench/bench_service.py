"""POST of one 660×556 frame to its finished plan, p50 and p95, beside the bare forward time.

    python tests/bench/bench_service.py [--count 60]

One client, one after the other, against a real `sonodose serve` in a process of its own, warm;
every frame is a new file: the biceps sample resized, a little noise on it. Prints one line of
JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydicom import dcmread

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from models.segment import Click, Prompt, View, load_segmenter  # noqa: E402 -- after the path
from tests.app import studies  # noqa: E402 -- after the path

ROWS, COLUMNS, WARM = 556, 660, 8
SAMPLE = ROOT / "sample_dicoms" / "biceps_short_axis.dcm"
ASKED = json.loads(SAMPLE.with_suffix(".json").read_text("utf-8"))


def sample() -> tuple[np.ndarray, Click]:
    """The sample's picture, 660×556, and the click on its muscle."""
    grey = dcmread(SAMPLE).pixel_array
    if grey.ndim == 3:
        grey = cv2.cvtColor(grey, cv2.COLOR_RGB2GRAY)
    click = ASKED["clicks"][0]
    return cv2.resize(grey, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA), Click(
        column=click["column"] * COLUMNS // grey.shape[1],
        row=click["row"] * ROWS // grey.shape[0],
    )


def still(grey: np.ndarray, seed: int) -> bytes:
    """The picture with a grey level of noise, as a new DICOM file."""
    noise = np.random.default_rng(seed).integers(0, 2, size=grey.shape, dtype=np.uint8)
    pixels = (grey.clip(0, 254) + noise).astype(np.uint8)
    return studies.dicom_still(rows=ROWS, columns=COLUMNS, PixelData=pixels.tobytes())


def multipart(file: bytes, request: dict[str, Any]) -> tuple[bytes, str]:
    """(body, content type) of one upload."""
    edge = uuid.uuid4().hex
    parts = [
        f'--{edge}\r\nContent-Disposition: form-data; name="request"\r\n\r\n'.encode(),
        json.dumps(request).encode(),
        f"\r\n--{edge}\r\nContent-Disposition: form-data; ".encode(),
        b'name="files"; filename="f.dcm"\r\n\r\n',
        file,
        f"\r\n--{edge}--\r\n".encode(),
    ]
    return b"".join(parts), f"multipart/form-data; boundary={edge}"


def post(address: str, file: bytes, asked: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """(milliseconds, analysis) of a POST that waits for its plan."""
    body, kind = multipart(file, asked)
    request = urllib.request.Request(  # noqa: S310 -- our own loopback address
        f"{address}/api/v1/analyses",
        data=body,
        headers={"Content-Type": kind, "Prefer": "wait=30"},
        method="POST",
    )
    began = time.perf_counter()
    with urllib.request.urlopen(request) as answer:  # noqa: S310 -- as above
        found = json.loads(answer.read())
    return (time.perf_counter() - began) * 1000, found


def forward_ms(grey: np.ndarray, click: Click, count: int) -> float:
    """Median milliseconds of the segmenter alone on the same frame, one thread."""
    segmenter = load_segmenter(threads=1)
    prompt = Prompt(clicks=(click,), box=None, view=View.SHORT_AXIS)
    times = []
    for _ in range(count + 3):
        began = time.perf_counter()
        segmenter.segment(grey, prompt)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times[3:])


def wait_until_ready(address: str) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{address}/readyz")  # noqa: S310 -- loopback
        except urllib.error.URLError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the service did not become ready")


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=60)
    count = parser.parse_args().count
    grey, click = sample()
    clicks = [{"column": click.column, "row": click.row, "positive": True}]
    asked = {**ASKED, "clicks": clicks}
    with tempfile.TemporaryDirectory() as data:
        began = time.perf_counter()
        service = subprocess.Popen(  # noqa: S603 -- our own command
            [sys.executable, "-m", "api.cli", "serve", "--port", "0", "--data-dir", data],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        try:
            line = service.stdout.readline() if service.stdout else ""
            address = line.split()[-1]
            wait_until_ready(address)
            ready_s = time.perf_counter() - began
            times, states = [], set()
            for index in range(count + WARM):
                taken, found = post(address, still(grey, index), asked)
                states.add(found["state"])
                if index >= WARM:
                    times.append(taken)
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(30)
    times.sort()
    print(
        json.dumps(
            {
                "bench": "post_to_plan",
                "frame": f"{COLUMNS}x{ROWS}",
                "count": count,
                "cores": os.cpu_count(),
                "p50_ms": round(statistics.median(times), 1),
                "p95_ms": round(times[int(0.95 * (len(times) - 1))], 1),
                "forward_ms": round(forward_ms(grey, click, 30), 1),
                "start_to_ready_s": round(ready_s, 2),
                "states": sorted(states),
            }
        )
    )


if __name__ == "__main__":
    main()

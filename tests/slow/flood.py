"""A service under clients that mean harm or are many: who else asks is answered all the while.

Run: python -m tests.slow.flood [--uploads 10000] [--slow 500] [--mebibytes 1023]. Against a real
`sonodose serve` in a process of its own, a good client asks for its work list and sends a study
again and again, alone first, then beside each flood:

- slowloris: connections that send a byte of a head, or of a body, every few seconds;
- small uploads, thirty-two at a time, most of them damaged;
- one upload of a gigabyte, and the most memory that the service ever held for it.

Prints one line of JSON; exit is 1 if the good client was refused, or kept waiting over
`MOST_WAIT_S`, or if the memory grew with the upload.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.app import studies
from tests.fuzz.fuzz import FORM, form, peak_mib, served

MOST_WAIT_S = 30.0
MOST_GROWTH_MIB = 100.0
BLOCK = b"\0" * (1 << 20)


@dataclass(slots=True)
class GoodClient:
    """Who must be answered: how long each answer took, and what went wrong."""

    address: str
    list_ms: list[float] = field(default_factory=list)
    study_ms: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def during(self, flood: Callable[[], None], *, least: int = 5) -> dict[str, Any]:
        """The percentiles while the flood lasts, and for `least` rounds at least."""
        self.list_ms, self.study_ms = [], []
        thread = threading.Thread(target=flood)
        thread.start()
        with httpx.Client(base_url=self.address, timeout=120) as client:
            while thread.is_alive() or len(self.study_ms) < least:
                self.list_ms.append(self._timed(lambda: client.get("/api/v1/analyses?limit=5")))
                self.study_ms.append(self._timed(lambda: _study(client, len(self.study_ms))))
                time.sleep(0.1)
        thread.join()
        return {"list_ms": percentiles(self.list_ms), "study_ms": percentiles(self.study_ms)}

    def _timed(self, ask: Callable[[], httpx.Response]) -> float:
        began = time.monotonic()
        try:
            answer = ask()
        except httpx.HTTPError as lost:
            self.faults.append(repr(lost))
        else:
            if answer.status_code != 200:
                self.faults.append(f"{answer.status_code} {answer.text[:200]}")
        took = time.monotonic() - began
        if took > MOST_WAIT_S:
            self.faults.append(f"waited {took:.1f} s")
        return took * 1000


def _study(client: httpx.Client, number: int) -> httpx.Response:
    body = form(studies.dicom_still(number), json.dumps(studies.REQUEST))
    headers = {"Content-Type": FORM, "Prefer": "wait=60"}
    return client.post("/api/v1/analyses", content=body, headers=headers)


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    ordered = sorted(milliseconds)
    return {
        "n": len(ordered),
        "p50": round(statistics.median(ordered), 1),
        "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 1),
        "max": round(ordered[-1], 1),
    }


def slowloris(address: str, count: int, seconds: float, cut_off: Counter[str]) -> None:
    """Half of the connections drip a head, half a body; those that are cut off come again."""
    place = urlsplit(address)
    to = (place.hostname or "", place.port or 80)
    head = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    body = (
        b"POST /api/v1/analyses HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    wires: list[socket.socket | None] = [None] * count
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for number, wire in enumerate(wires):
            try:
                if wire is None:
                    wire = wires[number] = socket.create_connection(to, timeout=10)
                    wire.sendall(head if number % 2 else body)
                else:
                    wire.sendall(b"X-a: b\r\n" if number % 2 else b"-")
            except OSError:
                cut_off["connections cut off"] += 1
                if wire is not None:
                    wire.close()
                wires[number] = None
        time.sleep(1.0)
    for wire in wires:
        if wire is not None:
            wire.close()


def small_uploads(address: str, count: int, answers: Counter[str]) -> None:
    """Uploads of a few kilobytes: one in twenty a good study, the others damaged."""
    good = studies.dicom_still(rows=48, columns=64)
    asked = json.dumps(studies.REQUEST)

    def send(number: int) -> str:
        data = good if number % 20 == 0 else good[: 200 + number % 2000]
        answer = client.post(
            "/api/v1/analyses", content=form(data, asked), headers={"Content-Type": FORM}
        )
        if answer.status_code >= 400:
            return f"{answer.status_code} {answer.json()['code']}"
        return str(answer.status_code)

    limits = httpx.Limits(max_connections=32)
    with (
        httpx.Client(base_url=address, timeout=120, limits=limits) as client,
        ThreadPoolExecutor(32) as pool,
    ):
        answers.update(pool.map(send, range(count)))


def large_upload(address: str, mebibytes: int, answers: Counter[str]) -> None:
    """One file of so many MiB, streamed."""

    def body() -> Iterator[bytes]:
        whole = form(b"", "{}")
        at = whole.rindex(b"\r\n--b--")
        yield whole[:at] + b"\x89PNG\r\n\x1a\n"
        for _ in range(mebibytes):
            yield BLOCK
        yield whole[at:]

    answer = httpx.post(
        f"{address}/api/v1/analyses", content=body(), headers={"Content-Type": FORM}, timeout=600
    )
    answers[f"{answer.status_code} {answer.json().get('code', '')}"] += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--uploads", type=int, default=10_000)
    parser.add_argument("--slow", type=int, default=500, help="connections of slowloris")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long slowloris lasts")
    parser.add_argument("--mebibytes", type=int, default=1023, help="size of the large upload")
    asked = parser.parse_args()
    seen: Counter[str] = Counter()
    figures: dict[str, Any] = {}
    faults: list[str] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder), slow_client_s=10.0) as (address, pid),
    ):
        client = GoodClient(address)
        figures["alone"] = client.during(lambda: None, least=20)
        figures["slowloris"] = client.during(
            lambda: slowloris(address, asked.slow, asked.seconds, seen)
        )
        before = peak_mib(pid)
        figures["large_upload"] = client.during(
            lambda: large_upload(address, asked.mebibytes, seen)
        )
        grown = round(peak_mib(pid) - before, 1)
        began = time.monotonic()
        figures["small_uploads"] = client.during(
            lambda: small_uploads(address, asked.uploads, seen)
        )
        figures["small_uploads_per_s"] = round(asked.uploads / (time.monotonic() - began), 1)
        faults += client.faults
        figures["service_peak_rss_mib"] = round(peak_mib(pid), 1)
        figures["grown_by_large_upload_mib"] = grown
        if grown > MOST_GROWTH_MIB:
            faults.append(f"a large upload took {grown} MiB of memory")
        faults += [f"{n} × {what}" for what, n in seen.items() if what.startswith("5")]
    figures["answers"] = dict(seen)
    print(json.dumps(figures))
    for fault in faults:
        print("FAULT", fault)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())

"""The work list over 100,000 analyses, and the start on such a store beside an empty one.

    python tests/bench/bench_work_list.py [--count 100000] [--starts 5]

A real `sonodose serve` in a process of its own, asked as the viewer asks, one client. Start to
ready is the median of several, in turn on either store. Prints one line of JSON for each search
(milliseconds) and one for the starts (seconds).
"""

from __future__ import annotations

import argparse
import datetime as dt
import http.client
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import insert

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from app.store import worklist  # noqa: E402 -- after the path
from app.store.database import Store  # noqa: E402 -- after the path
from app.store.rows import AnalysisRow, JobRow, RevisionRow, SourceRow  # noqa: E402 -- after the path
from tests.api.test_cli import serving  # noqa: E402 -- after the path
from tests.bench.bench_dicomweb import seed  # noqa: E402 -- after the path
from tests.bench.bench_service import wait_until_ready  # noqa: E402 -- after the path

MUSCLES = ("biceps_brachii", "flexor_carpi_radialis", "medial_gastrocnemius", "tibialis_anterior")
STATES = ("draft",) * 12 + ("confirmed",) * 6 + ("failed", "abstained")
REQUEST = {"muscle": "biceps_brachii", "side": "left"}
ASKED = 40
SEARCHES: tuple[dict[str, Any], ...] = (
    {},
    {"limit": 200},
    {"state": "confirmed"},
    {"state": "failed"},
    {"state": "needs_target"},
    {"muscle": "tibialis_anterior"},
    {"muscle": "masseter"},
    {"patient_id": "P-123"},
    {"search": "family77 left"},
    {"search": "given42 tibialis"},
    {"search": "nobody"},
    {"search": "nobody", "state": "failed"},
)


def analyses(count: int) -> Iterator[tuple[AnalysisRow, str]]:
    """Analyses, each with the SHA-256 of its file, the oldest first."""
    began = dt.datetime.now(dt.UTC) - dt.timedelta(days=1000)
    for number in range(count):
        at = began + dt.timedelta(minutes=14 * number)
        row = AnalysisRow(
            id=f"{int(at.timestamp() * 1000) << 80 | 7 << 76 | 1 << 63 | number:032x}",
            created_at=at,
            updated_at=at,
            created_by="bench",
            state=STATES[number % len(STATES)],
            revision=1,
            version=1,
            muscle=MUSCLES[number % len(MUSCLES)],
            side=("left", "right")[number % 2],
            product="XEOMIN",
        )
        name = f"Family{number % 5000}^Given{number % 97}"
        worklist.enter(row, asked_id=f"P-{number % 40_000}", asked_name=name)
        yield row, f"{number * 4:064x}"


def fill(store: Store, count: int) -> None:
    """So many studies with an ended analysis each."""
    seed(store, count)
    rows = analyses(count)
    failed = {"code": "unreadable_file", "message": "Cut off.", "remedy": "Send it again."}
    columns = AnalysisRow.__table__.columns.keys()
    while batch := list(islice(rows, 5000)):
        made = [
            {"analysis_id": row.id, "revision": 1, "created_at": row.created_at} for row, _ in batch
        ]
        with store.write() as session:
            session.execute(
                insert(AnalysisRow),
                [{name: getattr(row, name) for name in columns} for row, _ in batch],
            )
            session.execute(
                insert(RevisionRow),
                [
                    {
                        **each,
                        "created_by": "bench",
                        "request": json.dumps(REQUEST),
                        "state": row.state,
                        "problem": failed if row.state == "failed" else None,
                    }
                    for each, (row, _) in zip(made, batch, strict=True)
                ],
            )
            session.execute(
                insert(JobRow),
                [{**each, "state": "done", "attempts": 1, "cancel": False} for each in made],
            )
            session.execute(
                insert(SourceRow),
                [
                    {"analysis_id": row.id, "position": 0, "sha256": digest, "name": "f.dcm"}
                    for row, digest in batch
                ],
            )


def milliseconds(address: str, asked: dict[str, Any]) -> tuple[list[float], int]:
    """(the times of one search, sorted; how many lines it found)."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    times, found = [], 0
    for _ in range(ASKED):
        began = time.perf_counter()
        connection.request("GET", f"/api/v1/analyses?{urlencode(asked)}")
        answer = connection.getresponse()
        body = answer.read()
        times.append((time.perf_counter() - began) * 1000)
        assert answer.status == 200, body[:300]
        found = len(json.loads(body)["analyses"])
    connection.close()
    return sorted(times), found


def start_s(data: Path) -> float:
    """Seconds from the command to `/readyz` saying yes."""
    began = time.perf_counter()
    with serving(data) as (_, address):
        wait_until_ready(address)
        return time.perf_counter() - began


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--starts", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as full, tempfile.TemporaryDirectory() as empty:
        store = Store(f"sqlite:///{full}/sonodose.sqlite")
        store.migrate()
        fill(store, asked.count)
        store.close()
        with serving(Path(full)) as (_, address):
            wait_until_ready(address)
            for search in SEARCHES:
                times, found = milliseconds(address, search)
                figures = {"bench": "work_list", "studies": asked.count, "search": search}
                figures |= {"found": found, "p50_ms": round(times[len(times) // 2], 1)}
                figures |= {"p95_ms": round(times[int(0.95 * (len(times) - 1))], 1)}
                print(json.dumps({**figures, "max_ms": round(times[-1], 1)}), flush=True)
        starts: dict[str, list[float]] = {full: [], empty: []}
        for _ in range(asked.starts):
            for data, seconds in starts.items():
                seconds.append(start_s(Path(data)))
        on_full, on_empty = (statistics.median(seconds) for seconds in starts.values())
        figures = {"bench": "start", "studies": asked.count, "ready_s": round(on_full, 2)}
        figures |= {"ready_empty_s": round(on_empty, 2)}
        print(json.dumps({**figures, "longer_ms": round((on_full - on_empty) * 1000)}))


if __name__ == "__main__":
    main()

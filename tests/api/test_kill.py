"""kill -9 at random moments under load: what was acknowledged is there, every job ends once."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from app import audit, upkeep
from app.blobs import Blobs
from app.rows import AnalysisRow, InstanceRow, JobRow, MaskRow
from app.store import Store
from tests.api.test_cli import serving
from tests.app import studies

KILLS = 50 if os.environ.get("SONODOSE_SLOW") else 2
ENDED = ("draft", "abstained", "failed")


def multipart(file: bytes) -> tuple[bytes, dict[str, str]]:
    head = b'--b\r\nContent-Disposition: form-data; name="request"\r\n\r\n'
    part = b'\r\n--b\r\nContent-Disposition: form-data; name="files"; filename="f.dcm"\r\n\r\n'
    body = head + json.dumps(studies.REQUEST).encode() + part + file + b"\r\n--b--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=b"}


def send(address: str, acknowledged: list[str], stop: threading.Event) -> None:
    """Posts studies until told to stop, and remembers each that was acknowledged."""
    while not stop.is_set():
        body, headers = multipart(
            studies.dicom_still(random.randrange(1 << 30), rows=64, columns=64)
        )
        request = urllib.request.Request(  # noqa: S310 -- our own loopback address
            f"{address}/api/v1/analyses", data=body, headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 -- as above
                acknowledged.append(json.loads(answer.read())["id"])
        except (HTTPException, OSError, ValueError):  # cut off in the middle
            return


def workers_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def kill_one(pid: int, rng: random.Random) -> None:
    """Kills a worker or, as often, the service itself."""
    workers = workers_of(pid)
    victim = rng.choice(workers) if workers and rng.random() < 0.5 else pid
    os.kill(victim, signal.SIGKILL)


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """After random kills of service and workers every acknowledged study ends, once, and whole."""
    rng = random.Random(7)
    acknowledged: list[str] = []
    for _ in range(KILLS):
        with serving(tmp_path, "--workers", "1") as (process, address):
            stop = threading.Event()
            clients = [
                threading.Thread(target=send, args=(address, acknowledged, stop)) for _ in range(2)
            ]
            for client in clients:
                client.start()
            before, end = len(acknowledged), time.monotonic() + 60
            while len(acknowledged) == before and time.monotonic() < end:
                time.sleep(0.02)
            time.sleep(rng.uniform(0.0, 2.0))
            kill_one(process.pid, rng)
            time.sleep(0.2)
            stop.set()
            for client in clients:
                client.join()
    assert acknowledged
    with serving(tmp_path, "--workers", "2"):
        states = wait_for_all(tmp_path, acknowledged)
    assert set(states.values()) <= set(ENDED)
    check_store(tmp_path, acknowledged)


def wait_for_all(data: Path, acknowledged: list[str]) -> dict[str, Any]:
    """The states of all acknowledged analyses once they have ended."""
    store = Store(f"sqlite:///{data / 'sonodose.sqlite'}")
    end = time.monotonic() + 240
    while True:
        with store.read() as session:
            rows = session.execute(select(AnalysisRow.id, AnalysisRow.state)).all()
        states = {row.id: row.state for row in rows}
        assert set(acknowledged) <= set(states)
        if all(state in ENDED for state in states.values()):
            store.close()
            return states
        assert time.monotonic() < end, states
        time.sleep(0.2)


def check_store(data: Path, acknowledged: list[str]) -> None:
    """One ended job an analysis, every file there, no orphan after collection, an intact audit."""
    store = Store(f"sqlite:///{data / 'sonodose.sqlite'}")
    blobs = Blobs(data / "blobs")
    with store.read() as session:
        jobs = session.execute(
            select(JobRow.analysis_id, func.count()).group_by(JobRow.analysis_id)
        ).all()
        open_jobs = session.scalar(
            select(func.count()).where(JobRow.state.in_(["queued", "running"]))
        )
        needed = {
            *session.scalars(select(InstanceRow.sha256)),
            *session.scalars(select(MaskRow.sha256)),
        }
        _, fault = audit.verify(session)
    assert {count for _, count in jobs} == {1}
    assert len(jobs) >= len(acknowledged)
    assert open_jobs == 0
    assert fault is None
    assert needed <= set(blobs.digests())
    upkeep.collect(store, blobs, grace_s=-1)
    assert set(blobs.digests()) == needed
    assert list(blobs.staging.iterdir()) == []
    store.close()

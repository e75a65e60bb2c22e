"""kill -9 at random moments under load: what was acknowledged is there, every job ends once."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

from sqlalchemy import select

from app import upkeep
from app.store import audit
from app.store.blobs import Blobs
from app.store.database import Store
from app.store.rows import (
    AnalysisRow,
    AuditRow,
    ConfirmationRow,
    InstanceRow,
    JobRow,
    MaskRow,
    ObjectRow,
)
from tests import cluster
from tests.app import studies

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("SONODOSE_KILLS", "50" if os.environ.get("SONODOSE_SLOW") else "3"))
"""Of both tests together: the first one has the larger half."""
CLINICIAN = {"name": "Dr. Ada Example", "role": "physician"}
ENDED = {"draft", "confirmed"}


def multipart(file: bytes, **more: Any) -> tuple[bytes, dict[str, str]]:
    head = b'--b\r\nContent-Disposition: form-data; name="request"\r\n\r\n'
    part = b'\r\n--b\r\nContent-Disposition: form-data; name="files"; filename="f.dcm"\r\n\r\n'
    body = head + json.dumps({**studies.REQUEST, **more}).encode() + part + file + b"\r\n--b--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=b"}


class Clients:
    """Two who post studies and confirm the plans; `address` is where the service is by now."""

    def __init__(self) -> None:
        self.address = ""
        self.studies: dict[str, str] = {}
        """The SHA-256 of the file of each analysis that was acknowledged."""
        self.confirmed: list[str] = []
        self.refused: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(2)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def until_acknowledged(self) -> None:
        """Returns once one more study was acknowledged."""
        before, end = len(self.studies), time.monotonic() + 60
        while len(self.studies) == before and time.monotonic() < end:
            time.sleep(0.02)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                self._one_study()
            except urllib.error.HTTPError as refused:
                self.refused.append(refused.read().decode())
            except (HTTPException, OSError, ValueError):  # cut off in the middle
                time.sleep(0.05)

    def _one_study(self) -> None:
        file = studies.dicom_still(random.randrange(1 << 30), rows=64, columns=64)
        body, headers = multipart(file, prior_treatments=[], safety={})
        made = self._post("", body, {**headers, "Prefer": "wait=10"})
        self.studies[made["id"]] = hashlib.sha256(file).hexdigest()
        if made["state"] != "draft":
            return
        said = json.dumps({"revision": made["revision"], "clinician": CLINICIAN}).encode()
        self._post(f"/{made['id']}/confirmation", said, {"Content-Type": "application/json"})
        self.confirmed.append(made["id"])

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 -- our own loopback address
            f"{self.address}/api/v1/analyses{path}", data=body, headers=headers
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 -- the same
            found: dict[str, Any] = json.loads(answer.read())
            return found


class Service:
    """The service in a process of its own, begun again after it was killed."""

    def __init__(self, data: Path, **settings: str) -> None:
        given = {"DATA_DIR": str(data), "PORT": "0", "JOB_ATTEMPTS": "10", **settings}
        self._environment = {f"SONODOSE_{name}": value for name, value in given.items()}
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> str:
        """The address of a new one."""
        self.end()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.api.stand_in"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **self._environment},
        )
        assert self._process.stdout is not None
        return self._process.stdout.readline().split()[-1]

    def end(self) -> None:
        """Kills it, if it lives."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            assert self._process.stdout is not None
            self._process.stdout.close()


@contextmanager
def running(data: Path, **settings: str) -> Iterator[Service]:
    service = Service(data, **settings)
    try:
        yield service
    finally:
        service.end()


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def storm(data: Path, service: Service, kills: int, victims: Callable[[], list[int]]) -> None:
    """Kills under load, half of them the service and half one of the others, then judges."""
    rng = random.Random(7)
    with Clients() as clients:
        clients.address = service.start()
        for _ in range(kills):
            clients.until_acknowledged()
            time.sleep(rng.uniform(0.0, 1.5))
            others = victims()
            if others and rng.random() < 0.5:
                os.kill(rng.choice(others), signal.SIGKILL)
            else:
                os.kill(service.pid, signal.SIGKILL)
                clients.address = service.start()
        clients.until_acknowledged()
    assert clients.confirmed
    assert clients.refused == []
    wait_until_ended(data, set(clients.studies))
    service.end()
    check_store(data, clients)


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """Whatever is killed, service or workers, every study and confirmation is there and whole."""
    with running(tmp_path, WORKERS="2") as service:
        storm(tmp_path, service, KILLS - KILLS // 2, lambda: children_of(service.pid))


def test_nothing_is_lost_with_a_worker_of_a_cluster(tmp_path: Path) -> None:
    """The same on two Dask workers, of which one or its child is killed, and one comes anew."""
    with ExitStack() as parts:
        scheduler = parts.enter_context(cluster.scheduler())
        workers = [parts.enter_context(cluster.worker(scheduler)) for _ in range(2)]

        def victims() -> list[int]:
            for place, worker in enumerate(workers):
                if worker.poll() is not None:
                    workers[place] = parts.enter_context(cluster.worker(scheduler))
            return [pid for worker in workers for pid in (worker.pid, *children_of(worker.pid))]

        service = parts.enter_context(
            running(tmp_path, WORKERS="4", EXECUTOR="dask", DASK_SCHEDULER=scheduler)
        )
        storm(tmp_path, service, KILLS // 2, victims)


def wait_until_ended(data: Path, acknowledged: set[str]) -> None:
    """Returns once every analysis has ended well: a kill delays a job and fails none."""
    store = Store(f"sqlite:///{data / 'sonodose.sqlite'}")
    end = time.monotonic() + 240
    while True:
        with store.read() as session:
            rows = session.execute(select(AnalysisRow.id, AnalysisRow.state)).all()
        states = {row.id: row.state for row in rows}
        assert acknowledged <= set(states)
        if set(states.values()) <= ENDED:
            store.close()
            return
        assert time.monotonic() < end, Counter(states.values())
        time.sleep(0.2)


def check_store(data: Path, clients: Clients) -> None:
    """One ended job an analysis, every file there, no orphan after collection, an intact audit."""
    store = Store(f"sqlite:///{data / 'sonodose.sqlite'}")
    blobs = Blobs(data / "blobs")
    with store.read() as session:
        jobs = Counter(session.scalars(select(JobRow.analysis_id)))
        states = set(session.scalars(select(JobRow.state)))
        ended = Counter(
            session.scalars(select(AuditRow.subject).where(AuditRow.action == "analysis.ended"))
        )
        instances = set(session.scalars(select(InstanceRow.sha256)))
        needed = {
            *instances,
            *session.scalars(select(MaskRow.sha256)),
            *session.scalars(select(ObjectRow.sha256)),
        }
        confirmed = set(session.scalars(select(ConfirmationRow.analysis_id)))
        _, fault = audit.verify(session)
    assert states == {"done"}
    assert set(jobs.values()) == {1}
    assert ended == jobs
    assert set(clients.confirmed) <= confirmed
    assert set(clients.studies.values()) <= instances
    assert fault is None
    assert needed <= set(blobs.digests())
    upkeep.collect(store, blobs, grace_s=-1)
    assert set(blobs.digests()) == needed
    assert list(blobs.staging.iterdir()) == []
    store.close()

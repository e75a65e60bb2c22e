"""STOW-RS beside Orthanc's in one run, and searches over 100,000 studies.

The same 50 ultrasound clips of about 9 MB go to both services in turn, in one request and in
several at once; medians of three rounds. Every file is kept durably by both.
"""

from __future__ import annotations

import argparse
import datetime as dt
import http.client
import io
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.uid import generate_uid
from sqlalchemy import insert

sys.path.insert(0, str(Path(__file__).parents[2]))

from app.store.database import Store
from app.store.rows import InstanceRow, Row, SeriesRow, StudyRow
from app.store.study_search import Level, search
from tests.app import studies
from tests.orthanc import BASIC, free_port, orthanc

KIND = 'multipart/related; type="application/dicom"; boundary=b'
ROWS, COLUMNS, FRAMES = 600, 800, 19
ROUNDS = 3


def clips(count: int, seed: int) -> list[bytes]:
    """Clips of a study, each of 9.1 MB and with names of its own."""
    study, series = generate_uid(), generate_uid()
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 255, (FRAMES, ROWS, COLUMNS), np.uint8)
    ds = dcmread(
        io.BytesIO(
            studies.dicom_still(
                rows=ROWS,
                columns=COLUMNS,
                SOPClassUID="1.2.840.10008.5.1.4.1.1.3.1",
                NumberOfFrames=FRAMES,
                PixelData=noise.tobytes(),
                StudyInstanceUID=study,
                SeriesInstanceUID=series,
            )
        )
    )
    found = []
    for number in range(count):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.InstanceNumber = number + 1
        file = io.BytesIO()
        ds.save_as(file)
        found.append(file.getvalue())
    return found


def stow(origin: str, objects: list[bytes], headers: dict[str, str]) -> None:
    """Sends the objects in one request, block by block."""
    heads = [b"--b\r\nContent-Type: application/dicom\r\n\r\n"] + [
        b"\r\n--b\r\nContent-Type: application/dicom\r\n\r\n"
    ] * (len(objects) - 1)
    end = b"\r\n--b--\r\n"
    size = sum(map(len, heads)) + sum(map(len, objects)) + len(end)

    def body() -> Iterator[bytes]:
        for head, data in zip(heads, objects, strict=True):
            yield head
            yield data
        yield end

    host = origin.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=600)
    connection.request(
        "POST",
        "/dicom-web/studies",
        body=body(),
        headers={"Content-Type": KIND, "Content-Length": str(size), **headers},
    )
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != 200:
        raise SystemExit(f"{origin}: {answer.status} {said[:500]!r}")


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """The origin of `sonodose serve` in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "api.cli", "serve", "--port", str(port)]
    given = {
        **os.environ,
        "SONODOSE_DATA_DIR": str(folder),
        "SONODOSE_MAX_BODY_BYTES": str(4 << 30),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    process = subprocess.Popen(command, env=given)  # noqa: S603 -- our own program
    try:
        while True:
            time.sleep(0.2)
            with suppress(OSError):
                ready = http.client.HTTPConnection(f"127.0.0.1:{port}")
                ready.request("GET", "/readyz")
                if ready.getresponse().status == 200:
                    break
            if process.poll() is not None:
                raise SystemExit("sonodose did not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def at_once(send: Callable[[list[bytes]], None], objects: list[bytes], senders: int) -> float:
    """Seconds until all objects are stored, sent by so many clients at once."""
    threads = [
        threading.Thread(target=send, args=(objects[start::senders],)) for start in range(senders)
    ]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def store_beside_orthanc(count: int) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        orthanc(Path(folder) / "pacs") as pacs,
        running(Path(folder) / "ours") as ours,
    ):
        theirs = f"http://127.0.0.1:{pacs.http_port}"
        for senders in (1, 4):
            taken: dict[str, list[float]] = {"sonodose": [], "Orthanc": []}
            for turn in range(ROUNDS):
                objects = clips(count, turn)
                size = sum(map(len, objects))
                for name, origin, headers in (
                    ("sonodose", ours, {}),
                    ("Orthanc", theirs, {"Authorization": BASIC}),
                ):

                    def send(
                        part: list[bytes],
                        origin: str = origin,
                        headers: dict[str, str] = headers,
                    ) -> None:
                        stow(origin, part, headers)

                    taken[name].append(at_once(send, objects, senders))
            us, they = (statistics.median(taken[name]) for name in taken)
            rates = ", ".join(
                f"{name} {median:.2f} s ({size / 1e6 / median:.0f} MB/s)"
                for name, median in (("sonodose", us), ("Orthanc", they))
            )
            print(
                f"STOW {count} × {size / count / 1e6:.1f} MB, {senders} at once: {rates}, "
                f"{they / us:.2f} times as fast as Orthanc"
            )


def seed(store: Store, count: int) -> None:
    """So many studies of one to three instances each."""
    rng, now = random.Random(7), dt.datetime.now(dt.UTC)
    for start in range(0, count, 5000):
        rows: dict[type[Row], list[dict[str, Any]]] = {StudyRow: [], SeriesRow: [], InstanceRow: []}
        for number in range(start, min(start + 5000, count)):
            study = f"1.2.3.{number}"
            modality = "SR" if number % 1000 == 0 else "US"
            name = f"Family{number % 5000}^Given{number % 97}"
            day = dt.date(2015, 1, 1) + dt.timedelta(days=rng.randrange(4000))
            rows[StudyRow].append(
                {
                    "study_instance_uid": study,
                    "patient_id": f"P-{number % 40_000}",
                    "patient_name": name,
                    "folded_name": name.lower(),
                    "study_date": day.strftime("%Y%m%d"),
                    "study_time": "101112",
                    "accession": f"A{number}",
                    "description": "Muscle ultrasound",
                    "modalities": f"\\{modality}\\",
                    "received_at": now,
                    "changed_at": now,
                }
            )
            rows[SeriesRow].append(
                {
                    "study_instance_uid": study,
                    "series_instance_uid": f"{study}.1",
                    "modality": modality,
                    "series_number": 1,
                }
            )
            for each in range(1 + number % 3):
                rows[InstanceRow].append(
                    {
                        "sha256": f"{number * 4 + each:064x}",
                        "size_bytes": 1,
                        "received_at": now,
                        "received_from": "bench",
                        "sop_instance_uid": f"{study}.1.{each}",
                        "series_instance_uid": f"{study}.1",
                        "study_instance_uid": study,
                        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.6.1",
                        "instance_number": each,
                        "facts": {"rows": 600, "columns": 800, "frame_count": 1},
                        "archived": True,
                    }
                )
        with store.write() as session:
            for table, values in rows.items():
                session.execute(insert(table), values)


SEARCHES: tuple[tuple[Level, dict[str, str]], ...] = (
    ("study", {}),
    ("study", {"PatientID": "P-123"}),
    ("study", {"PatientName": "family77*"}),
    ("study", {"PatientName": "*given42*"}),
    ("study", {"PatientName": "*nobody*"}),
    ("study", {"StudyDate": "20240101-20241231"}),
    ("study", {"AccessionNumber": "A777"}),
    ("study", {"ModalitiesInStudy": "US"}),
    ("study", {"ModalitiesInStudy": "SR"}),
    ("study", {"ModalitiesInStudy": "XA"}),
    ("study", {"StudyDescription": "*nothing*"}),
    ("series", {"StudyInstanceUID": "1.2.3.500"}),
    ("series", {"Modality": "SR"}),
    ("series", {}),
    ("instance", {"StudyInstanceUID": "1.2.3.500"}),
    ("instance", {"SOPInstanceUID": "1.2.3.500.1.0"}),
    ("instance", {"PatientID": "P-123"}),
    ("instance", {}),
)


def searches(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/bench.sqlite")
        store.migrate()
        seed(store, count)
        for level, keys in SEARCHES:
            taken = []
            for _ in range(5):
                began = time.perf_counter()
                with store.read() as session:
                    page = search(session, level, keys, limit=101)
                taken.append((time.perf_counter() - began) * 1000)
            print(
                f"QIDO over {count} studies: {level} {keys or 'all'}: {len(page.rows)} rows, "
                f"median {statistics.median(taken):.0f} ms, worst {max(taken):.0f} ms"
            )
        store.close()


if __name__ == "__main__":
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--instances", type=int, default=50)
    given.add_argument("--studies", type=int, default=100_000)
    asked = given.parse_args()
    if asked.studies:
        searches(asked.studies)
    if asked.instances:
        store_beside_orthanc(asked.instances)

"""Hostile input by the thousand: the readers in a worker process, and a running service.

Run: python -m tests.fuzz.fuzz [--count 20000] [--http 2000] [--seed 1] [--keep FOLDER]. Every
reader of foreign bytes meets every input in a process with the product's own limits; a share goes
to a real `sonodose serve`, beside a client that must always get its plan. Demanded is: an input is
read, or refused by one of our own errors; no status of 500 and up; every refusal a problem
document; the memory stays bounded. Printed are the figures, every input that broke a demand by
its number (`--only NUMBER` makes it again), and a last line with the sums; exit is 1 if there is
one. A run that was stopped is taken up again with `--first NUMBER`.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from app.errors import TookTooLong, WorkerDied
from app.intake.examine import Upload
from app.intake.unpack import unpack
from app.jobs.processes import WorkerPlace
from app.settings import Settings
from app.store.blobs import Blobs
from imaging.dicom.deidentify import Site, deidentify_file
from imaging.dicom.plain_syntax import decompress
from imaging.dicom.serve import (
    as_explicit,
    binary_value,
    metadata,
    names_in,
    picture,
    plain_frames,
    stored_frames,
)
from imaging.dicom.storage import facts_of_object, same_pixels
from imaging.errors import ImagingError
from imaging.limits import DecodeLimits
from imaging.read import peek, read_clip
from tests.app import studies
from tests.fuzz.mutations import Made, flip, make, truncate

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 180.0
"""Time for all readers on one input."""
JSON = "application/dicom+json"


@dataclass(slots=True)
class Figures:
    """What was seen."""

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    deaths: int = 0
    late: int = 0
    peak_rss_mib: dict[str, float] = field(default_factory=dict)
    slowest_s: float = 0.0
    slowest: str = ""
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def took(self, seconds: float, what: str) -> None:
        if seconds > self.slowest_s:
            self.slowest_s, self.slowest = round(seconds, 2), what

    def line(self, began: float) -> str:
        """How far it is."""
        return (
            f"{self.inputs} inputs in {time.monotonic() - began:.0f} s: {self.deaths} deaths, "
            f"{self.late} over time, {len(self.faults)} faults"
        )

    def document(self) -> dict[str, Any]:
        return {
            "inputs": self.inputs,
            "outcomes": dict(self.outcomes.most_common()),
            "worker_deaths": self.deaths,
            "over_time": self.late,
            "peak_rss_mib": self.peak_rss_mib,
            "slowest_s": self.slowest_s,
            "slowest": self.slowest,
            "seconds": round(self.seconds, 1),
            "faults": len(self.faults),
        }


def peak_mib(pid: int) -> float:
    """The most memory that a process ever held."""
    try:
        said = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    except OSError:
        return 0.0
    lines = [line for line in said.splitlines() if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) / 1024 if lines else 0.0


# ---- the readers, each in the worker


def read_by_all(path: Path, limits: DecodeLimits) -> tuple[list[str], list[str]]:
    """(how each reader ended, what broke the demand) for one file."""
    ended: list[str] = []
    faults: list[str] = []

    def tried(name: str, work: Callable[[], object]) -> bool:
        try:
            work()
        except ImagingError as refused:
            ended.append(f"{name}: {refused.code}")
            if not refused.message or not refused.remedy:
                faults.append(f"{name}: a refusal without words")
        except MemoryError:
            ended.append(f"{name}: out of memory")
        except RecursionError:
            ended.append(f"{name}: too deep")
        except BaseException as defect:  # the panic of a Rust library is no Exception
            ended.append(f"{name}: DEFECT")
            faults.append(f"{name}: {type(defect).__name__}: {str(defect)[:200]}")
        else:
            ended.append(f"{name}: read")
            return True
        return False

    if tried("header", lambda: peek(path, name="file", limits=limits)):
        tried("pixels", lambda: read_clip(path, name="file", limits=limits))
    with path.open("rb") as file:
        is_dicom = file.read(132)[128:] == b"DICM"
    if not is_dicom:
        return ended, faults
    tried("names", lambda: names_in(path))
    if tried("object", lambda: facts_of_object(path, "file", limits)):
        copy = path.with_name("copy")
        tried("metadata", lambda: metadata([(path, "http://x")]))
        tried("stored frame", lambda: stored_frames(path, [0]))
        tried("plain frame", lambda: plain_frames(path, [0]))
        tried("rendered", lambda: picture(path, 0, "JPEG", longest_px=128))
        tried("bulk data", lambda: binary_value(path, "7FE00010"))
        tried("explicit", lambda: as_explicit(path, copy))
        tried("decompressed", lambda: decompress(path, copy))
        tried("same", lambda: same_pixels(path, path))
        site = Site(key=b"k" * 32)
        tried(
            "de-identified",
            lambda: deidentify_file(path, copy, name="file", site=site, limits=limits),
        )
    return ended, faults


def fuzz_readers(numbers: range, *, seed: int, keep: Path | None = None) -> Figures:
    """The figures of these inputs, each before every reader."""
    figures = Figures()
    settings = Settings(data_dir=Path(tempfile.gettempdir()))
    limits = settings.decode_limits
    place = WorkerPlace(memory_bytes=settings.job_memory_bytes)
    began = time.monotonic()
    peak = 0.0
    with tempfile.TemporaryDirectory() as folder:
        blobs = Blobs(Path(folder) / "blobs")
        for number in numbers:
            made = make(seed, number)
            path = Path(folder) / "file"
            path.write_bytes(made.data)
            what = f"{number} ({made.seed}: {made.how})"
            figures.inputs += 1
            started = time.monotonic()
            if made.kind == "zip":
                faults = _unpacked(made, blobs, settings, figures)
            else:
                faults = _looked_at(place, path, limits, figures, what)
            if place.pid is not None:
                peak = max(peak, peak_mib(place.pid))
            figures.took(time.monotonic() - started, what)
            if faults:
                figures.faults += [f"{what}: {fault}" for fault in faults]
                print("BROKE", *(f"{what}: {fault}" for fault in faults), sep="\n ", flush=True)
                _keep(keep, number, made)
            if figures.inputs % 500 == 0:
                print(figures.line(began), file=sys.stderr, flush=True)
    place.close()
    figures.peak_rss_mib["worker"] = round(peak, 1)
    figures.seconds = time.monotonic() - began
    return figures


def _looked_at(
    place: WorkerPlace, path: Path, limits: DecodeLimits, figures: Figures, what: str
) -> list[str]:
    try:
        future: Future[tuple[list[str], list[str]]] = place.run(read_by_all, path, limits)
        ended, faults = place.result(future, within_s=WITHIN_S)
    except WorkerDied:
        # A crash within a codec: it costs this file alone, which the tests of the door show.
        figures.deaths += 1
        figures.outcomes["worker died"] += 1
        print("DIED over", what, flush=True)
        return []
    except TookTooLong:
        figures.late += 1
        figures.outcomes["over its time"] += 1
        return ["over its time"]
    figures.outcomes.update(ended)
    return faults


def _unpacked(made: Made, blobs: Blobs, settings: Settings, figures: Figures) -> list[str]:
    incoming = blobs.incoming()
    incoming.write(made.data)
    faults = []
    try:
        found = unpack(
            [Upload(name="study.zip", incoming=incoming)], blobs=blobs, settings=settings
        )
    except ImagingError as refused:
        figures.outcomes[f"zip: {refused.code}"] += 1
    except Exception as defect:
        figures.outcomes["zip: DEFECT"] += 1
        faults.append(f"zip: {type(defect).__name__}: {str(defect)[:200]}")
    else:
        figures.outcomes["zip: read"] += 1
        for upload in found:
            upload.incoming.discard()
    incoming.discard()
    left = list(blobs.staging.iterdir())
    if left:
        faults.append(f"zip: {len(left)} files stay behind")
    for path in left:
        path.unlink()
    return faults


def _keep(folder: Path | None, number: int, made: Made) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.{made.kind}").write_bytes(made.data)


# ---- a running service


@contextmanager
def served(data: Path, **settings: object) -> Iterator[tuple[str, int]]:
    """(address, process id) of a real service over a fresh folder."""
    given = {
        "data_dir": data,
        "port": 0,
        "workers": 2,
        # All clients here have one address.
        "rate_per_s": 1e6,
        "rate_burst": 1_000_000,
        **settings,
    }
    environment = {f"SONODOSE_{name.upper()}": str(value) for name, value in given.items()}
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; from api.cli import main; sys.exit(main(['serve']))"],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = line.split()[-1]
        with httpx.Client(base_url=address, timeout=120) as client:
            while client.get("/readyz").status_code != 200:
                time.sleep(0.2)
        yield address, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()


def family(pid: int) -> list[int]:
    """A process and those below it."""
    found = [pid]
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(place.read_text("utf-8", "replace").rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent == pid:
            found += family(int(place.parent.name))
    return found


def form(file: bytes, asked: str, name: str = "file") -> bytes:
    """A multipart/form-data body of one study, its boundary `b`."""
    head = f'--b\r\nContent-Disposition: form-data; name="request"\r\n\r\n{asked}\r\n--b\r\n'
    head += f'Content-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + file + b"\r\n--b--\r\n"


def related(file: bytes) -> bytes:
    """A multipart/related body of one object, its boundary `b`."""
    return b"--b\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n--b--\r\n"


FORM = "multipart/form-data; boundary=b"
RELATED = 'multipart/related; type="application/dicom"; boundary=b'


@dataclass(slots=True)
class Neighbour:
    """A client with a good study again and again, who must always get its plan."""

    address: str
    waited_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with httpx.Client(base_url=self.address, timeout=180) as client:
            for number in itertools.count():
                good = studies.dicom_still(number)
                body = form(good, json.dumps(studies.REQUEST))
                began = time.monotonic()
                headers = {"Content-Type": FORM, "Prefer": "wait=60"}
                try:
                    answer = client.post("/api/v1/analyses", content=body, headers=headers)
                except httpx.HTTPError as lost:
                    self.faults.append(f"the neighbour's study {number}: {lost!r}")
                else:
                    if answer.status_code != 200 or answer.json()["state"] != "draft":
                        self.faults.append(f"the neighbour's study {number}: {answer.text[:300]}")
                self.waited_s.append(time.monotonic() - began)
                if self.stop.wait(0.5):
                    return


class Attack:
    """The doors of a service, each with hostile input; what it answered is checked."""

    def __init__(self, address: str, figures: Figures) -> None:
        self._client = httpx.Client(base_url=address, timeout=180)
        self._figures = figures

    def close(self) -> None:
        self._client.close()

    def send(self, made: Made, rng: random.Random) -> list[str]:
        """What broke the demands."""
        if made.kind != "dicom" or rng.random() < 0.5:
            return self._analysis(made, rng)
        return self._store(made, rng)

    def _analysis(self, made: Made, rng: random.Random) -> list[str]:
        asked = dict(studies.REQUEST)
        if rng.random() < 0.3:
            del asked["outlines"]
        name = rng.choice(("a.dcm", "../../x", "a%00b.png", "x" * 5000, "\u202e\u0000"))
        body = form(made.data, json.dumps(asked), name=name)
        headers = {"Content-Type": FORM, "Prefer": "wait=60"}
        body, headers = _bent(body, headers, rng)
        answer = self._client.post("/api/v1/analyses", content=body, headers=headers)
        faults = self._judged("analysis", answer)
        if answer.status_code == 200:
            place = answer.json()["id"]
            for path in ("frames/0.png", "overlay.svg", "seg.dcm", "sr.dcm", "plan.pdf"):
                shown = self._client.get(f"/api/v1/analyses/{place}/{path}")
                faults += self._judged(path, shown)
        return faults

    def _store(self, made: Made, rng: random.Random) -> list[str]:
        body, headers = _bent(related(made.data), {"Content-Type": RELATED}, rng)
        answer = self._client.post("/dicom-web/studies", content=body, headers=headers)
        stored = answer.headers.get("content-type", "").startswith(JSON)
        faults = self._judged("stow", answer, documents=(JSON,))
        if stored and answer.status_code in (200, 202):
            for item in answer.json().get("00081199", {}).get("Value", []):
                place = item["00081190"]["Value"][0]
                for path in ("", "/metadata", "/frames/1", "/rendered", "/thumbnail"):
                    shown = self._client.get(place + path)
                    faults += self._judged(f"wado{path}", shown)
        return faults

    def _judged(
        self, door: str, answer: httpx.Response, documents: tuple[str, ...] = ()
    ) -> list[str]:
        status, kind = answer.status_code, answer.headers.get("content-type", "")
        if status < 400:
            self._figures.outcomes[f"{door}: {status}"] += 1
            return []
        if kind in documents:
            self._figures.outcomes[f"{door}: {status} document"] += 1
            return []
        if kind != "application/problem+json":
            self._figures.outcomes[f"{door}: {status} NO PROBLEM"] += 1
            return [f"{door}: {status} is {kind!r}: {answer.text[:200]}"]
        problem = answer.json()
        self._figures.outcomes[f"{door}: {status} {problem['code']}"] += 1
        if problem["code"] == "worker_died":
            self._figures.deaths += 1
        if problem["code"] == "took_too_long":
            self._figures.late += 1
        faults = []
        if status >= 500:
            faults.append(f"{door}: {status} {answer.text[:300]}")
        missing = {"type", "title", "detail", "remedy", "instance"} - problem.keys()
        if missing or problem["status"] != status:
            faults.append(f"{door}: no whole problem document: {answer.text[:300]}")
        return faults


def _bent(body: bytes, headers: dict[str, str], rng: random.Random) -> tuple[bytes, dict[str, str]]:
    """The body as it is, or damaged as a body, or packed."""
    choice = rng.random()
    if choice < 0.1:
        return rng.choice((flip, truncate))(body, rng), headers
    if choice < 0.13:
        return gzip.compress(body + b"\0" * (1 << 20)), {**headers, "Content-Encoding": "gzip"}
    return body, headers


def fuzz_service(numbers: range, *, seed: int, keep: Path | None = None) -> Figures:
    """The figures of these inputs, each sent to a running service."""
    figures = Figures()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as (address, pid):
        neighbour = Neighbour(address)
        thread = threading.Thread(target=neighbour.run)
        thread.start()
        attack = Attack(address, figures)
        for number in numbers:
            made = make(seed, number)
            started = time.monotonic()
            try:
                faults = attack.send(made, random.Random(number))
            except httpx.HTTPError as lost:
                faults = [f"no answer: {lost!r}"]
            what = f"{number} ({made.seed}: {made.how})"
            figures.inputs += 1
            figures.took(time.monotonic() - started, what)
            if number % 20 == 0:
                for place in family(pid):
                    name = "service" if place == pid else "its largest process"
                    most = max(figures.peak_rss_mib.get(name, 0.0), peak_mib(place))
                    figures.peak_rss_mib[name] = round(most, 1)
            if faults:
                figures.faults += [f"{what}: {fault}" for fault in faults]
                print("BROKE", *(f"{what}: {fault}" for fault in faults), sep="\n ", flush=True)
                _keep(keep, number, made)
        attack.close()
        neighbour.stop.set()
        thread.join()
        figures.faults += neighbour.faults
        figures.outcomes["the neighbour's studies"] = len(neighbour.waited_s)
        figures.outcomes["the neighbour's longest wait, ms"] = int(max(neighbour.waited_s) * 1000)
        if httpx.get(f"{address}/healthz").status_code != 200:
            figures.faults.append("the service is not alive at the end")
    figures.seconds = time.monotonic() - began
    return figures


def total(runs: list[Figures]) -> str:
    """The sums of all runs in one line."""
    inputs, seconds = sum(run.inputs for run in runs), sum(run.seconds for run in runs)
    failed = sum(
        count
        for run in runs
        for outcome, count in run.outcomes.items()
        if re.search(r": 5\d\d ", outcome)
    )
    return (
        f"TOTAL {inputs} inputs, {failed} answers of 5xx, {sum(run.deaths for run in runs)} worker "
        f"deaths, {sum(run.late for run in runs)} over their time, "
        f"{sum(len(run.faults) for run in runs)} faults; "
        f"peak {max(mib for run in runs for mib in run.peak_rss_mib.values()):.0f} MiB; "
        f"{seconds:.0f} s, {100 * seconds / inputs:.1f} s for 100 inputs"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=20_000, help="inputs, all together")
    parser.add_argument("--http", type=int, default=2000, help="how many of them go to a service")
    parser.add_argument("--first", type=int, default=0, help="the first input's number")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for the inputs that broke a demand")
    parser.add_argument("--only", type=int, help="one input alone, by its number")
    asked = parser.parse_args()
    if asked.only is not None:
        numbers = range(asked.only, asked.only + 1)
        runs = [fuzz_readers(numbers, seed=asked.seed, keep=asked.keep)]
    else:
        end = asked.first + asked.count
        runs = []
        if asked.count > asked.http:
            read = range(asked.first, end - asked.http)
            runs.append(fuzz_readers(read, seed=asked.seed, keep=asked.keep))
        if asked.http:
            sent = range(end - asked.http, end)
            runs.append(fuzz_service(sent, seed=asked.seed, keep=asked.keep))
    for figures in runs:
        print(json.dumps(figures.document(), indent=1))
        for fault in figures.faults:
            print("FAULT", fault)
    print(total(runs))
    return int(any(figures.faults for figures in runs))


if __name__ == "__main__":
    sys.exit(main())

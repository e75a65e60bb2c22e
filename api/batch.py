"""Thousands of images to one table of measurements: many at once, resumable, an error a row.

Each finished image is a line of `done.jsonl` at once; a run that goes on passes over those. The
table is made of them at the end, and of as many as there are when the run is interrupted.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import Any, TextIO

import httpx
from pydantic import ValidationError

from api import problems
from app.analysis import SourceFile
from app.clinic.errors import ClinicError
from app.errors import AppError, RequestConflict
from app.jobs.processes import Place
from app.jobs.worker import AnalysisTask, run_analysis, warm_up, with_stages
from app.planning.request import AnalysisRequest
from app.services import place_maker
from app.settings import Settings
from imaging.errors import ImagingError

DONE = "done.jsonl"
COLUMNS = (
    "image",
    "state",
    "frame",
    "outlined_by",
    "usable",
    "confidence",
    "view",
    "area_mm2",
    "thickness_mm",
    "width_mm",
    "depth_mm",
    "area_px",
    "calibration",
    "dose_units",
    "model",
    "tables",
    "error",
)


def batch(
    *, folder: Path | None, qido: str | None, request_json: str, out: Path, table: str
) -> int:
    """The exit code: 0 if every image has its row, 1 if some have an error instead.

    Raises RequestConflict for a run of another request in `out`.
    """
    if (folder is None) == (qido is None):
        raise RequestConflict("Name a folder, or a search with --qido.", remedy="One of the two.")
    settings = Settings()
    try:
        request = AnalysisRequest.model_validate_json(request_json)
    except ValidationError as error:
        refused = problems.of_validation(error.errors())
        print(json.dumps(problems.of_error(refused), indent=2), file=sys.stderr)
        return 1
    asked = request.model_dump_json(exclude_unset=True)
    out.mkdir(parents=True, exist_ok=True)
    _same_run(out / "request.json", asked)
    before = {each["image"] for each in _lines(out / DONE) if not each.get("error")}
    found = dict(_on_disk(folder) if folder is not None else _on_pacs(qido or ""))
    waiting = {image: where for image, where in found.items() if image not in before}
    with (out / DONE).open("a", encoding="utf-8") as done:
        try:
            _work(waiting, asked, settings, done, before=len(found) - len(waiting))
        finally:
            failed = _write_table(out, table)
    print(f"{len(found)} images, {failed} without a measurement: {out}/measurements.{table}")
    return 1 if failed else 0


def _same_run(path: Path, asked: str) -> None:
    if path.exists() and path.read_text("utf-8") != asked:
        raise RequestConflict(
            f"{path.parent} has the measurements of another request.",
            remedy="Give a new folder, or the request that is in its request.json.",
        )
    path.write_text(asked, encoding="utf-8")


def _work(
    waiting: dict[str, Any], asked: str, settings: Settings, done: TextIO, *, before: int
) -> None:
    make = place_maker(settings, warm_up)
    places: queue.SimpleQueue[Place] = queue.SimpleQueue()
    made = [make() for _ in range(settings.workers)]
    for place in made:
        places.put(place)
    writing, count = threading.Lock(), before
    began = time.monotonic()

    def one(item: tuple[str, Any]) -> None:
        nonlocal count
        place = places.get()
        try:
            rows = _measure(item, asked, settings, place)
        finally:
            places.put(place)
        with writing:
            for row in rows:
                done.write(json.dumps(row) + "\n")
            done.flush()
            count += 1
            _show(count, before + len(waiting), count - before, time.monotonic() - began)

    try:
        with ThreadPoolExecutor(settings.workers) as threads:
            for _ in threads.map(one, waiting.items()):
                pass
    finally:
        for place in made:
            place.close()


def _measure(
    item: tuple[str, Any], asked: str, settings: Settings, place: Place
) -> list[dict[str, Any]]:
    """The rows of one image, one a frame; its error in one row."""
    image, where = item
    override = settings.table_override
    try:
        with where() as path:
            task = AnalysisTask(
                sources=(SourceFile(path=str(path), name=path.name),),
                request_json=asked,
                today=dt.date.today().isoformat(),
                limits=settings.decode_limits,
                table_override=None if override is None else str(override),
            )
            place.start()
            work = place.run(with_stages, run_analysis, task)
            said = place.result(work, within_s=settings.job_time_limit_s)
    except (ImagingError, ClinicError, AppError) as refused:
        return [{"image": image, "error": f"{refused.code}: {refused.message}"}]
    except (MemoryError, RecursionError, httpx.HTTPError, OSError) as failed:
        return [{"image": image, "error": f"{type(failed).__name__}: {failed}"}]
    return list(_rows(image, said.state, said.plan))


def _rows(image: str, state: str, plan: Any) -> Iterator[dict[str, Any]]:
    dose = plan.get("dose") or {}
    for frame in plan["frames"] or [None]:
        if frame is None:
            yield {"image": image, "state": state}
            continue
        section, said = frame["section"] or {}, frame["segmentation"] or {}
        used = frame["calibration"]["used"]
        yield {
            "image": image,
            "state": state,
            "frame": frame["frame"],
            "outlined_by": frame["outlined_by"],
            "usable": frame["quality"]["usable"],
            "confidence": said.get("confidence"),
            "view": plan["target"]["view"],
            **{
                name: section.get(name)
                for name in ("area_mm2", "thickness_mm", "width_mm", "depth_mm", "area_px")
            },
            "calibration": None if used is None else used["provenance"],
            "dose_units": dose.get("units"),
            "model": plan["provenance"]["model"],
            "tables": plan["provenance"]["tables"]["version"],
        }


def _write_table(out: Path, kind: str) -> int:
    """How many images have no measurement; of one that was tried again the last word counts."""
    last: dict[str, list[dict[str, Any]]] = {}
    for row in _lines(out / DONE):
        rows = last.setdefault(row["image"], [])
        if rows and (rows[0].get("error") or row.get("error")):
            rows.clear()
        rows.append(row)
    rows = [{name: row.get(name) for name in COLUMNS} for each in last.values() for row in each]
    if kind == "parquet":
        _write_parquet(rows, out / "measurements.parquet")
    else:
        with (out / "measurements.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows({name: _inert(value) for name, value in row.items()} for row in rows)
    return sum(bool(row["error"]) for row in rows)


def _inert(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula, marked as text; numbers as they are."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value


def _write_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    try:
        import pyarrow  # type: ignore[import-untyped]  # no stubs
        from pyarrow import parquet
    except ImportError as missing:
        raise RequestConflict(
            "A Parquet table needs pyarrow.",
            remedy="Install it with: pip install 'sonodose[parquet]', or take --table csv.",
        ) from missing
    texts = {"image", "state", "outlined_by", "view", "calibration", "model", "tables", "error"}
    kinds = {"frame": pyarrow.int64(), "usable": pyarrow.bool_()}
    schema = pyarrow.schema(
        [
            (name, pyarrow.string() if name in texts else kinds.get(name, pyarrow.float64()))
            for name in COLUMNS
        ]
    )
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), path)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The finished rows; a line that was cut off by a kill is none."""
    if not path.exists():
        return
    for line in path.read_text("utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _on_disk(folder: Path) -> Iterable[tuple[str, Any]]:
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        yield str(path.relative_to(folder)), _there(path)


def _there(path: Path) -> Any:
    @contextmanager
    def where() -> Iterator[Path]:
        yield path

    return where


def _on_pacs(search: str) -> Iterable[tuple[str, Any]]:
    """The ultrasound images of the studies that a QIDO-RS search finds (PS3.18 10.6)."""
    base = search.partition("?")[0].rpartition("/studies")[0]
    with httpx.Client(timeout=60, headers={"Accept": "application/dicom+json"}) as client:
        for study in _json(client, search):
            url = f"{base}/studies/{_uid(study, '0020000D')}"
            for series in _json(client, f"{url}/series?Modality=US"):
                part = f"{url}/series/{_uid(series, '0020000E')}"
                for instance in _json(client, f"{part}/instances"):
                    uid = _uid(instance, "00080018")
                    yield uid, _fetched(f"{part}/instances/{uid}", uid)


def _json(client: httpx.Client, url: str) -> list[dict[str, Any]]:
    answer = client.get(url)
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json() if answer.content else []
    return found


def _uid(item: dict[str, Any], tag: str) -> str:
    return str(item[tag]["Value"][0])


def _fetched(url: str, uid: str) -> Any:
    @contextmanager
    def where() -> Iterator[Path]:
        kind = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        answer = httpx.get(url, headers={"Accept": kind}, timeout=300)
        answer.raise_for_status()
        head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
        part = next(iter(BytesParser(policy=HTTP).parsebytes(head + answer.content).iter_parts()))
        with tempfile.TemporaryDirectory(prefix="sonodose-") as folder:
            path = Path(folder) / f"{uid}.dcm"
            data = part.get_payload(decode=True)
            assert isinstance(data, bytes)  # noqa: S101 -- a part of a multipart answer
            path.write_bytes(data)
            yield path

    return where


def _show(count: int, total: int, now_done: int, seconds: float) -> None:
    """A bar on a terminal, a line now and then in a log."""
    left = dt.timedelta(seconds=round(seconds / now_done * (total - count)))
    if sys.stderr.isatty():
        full = 40 * count // max(total, 1)
        bar = "#" * full + "." * (40 - full)
        end = "\n" if count == total else ""
        print(f"\r[{bar}] {count}/{total}, {left} left ", end=end, file=sys.stderr, flush=True)
    elif count == total or count % 100 == 0:
        print(f"{count} of {total} images, {left} left", file=sys.stderr)

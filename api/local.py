"""Local files without a service and without a store: their plan, their frames."""

from __future__ import annotations

import datetime as dt
import json
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from api import problems
from app import reporting
from app.analysis import SourceFile
from app.clinic.errors import ClinicError
from app.errors import AppError, NoObject
from app.jobs import decode_limits
from app.reporting import StoredAnalysis
from app.request import AnalysisRequest
from app.settings import Settings
from app.worker import AnalysisTask, run_analysis
from imaging.arrays import GreyImage
from imaging.errors import ImagingError
from imaging.read import peek, read_clip


def plan_files(inputs: Sequence[Path], request_json: str, out: Path | None) -> int:
    """The exit code: 0 with the plan printed or written, 1 with the problem on stderr."""
    settings = Settings()
    try:
        request = AnalysisRequest.model_validate_json(request_json)
    except ValidationError as error:
        return _refuse(problems.of_validation(error.errors()))
    sources = tuple(SourceFile(path=str(path), name=path.name) for path in inputs)
    created = dt.datetime.now(dt.UTC)
    override = settings.table_override
    task = AnalysisTask(
        sources=sources,
        request_json=request.model_dump_json(exclude_unset=True),
        today=created.astimezone().date().isoformat(),
        limits=decode_limits(settings),
        table_override=None if override is None else str(override),
    )
    try:
        analysis = run_analysis(task)
    except (ImagingError, ClinicError, AppError) as error:
        return _refuse(error)
    plan = json.dumps({"state": analysis.state, **analysis.plan}, indent=2, ensure_ascii=False)
    if out is None:
        print(plan)
        return 0
    out.mkdir(parents=True, exist_ok=True)
    (out / "plan.json").write_text(plan + "\n", "utf-8")
    stored = StoredAnalysis(
        analysis_id=uuid.uuid4().hex,
        revision=1,
        created_at=created,
        state=analysis.state,
        plan=dict(analysis.plan),
        masks=analysis.masks,
        sources=sources,
        verifier=None,
    )
    for name, make in (
        ("overlay.png", reporting.overlay_png),
        ("seg.dcm", reporting.seg),
        ("sr.dcm", reporting.sr),
    ):
        try:
            (out / name).write_bytes(make(stored))
        except NoObject as none:
            print(f"sonodose: no {name}: {none.message}", file=sys.stderr)
    return 0


def frames_of(path: Path) -> Iterator[GreyImage]:
    """The grey frames of a DICOM file, clip or picture, one at a time. Raises ImagingError."""
    limits = decode_limits(Settings())
    for number in range(peek(path, name=path.name, limits=limits).frame_count):
        yield read_clip(path, name=path.name, frames=[number], limits=limits).frames[0].pixels


def _refuse(error: ImagingError | ClinicError | AppError | problems.EdgeProblem) -> int:
    print(json.dumps(problems.of_error(error), indent=2, ensure_ascii=False), file=sys.stderr)
    return 1

"""Local files without a service and without a store: their plan, their frames, their rule."""

from __future__ import annotations

import datetime as dt
import json
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

from api import problems
from app.analysis import SourceFile
from app.clinic.errors import ClinicError
from app.clinic.tables import load_tables
from app.errors import AppError, NoObject
from app.intake.routing import Image, Rules, checks, load_rules, match
from app.jobs.worker import AnalysisTask, run_analysis
from app.planning.request import AnalysisRequest
from app.results import pictures, reporting
from app.results.stored_analysis import StoredAnalysis
from app.settings import Settings
from imaging.arrays import GreyImage
from imaging.dicom.read import looks_like_dicom
from imaging.dicom.storage import facts_of_object
from imaging.errors import ImagingError
from imaging.limits import DecodeLimits
from imaging.read import peek, read_clip


def plan_files(inputs: Sequence[Path], request_json: str, out: Path | None) -> int:
    """The exit code: 0 with the plan printed or written, 1 with the problem on stderr."""
    settings = Settings()
    try:
        request = AnalysisRequest.model_validate_json(request_json)
    except ValidationError as error:
        return _refuse(problems.of_validation(error.errors()))
    created = dt.datetime.now(dt.UTC)
    override = settings.table_override
    limits = settings.decode_limits
    try:
        sources = tuple(_source(path, limits) for path in inputs)
        task = AnalysisTask(
            sources=sources,
            request_json=request.model_dump_json(exclude_unset=True),
            today=created.astimezone().date().isoformat(),
            limits=limits,
            table_override=None if override is None else str(override),
        )
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
        ("overlay.png", pictures.overlay_png),
        ("seg.dcm", reporting.seg),
        ("sr.dcm", reporting.sr),
    ):
        try:
            (out / name).write_bytes(make(stored))
        except NoObject as none:
            print(f"sonodose: no {name}: {none.message}", file=sys.stderr)
    return 0


def _source(path: Path, limits: DecodeLimits) -> SourceFile:
    identity = peek(path, name=path.name, limits=limits).identity
    return SourceFile(
        path=str(path),
        name=path.name,
        sop_instance_uid=None if identity is None else identity.sop_instance_uid,
    )


def frames_of(path: Path) -> Iterator[GreyImage]:
    """The grey frames of a DICOM file, clip or picture, one at a time. Raises ImagingError."""
    limits = Settings().decode_limits
    for number in range(peek(path, name=path.name, limits=limits).frame_count):
        yield read_clip(path, name=path.name, frames=[number], limits=limits).frames[0].pixels


def _refuse(error: ImagingError | ClinicError | AppError | problems.EdgeProblem) -> int:
    print(json.dumps(problems.of_error(error), indent=2, ensure_ascii=False), file=sys.stderr)
    return 1


def explain_rules(file: Path, inputs: Sequence[Path], calling_ae: str | None) -> int:
    """The exit code of a dry run: the rules checked, and for each image which decides, and why."""
    settings = Settings()
    rules = load_rules(
        file, load_tables(settings.table_override), jurisdiction=settings.jurisdiction
    )
    print(f"{file.name}: {len(rules.rules)} rules, all of them usable.")
    paths = [p for i in inputs for p in (_dicom_in(i) if i.is_dir() else [i])]
    refused = 0
    for path in paths:
        try:
            facts = facts_of_object(path, path.name, settings.decode_limits)
        except ImagingError as error:
            print(f"\n{path}: {error.message}")
            refused += 1
            continue
        if not facts.analysable or facts.identity is None:
            print(f"\n{path}: stored, never analysed (no ultrasound image, or one of ours)")
            continue
        _explain(path, Image(identity=asdict(facts.identity), calling_ae=calling_ae), rules)
    return 1 if refused else 0


def _dicom_in(folder: Path) -> list[Path]:
    """The DICOM files of a folder and its folders; what else lies there is passed over."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            if looks_like_dicom(file.read(132)):
                found.append(path)
    return found


def _explain(path: Path, image: Image, rules: Rules) -> None:
    found = match(rules, image)
    if found is None:
        print(f"\n{path}: no rule matches; it waits for a person (needs_target)")
    else:
        side = found.side or "no side (the image names none): it waits for a person"
        print(f"\n{path}: rule {found.rule.name!r} → {found.rule.then.muscle}, {side}")
    for rule in rules.rules:
        said = [
            f"{'✓' if check.holds else '✗'} {check.condition} {check.wanted!r}: "
            + (", ".join(check.found) or "the image says nothing")
            for check in checks(rule, image)
        ]
        print(f"  {rule.name}: " + ("; ".join(said) or "✓ no condition"))
        if found is not None and rule is found.rule:
            return

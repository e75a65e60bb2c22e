"""Records of the store as the documents that REST gives."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from typing import Any

from api import problems
from app.analysis import State
from app.services import Services
from app.store.records import AnalysisRecord, FileRecord
from app.store.rows import RevisionRow
from app.store.worklist import ListedAnalysis
from models.segment import packaged_version

BASE = "/api/v1/analyses"
SHOWN = (
    "explanation",
    "overlay.png",
    "overlay.svg",
    "overlay.webp",
    "mask.png",
    "seg.dcm",
    "sr.dcm",
    "sc.dcm",
    "pr.dcm",
    "ko.dcm",
    "image.dcm",
    "plan.pdf",
    "fhir",
    "objects",
    "deliveries",
)


def analysis_document(parts: Services, record: AnalysisRecord) -> dict[str, Any]:
    """The whole of an analysis at one revision."""
    home = f"{BASE}/{record.id}"
    return {
        "id": record.id,
        "state": record.state.value,
        "revision": record.revision,
        "current_revision": record.current_revision,
        "etag": record.etag,
        "created_at": record.created_at.isoformat(),
        "created_by": record.created_by,
        "updated_at": record.updated_at.isoformat(),
        "revised_at": record.revised_at.isoformat(),
        "revised_by": record.revised_by,
        "request": record.request,
        "image_patient": image_patient(record),
        "image_side": record.image_side,
        "files": [_file(number, file) for number, file in enumerate(record.files)],
        "progress": progress(parts, record),
        "plan": record.plan,
        "problem": None if record.problem is None else problems.of_record(record.problem),
        "confirmation": record.confirmation,
        "administrations": list(record.administrations),
        "stale": stale(parts, record),
        "missing": missing(record),
        "routing": None if record.routing is None else asdict(record.routing),
        "late_images": record.late_images,
        "links": {
            "self": home,
            "revisions": f"{home}/revisions",
            "events": f"{home}/events",
            "comparisons": f"{home}/comparisons",
            **({} if record.plan is None else {name: f"{home}/{name}" for name in SHOWN}),
        },
    }


def progress(parts: Services, record: AnalysisRecord) -> dict[str, Any] | None:
    """How far a waiting or running analysis is; None for one that is finished."""
    if record.state is State.RUNNING:
        stage = parts.runner.stage(record.id) or record.stage
        return {"stage": None if stage is None else str(stage)}
    if record.state is State.QUEUED and record.queue_position is not None:
        return {
            "queue_position": record.queue_position,
            "estimated_s": parts.runner.wait_estimate_s(record.queue_position),
        }
    return None


@cache
def weights_in_force() -> str:
    """The version of the network that makes plans here."""
    return packaged_version()


def stale(parts: Services, record: AnalysisRecord) -> list[str]:
    """What of a draft was made with another version than that in force: `tables`, `model`.

    A merge patch of nothing, `{}`, makes it again with those in force.
    """
    if record.plan is None or record.state is not State.DRAFT:
        return []
    made_with = record.plan.get("provenance", {})
    tables, model = made_with.get("tables", {}).get("sha256"), made_with.get("model")
    return [
        *([] if tables in (None, parts.tables.sha256) else ["tables"]),
        *([] if model in (None, weights_in_force()) else ["model"]),
    ]


def missing(record: AnalysisRecord) -> list[str]:
    """What a person must name before a study that waits for its target can be planned."""
    known = {**record.request, "side": record.request.get("side") or record.image_side}
    return [name for name in ("muscle", "side") if not known.get(name)]


def image_patient(record: AnalysisRecord) -> dict[str, Any] | None:
    """Whom the images name, by the first file that names anybody; None for plain pictures."""
    for file in record.files:
        identity = file.facts.get("identity") or {}
        known = {
            "id": identity.get("patient_id"),
            "name": identity.get("patient_name"),
            "birth_date": identity.get("birth_date"),
        }
        if any(known.values()):
            return known
    return None


def _file(number: int, file: FileRecord) -> dict[str, Any]:
    return {
        "number": number,
        "name": file.name,
        "sha256": file.sha256,
        "size_bytes": file.size_bytes,
        **{key: file.facts[key] for key in ("media", "rows", "columns", "frame_count")},
        "warning": None
        if file.conflicts_with is None
        else "Another file with the same SOP Instance UID was stored first; this analysis is of "
        "the file named here.",
    }


def listed_document(parts: Services, listed: ListedAnalysis) -> dict[str, Any]:
    """A line of the work list."""
    stage = parts.runner.stage(listed.id) or listed.stage
    problem = None if listed.problem is None else problems.of_record(listed.problem)
    return {
        "id": listed.id,
        "created_at": listed.created_at.isoformat(),
        "updated_at": listed.updated_at.isoformat(),
        "state": listed.state.value,
        "revision": listed.revision,
        "muscle": listed.muscle,
        "side": listed.side,
        "product": listed.product,
        "patient_id": listed.patient_id,
        "patient_name": listed.patient_name,
        "problem": None
        if problem is None
        else {"detail": problem["detail"], "remedy": problem["remedy"]},
        "stage": str(stage) if stage and listed.state is State.RUNNING else None,
        "queue_position": listed.queue_position,
    }


def revision_document(row: RevisionRow, current: AnalysisRecord) -> dict[str, Any]:
    """A line of the history."""
    is_current = row.revision == current.revision
    return {
        "revision": row.revision,
        "state": current.state.value if is_current else State.SUPERSEDED.value,
        "created_at": row.created_at.isoformat(),
        "created_by": row.created_by,
        "finished_at": None if row.finished_at is None else row.finished_at.isoformat(),
        "request": json.loads(row.request),
        "href": f"{BASE}/{row.analysis_id}?revision={row.revision}",
    }

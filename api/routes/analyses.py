"""Studies in, analyses out: submit, list, read, follow, change, cancel."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter, Body, Header, Path, Query
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from api import problems, schemas
from api.deps import Editor, Parts, Reader, Submitter
from api.documents import BASE, analysis_document, listed_document, progress, revision_document
from api.problems import EdgeProblem
from api.responses import refusals
from api.upload import Received, receive
from app import review
from app.analysis import State
from app.clinic.plan import check_request
from app.intake.examine import examine
from app.intake.unpack import unpack
from app.planning.request import EXAMPLE, TARGET, AnalysisRequest, StudyRequest
from app.planning.request_inputs import clinical_inputs
from app.services import Services
from app.store import records
from app.store.records import AnalysisRecord
from app.store.worklist import work_list
from app.submission import StoredImages, Submitted, analyse_stored, submit

router = APIRouter(prefix="/api/v1/analyses", tags=["analyses"])

AnalysisId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", examples=["0198c0ffee"])]
WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,4})\b")
MAX_WAIT_S = 60
LOOK_AGAIN_S = 1.0
"""A job can be done by another process, which cannot wake a request here: it looks itself."""
PROGRESS_S = 0.1
OLD = Annotated[int | None, Query(ge=1, description="An earlier revision; default: the present.")]

Kind = TypeVar("Kind", bound=StudyRequest)
UID = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)*$", "maxLength": 64}
UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["request"],
                    "additionalProperties": False,
                    "properties": {
                        "request": {"$ref": "#/components/schemas/AnalysisRequest"},
                        "files": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                            "description": "DICOM ultrasound, or PNG, JPEG, TIFF, BMP, MP4, "
                            "AVI, or a ZIP of them.",
                        },
                        "stored": {
                            "type": "object",
                            "description": "Images that are in the store, instead of files.",
                            "required": ["study_instance_uid"],
                            "additionalProperties": False,
                            "properties": {
                                "study_instance_uid": UID,
                                "series_instance_uid": UID,
                                "sop_instance_uids": {"type": "array", "items": UID},
                            },
                        },
                    },
                },
                "encoding": {
                    "request": {"contentType": "application/json"},
                    "stored": {"contentType": "application/json"},
                },
                "example": {"request": EXAMPLE, "files": ["(the bytes of biceps.dcm)"]},
            }
        },
    }
}


@router.post(
    "",
    status_code=202,
    response_model=schemas.AnalysisDocument,
    responses={
        200: {"model": schemas.AnalysisDocument, "description": "Finished within Prefer: wait"},
        **refusals(
            "unreadable_file",
            "unsupported_syntax",
            "too_large",
            "too_busy",
            "instance_conflict",
            "table_error",
        ),
    },
    openapi_extra=UPLOAD,
)
async def post_analysis(
    request: Request,
    parts: Parts,
    principal: Submitter,
    prefer: Annotated[str | None, Header(examples=["wait=30"])] = None,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> Response:
    """One study in: 202 with its address at once, or 200 with the plan under `Prefer: wait=30`."""
    with Received() as received:
        await receive(request, received, blobs=parts.blobs, settings=parts.settings)
        submitted = await run_in_threadpool(
            _accept, parts, received, principal.name, idempotency_key
        )
    request.state.subject = submitted.analysis_id
    record = await _record_after(parts, submitted.analysis_id, wait_s=_wait_s(prefer))
    return _answer(request, parts, record, prefer, replayed=submitted.replayed)


def _accept(
    parts: Services, received: Received, principal: str, idempotency_key: str | None
) -> Submitted:
    if received.request_json is None:
        raise EdgeProblem(
            "bad_request",
            "The part `request` is missing.",
            remedy="Send the clinical request as JSON in a part named `request`.",
        )
    request = read_request(received.request_json, parts)
    check_request(clinical_inputs(request), parts.tables)
    if received.stored_json is not None:
        submitted = _accept_stored(parts, received, request, principal, idempotency_key)
        parts.runner.wake()
        return submitted
    received.uploads = unpack(received.uploads, blobs=parts.blobs, settings=parts.settings)
    files = examine(received.uploads, door=parts.door, limits=parts.limits)
    submitted = submit(
        files,
        request,
        principal=principal,
        idempotency_key=idempotency_key,
        store=parts.store,
        blobs=parts.blobs,
        door=parts.door,
        settings=parts.settings,
    )
    parts.runner.wake()
    return submitted


def _accept_stored(
    parts: Services,
    received: Received,
    request: AnalysisRequest,
    principal: str,
    idempotency_key: str | None,
) -> Submitted:
    if received.uploads:
        raise EdgeProblem(
            "bad_request",
            "Files came, and stored images were named as well.",
            remedy="Send either the parts `files` or the part `stored`.",
        )
    try:
        images = StoredImages.model_validate_json(received.stored_json or b"")
    except ValidationError as error:
        raise problems.of_validation(error.errors()) from None
    return analyse_stored(
        images,
        request,
        principal=principal,
        idempotency_key=idempotency_key,
        store=parts.store,
        settings=parts.settings,
    )


def read_request(text: bytes | str, parts: Services) -> AnalysisRequest:
    """The request of this JSON, in the site's jurisdiction unless it names one.

    Raises EdgeProblem: bad_request for what is no JSON object, invalid_request with each fault.
    """
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise EdgeProblem(
            "bad_request",
            "The request is not a JSON object.",
            remedy="Send the clinical request as JSON; /api/v1/openapi.json has an example.",
        )
    return request_of(asked, parts, kind=AnalysisRequest)


def request_of(asked: dict[str, Any], parts: Services, *, kind: type[Kind]) -> Kind:
    """The checked request of these members. Raises EdgeProblem: invalid_request."""
    try:
        return kind.model_validate({"jurisdiction": parts.settings.jurisdiction, **asked})
    except ValidationError as error:
        raise problems.of_validation(error.errors()) from None


def _wait_s(prefer: str | None) -> float:
    match = WAIT.search(prefer or "")
    return min(float(match[1]), MAX_WAIT_S) if match else 0.0


def _load(parts: Services, analysis_id: str, revision: int | None = None) -> AnalysisRecord:
    with parts.store.read() as session:
        return records.load(session, analysis_id, revision)


def _state(parts: Services, analysis_id: str) -> State:
    with parts.store.read() as session:
        return records.state_of(session, analysis_id)


async def _record_after(parts: Services, analysis_id: str, *, wait_s: float) -> AnalysisRecord:
    """The analysis as it is when it is finished, or when the time is over."""
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    with parts.hub.listen(analysis_id) as changed:
        record = await run_in_threadpool(_load, parts, analysis_id)
        while record.state in review.PENDING and (left := until - loop.time()) > 0:
            try:
                await asyncio.wait_for(changed.wait(), min(left, LOOK_AGAIN_S))
            except TimeoutError:
                # Many wait at once: they look at the state alone.
                state = await run_in_threadpool(_state, parts, analysis_id)
                if state in review.PENDING and loop.time() < until:
                    continue
            changed.clear()
            record = await run_in_threadpool(_load, parts, analysis_id)
    return record


def _answer(
    request: Request,
    parts: Services,
    record: AnalysisRecord,
    prefer: str | None,
    *,
    replayed: bool = False,
) -> Response:
    pending = record.state in review.PENDING
    waited = _wait_s(prefer) > 0
    headers = {"Location": f"{BASE}/{record.id}", "ETag": record.etag}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    if waited and not pending:
        headers["Preference-Applied"] = f"wait={_wait_s(prefer):g}"
    if waited and record.state is State.FAILED and record.problem is not None:
        refused = {**problems.of_record(record.problem), "analysis": f"{BASE}/{record.id}"}
        return problems.respond(refused, request, headers)
    status = 200 if waited and not pending else 202
    return JSONResponse(analysis_document(parts, record), status_code=status, headers=headers)


@router.get("", response_model=schemas.WorkList, responses=refusals())
def list_analyses(
    parts: Parts,
    principal: Reader,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[str | None, Query(pattern="^[0-9a-f]{32}$")] = None,
    state: State | None = None,
    muscle: Annotated[str | None, Query(max_length=200)] = None,
    patient_id: Annotated[str | None, Query(max_length=200)] = None,
    search: Annotated[
        str,
        Query(
            max_length=200,
            description="Parts of the patient's name or id, the muscle, the side or the product.",
            examples=["garcia biceps left"],
        ),
    ] = "",
) -> dict[str, Any]:
    """The work list, the newest first; `next` leads to the following page of the same search."""
    with parts.store.read() as session:
        found = work_list(
            session,
            limit=limit + 1,
            before=before,
            state=state,
            muscle=muscle,
            patient_id=patient_id,
            words=search,
        )
    page, more = found[:limit], len(found) > limit
    asked = {"state": state, "muscle": muscle, "patient_id": patient_id, "search": search}
    following = {"limit": limit, "before": page[-1].id} if more else {}
    following.update({key: str(value) for key, value in asked.items() if value})
    return {
        "analyses": [listed_document(parts, line) for line in page],
        "next": f"{BASE}?{urlencode(following)}" if more else None,
    }


@router.get(
    "/{analysis_id}", response_model=schemas.AnalysisDocument, responses=refusals("not_found")
)
async def get_analysis(
    analysis_id: AnalysisId,
    parts: Parts,
    principal: Reader,
    revision: OLD = None,
    prefer: Annotated[str | None, Header(examples=["wait=30"])] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The analysis with its plan and an ETag; `Prefer: wait=30` waits until it is finished."""
    if revision is None:
        record = await _record_after(parts, analysis_id, wait_s=_wait_s(prefer))
    else:
        record = await run_in_threadpool(_load, parts, analysis_id, revision)
    headers = {"ETag": record.etag}
    finished = record.state not in review.PENDING
    if finished and if_none_match is not None and record.etag in if_none_match:
        return Response(status_code=304, headers=headers)
    return JSONResponse(analysis_document(parts, record), headers=headers)


@router.patch(
    "/{analysis_id}",
    status_code=202,
    response_model=schemas.AnalysisDocument,
    responses={
        200: {"model": schemas.AnalysisDocument, "description": "Finished within Prefer: wait"},
        **refusals(
            "not_found", "state_conflict", "stale_edit", "precondition_required", "too_large"
        ),
    },
)
async def patch_analysis(
    request: Request,
    analysis_id: AnalysisId,
    parts: Parts,
    principal: Editor,
    patch: Annotated[
        dict[str, Any],
        Body(
            media_type="application/merge-patch+json",
            examples=[{"clicks": [{"column": 190, "row": 150}], "safety": {}}],
        ),
    ],
    if_match: Annotated[str | None, Header()] = None,
    prefer: Annotated[str | None, Header(examples=["wait=30"])] = None,
) -> Response:
    """A new revision: the request changed by a JSON merge patch (RFC 7396), and made again."""
    if if_match is None:
        raise EdgeProblem(
            "precondition_required",
            "A change must say which state of the analysis it was made on.",
            remedy="Send the ETag of the analysis that you changed as If-Match.",
        )
    await run_in_threadpool(_amend, parts, analysis_id, patch, if_match, principal.name)
    record = await _record_after(parts, analysis_id, wait_s=_wait_s(prefer))
    return _answer(request, parts, record, prefer)


def _amend(
    parts: Services, analysis_id: str, patch: dict[str, Any], if_match: str, principal: str
) -> None:
    record = _load(parts, analysis_id)
    # Told first: a change on an old state is judged as such, not by what it would have become.
    with parts.store.read() as session:
        review.check_etag(session, record, if_match)
    asked = review.merge_patch(record.request, patch)
    waits = any(name not in record.request for name in TARGET)
    if waits and record.image_side is not None:
        asked.setdefault("side", record.image_side)
    named = not waits or all(name in asked for name in TARGET)
    request = request_of(asked, parts, kind=AnalysisRequest if named else StudyRequest)
    if request.muscle is not None:
        # A side that is still to be named changes nothing of what is checked here.
        whole = AnalysisRequest.model_validate({"side": "left", **asked})
        check_request(clinical_inputs(whole), parts.tables)
    review.amend(
        parts.store,
        analysis_id,
        request,
        if_match=if_match,
        principal=principal,
    )
    parts.hub.publish(analysis_id)
    parts.runner.wake()


@router.get(
    "/{analysis_id}/revisions",
    response_model=list[schemas.RevisionDocument],
    responses=refusals("not_found"),
)
def get_revisions(analysis_id: AnalysisId, parts: Parts, principal: Reader) -> list[dict[str, Any]]:
    """The history of an analysis, the first revision first."""
    with parts.store.read() as session:
        current = records.load(session, analysis_id)
        rows = records.revisions(session, analysis_id)
    return [revision_document(row, current) for row in rows]


@router.post(
    "/{analysis_id}/cancellation",
    response_model=schemas.AnalysisDocument,
    responses=refusals("not_found", "state_conflict"),
)
async def post_cancellation(
    analysis_id: AnalysisId, parts: Parts, principal: Submitter
) -> Response:
    """The analysis cancelled; a running one is stopped at once."""
    await run_in_threadpool(review.cancel, parts.store, analysis_id, principal=principal.name)
    await run_in_threadpool(parts.runner.stop_job, analysis_id)
    parts.hub.publish(analysis_id)
    record = await _record_after(parts, analysis_id, wait_s=5)
    return JSONResponse(analysis_document(parts, record), headers={"ETag": record.etag})


@router.get(
    "/{analysis_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Server-sent events"},
        **refusals("not_found"),
    },
)
async def get_events(
    request: Request, analysis_id: AnalysisId, parts: Parts, principal: Reader
) -> Response:
    """States and stages as they come (`event: state`, `event: progress`), until the end."""
    first = await run_in_threadpool(_load, parts, analysis_id)
    return StreamingResponse(
        _events(parts, first),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(parts: Services, first: AnalysisRecord) -> AsyncIterator[str]:
    record, told_state, told_progress = first, None, None
    loop = asyncio.get_running_loop()
    looked = loop.time()
    with parts.hub.listen(first.id) as changed:
        while True:
            state = (record.state, record.revision)
            if state != told_state:
                told_state = state
                yield _event(
                    "state",
                    {
                        "state": record.state.value,
                        "revision": record.revision,
                        "etag": record.etag,
                    },
                )
            if record.state not in review.PENDING or parts.runner.stopping:
                return
            how_far = progress(parts, record)
            if how_far is not None and how_far != told_progress:
                told_progress = how_far
                yield _event("progress", how_far)
            try:
                await asyncio.wait_for(changed.wait(), PROGRESS_S)
            except TimeoutError:
                if loop.time() - looked < LOOK_AGAIN_S and record.state is State.RUNNING:
                    continue
            changed.clear()
            looked = loop.time()
            record = await run_in_threadpool(_load, parts, first.id)


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"

"""What a person decides about a plan: confirmation, and what was really given."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from api import schemas
from api.deps import Admin, Confirmer, Parts
from api.documents import analysis_document
from api.principal import Principal
from api.problems import EdgeProblem
from api.responses import refusals
from api.routes.analyses import AnalysisId
from app import review
from app.services import Services
from app.store import records
from app.upkeep import delete_analysis

router = APIRouter(prefix="/api/v1/analyses/{analysis_id}", tags=["decisions"])


@router.post(
    "/confirmation",
    response_model=schemas.AnalysisDocument,
    responses=refusals("not_found", "confirmation_refused", "stale_edit", "person_required"),
)
async def post_confirmation(
    analysis_id: AnalysisId,
    body: schemas.Confirmation,
    parts: Parts,
    principal: Confirmer,
    if_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The plan confirmed by a named clinician; stops and open questions refuse it."""
    if not principal.is_person:
        raise EdgeProblem(
            "person_required",
            f"{principal.name} is no person who can answer for a treatment.",
            remedy="Let a clinician confirm the plan in the viewer, signed in as themselves.",
        )
    clinician = _clinician(body.clinician, principal)
    if body.statement is not None:
        clinician["statement"] = body.statement
    await run_in_threadpool(
        review.confirm,
        parts.store,
        analysis_id,
        revision=body.revision,
        clinician=clinician,
        if_match=if_match,
        principal=principal.name,
    )
    parts.courier.wake()
    return await run_in_threadpool(_shown, parts, analysis_id)


@router.post(
    "/administration",
    status_code=201,
    response_model=schemas.AnalysisDocument,
    responses=refusals("not_found", "state_conflict"),
)
async def post_administration(
    analysis_id: AnalysisId, body: schemas.Administration, parts: Parts, principal: Confirmer
) -> Response:
    """What was given, recorded under the confirmed plan."""
    given = body.model_dump(mode="json", exclude_none=True)
    await run_in_threadpool(
        review.administer, parts.store, analysis_id, given=given, principal=principal.name
    )
    return await run_in_threadpool(_shown, parts, analysis_id, status=201)


@router.post("/deletion", status_code=204, responses=refusals("not_found", "state_conflict"))
async def post_deletion(
    analysis_id: AnalysisId, body: schemas.Deletion, parts: Parts, principal: Admin
) -> Response:
    """The analysis deleted with all its revisions; the audit keeps who did it and why."""
    await run_in_threadpool(
        delete_analysis, parts.store, analysis_id, principal=principal.name, reason=body.reason
    )
    parts.hub.publish(analysis_id)
    return Response(status_code=204)


def _clinician(named: schemas.Clinician | None, principal: Principal) -> dict[str, Any]:
    """Who confirms: the person that the identity provider knows, else the one who is named.

    Raises EdgeProblem: invalid_request, for nobody and for somebody else's name.
    """
    given = {} if named is None else named.model_dump(exclude_none=True)
    if principal.shown is None:
        if not given:
            raise EdgeProblem(
                "invalid_request",
                "The confirmation names no clinician.",
                remedy="Send `clinician` with name and role.",
            )
        return given
    if given and _folded(given["name"]) != _folded(principal.shown):
        raise EdgeProblem(
            "invalid_request",
            f"{principal.shown} is signed in, and nobody confirms in another's name.",
            remedy="Leave `clinician` out, or let the other person sign in and confirm.",
        )
    role = principal.role or given.get("role")
    known = {"name": principal.shown, "id": principal.subject}
    return known if role is None else {**known, "role": role}


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()


def _shown(parts: Services, analysis_id: str, *, status: int = 200) -> Response:
    parts.hub.publish(analysis_id)
    with parts.store.read() as session:
        record = records.load(session, analysis_id)
    return JSONResponse(
        analysis_document(parts, record), status_code=status, headers={"ETag": record.etag}
    )

"""What is sent where: the listed destinations, what became of each delivery, and once more."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from api import schemas
from api.deps import Editor, Parts, Reader
from api.documents import BASE
from api.responses import refusals
from api.routes.analyses import AnalysisId
from app.errors import NotFound
from app.services import Services
from app.store import outbox, records
from app.store.rows import DeliveryRow

router = APIRouter(prefix="/api/v1", tags=["deliveries"])
NOT_LISTED = "This target is not listed in the settings any more, so nothing is sent to it."


@router.get(
    "/destinations",
    response_model=list[schemas.DestinationDocument],
    responses=refusals(),
)
def get_destinations(parts: Parts, principal: Reader) -> list[dict[str, Any]]:
    """Where objects may be sent, by name; addresses stay in the settings."""
    return [
        {
            "name": each.name,
            "kind": each.kind,
            "objects": list(each.objects),
            "on_confirmation": each.on_confirmation,
        }
        for each in parts.settings.destinations
    ]


@router.get(
    "/analyses/{analysis_id}/deliveries",
    response_model=schemas.Deliveries,
    responses=refusals("not_found"),
)
def get_deliveries(analysis_id: AnalysisId, parts: Parts, principal: Reader) -> dict[str, Any]:
    """What was sent of an analysis and what still waits, the newest first."""
    return _deliveries(parts, analysis_id)


@router.post(
    "/analyses/{analysis_id}/deliveries",
    status_code=202,
    response_model=schemas.Deliveries,
    responses=refusals("not_found", "no_object"),
)
async def post_delivery(
    analysis_id: AnalysisId, body: schemas.DeliveryRequest, parts: Parts, principal: Editor
) -> Response:
    """Objects sent to a listed destination, or a delivery that waits or failed tried at once."""
    document = await run_in_threadpool(_request, parts, analysis_id, body, principal.name)
    return JSONResponse(
        document, status_code=202, headers={"Location": f"{BASE}/{analysis_id}/deliveries"}
    )


def _request(
    parts: Services, analysis_id: str, body: schemas.DeliveryRequest, principal: str
) -> dict[str, Any]:
    with parts.store.write() as session:
        record = records.load(session, analysis_id, body.revision)
        if body.delivery is not None:
            outbox.retry(session, analysis_id, body.delivery, principal=principal)
        else:
            listed = [each.name for each in parts.settings.destinations]
            if body.destination not in listed:
                raise NotFound(
                    f"There is no destination {body.destination!r}.",
                    remedy=f"Listed are: {', '.join(listed)}."
                    if listed
                    else "Whoever runs the service lists destinations (SONODOSE_DESTINATIONS).",
                )
            outbox.request(
                session, record, body.destination, objects=body.objects, principal=principal
            )
    parts.courier.wake()
    return _deliveries(parts, analysis_id)


def _deliveries(parts: Services, analysis_id: str) -> dict[str, Any]:
    with parts.store.read() as session:
        records.analysis_row(session, analysis_id)
        rows = outbox.deliveries(session, analysis_id)
    listed = {each.name for each in (*parts.settings.destinations, *parts.settings.webhooks)}
    return {
        "analysis": f"{BASE}/{analysis_id}",
        "deliveries": [_document(row, parts, listed) for row in rows],
    }


def _document(row: DeliveryRow, parts: Services, listed: set[str]) -> dict[str, Any]:
    waits = row.state == "waiting"
    return {
        "id": row.id,
        "kind": row.kind,
        "target": row.target,
        "revision": row.revision,
        "event": row.event,
        "state": row.state,
        "attempts": row.attempts,
        "max_attempts": parts.settings.delivery_attempts,
        "next_attempt_at": row.next_at.isoformat() if waits else None,
        "reason": NOT_LISTED if waits and row.target not in listed else row.reason,
        "objects": row.sent,
        "created_at": row.created_at.isoformat(),
        "created_by": row.created_by,
        "finished_at": None if row.finished_at is None else row.finished_at.isoformat(),
    }

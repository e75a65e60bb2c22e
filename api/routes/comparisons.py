"""Volumes side by side: left and right, today and the last session."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from api import schemas
from api.deps import Parts, Reader
from api.responses import refusals
from api.routes.analyses import AnalysisId
from app.results.comparisons import comparison, comparisons_of
from app.store import records

router = APIRouter(prefix="/api/v1", tags=["comparisons"])


@router.post(
    "/comparisons",
    response_model=schemas.Comparison,
    responses=refusals("not_found", "request_conflict"),
)
def post_comparison(
    body: schemas.ComparisonRequest, parts: Parts, principal: Reader
) -> dict[str, Any]:
    """Two analyses of one muscle side by side, with the smallest change that is more than error.

    Refused for two muscles, two patients, two ways of measuring, and where a volume is missing.
    """
    with parts.store.read() as session:
        first, second = (records.load(session, name) for name in body.analyses)
    return comparison(first, second, parts.tables)


@router.get(
    "/analyses/{analysis_id}/comparisons",
    response_model=schemas.Comparisons,
    responses=refusals("not_found"),
)
def get_comparisons(analysis_id: AnalysisId, parts: Parts, principal: Reader) -> dict[str, Any]:
    """The analysis beside the last session's and beside the other side's, as far as there are any
    of the same patient and muscle."""
    with parts.store.read() as session:
        return comparisons_of(session, records.load(session, analysis_id), parts.tables)

"""What was really given, from the administrations' rows: it, not the plan, counts the next time."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.clinic.follow_up import Administration, GivenSite
from app.clinic.inputs import PriorTreatment
from app.errors import RequestConflict
from app.store.rows import AdministrationRow, AnalysisRow, RevisionRow


def check_administration(
    given: Mapping[str, Any], request: Mapping[str, Any], *, today: dt.date
) -> None:
    """Raises RequestConflict and InvalidInput for what cannot have been given under the request."""
    if given["product"] != request.get("product"):
        raise RequestConflict(
            f"The plan is in {request.get('product')} Units, and {given['product']} was named.",
            remedy="Record it under a plan for the product that was given: Units belong to one "
            "product.",
        )
    if dt.date.fromisoformat(given["given_on"]) > today:
        raise RequestConflict(
            f"{given['given_on']} is still to come.",
            remedy="Record a treatment on its day or later.",
        )
    _administration(given, request["muscle"])


def recorded_treatments(session: Session, analysis_id: str) -> tuple[PriorTreatment, ...]:
    """What the other analyses of this patient record as given, the oldest first.

    A patient is known by the id of request or images; two issuers that are named and differ are
    two patients. Nobody's name, nobody's treatments.
    """
    mine = session.get_one(AnalysisRow, analysis_id)
    if mine.patient_id is None:
        return ()
    issuer = _issuer(session, mine.id, mine.revision)
    rows = session.execute(
        select(AdministrationRow, AnalysisRow)
        .join(AnalysisRow, AnalysisRow.id == AdministrationRow.analysis_id)
        .where(AnalysisRow.patient_id == mine.patient_id, AnalysisRow.id != mine.id)
    )
    found = []
    for row, analysis in rows:
        other = _issuer(session, row.analysis_id, row.revision)
        if issuer is None or other in (None, issuer):
            found.append(_administration(row.given, analysis.muscle).as_treatment())
    return tuple(sorted(found, key=lambda t: (t.date, t.muscles or (), t.units)))


def _issuer(session: Session, analysis_id: str, revision: int) -> str | None:
    request = json.loads(session.get_one(RevisionRow, (analysis_id, revision)).request)
    issuer: str | None = request.get("patient", {}).get("issuer")
    return issuer


def _administration(given: Mapping[str, Any], muscle: str) -> Administration:
    expiry = given.get("expiry")
    return Administration(
        product=given["product"],
        muscle=muscle,
        date=dt.date.fromisoformat(given["given_on"]),
        sites=tuple(
            GivenSite(number=site["number"], units=site["units"], ml=site.get("ml"))
            for site in given["sites"]
        ),
        expiry=None if expiry is None else dt.date.fromisoformat(expiry),
        wastage_units=given.get("wastage_units") or 0.0,
    )

"""What people do with a plan: change it, confirm it, record what was given, call it off."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.analysis import State
from app.errors import ConfirmationRefused, StaleEdit, StateConflict
from app.jobs import queue
from app.planning.request import AnalysisRequest, StudyRequest
from app.store import audit, outbox, worklist
from app.store.database import Store
from app.store.records import AnalysisRecord, analysis_row, load
from app.store.rows import AdministrationRow, ConfirmationRow, JobRow, RevisionRow
from app.store.treatments import check_administration

PENDING = frozenset({State.QUEUED, State.RUNNING})
ETAG = re.compile(r'"r(\d+)-v(\d+)"')


def merge_patch(target: Any, patch: Any) -> Any:
    """`target` changed by a JSON merge patch (RFC 7396): null removes, objects merge."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def check_etag(session: Session, record: AnalysisRecord, if_match: str) -> None:
    """Raises StaleEdit, with what changed meanwhile, unless the editor saw the present state."""
    tags = [tag.strip() for tag in if_match.split(",")]
    if record.etag in tags or "*" in tags:
        return
    raise StaleEdit(
        "Somebody changed this analysis after you opened it; nothing of yours was written.",
        remedy="Look at the difference, load the analysis again and repeat your change on it.",
        current_etag=record.etag,
        difference=_difference(session, record, tags[0]),
    )


def _difference(session: Session, record: AnalysisRecord, seen: str) -> dict[str, Any]:
    match = ETAG.fullmatch(seen)
    old = None if match is None else session.get(RevisionRow, (record.id, int(match[1])))
    if old is None:
        return {"state": record.state.value, "revision": record.revision}
    before = json.loads(old.request)
    changed = {
        key: {"yours": before.get(key), "theirs": record.request.get(key)}
        for key in sorted({*before, *record.request})
        if before.get(key) != record.request.get(key)
    }
    return {
        "state": record.state.value,
        "revision": {"yours": old.revision, "theirs": record.revision},
        "changed_by": record.revised_by,
        "request": changed,
    }


def amend(
    store: Store,
    analysis_id: str,
    request: StudyRequest,
    *,
    if_match: str,
    principal: str,
) -> int:
    """The number of the new revision, queued. Raises NotFound, StaleEdit and StateConflict.

    Where nobody has named the target yet nor pointed at it, the change is kept, and waits for
    that without a job.
    """
    ready = isinstance(request, AnalysisRequest) or request.points_at_it
    state = State.QUEUED if ready else State.NEEDS_TARGET
    text = request.model_dump_json(exclude_unset=True)
    at = dt.datetime.now(dt.UTC)
    with store.write() as session:
        record = load(session, analysis_id)
        check_etag(session, record, if_match)
        refuse_if_pending(record)
        if record.administrations:
            raise StateConflict(
                "This plan was carried out: what was given is recorded.",
                remedy="Start a new analysis for the next treatment.",
            )
        row = analysis_row(session, analysis_id)
        row.revision += 1
        row.state, row.updated_at = state, at
        row.muscle = request.muscle or ""
        row.side = request.side or ""
        row.product = request.product
        worklist.enter(row, asked_id=request.patient.id, asked_name=request.patient.name)
        session.add(
            RevisionRow(
                analysis_id=analysis_id,
                revision=row.revision,
                created_at=at,
                created_by=principal,
                request=text,
                state=state,
            )
        )
        if ready:
            queue.enqueue(session, analysis_id, row.revision, at)
        changed = json.loads(text)
        fields = sorted(
            key
            for key in {*record.request, *changed}
            if record.request.get(key) != changed.get(key)
        )
        _note(session, principal, "analysis.revised", analysis_id, row.revision, fields=fields)
        return row.revision


def confirm(
    store: Store,
    analysis_id: str,
    *,
    revision: int,
    clinician: dict[str, Any],
    if_match: str | None,
    principal: str,
) -> None:
    """Marks the revision as confirmed by a named clinician.

    Raises NotFound, StaleEdit, StateConflict, and ConfirmationRefused with every reason.
    """
    at = dt.datetime.now(dt.UTC)
    with store.write() as session:
        record = load(session, analysis_id)
        if if_match is not None:
            check_etag(session, record, if_match)
        if revision != record.revision:
            raise StaleEdit(
                f"You looked at revision {revision}, but revision {record.revision} is the "
                "present one.",
                remedy="Load the analysis again and confirm what it says now.",
                current_etag=record.etag,
                difference=_difference(session, record, f'"r{revision}-v0"'),
            )
        refuse_if_pending(record)
        if record.state is State.CONFIRMED:
            raise StateConflict(
                "This revision is confirmed already.",
                remedy="Nothing is left to do; a change makes a new revision to confirm.",
            )
        reasons = obstacles(record)
        if reasons:
            raise ConfirmationRefused(
                "The plan cannot be confirmed: " + " ".join(reasons),
                remedy="Settle each reason with PATCH, then confirm the new revision.",
                reasons=tuple(reasons),
            )
        row = analysis_row(session, analysis_id)
        row.state, row.updated_at = State.CONFIRMED, at
        session.add(
            ConfirmationRow(
                analysis_id=analysis_id,
                revision=revision,
                confirmed_at=at,
                confirmed_by=principal,
                clinician=clinician,
            )
        )
        outbox.announce(session, outbox.CONFIRMED, analysis_id, revision)
        _note(session, principal, "analysis.confirmed", analysis_id, revision)


def obstacles(record: AnalysisRecord) -> list[str]:
    """Every reason why the revision cannot be confirmed, in whole sentences."""
    if record.state is not State.DRAFT or record.plan is None:
        return [f"It is {record.state.value.replace('_', ' ')}, not a draft."]
    plan, found = record.plan, []
    dose, sites_refused = plan.get("dose") or {}, plan.get("sites_refused")
    if not dose.get("planned"):
        found.append(f"There is no dose to confirm: {dose.get('reason', 'none was planned')}")
    if sites_refused:
        found.append(f"There are no sites to confirm: {sites_refused['reason']}")
    found += [question["text"] for question in plan.get("unanswered", [])]
    if record.request.get("prior_treatments") is None:
        found.append("Earlier treatments are unknown (`prior_treatments`; [] means none).")
    if record.request.get("safety") is None:
        found.append("The safety questions are unanswered (`safety`).")
    if any(
        ((frame.get("calibration") or {}).get("used") or {}).get("provenance") == "nominal"
        for frame in plan.get("frames", [])
    ):
        found.append("The scale is nominal, so no size in it is a measurement.")
    found += [c["text"] for c in plan.get("cautions", []) if c.get("blocks_confirmation")]
    return list(dict.fromkeys(found))


def administer(store: Store, analysis_id: str, *, given: dict[str, Any], principal: str) -> None:
    """Records what was really given under a confirmed plan.

    Raises NotFound, StateConflict, and RequestConflict and InvalidInput for what cannot have been.
    """
    at = dt.datetime.now(dt.UTC)
    with store.write() as session:
        record = load(session, analysis_id)
        if record.state is not State.CONFIRMED:
            raise StateConflict(
                "Only what was given under a confirmed plan is recorded here; this one is "
                f"{record.state.value.replace('_', ' ')}.",
                remedy="Confirm the plan first.",
            )
        check_administration(given, record.request, today=dt.datetime.now().astimezone().date())
        session.add(
            AdministrationRow(
                analysis_id=analysis_id,
                revision=record.revision,
                recorded_at=at,
                recorded_by=principal,
                given=given,
            )
        )
        analysis_row(session, analysis_id).updated_at = at
        _note(session, principal, "analysis.administered", analysis_id, record.revision)


def cancel(store: Store, analysis_id: str, *, principal: str) -> None:
    """Ends a waiting job, and asks a running one to end. Raises NotFound, StateConflict."""
    with store.write() as session:
        record = load(session, analysis_id)
        if record.state not in PENDING:
            raise StateConflict(
                f"There is nothing to cancel: the analysis is "
                f"{record.state.value.replace('_', ' ')}.",
                remedy="Only an analysis that waits or runs can be cancelled.",
            )
        job = session.scalars(
            select(JobRow).where(
                JobRow.analysis_id == analysis_id, JobRow.revision == record.revision
            )
        ).one()
        job.cancel = True
        _note(session, principal, "analysis.cancelled", analysis_id, record.revision)
        if job.state == "queued":
            queue.end(session, job, State.CANCELLED)


def refuse_if_pending(record: AnalysisRecord) -> None:
    """Raises StateConflict while a job of the analysis waits or runs."""
    if record.state in PENDING:
        raise StateConflict(
            "The analysis is still being made.",
            remedy="Wait until it is finished (`/events` tells when), or cancel it first.",
        )


def _note(
    session: Session, principal: str, action: str, analysis_id: str, revision: int, **detail: Any
) -> None:
    audit.append(
        session,
        [
            audit.AuditEntry(
                principal=principal,
                action=action,
                subject=analysis_id,
                detail={"revision": revision, **detail},
            )
        ],
    )

"""The outbox: what is still to be sent, written in the transaction that gives rise to it.

An event is announced as one row without a target; the courier turns it into one row for each
listed webhook that hears it, and on a confirmation into one for each destination that wants the
objects then. So nobody who changes an analysis needs to know who listens, and nothing that was
committed is forgotten.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app.errors import NoObject, NotFound
from app.store import audit
from app.store.records import AnalysisRecord
from app.store.rows import DeliveryRow

Kind = Literal["event", "webhook", "objects"]
CONFIRMED = "analysis.confirmed"


def announce(session: Session, event: str, analysis_id: str, revision: int, **detail: Any) -> None:
    """Writes down that something happened; `detail` holds no patient data."""
    session.add(
        _row("event", None, analysis_id, revision, event=event, detail=detail, by="service")
    )


def address(
    session: Session,
    announced: DeliveryRow,
    *,
    webhooks: Sequence[str],
    destinations: Sequence[str],
) -> None:
    """Puts in place of an announcement what it means for these targets."""
    event = announced.event
    for name in webhooks:
        session.add(
            _row(
                "webhook",
                name,
                announced.analysis_id,
                announced.revision,
                event=event,
                detail=announced.detail,
                by="service",
                at=announced.created_at,
            )
        )
    for name in destinations:
        session.add(
            _row(
                "objects", name, announced.analysis_id, announced.revision, detail={}, by="service"
            )
        )
    session.delete(announced)


def request(
    session: Session,
    record: AnalysisRecord,
    target: str,
    *,
    objects: Sequence[str] | None,
    principal: str,
) -> int:
    """The id of the delivery of this revision's objects to a listed destination, due now.

    One that waits is sent at once, one that was given up begins anew; neither is doubled. Raises
    NoObject while the analysis has no plan.
    """
    if record.plan is None:
        raise NoObject(
            f"There is nothing to send yet: the analysis is "
            f"{record.state.value.replace('_', ' ')}.",
            remedy="Wait until the analysis is finished; /events tells when.",
        )
    detail = {} if objects is None else {"objects": list(objects)}
    row = session.scalar(
        select(DeliveryRow)
        .where(
            DeliveryRow.analysis_id == record.id,
            DeliveryRow.revision == record.revision,
            DeliveryRow.kind == "objects",
            DeliveryRow.target == target,
            DeliveryRow.state != "delivered",
        )
        .order_by(DeliveryRow.id.desc())
        .limit(1)
    )
    if row is None:
        row = _row("objects", target, record.id, record.revision, detail=detail, by=principal)
        session.add(row)
    elif row.state != "sending":
        row.state, row.attempts, row.next_at = "waiting", 0, _now()
        row.finished_at = None
        if objects is not None:
            row.detail = detail
    session.flush()
    _note(session, principal, "delivery.requested", row)
    return row.id


def retry(session: Session, analysis_id: str, delivery_id: int, *, principal: str) -> int:
    """The delivery, due now with all its attempts before it. Raises NotFound, NoObject."""
    row = session.get(DeliveryRow, delivery_id)
    if row is None or row.analysis_id != analysis_id or row.kind == "event":
        raise NotFound(
            f"The analysis has no delivery {delivery_id}.",
            remedy="GET …/deliveries lists those that it has.",
        )
    if row.state == "delivered":
        raise NoObject(
            "It is delivered already.", remedy="Ask for a new delivery to the same destination."
        )
    if row.state != "sending":
        row.state, row.attempts, row.next_at, row.finished_at = "waiting", 0, _now(), None
    _note(session, principal, "delivery.requested", row)
    return row.id


def deliveries(session: Session, analysis_id: str) -> list[DeliveryRow]:
    """What was and is to be sent of an analysis, the newest first."""
    return list(
        session.scalars(
            select(DeliveryRow)
            .where(DeliveryRow.analysis_id == analysis_id, DeliveryRow.kind != "event")
            .order_by(DeliveryRow.id.desc())
        )
    )


def open_and_failed(session: Session) -> tuple[float, float]:
    """How many deliveries are still to be sent, and how many were given up."""
    rows = session.execute(
        select(DeliveryRow.state, func.count())
        .where(DeliveryRow.kind != "event")
        .group_by(DeliveryRow.state)
    ).all()
    counts = {state: float(count) for state, count in rows}
    still = counts.get("waiting", 0.0) + counts.get("sending", 0.0)
    return still, counts.get("failed", 0.0)


def due(target: str | None) -> Any:
    """The query of the first row for a target that waits for its time or lost its sender."""
    now = _now()
    waits = (DeliveryRow.state == "waiting") & (DeliveryRow.next_at <= now)
    lost = (DeliveryRow.state == "sending") & (DeliveryRow.lease_until < now)
    return (
        select(DeliveryRow)
        .where(DeliveryRow.target == target, or_(waits, lost))
        .order_by(DeliveryRow.id)
        .limit(1)
    )


def finish(session: Session, row: DeliveryRow, state: Literal["delivered", "failed"]) -> None:
    """Ends a delivery, with its audit entry; the end of an objects' delivery is an event too."""
    row.state, row.finished_at, row.owner, row.lease_until = state, _now(), None, None
    _note(session, "service", f"delivery.{state}", row)
    if row.kind == "objects":
        announce(
            session,
            f"delivery.{state}",
            row.analysis_id,
            row.revision,
            delivery=row.id,
            destination=row.target,
        )


def _row(
    kind: Kind,
    target: str | None,
    analysis_id: str,
    revision: int,
    *,
    detail: dict[str, Any],
    by: str,
    event: str | None = None,
    at: dt.datetime | None = None,
) -> DeliveryRow:
    now = _now()
    return DeliveryRow(
        analysis_id=analysis_id,
        revision=revision,
        kind=kind,
        target=target,
        event=event,
        detail=detail,
        sent=[],
        state="waiting",
        attempts=0,
        next_at=now,
        created_at=at or now,
        created_by=by,
    )


def _note(session: Session, principal: str, action: str, row: DeliveryRow) -> None:
    audit.append(
        session,
        [
            audit.AuditEntry(
                principal=principal,
                action=action,
                subject=row.analysis_id,
                detail={
                    "delivery": row.id,
                    "kind": row.kind,
                    "target": row.target,
                    "revision": row.revision,
                    "attempts": row.attempts,
                    **({} if row.event is None else {"event": row.event}),
                },
            )
        ],
    )


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)

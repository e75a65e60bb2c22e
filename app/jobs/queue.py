"""The table of jobs, the truth of what waits, runs and has ended; each within the caller's session.

A job is taken by writing a lease, kept by renewing it, and ended by whoever still holds it.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app import tracing
from app.analysis import State
from app.jobs.processes import lives
from app.store import audit, outbox
from app.store.rows import AnalysisRow, JobRow, RevisionRow


def now() -> dt.datetime:
    """The present, aware, in UTC."""
    return dt.datetime.now(dt.UTC)


def enqueue(session: Session, analysis_id: str, revision: int, at: dt.datetime) -> None:
    """Adds the job of a revision within the caller's transaction."""
    session.add(
        JobRow(
            analysis_id=analysis_id,
            revision=revision,
            state="queued",
            attempts=0,
            cancel=False,
            traceparent=tracing.traceparent(),
            created_at=at,
        )
    )


def waiting(session: Session) -> int:
    """How many jobs wait for a worker."""
    return session.scalar(select(func.count()).where(JobRow.state == "queued")) or 0


def takeable() -> Any:
    """The query for the next job that waits, or whose holder let its lease run out."""
    lapsed = (JobRow.state == "running") & (JobRow.lease_until < now())
    return select(JobRow).where(or_(JobRow.state == "queued", lapsed)).order_by(JobRow.id).limit(1)


def requeue(session: Session, job: JobRow) -> None:
    """Lets a job wait again that nobody works on any more."""
    job.state, job.owner, job.lease_until, job.stage = "queued", None, None, None
    analysis = session.get_one(AnalysisRow, job.analysis_id)
    if analysis.revision == job.revision and analysis.state == State.RUNNING:
        analysis.state = State.QUEUED


def end(
    session: Session,
    job: JobRow,
    state: State,
    *,
    plan: str | None = None,
    problem: dict[str, Any] | None = None,
) -> None:
    """Writes a job's end into its revision and its analysis, with the audit entry."""
    ended = {State.FAILED: "failed", State.CANCELLED: "cancelled"}
    job.state = ended.get(state, "done")
    job.finished_at, job.lease_until, job.stage = now(), None, None
    revision = session.get_one(RevisionRow, (job.analysis_id, job.revision))
    revision.state, revision.plan, revision.problem = state, plan, problem
    revision.finished_at = job.finished_at
    analysis = session.get_one(AnalysisRow, job.analysis_id)
    if analysis.revision == job.revision:
        analysis.state, analysis.updated_at = state, job.finished_at
    outbox.announce(session, f"analysis.{state.value}", job.analysis_id, job.revision)
    audit.append(
        session,
        [
            audit.AuditEntry(
                principal="service",
                action="analysis.ended",
                subject=job.analysis_id,
                detail={"revision": job.revision, "state": state, "attempts": job.attempts},
            )
        ],
    )


def release_dead(session: Session, owner: str) -> None:
    """Gives back the leases of services on this machine that no longer live."""
    host = owner.split(":")[0]
    for job in session.scalars(select(JobRow).where(JobRow.state == "running")):
        their_host, pid, *_ = [*(job.owner or "").split(":"), "", ""]
        if their_host == host and pid.isdigit() and not lives(int(pid)):
            requeue(session, job)

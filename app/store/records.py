"""An analysis as the database holds it, read in one go."""

from __future__ import annotations

import datetime as dt
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.analysis import State
from app.errors import NotFound
from app.store.rows import (
    AdministrationRow,
    AnalysisRow,
    ConfirmationRow,
    InstanceRow,
    JobRow,
    MaskRow,
    RevisionRow,
    RoutedRow,
    SourceRow,
)

SIDES = {"L": "left", "R": "right"}
"""Laterality (0020,0060) and Image Laterality (0020,0062): B and U say nothing about one side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A stored file of an analysis."""

    name: str
    sha256: str
    size_bytes: int
    facts: dict[str, Any]
    conflicts_with: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingRecord:
    """Where an analysis of a pushed study comes from; without a rule no rule knew its images."""

    study_instance_uid: str
    rule: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisRecord:
    """An analysis at one of its revisions; `is_current` tells whether it is the last one."""

    id: str
    created_at: dt.datetime
    updated_at: dt.datetime
    created_by: str
    state: State
    version: int
    current_revision: int
    revision: int
    revised_at: dt.datetime
    revised_by: str
    request: dict[str, Any]
    plan: dict[str, Any] | None
    problem: dict[str, Any] | None
    files: tuple[FileRecord, ...]
    masks: dict[str, str]
    confirmation: dict[str, Any] | None
    administrations: tuple[dict[str, Any], ...]
    stage: str | None
    queue_position: int | None
    routing: RoutingRecord | None
    late_images: int

    @property
    def image_side(self) -> str | None:
        """`left` or `right` where all images say so, None where one says nothing or another."""
        said = {(f.facts.get("identity") or {}).get("laterality") for f in self.files}
        return SIDES.get(said.pop() or "") if len(said) == 1 else None

    @property
    def patient_id(self) -> str | None:
        """The patient whom the request names, else the images; None where neither names one."""
        asked: str | None = self.request.get("patient", {}).get("id")
        named = [(f.facts.get("identity") or {}).get("patient_id") for f in self.files]
        return asked or next((name for name in named if name), None)

    @property
    def is_current(self) -> bool:
        return self.revision == self.current_revision

    @property
    def etag(self) -> str:
        """A strong validator: the revision, and a count of every change of the analysis."""
        return f'"r{self.revision}-v{self.version}"'


def new_id() -> str:
    """A name that nobody guesses and that sorts by the time it was made (UUID version 7)."""
    value = (time.time_ns() // 1_000_000) << 80 | 7 << 76 | secrets.randbits(76)
    return f"{value & ~(3 << 62) | 2 << 62:032x}"


def analysis_row(session: Session, analysis_id: str) -> AnalysisRow:
    """The row. Raises NotFound."""
    row = session.get(AnalysisRow, analysis_id)
    if row is None:
        raise NotFound(
            "There is no such analysis.",
            remedy="Check the id; the work list (GET /api/v1/analyses) has those that there are.",
        )
    return row


def state_of(session: Session, analysis_id: str) -> State:
    """The present state and nothing more. Raises NotFound."""
    state = session.scalar(select(AnalysisRow.state).where(AnalysisRow.id == analysis_id))
    return State(analysis_row(session, analysis_id).state if state is None else state)


def load(session: Session, analysis_id: str, revision: int | None = None) -> AnalysisRecord:
    """The analysis at its current or a named revision. Raises NotFound."""
    row = analysis_row(session, analysis_id)
    asked = row.revision if revision is None else revision
    rev = session.get(RevisionRow, (analysis_id, asked))
    if rev is None:
        raise NotFound(
            f"The analysis has no revision {asked}.",
            remedy=f"It has the revisions 1 to {row.revision}.",
        )
    files = session.execute(
        select(SourceRow, InstanceRow)
        .join(InstanceRow, InstanceRow.sha256 == SourceRow.sha256)
        .where(SourceRow.analysis_id == analysis_id, SourceRow.since_revision <= asked)
        .order_by(SourceRow.position)
    ).all()
    masks = session.scalars(
        select(MaskRow).where(MaskRow.analysis_id == analysis_id, MaskRow.revision == asked)
    )
    confirmed = session.get(ConfirmationRow, (analysis_id, asked))
    stage, position = _job(session, row, asked)
    routed = session.get(RoutedRow, analysis_id)
    given = session.scalars(
        select(AdministrationRow)
        .where(AdministrationRow.analysis_id == analysis_id)
        .order_by(AdministrationRow.id)
    )
    return AnalysisRecord(
        id=row.id,
        created_at=row.created_at,
        updated_at=row.updated_at,
        created_by=row.created_by,
        state=_state_at(row, rev),
        version=row.version,
        current_revision=row.revision,
        revision=asked,
        revised_at=rev.created_at,
        revised_by=rev.created_by,
        request=json.loads(rev.request),
        plan=None if rev.plan is None else json.loads(rev.plan),
        problem=rev.problem,
        files=tuple(
            FileRecord(
                name=source.name,
                sha256=source.sha256,
                size_bytes=instance.size_bytes,
                facts=instance.facts,
                conflicts_with=instance.conflicts_with,
            )
            for source, instance in files
        ),
        masks={mask.frame_key: mask.sha256 for mask in masks},
        confirmation=None
        if confirmed is None
        else {
            "at": confirmed.confirmed_at.isoformat(),
            "by": confirmed.confirmed_by,
            "clinician": confirmed.clinician,
        },
        administrations=tuple(
            {
                "id": g.id,
                "revision": g.revision,
                "recorded_at": g.recorded_at.isoformat(),
                "recorded_by": g.recorded_by,
                "given": g.given,
            }
            for g in given
        ),
        stage=stage,
        queue_position=position,
        routing=None
        if routed is None
        else RoutingRecord(study_instance_uid=routed.study_instance_uid, rule=routed.rule or None),
        late_images=0 if routed is None else _late_images(session, row, routed),
    )


def _late_images(session: Session, row: AnalysisRow, routed: RoutedRow) -> int:
    """How many images of the study came after the analysis was made and are in none."""
    late = session.scalars(
        select(InstanceRow.facts).where(
            InstanceRow.study_instance_uid == routed.study_instance_uid,
            InstanceRow.received_at > row.created_at,
            InstanceRow.conflicts_with.is_(None),
            InstanceRow.made_for.is_(None),
            InstanceRow.sha256.not_in(select(SourceRow.sha256)),
        )
    )
    return sum(bool(facts.get("analysable", True)) for facts in late)


def _job(session: Session, row: AnalysisRow, revision: int) -> tuple[str | None, int | None]:
    """(stage, place in the queue) of a revision whose job waits or runs."""
    if row.state not in (State.QUEUED, State.RUNNING) or revision != row.revision:
        return None, None
    job = session.scalar(
        select(JobRow).where(JobRow.analysis_id == row.id, JobRow.revision == revision)
    )
    if job is None or job.state != "queued":
        return (None if job is None else job.stage), None
    before = select(func.count()).where(JobRow.state == "queued", JobRow.id <= job.id)
    return None, session.scalar(before)


def _state_at(row: AnalysisRow, revision: RevisionRow) -> State:
    if revision.revision == row.revision:
        return State(row.state)
    return State.SUPERSEDED


def revisions(session: Session, analysis_id: str) -> list[RevisionRow]:
    """All revisions, the first first. Raises NotFound."""
    analysis_row(session, analysis_id)
    return list(
        session.scalars(
            select(RevisionRow)
            .where(RevisionRow.analysis_id == analysis_id)
            .order_by(RevisionRow.revision)
        )
    )
